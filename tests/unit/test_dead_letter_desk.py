"""
The desk where a person deals with dead letters: work of every kind is done again, with its content or with other.
"""

from typing import Any

import msgspec
import pytest

from holdfast.actors.dead_letters import DeadLetterDesk, Means
from holdfast.brokers.memory import MemoryDeadLetters, MemoryJournal, MemoryServer, MemoryTransport
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.codec import decode_envelope, encode, encode_envelope
from holdfast.runtime.dead_letter import sentence_of, traceback_of
from holdfast.runtime.errors import UsageError
from holdfast.runtime.message import Envelope
from tests import controls
from tests.controls import ChargeCard, PlaceOrder

REF = controls.ref()


class Office:
    """
    A desk in memory, and what comes of it.
    """

    def __init__(self) -> None:
        self.clock = ManualClock(controls.NOW)
        self.server = MemoryServer(controls.PARTITIONS, self.clock)
        self.letters = MemoryDeadLetters(self.server)
        publisher = MemoryTransport(self.server).publisher()
        means = Means(publisher, controls.PARTITIONS, controls.app(), clock=self.clock)
        self.desk = DeadLetterDesk(self.letters, means)

    def add(self, name: str = "d", **changes: Any) -> str:
        """
        Put a letter down, and return its id.
        """
        letter = controls.dead_letter(f"{REF.partition}.{name}", **changes)
        self.letters.add([letter])
        return letter.id

    def sent(self) -> list[Envelope]:
        return [decode_envelope(one.body) for one in self.server.queues[REF.partition]]


@pytest.mark.parametrize("kind", ["command", "timer"])
def test_a_command_is_sent_again_with_its_history(kind: str) -> None:
    """
    The same command under the same id, before what waits for it; its letter is gone, and a second retry finds none.
    """
    office = Office()
    id_ = office.add(kind=kind, history=("earlier",))

    assert [True, False] == [office.desk.retry(id_) for _ in range(2)]

    (envelope,) = office.sent()
    line = "2026-01-01T12:00:00.000+00:00: retried after 3 attempts: ValueError: no"
    expected = msgspec.structs.replace(controls.envelope(), first=True, history=("earlier", line))
    assert expected == envelope


def test_an_effect_is_put_back_with_its_history() -> None:
    """
    Into the outbox, where nobody has begun it.
    """
    office = Office()
    id_ = office.add(kind="effect", body=encode(controls.effect()), message_type="ChargeCard")

    assert [True, False] == [office.desk.retry(id_) for _ in range(2)]

    (effect,) = MemoryJournal(office.server).effects(REF.partition, 10)
    assert controls.effect() == msgspec.structs.replace(effect, history=())
    assert 1 == len(effect.history)


def test_many_are_retried_oldest_first() -> None:
    """
    Those that pass; of several for one instance none goes before what waits.
    """
    office = Office()
    for number in range(4):
        body = encode_envelope(controls.envelope(command_id=f"c-{number}"))
        office.add(f"d{number}", at_ms=controls.NOW_MS + number, body=body, key="o-1" if number else "o-2")

    assert 3 == office.desk.retry_all(key="o-1")
    assert 1 == office.desk.retry_all()

    assert [("c-1", False), ("c-2", False), ("c-3", False), ("c-0", True)] == [
        (one.id, one.first) for one in office.sent()
    ]
    office.add()
    assert (1, 0) == (office.desk.discard_all(), office.desk.discard_all())


def test_one_that_cannot_be_sent_again_does_not_keep_the_others() -> None:
    """
    It stays where it is and is not counted; those behind it are retried.
    """
    office = Office()
    bad = office.add("bad", kind="ingress", at_ms=controls.NOW_MS - 1)
    office.add("good")

    assert [1, 0] == [office.desk.retry_all() for _ in range(2)]
    assert [bad] == [letter.id for letter in office.desk.list()]
    assert 1 == len(office.sent())


@pytest.mark.parametrize("content", [{"order_id": "o-1", "amount": 7}, b'{"order_id": "o-1", "amount": 7}'])
def test_a_command_is_edited(content: Any) -> None:
    """
    As plain values or as JSON; it stays of its type, and its history says how large it was.
    """
    office = Office()

    assert office.desk.edit(office.add(), content)

    (envelope,) = office.sent()
    assert encode(PlaceOrder("o-1", 7)) == envelope.payload
    assert "edited (it was" in envelope.history[0]
    assert "c-1" == envelope.id


def test_an_effect_is_edited() -> None:
    """
    Its payload alone: its id, and with that its idempotency key, stays.
    """
    office = Office()
    id_ = office.add(kind="effect", body=encode(controls.effect()), message_type="ChargeCard")

    assert office.desk.edit(id_, {"order_id": "o-1", "amount": 7})

    (effect,) = MemoryJournal(office.server).effects(REF.partition, 10)
    assert (controls.effect().id, encode(ChargeCard("o-1", 7))) == (effect.id, effect.payload)


def test_a_foreign_message_is_edited_into_a_command() -> None:
    """
    What no command could be made of is made right by hand.
    """
    office = Office()
    id_ = office.add(kind="ingress", body=b"{garbage", workflow="", key="", message_type="")

    assert office.desk.edit(id_, {"type": "PlaceOrder", "order_id": "o-1", "amount": 7})

    (envelope,) = office.sent()
    assert ("c-1", "order", "o-1", encode(PlaceOrder("o-1", 7))) == (
        envelope.id,
        envelope.workflow,
        envelope.key,
        envelope.payload,
    )
    assert 0 == office.desk.count()


@pytest.mark.parametrize(
    ("changes", "content", "words"),
    [
        ({}, {"order_id": "o-1", "amount": "many"}, "amount"),
        ({}, {"type": "Unheard"}, "has no message 'Unheard'"),
        ({}, {"order_id": "o-2", "amount": 1}, "the edited command is for 'o-2'"),
        ({}, b"[1]", "must be an object"),
        ({}, b"{", "no JSON"),
        ({"body": b"\xc1"}, {"order_id": "o-1", "amount": 1}, "cannot be read"),
        ({"kind": "effect", "body": b"\xc1"}, {}, "cannot be read"),
        ({"kind": "projection"}, {}, "has no content to edit"),
        ({"kind": "ingress"}, {"amount": 1}, "`type`"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], content: Any, words: str) -> None:
    """
    Nothing is sent, and the letter stays as it was.
    """
    office = Office()
    id_ = office.add(**changes)
    before = office.letters.get(id_)

    with pytest.raises(UsageError, match=words.replace("(", ".")):
        office.desk.edit(id_, content)

    assert ([], before) == (office.sent(), office.letters.get(id_))


@pytest.mark.parametrize(
    "changes", [{"kind": "ingress"}, {"kind": "projection"}, {"body": b"\xc1"}, {"command_id": ""}]
)
def test_what_cannot_be_sent_again_is_refused(changes: dict[str, Any]) -> None:
    """
    The letter says why it is there.
    """
    office = Office()
    id_ = office.add(**changes)

    with pytest.raises(UsageError, match=id_):
        office.desk.retry(id_)

    assert 1 == office.desk.count()


def test_histories_are_bounded() -> None:
    """
    A letter that is retried for ever does not grow for ever.
    """
    office = Office()
    id_ = office.add(history=tuple(f"{number}" for number in range(50)))

    office.desk.retry(id_)

    assert 50 == len(office.sent()[0].history)
    assert "1" == office.sent()[0].history[0]


def test_any_error_can_be_kept() -> None:
    """
    Text that UTF-8 has no form for, as the name of an undecodable file, is written out.
    """
    error = RuntimeError("no file caf\udce9")

    assert "RuntimeError: no file caf\\udce9" == sentence_of(error)
    assert "caf\\udce9" in traceback_of(error)
