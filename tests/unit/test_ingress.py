"""
Ingress: what any program sends becomes a command, or an error that says what is wrong with it.
"""

import json
from datetime import datetime
from typing import Any, Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.runtime.app import App
from holdfast.runtime.codec import encode
from holdfast.runtime.decision import Decision, accept
from holdfast.runtime.errors import KeyRefused, PayloadTooLarge, Undecodable, UnknownType, UsageError
from holdfast.runtime.ingress import translate
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import Command, Envelope, Event
from holdfast.runtime.ports import Delivery
from holdfast.runtime.workflow import Workflow
from tests import controls
from tests.controls import NOW, NOW_MS, PARTITIONS, PlaceOrder


class Measure(Command, frozen=True):
    """
    A command whose key is worked out, and whose worth is anything.
    """

    sensor: str
    worth: Any = None

    def room(self) -> str:
        """
        The room in which the sensor is.
        """
        return self.sensor.split("/")[1]


class Placed(Command, frozen=True, tag="PlaceOrder"):
    """
    A command of the same name as another workflow's.
    """

    order_id: int


class Measured(Event, frozen=True):
    """
    It was measured.
    """


class Room(Workflow[int, Measure | Placed, Measured, Never]):
    """
    A room with sensors.
    """

    type = "room"
    key = "room"
    upcasters = {  # noqa: RUF012 - declared on the base
        "OldMeasure": lambda old: {"type": "Measure", "sensor": old["where"]},
        "Measures": lambda old: [{"type": "Measure", "sensor": one} for one in old["sensors"]],
    }

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Measured) -> int:
        return state

    def decide(self, now: datetime, state: int, command: Measure | Placed) -> Decision[Measured, Never]:
        return accept(Measured())


def _room_of(self: Placed) -> str:
    return f"room-{self.order_id}"


Placed.room = _room_of  # type: ignore[attr-defined]  # a method like any other

ORDERS = controls.app()
ROOMS = App(workflows=[controls.Order, Room])


def made(
    body: bytes, attributes: dict[str, str] | None = None, *, app: App = ORDERS, limit: int = 10_000
) -> tuple[Ref, Envelope]:
    """
    What a foreign message becomes.
    """
    return translate(app, Delivery(-1, body, 0, None, attributes=attributes), NOW, PARTITIONS, limit)


def order(**fields: Any) -> bytes:
    """
    An order as JSON.
    """
    return json.dumps({"type": "PlaceOrder", **fields}).encode()


# -- what is understood


@pytest.mark.parametrize(
    ("body", "attributes"),
    [
        (order(order_id="o-1", amount=5), {}),
        (b' \n\t{"type": "PlaceOrder", "order_id": "o-1", "amount": 5}', {}),
        (order(order_id="o-1", amount=5), {"content_type": "application/json"}),
        (order(order_id="o-1", amount=5), {"content_type": "Application/JSON; charset=utf-8"}),
        (order(order_id="o-1", amount=5), {"content_type": "text/plain"}),
        (encode({"type": "PlaceOrder", "order_id": "o-1", "amount": 5}), {}),
        (
            encode({"type": "PlaceOrder", "order_id": "o-1", "amount": 5}),
            {"content_type": "application/msgpack"},
        ),
        (
            encode({"type": "PlaceOrder", "order_id": "o-1", "amount": 5}),
            {"content_type": "application/x-msgpack"},
        ),
        (order(order_id="o-1", amount="5"), {}),
        (order(order_id="o-1", amount=5, colour="red"), {}),
        (order(order_id="o-1", amount=5), {"type": "order"}),
    ],
)
def test_json_and_msgpack_become_commands(body: bytes, attributes: dict[str, str]) -> None:
    """
    With a content type or without, numbers as numbers or as text: the same command for the same instance.
    """
    ref, envelope = made(body, attributes)

    command = ORDERS.definition("order").commands.decode(envelope.payload)
    assert (controls.ref("o-1"), PlaceOrder("o-1", 5)) == (ref, command)
    assert ("order", "o-1", NOW_MS, None) == (
        envelope.workflow,
        envelope.key,
        envelope.sent_ms,
        envelope.reply_to,
    )


def test_the_message_id_is_the_command_id() -> None:
    """
    A sender that says which message it is may send it again.
    """
    _, envelope = made(order(order_id="o-1"), {"message_id": "m-17", "traceparent": "00-abc-def-01"})

    assert ("m-17", "00-abc-def-01") == (envelope.id, envelope.trace)


def test_a_message_id_may_be_so_long_and_no_longer() -> None:
    """
    It is kept in every record: what is longer is refused, as it is for senders of our own.
    """
    longest = "é" * 64
    assert longest == made(order(order_id="o-1"), {"message_id": longest})[1].id

    with pytest.raises(Undecodable, match="longer than 128 bytes"):
        made(order(order_id="o-1"), {"message_id": longest + "x"})


@pytest.mark.parametrize("attributes", [{}, {"message_id": ""}])
def test_a_message_without_an_id_is_given_one(attributes: dict[str, str]) -> None:
    """
    Two such messages are two commands.
    """
    one, other = (made(order(order_id="o-1"), attributes)[1] for _ in range(2))

    assert one.id
    assert one.id != other.id


def test_the_key_may_be_worked_out() -> None:
    """
    Where the workflow's key is a method of the command.
    """
    ref, _ = made(b'{"type": "Measure", "sensor": "house/kitchen/1"}', app=ROOMS)

    assert controls.ref("kitchen", "room") == ref


def test_an_old_command_is_brought_up_to_date() -> None:
    """
    Foreign senders are the last to change.
    """
    ref, _ = made(b'{"type": "OldMeasure", "where": "house/attic"}', app=ROOMS, attributes={"type": "room"})

    assert "attic" == ref.key


def test_a_name_that_two_workflows_have_needs_the_workflows() -> None:
    """
    The property `type` says which; without it the message is refused with both.
    """
    body = b'{"type": "PlaceOrder", "order_id": "7"}'

    with pytest.raises(UnknownType) as caught:
        made(body, app=ROOMS)

    assert "'PlaceOrder' is a command of order, room: say which in the property `type`" == str(caught.value)
    assert ["7", "room-7"] == [made(body, {"type": name}, app=ROOMS)[0].key for name in ("order", "room")]


# -- what is not


@pytest.mark.parametrize(
    ("body", "attributes", "error", "words"),
    [
        (b"", {}, Undecodable, "the message is no JSON object and no msgpack: "),
        (b"hello", {}, Undecodable, "the message is no JSON object and no msgpack: "),
        (b"\x07", {}, Undecodable, "the message must be a map with `type`"),
        (b"{", {}, Undecodable, "the message is no JSON"),
        (b'{"type": "PlaceOrder"', {}, Undecodable, "the message is no JSON"),
        (b"[1]", {"content_type": "application/json"}, Undecodable, "the message must be a map with `type`"),
        (b'{"order_id": "o-1"}', {}, Undecodable, "the message must be a map with `type`"),
        (b'{"type": 7}', {}, Undecodable, "the message must be a map with `type`"),
        (
            order(order_id="o-1"),
            {"content_type": "application/xml"},
            Undecodable,
            "content type 'application/xml'",
        ),
        (order(order_id="o-1"), {"content_type": "application/msgpack"}, Undecodable, "is no msgpack: "),
        (encode({"type": "PlaceOrder"}), {"content_type": "application/json"}, Undecodable, "is no JSON"),
        (order(), {}, Undecodable, "missing required field `order_id`"),
        (order(order_id=["o-1"]), {}, Undecodable, "Expected `str`, got `array`"),
        (order(order_id="o-1", amount="much"), {}, Undecodable, "Expected `int`, got `str`"),
        (order(order_id="o-1", amount=1.5), {}, Undecodable, "Expected `int`, got `float`"),
        (
            b'{"type": "ShipOrder"}',
            {},
            UnknownType,
            "no workflow of this process has a command 'ShipOrder' (known: ",
        ),
        (
            b'{"type": "PlaceOrder"}',
            {"type": "unheard"},
            UnknownType,
            "this process knows no workflow 'unheard'",
        ),
        (b'{"type": "Add", "counter": "n"}', {"type": "order"}, UnknownType, "Order has no message 'Add'"),
        (order(order_id=""), {}, KeyRefused, "the key of PlaceOrder.order_id is empty"),
        (order(order_id="x" * 513), {}, KeyRefused, "the key of PlaceOrder.order_id is 513 bytes long"),
        (order(order_id="x" * 10_000), {}, PayloadTooLarge, "the message is 10,0"),
        (b'{"type": "PlaceOrder", "order_id": ' + b"[" * 4_000, {}, Undecodable, "is no JSON"),
    ],
)
def test_what_cannot_become_a_command_is_refused(
    body: bytes, attributes: dict[str, str], error: type[UsageError], words: str
) -> None:
    """
    The error says what is wrong in the sender's words.
    """
    with pytest.raises(error) as caught:
        made(body, attributes)

    assert error is type(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"type": "Measure", "sensor": "nowhere"}', "the key of Measure cannot be told: IndexError"),
        (b'{"type": "OldMeasure"}', "the upcaster of Room for 'OldMeasure' failed: KeyError: 'where'"),
        (b'{"type": "Measures", "sensors": []}', "an upcaster of Room made 0 messages of one command"),
        (
            b'{"type": "Measures", "sensors": ["a/b", "a/c"]}',
            "an upcaster of Room made 2 messages of one command",
        ),
        (b'{"type": "Measure", "sensor": "a/b", "worth": 1' + b"0" * 30 + b"}", "Measure cannot be stored: "),
    ],
)
def test_what_user_code_stumbles_over_is_refused(body: bytes, words: str) -> None:
    """
    A key method or an upcaster that raises makes a dead letter of the message; the door stays open.
    """
    with pytest.raises(UsageError) as caught:
        made(body, app=ROOMS, attributes={"type": "room"})

    assert words in str(caught.value)


def test_a_command_that_grows_over_the_limit_is_refused_by_name() -> None:
    """
    The limit holds for what is sent on as well.
    """
    body = b'{"type": "Measure", "sensor": "a/b", "worth": [1.5' + b",1.5" * 50 + b"]}"

    with pytest.raises(PayloadTooLarge, match=r"Measure is 4\d\d bytes; the limit is 300"):
        made(body, app=ROOMS, limit=300)


NEARLY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "order_id", "amount", "sensor", "worth", "where", "sensors"]),
            inner | st.sampled_from(["PlaceOrder", "Measure", "OldMeasure", "Measures", "a/b"]),
            max_size=5,
        )
    ),
    max_leaves=6,
)


@given(
    body=st.binary(max_size=40) | NEARLY.map(lambda value: json.dumps(value).encode()),
    attributes=st.fixed_dictionaries(
        {},
        optional={
            "content_type": st.sampled_from(["application/json", "application/msgpack", "x"])
            | st.text(max_size=4),
            "type": st.sampled_from(["order", "room"]) | st.text(max_size=4),
            "message_id": st.text(max_size=4),
        },
    ),
)
def test_garbage_never_raises_anything_else(body: bytes, attributes: dict[str, str]) -> None:
    """
    Whatever anybody sends is a command or a UsageError: nothing that a stranger writes stops the door.
    """
    try:
        ref, envelope = made(body, attributes, app=ROOMS)
    except UsageError:
        return

    assert (ref.workflow, ref.key) == (envelope.workflow, envelope.key)
    assert 0 <= ref.partition < PARTITIONS
    assert ROOMS.definition(ref.workflow).commands.decode(envelope.payload)
