"""Histories: whether what was recorded is still read and folded by the code of today as it was by the code of then.

Each record is decoded and each event given to `evolve`. What the fold comes to is held against what is known of it: the
snapshot, where that is of the same `state_version`, and the state in an archive. `decide` is not asked again: it may
decide otherwise today without anything being wrong, since what was decided is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from holdfast.runtime.actor import Actor, UnusableSnapshot, start
from holdfast.runtime.codec import encode
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HistoryError, Undecodable, message_of
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import TAG_FIELD
from holdfast.runtime.record import Entry, Moved, Snapshot


class Difference(NamedTuple):
    """Where a history is not what it was."""

    workflow: str
    key: str
    #: The first record that is not; 0 where that cannot be told.
    seq: int
    #: Which of its events, counted from 0, and its name; -1 and empty where it is the record itself, or what it led to.
    event_index: int
    event: str
    what: str


def check_log(
    definition: Definition,
    ref: Ref,
    log: Sequence[tuple[int, bytes]],
    snapshot: Snapshot | None,
    seq: int,
) -> Difference | None:
    """Return the first difference in an instance's log, None where there is none.

    Args:
        definition: Its workflow.
        ref: The instance.
        log: All that is left of its log.
        snapshot: Its snapshot, if it has one.
        seq: Where the instance is.
    """
    known = snapshot if comparable(definition, ref, snapshot) else None
    actor = start(definition, ref, None)
    if log and log[0][0] > 1 and not _erases(log[0][1]):
        # The beginning was trimmed: it is in the snapshot, or nowhere.
        if known is None:
            return _at(
                ref,
                log[0][0],
                "the records before it are gone, and there is no snapshot that this code reads",
            )
        actor = start(definition, ref, known)
    for number, data in log:
        if number <= actor.seq:
            continue
        found = _absorb(actor, number, lambda: definition.entries.decode(data, f"record {number}"))  # noqa: B023 - called at once
        if found is not None:
            return found
        if known is not None and known.seq == number and not known.erased and not _scrubbed(actor, data):
            found = _compare(actor, known)
            if found is not None:
                return found
    if actor.seq != seq:
        return _at(ref, actor.seq, f"the log ends here, but the instance is at {seq}")
    return None


def check_archived(definition: Definition, line: dict[str, Any], partition: int = 0) -> Difference | None:
    """Return the first difference in an instance as an archive has it: one line of `FolderArchive`, decoded."""
    ref = Ref(partition, definition.type, str(line.get("key", "")))
    actor = start(definition, ref, None)
    for plain in line.get("records", ()):
        number = int(plain.get("seq", 0))
        if actor.seq == 0 and number > 1:
            return None  # its beginning was trimmed before it was archived: nothing can be folded
        found = _absorb(actor, number, lambda: _entry(definition, plain))  # noqa: B023 - called at once
        if found is not None:
            return found
    was, now = line.get("state"), msgspec.json.decode(msgspec.json.encode(actor.state, enc_hook=repr))
    if was != now:
        return _at(ref, actor.seq, f"the state after it is {_short(now)}; in the archive it is {_short(was)}")
    return None


def _entry(definition: Definition, plain: dict[str, Any]) -> Entry[Any]:
    events: list[Any] = []
    for index, one in enumerate(plain.get("events", ())):
        try:
            events += definition.events.convert(one, strict=False)
        except Undecodable as error:
            tag = one.get(TAG_FIELD, "") if isinstance(one, dict) else ""
            raise _Unread(index, str(tag), str(error)) from error
    control = plain.get("control")
    moved = None if control is None else _moved(control)
    return Entry(
        str(plain.get("command_id", "")), str(plain.get("command", "")), 0, 0, tuple(events), control=moved
    )


def _moved(control: Any) -> Moved:
    """Return what a built-in command did; it is an array in JSON too."""
    return msgspec.convert(control, Moved)


class _Unread(Exception):
    """An event cannot be read."""


def _absorb(actor: Actor, number: int, read: Any) -> Difference | None:
    try:
        entry: Entry[Any] = read()
    except _Unread as error:
        index, tag, what = error.args
        return Difference(actor.ref.workflow, actor.ref.key, number, index, tag, what)
    except (HistoryError, msgspec.ValidationError) as error:
        return _at(actor.ref, number, str(error))
    # One event at a time, so that the one at fault is known.
    bare = msgspec.structs.replace(entry, events=())
    try:
        actor.absorb(number, bare)
    except HistoryError as error:
        return _at(actor.ref, number, str(error))
    for index, event in enumerate(entry.events):
        try:
            actor.state = actor.definition.workflow.evolve(actor.state, event)
        except Exception as error:  # noqa: BLE001 - user code may raise anything
            what = f"evolve failed: {type(error).__name__}: {message_of(error)}"
            return Difference(actor.ref.workflow, actor.ref.key, number, index, type(event).__name__, what)
        if not isinstance(actor.state, actor.definition.state_class):
            what = f"evolve failed: {actor.definition.no_state(actor.state, event)}"
            return Difference(actor.ref.workflow, actor.ref.key, number, index, type(event).__name__, what)
    try:
        actor.definition.state_decoder.decode(encode(actor.state))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        return _at(actor.ref, number, f"the state after it cannot be stored: {error}")
    return None


def _compare(actor: Actor, known: Snapshot) -> Difference | None:
    decode = actor.definition.state_decoder.decode
    was, now = decode(known.state), decode(encode(actor.state))
    if was == now:
        return None
    return _at(
        actor.ref,
        known.seq,
        f"the state after it is {_short(now)}; the snapshot of then has {_short(was)}. If that is meant, raise state_version",
    )


def comparable(definition: Definition, ref: Ref, snapshot: Snapshot | None) -> bool:
    """Return whether a snapshot is of the state that the code of today has."""
    if snapshot is None or snapshot.state_version != definition.kind.state_version:
        return False
    try:
        start(definition, ref, snapshot)
    except (UnusableSnapshot, HistoryError):
        return False
    return True


def _erases(data: bytes) -> bool:
    try:
        entry: Entry[Any] = msgspec.msgpack.decode(data, type=Entry[Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return entry.control is not None and entry.control.erases


def _scrubbed(actor: Actor, data: bytes) -> bool:
    """Return whether a snapshot may have what `scrub` left, which no event tells."""
    return actor.erased or _erases(data)


def _at(ref: Ref, seq: int, what: str) -> Difference:
    return Difference(ref.workflow, ref.key, seq, -1, "", what)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
