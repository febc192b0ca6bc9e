"""
The codec: messages come back as they were, old ones as messages of today, and garbage as an error that says so.
"""

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Never

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.runtime.codec import MessageCodec, check_size, decode_envelope, encode, encode_message
from holdfast.runtime.decision import Decision, accept
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HistoryError, PayloadTooLarge, Undecodable, UnknownType, UsageError
from holdfast.runtime.message import Command, Envelope
from holdfast.runtime.record import Entry
from holdfast.runtime.testing.strategies import Strategies
from holdfast.runtime.workflow import Upcaster, Workflow
from tests import controls
from tests.controls import Add, CancelOrder, OrderPaid, OrderPlaced, PlaceOrder
from tests.unit.riches import Riches, Treasure

ORDER = Definition(controls.Order)
RICHES = Definition(Riches)
TREASURES = Strategies(RICHES, {}).message(Treasure)


# -- there and back


@given(Strategies(ORDER, {}).commands())
def test_commands_come_back(command: Command) -> None:
    """
    Whatever is in a command, it is the same after a journey.
    """
    assert command == ORDER.commands.decode(ORDER.commands.encode(command))


@settings(max_examples=25)
@given(TREASURES)
def test_messages_of_every_type_of_field_come_back(treasure: Treasure) -> None:
    """
    Every type that the checks let pass at registration survives the codec.
    """
    assert treasure == RICHES.events.decode(RICHES.events.encode(treasure))


@settings(max_examples=25)
@given(TREASURES)
def test_the_slow_path_reads_what_the_fast_path_reads(treasure: Treasure) -> None:
    """
    A message that goes through plain values, as it does beside an old one, is the same message.
    """
    plain = msgspec.msgpack.decode(RICHES.events.encode(treasure))

    assert [treasure] == RICHES.events.convert(plain)


def test_an_integer_key_comes_back() -> None:
    """
    Fields keep their types.
    """
    codec = Definition(controls.Counter).commands

    assert Add("n", -5) == codec.decode(codec.encode(Add("n", -5)))


def test_fields_of_newer_code_are_passed_over() -> None:
    """
    A rolling deploy may send more than this process knows.
    """
    payload = encode({"type": "PlaceOrder", "order_id": "o-1", "amount": 5, "colour": "red"})

    assert PlaceOrder("o-1", 5) == ORDER.commands.decode(payload)


def test_fields_with_a_default_may_be_missing() -> None:
    """
    What older code did not know yet has its default.
    """
    assert PlaceOrder("o-1", 100) == ORDER.commands.decode(encode({"type": "PlaceOrder", "order_id": "o-1"}))


# -- what is wrong


def test_an_unknown_type_is_told_apart() -> None:
    """
    It may be known to newer code, so it is its own error, and it lists what there is.
    """
    with pytest.raises(UnknownType) as caught:
        ORDER.commands.decode(encode({"type": "ShipOrder", "order_id": "o-1"}))

    assert (
        "Order has no message 'ShipOrder' (it has: CancelOrder, ConfirmPayment, ExpireOrder, PlaceOrder)"
        == str(caught.value)
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"order_id": "o-1"}, "a message for Order has no `type` that names it"),
        ({"type": 7, "order_id": "o-1"}, "has no `type` that names it"),
        ({"type": None}, "has no `type` that names it"),
        ([1, 2], "has no `type` that names it"),
        ("PlaceOrder", "has no `type` that names it"),
        ({"type": "PlaceOrder"}, "PlaceOrder for Order: Object missing required field `order_id`"),
        (
            {"type": "PlaceOrder", "order_id": 7},
            "PlaceOrder for Order: Expected `str`, got `int` - at `$.order_id`",
        ),
        (
            {"type": "PlaceOrder", "order_id": "o-1", "amount": "5"},
            "PlaceOrder for Order: Expected `int`, got `str` - at `$.amount`",
        ),
    ],
)
def test_wrong_fields_are_named(values: Any, words: str) -> None:
    """
    The error names the message, the field and what is wrong with it, and is no UnknownType.
    """
    with pytest.raises(Undecodable) as caught:
        ORDER.commands.decode(encode(values))

    assert words in str(caught.value)
    assert not isinstance(caught.value, UnknownType)


DEEP = b"\x91" * 50_000 + b"\xc0"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"{}",
        b"\xa3\xff\xff\xff",
        DEEP,
        b"\x82\xa4type\xaaPlaceOrder\xa8order_id" + DEEP,
        encode({"type": "PlaceOrder", "order_id": "o-1"})[:-2],
        encode({"type": "PlaceOrder", "order_id": "o-1"}) + b"\x00",
    ],
)
def test_bytes_that_are_no_message_are_undecodable(payload: bytes) -> None:
    """
    Truncated, too long, too deep, no UTF-8: each is refused with a sentence.
    """
    with pytest.raises(Undecodable):
        ORDER.commands.decode(payload)


#: Values that look a little like messages.
NEARLY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "order_id", "amount", "reason", "x"]) | st.integers(0, 3),
            inner | st.sampled_from(["PlaceOrder", "CancelOrder", "OldOrder"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)


def reads_or_refuses(read: Callable[[], object], error: type[Exception]) -> None:
    """
    Anything but a value or this error fails the test.
    """
    with contextlib.suppress(error):
        read()


@given(st.binary(max_size=60) | NEARLY.map(encode))
def test_garbage_never_raises_anything_else(payload: bytes) -> None:
    """
    Whatever bytes arrive, the codec returns a message or raises Undecodable.
    """
    reads_or_refuses(lambda: ORDER.commands.decode(payload), Undecodable)
    reads_or_refuses(lambda: RICHES.events.decode(payload), Undecodable)
    reads_or_refuses(lambda: UPCAST.commands.decode(payload), Undecodable)
    reads_or_refuses(lambda: decode_envelope(payload), Undecodable)


@given(st.binary(max_size=60) | NEARLY.map(encode))
def test_a_broken_log_never_raises_anything_else(data: bytes) -> None:
    """
    Whatever is in a log, it is an entry or a HistoryError.
    """
    reads_or_refuses(lambda: ORDER.entries.decode(data, "record 1"), HistoryError)
    broken = encode(Entry("c-1", "PlaceOrder", 0, 0, (msgspec.Raw(data),))) if is_msgpack(data) else data
    reads_or_refuses(lambda: UPCAST.entries.decode(broken, "record 1"), HistoryError)


def is_msgpack(data: bytes) -> bool:
    """
    Whether the bytes are one msgpack value.
    """
    try:
        msgspec.msgpack.decode(data)
    except (ValueError, RecursionError, msgspec.DecodeError):
        return False
    return True


# -- size


def test_a_message_over_the_limit_is_refused_by_name_and_size() -> None:
    """
    The error says which message, how large it is, how large it may be, and what to do.
    """
    with pytest.raises(PayloadTooLarge) as caught:
        check_size(b"x" * 2_000_000, "PlaceOrder for 'o-1'", 1_048_576)

    assert (
        "PlaceOrder for 'o-1' is 2,000,000 bytes; the limit is 1,048,576. Keep large data elsewhere and send a "
        "reference to it, or raise HOLDFAST_PAYLOAD_BYTES_MAX"
    ) == str(caught.value)


@pytest.mark.parametrize("size", [0, 1_024])
def test_a_message_at_the_limit_passes(size: int) -> None:
    """
    The limit itself is allowed.
    """
    assert size == len(check_size(b"x" * size, "it", 1_024))


# -- upcasters


def _order_again(old: dict[str, Any]) -> dict[str, Any]:
    return old | {"type": "OldOrder"}


def _split(old: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "OrderPlaced", "amount": old["amount"]}, {"type": "OrderPaid"}]


def _exit() -> Never:
    raise SystemExit(7)


#: From messages of many years ago to those of today.
UPCASTERS: dict[str, Upcaster] = {
    "OldOrder": lambda old: {
        "type": "PlaceOrder",
        "order_id": old["id"],
        "amount": old.get("cents", 0) // 100,
    },
    "OlderOrder": _order_again,
    "OldestOrder": lambda old: {"type": "OlderOrder", "id": str(old["number"]), "cents": 700},
    "OrderPlacedAndPaid": _split,
    "OrderSighed": lambda old: [],
    "OrderPlacedTwice": lambda old: [
        old | {"type": "OrderPlacedAndPaid"},
        {"type": "OrderPlaced", "amount": 1},
    ],
    "Round": lambda old: {"type": "About"},
    "About": lambda old: {"type": "Round"},
    "Broken": lambda old: {"type": "OrderPaid", "oops": old["missing"]},
    "Rude": lambda old: _exit(),
    "Nonsense": lambda old: "nonsense",  # type: ignore[dict-item,return-value]  # the mistake
    "Lost": lambda old: {"type": "Nowhere"},
    "Ever more": lambda old: [old, old],
}


class Upcast(Workflow[controls.OrderState, PlaceOrder | CancelOrder, OrderPlaced | OrderPaid, Never]):
    """
    An order with a past.
    """

    type = "upcast"
    key = "order_id"
    upcasters = UPCASTERS

    def initial(self) -> controls.OrderState:
        return controls.OrderState()

    def evolve(self, state: controls.OrderState, event: OrderPlaced | OrderPaid) -> controls.OrderState:
        return state

    def decide(
        self, now: datetime, state: controls.OrderState, command: PlaceOrder | CancelOrder
    ) -> Decision[OrderPlaced | OrderPaid, Never]:
        return accept(OrderPaid())


UPCAST = Definition(Upcast)


@pytest.mark.parametrize(
    ("old", "command"),
    [
        ({"type": "OldOrder", "id": "o-1", "cents": 500}, PlaceOrder("o-1", 5)),
        ({"type": "OlderOrder", "id": "o-1", "cents": 500}, PlaceOrder("o-1", 5)),
        ({"type": "OldestOrder", "number": 7}, PlaceOrder("7", 7)),
    ],
)
def test_an_old_command_becomes_one_of_today(old: dict[str, Any], command: PlaceOrder) -> None:
    """
    Upcasters lead from version to version, as many steps as it takes.
    """
    assert command == UPCAST.commands.decode(encode(old))


@pytest.mark.parametrize("tag", ["OrderPlacedAndPaid", "OrderSighed"])
def test_a_command_stays_one_command(tag: str) -> None:
    """
    Of events an upcaster may make any number; of a command it makes one, or the command would be decided twice.
    """
    codec: MessageCodec[Any] = MessageCodec("Upcast", (OrderPlaced, OrderPaid), UPCASTERS)

    with pytest.raises(
        Undecodable, match=r"an upcaster of Upcast made \d messages of one command; it must make one"
    ):
        codec.decode(encode({"type": tag, "amount": 5}))


def entry_of(*events: object) -> bytes:
    """
    A record as older code wrote it.
    """
    return encode(Entry("c-1", "PlaceOrder", 1, 2, events, "c-0", "t"))


def test_old_events_become_events_of_today_in_their_place() -> None:
    """
    One old event may be many or none; new ones beside it stay as they are, and so does the rest of the record.
    """
    data = entry_of(
        OrderPlaced(3),
        {"type": "OrderPlacedTwice", "amount": 5},
        {"type": "OrderSighed"},
        OrderPaid(),
    )

    expected = Entry(
        "c-1",
        "PlaceOrder",
        1,
        2,
        (OrderPlaced(3), OrderPlaced(5), OrderPaid(), OrderPlaced(1), OrderPaid()),
        "c-0",
        "t",
    )
    assert expected == UPCAST.entries.decode(data, "record 1")


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("Round", "the upcasters of Upcast do not come to an end at"),
        ("Ever more", "the upcasters of Upcast do not come to an end at 'Ever more'"),
        ("Broken", "the upcaster of Upcast for 'Broken' failed: KeyError: 'missing'"),
        ("Rude", "the upcaster of Upcast for 'Rude' failed: SystemExit: 7"),
        ("Nonsense", "a message for Upcast has no `type` that names it"),
        ("Lost", "Upcast has no message 'Nowhere'"),
        ("Unheard", "Upcast has no message 'Unheard' (it has: OrderPaid, OrderPlaced)"),
    ],
)
def test_an_event_that_leads_nowhere_is_a_broken_history(tag: str, words: str) -> None:
    """
    The error names the record, what is wrong and what to do; it never escapes as something else.
    """
    with pytest.raises(HistoryError) as caught:
        UPCAST.entries.decode(entry_of({"type": tag}), "record 7 of upcast/o-1")

    assert str(caught.value).startswith("record 7 of upcast/o-1 cannot be read by this code: ")
    assert words in str(caught.value)
    assert str(caught.value).endswith(
        "Add the missing event class or an upcaster for it, or run the code that wrote it"
    )


@pytest.mark.parametrize("tag", ["Round", "Ever more", "Broken", "Rude", "Nonsense"])
def test_a_command_that_leads_nowhere_is_undecodable(tag: str) -> None:
    """
    What an upcaster raises, or a circle of upcasters, makes a dead letter of the command and nothing worse.
    """
    with pytest.raises(Undecodable):
        UPCAST.commands.decode(encode({"type": tag}))


def test_an_upcaster_that_leads_to_an_unknown_type_waits_for_newer_code() -> None:
    """
    It is the same as an unknown type.
    """
    with pytest.raises(UnknownType):
        UPCAST.commands.decode(encode({"type": "Lost"}))


def test_an_event_with_wrong_fields_is_a_broken_history() -> None:
    """
    A known event that does not fit is named with its field.
    """
    with pytest.raises(
        HistoryError, match=r"OrderPlaced for Upcast: Expected `int`, got `str` - at `\$.amount`"
    ):
        UPCAST.entries.decode(entry_of({"type": "OrderPlaced", "amount": "5"}), "record 1")


@pytest.mark.parametrize("data", [b"\xc1", b"\x90", encode(["c-1"]), encode({}), DEEP])
def test_bytes_that_are_no_entry_are_a_broken_history(data: bytes) -> None:
    """
    A log that was damaged is told as such.
    """
    with pytest.raises(HistoryError, match="record 1 cannot be read by this code"):
        UPCAST.entries.decode(data, "record 1")


def test_entries_of_the_first_version_are_read() -> None:
    """
    Fields are added at the end with a default.
    """
    old = encode(["c-1", "PlaceOrder", 1, 2, [{"type": "OrderPaid"}]])

    assert Entry("c-1", "PlaceOrder", 1, 2, (OrderPaid(),)) == ORDER.entries.decode(old, "record 1")


@settings(max_examples=25)
@given(TREASURES)
def test_entries_come_back(treasure: Treasure) -> None:
    """
    Whatever is in the events of a record, they are the same when they are read.
    """
    entry = Entry("c-1", "Bury", 1, 2, (treasure, treasure))

    assert entry == RICHES.entries.decode(encode(entry), "record 1")


# -- what Python lets a field hold


@pytest.mark.parametrize(
    "amount",
    ["100", None, 2**70, object(), lambda: 1, float("nan")],
    ids=["text", "nothing", "large", "object", "function", "nan"],
)
def test_what_cannot_be_read_back_is_found_where_it_is_made(amount: Any) -> None:
    """
    A field that holds something else than its type is named to whoever made the message, not to who reads it.
    """
    with pytest.raises(UsageError, match=r"PlaceOrder for 'o-1' cannot be read back as PlaceOrder: .+"):
        encode_message(PlaceOrder("o-1", amount), "PlaceOrder for 'o-1'", 1_000)


@given(TREASURES)
def test_what_can_be_read_back_is_encoded_as_it_is(treasure: Treasure) -> None:
    """
    The check changes nothing.
    """
    assert encode(treasure) == encode_message(treasure, "a treasure", 1_000_000)


def test_attempts_may_be_missing_and_passed_over() -> None:
    """
    Bytes of before they were written down have none; code of before reads those of today without them.
    """
    entry: Entry[Any] = Entry("c-1:0:r0", "PlaceOrder", 1, 2, (), "c-1:0", attempts=3)
    envelope = Envelope("c-1:0:r0", "order", "o-1", b"", attempts=3)
    (*old_entry, entry_attempts) = msgspec.msgpack.decode(encode(entry))
    (*old_envelope, envelope_attempts) = msgspec.msgpack.decode(encode(envelope))

    assert (3, 3) == (entry_attempts, envelope_attempts)
    assert msgspec.structs.replace(entry, attempts=0) == ORDER.entries.decode(encode(old_entry), "record 1")
    assert msgspec.structs.replace(envelope, attempts=0) == decode_envelope(encode(old_envelope))
    assert entry == ORDER.entries.decode(encode([*old_entry, 3, "from newer code"]), "record 1")
    assert envelope == decode_envelope(encode([*old_envelope, 3, "from newer code"]))


def test_an_entry_without_bytes_is_no_record() -> None:
    """
    What a journal hands on of an entry that is none of ours is named as such: no code would read it.
    """
    with pytest.raises(HistoryError, match=r"^record 7 of order/o-1 is none: .* not written by Holdfast"):
        ORDER.entries.decode(b"", "record", 7, "of", "order/o-1")
