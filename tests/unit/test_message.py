"""
Messages: what travels has a form that other processes, of other versions, rely on.
"""

import msgspec
import pytest

from holdfast.runtime.codec import decode_envelope, encode, encode_envelope
from holdfast.runtime.message import Command, Effect, Envelope, Event, describe, follow, tag_of
from holdfast.runtime.outcome import Answer
from holdfast.runtime.record import EffectEntry, Entry, Snapshot, TimerEntry
from tests.controls import ChargeCard, OrderPlaced, PlaceOrder

FULL = Envelope(
    id="c-1",
    workflow="order",
    key="o-1",
    payload=b"\x01\x02",
    sent_ms=1_767_225_600_000,
    reply_to="me/c-1",
    cause="c-0",
    trace="00-abc-def-01",
)

#: Every form in which something is kept or sent, byte for byte. A change here is a change of the wire or storage
#: format: processes of the version before must still read it, and this one must still read theirs.
GOLDEN = {
    "envelope": (
        FULL,
        "9ba3632d31a56f72646572a36f2d31c4020102cf0000019b76daa800a66d652f632d31a3632d30ad30302d6162632d6465662d3031c29000",
    ),
    "command": (
        PlaceOrder("o-1", 5),
        "83a474797065aa506c6163654f72646572a86f726465725f6964a36f2d31a6616d6f756e7405",
    ),
    "effect": (
        ChargeCard("o-1", 5),
        "83a474797065aa43686172676543617264a86f726465725f6964a36f2d31a6616d6f756e7405",
    ),
    "entry": (
        Entry("c-1", "PlaceOrder", 1, 2, (OrderPlaced(5),), "c-0", "t"),
        "9aa3632d31aa506c6163654f7264657201029182a474797065ab4f72646572506c61636564a6616d6f756e7405a3632d30a174c0c000",
    ),
    "snapshot": (
        Snapshot(2, "c-2", 1, b"\x05", (("c-1", 1, 7), ("c-2", 2, 8))),
        "9602a3632d3201c401059293a3632d31010793a3632d320208c2",
    ),
    "effect entry": (
        EffectEntry("c-1:0", "order", "o-1", 1, b"\x05", 7, "t"),
        "98a5632d313a30a56f72646572a36f2d3101c4010507a17490",
    ),
    "timer entry": (
        TimerEntry("order/3/o-1/a", b"\x05", 60_000, 0),
        "94ad6f726465722f332f6f2d312f61c40105cdea6000",
    ),
    "answer": (
        Answer("c-1", "accepted", True, 1, b"\x05", "r", b"\x06", "d"),
        "99a3632d31a86163636570746564c301c40105a172c40106a164a0",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_stored_forms_stay_as_they_are(name: str) -> None:
    """
    What this version writes is, byte for byte, what it has always written.
    """
    message, golden = GOLDEN[name]

    assert golden == encode(message).hex()


@pytest.mark.parametrize("name", [name for name in GOLDEN if name != "entry"])
def test_the_stored_forms_are_read_back(name: str) -> None:
    """
    And what was always written is read.
    """
    message, golden = GOLDEN[name]

    assert message == msgspec.msgpack.decode(bytes.fromhex(golden), type=type(message))


def test_an_envelope_of_the_first_version_is_read() -> None:
    """
    Fields are added at the end with a default, so what lacks them is still an envelope.
    """
    old = encode(["c-1", "order", "o-1", b"\x01"])

    assert Envelope("c-1", "order", "o-1", b"\x01", 0, None, None, None) == decode_envelope(old)


def test_an_envelope_of_a_later_version_is_read() -> None:
    """
    Fields that a newer sender adds behind ours are passed over.
    """
    newer = encode([*msgspec.structs.astuple(FULL), "something new", 7])

    assert FULL == decode_envelope(newer)


def test_an_envelope_comes_back() -> None:
    """
    What is encoded is decoded.
    """
    assert FULL == decode_envelope(encode_envelope(FULL))


def test_follow_carries_cause_and_trace() -> None:
    """
    What follows from a command names it and stays in its trace; the answer address is not carried on.
    """
    followed = follow(FULL, id="c-2", workflow="invoice", key="i-1", payload=b"\x03", sent_ms=9)

    assert Envelope("c-2", "invoice", "i-1", b"\x03", 9, None, "c-1", "00-abc-def-01") == followed


def test_a_message_is_named_by_its_class() -> None:
    """
    The tag is the class's name unless the class says otherwise.
    """

    class Renamed(Event, frozen=True, tag="renamed.2"):
        pass

    assert ("PlaceOrder", "renamed.2") == (tag_of(PlaceOrder), tag_of(Renamed))


def test_describe_names_a_message_without_its_contents() -> None:
    """
    Errors and logs say what it was; what was in it stays private.
    """
    assert ("PlaceOrder", "dict") == (describe(PlaceOrder("secret")), describe({"key": "secret"}))


@pytest.mark.parametrize("base", [Command, Event, Effect])
def test_messages_are_frozen(base: type[msgspec.Struct]) -> None:
    """
    A message never changes once it is made, so it may be kept, hashed and shared.
    """
    message = msgspec.defstruct("Example", [("amount", int)], bases=(base,), frozen=True, tag="Example")(5)

    with pytest.raises(AttributeError):
        message.amount = 6  # type: ignore[attr-defined]  # the mistake
    assert hash(message) == hash(type(message)(5))
