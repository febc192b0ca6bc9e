"""
Codecs: what is stored and read back: messages, the log's entries, snapshots, and what upcasters make of old ones.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Never

import msgspec

from holdfast.runtime.actor import UnusableSnapshot, start
from holdfast.runtime.app import App
from holdfast.runtime.codec import encode
from holdfast.runtime.decision import Decision, accept
from holdfast.runtime.errors import HistoryError, Undecodable
from holdfast.runtime.message import Command, Event
from holdfast.runtime.record import Snapshot
from holdfast.runtime.workflow import Upcaster, Workflow
from tests import controls
from tests.fuzz.draw import Draw


class Note(Command, frozen=True):
    """Takes anything down."""

    book: str
    what: Any = None


class Noted(Event, frozen=True):
    """Something was taken down."""

    what: Any = None
    more: dict[str, list[int]] | None = None


class Pages(msgspec.Struct, frozen=True):
    """What was taken down."""

    lines: tuple[Any, ...] = ()


class Notebook(Workflow[Pages, Note, Noted, Never]):
    """Takes down anything, and has upcasters that do anything."""

    type = "notebook"
    key = "book"
    upcasters: ClassVar[Mapping[str, Upcaster]] = {
        "Same": lambda old: old,
        "Renamed": lambda old: {**old, "type": "Noted"},
        "Several": lambda old: [{"type": "Noted", "what": one} for one in old.get("what", ())],
        "Swaps": lambda old: {**old, "type": "Swapped"},
        "Swapped": lambda old: {**old, "type": "Swaps"},
        "Doubles": lambda old: [old, old],
        "Nothing": lambda _old: None,  # type: ignore[dict-item, return-value]  # what user code may do
        "Raises": lambda old: old["there is no such field"],
    }

    def initial(self) -> Pages:
        return Pages()

    def evolve(self, state: Pages, event: Noted) -> Pages:
        return Pages((*state.lines, event.what)[-10:])

    def decide(self, now: Any, state: Pages, command: Note) -> Decision[Noted, Never]:
        return accept(Noted(command.what))


_DEFINITION = App(workflows=[Notebook]).definition("notebook")
_TYPES = ("Note", "Noted", *Notebook.upcasters, "Unknown", 1, None)

SEEDS = [
    b"\x00" + encode(Note("b", [1, {"a": b"x"}])),
    b"\x01" + encode(["c-1", "Note", 1, 1, [Noted("x")]]),
    b"\x02" + encode(Snapshot(3, "c-3", 1, encode(Pages((1, 2))), (("c-3", 3, 1),))),
    b"\x03\x03\x01",
    *(bytes((3, number, 1, 5)) for number in range(len(_TYPES))),
    b"\x01" + b"\x95\xa1a\xa1b\x01\x01" + b"\x91" * 2_000,
]


def check(data: bytes) -> None:
    """
    What can be read is read, and reads the same when it was written again; of the rest the error is the one that its
    reader waits for.
    """
    draw = Draw(data)
    match draw.below(4):
        case 0:
            _message(draw.rest())
        case 1:
            _entry(draw.rest())
        case 2:
            _snapshot(draw.rest())
        case _:
            values: dict[str, Any] = {"type": draw.pick(_TYPES)}
            if draw.whether():
                values["what"] = [draw.number() % 2**63 for _ in range(draw.below(5))]
            _message(encode(values))
            _entry(encode(["c-1", "Note", 1, 1, [values, *([values] * draw.below(3))]]))


def _message(payload: bytes) -> None:
    for codec in (_DEFINITION.commands, _DEFINITION.events):
        try:
            message: Any = codec.decode(payload)
        except Undecodable:
            continue
        again = codec.encode(message)
        assert codec.encode(codec.decode(again)) == again


def _entry(data: bytes) -> None:
    try:
        entry = _DEFINITION.entries.decode(data, "record 1")
    except HistoryError as error:
        assert "record 1" in str(error)
        return
    again = encode(entry)
    assert encode(_DEFINITION.entries.decode(again, "record 1")) == again
    assert all(isinstance(event, Noted) for event in entry.events)


def _snapshot(data: bytes) -> None:
    ref = controls.ref("b", "notebook")
    for state in (data, encode(Pages((data,)))):
        try:
            actor = start(_DEFINITION, ref, Snapshot(3, "c-3", 1, state, (("c-3", 3, 1),)))
        except UnusableSnapshot:
            continue
        assert isinstance(actor.state, Pages)
        assert actor.seq == 3
