"""
Examples of every noun, for tests to take and change, so that no test has to spell out what it is not about.

Each function returns a fresh, valid example; its arguments are what tests want to be otherwise.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Never

import msgspec

from holdfast.runtime.app import App
from holdfast.runtime.clock import to_ms
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.config import Settings
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.decision import Decision, accept, reject
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.message import Command, Effect, Envelope, Event
from holdfast.runtime.outcome import Answer
from holdfast.runtime.ports import Commit, Delivery, Member, Opened
from holdfast.runtime.record import EffectEntry, Entry, Record, Snapshot, TimerEntry
from holdfast.runtime.workflow import Workflow

#: Few, so that declaring and looking through all of them is quick; enough that keys fall into different ones.
PARTITIONS = 4

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW_MS = to_ms(NOW)

#: Business keys that somebody will have one day, and some that somebody will try.
KEYS = (
    "o-1",
    "with space",
    "a:b",
    "a%3Ab",
    "a{b}c",
    "100%",
    "%3A",
    "{",
    "}",
    "}}{{",
    "x}:actor:order:o-1",
    "x}:log:order:o-1",
    "*",
    "?[a-z]",
    "\\",
    "a/b",
    "a\nb\tc\x00\x7f",
    "Zoë",
    "日本語",
    "🦀" * 3,
    " ",
    ".",
    "-1",
    "0",
    "x" * 512,
    "é" * 256,
    "{" * 512,
)


# -- a workflow with everything: events, effects, timers, refusals, an end


class PlaceOrder(Command, frozen=True):
    """Begins an order."""

    order_id: str
    amount: int = 100


class ConfirmPayment(Command, frozen=True):
    """Says that the card was charged."""

    order_id: str


class CancelOrder(Command, frozen=True):
    """Ends an order that was not paid."""

    order_id: str
    reason: str = "changed my mind"


class ExpireOrder(Command, frozen=True):
    """What the order's timer sends."""

    order_id: str


class OrderPlaced(Event, frozen=True):
    """The order was placed."""

    amount: int


class OrderPaid(Event, frozen=True):
    """The order was paid."""


class OrderCancelled(Event, frozen=True):
    """The order was cancelled."""

    reason: str


class ChargeCard(Effect, frozen=True):
    """Asks for the money."""

    order_id: str
    amount: int


class SendReceipt(Effect, frozen=True):
    """Says thank you."""

    order_id: str


class OrderState(msgspec.Struct, frozen=True):
    """An order as its events made it."""

    status: str = "new"
    amount: int = 0


OrderCommand = PlaceOrder | ConfirmPayment | CancelOrder | ExpireOrder
OrderEvent = OrderPlaced | OrderPaid | OrderCancelled
OrderEffect = ChargeCard | SendReceipt


class Order(Workflow[OrderState, OrderCommand, OrderEvent, OrderEffect]):
    """An order: placed, charged, and paid, cancelled or expired."""

    type = "order"
    key = "order_id"

    def initial(self) -> OrderState:
        return OrderState()

    def evolve(self, state: OrderState, event: OrderEvent) -> OrderState:
        match event:
            case OrderPlaced(amount=amount):
                return OrderState("placed", amount)
            case OrderPaid():
                return OrderState("paid", state.amount)
            case OrderCancelled():
                return OrderState("cancelled", state.amount)

    def decide(
        self, now: datetime, state: OrderState, command: OrderCommand
    ) -> Decision[OrderEvent, OrderEffect]:
        match command:
            case PlaceOrder(order_id=order_id, amount=amount):
                if state.status != "new":
                    return reject("already placed", {"status": state.status})
                return (
                    accept(OrderPlaced(amount))
                    .effect(ChargeCard(order_id, amount))
                    .timer(ExpireOrder(order_id), key="expiry", after=timedelta(hours=1))
                )
            case ConfirmPayment(order_id=order_id):
                if state.status != "placed":
                    return reject("nothing to pay", {"status": state.status})
                return accept(OrderPaid()).effect(SendReceipt(order_id)).cancel("expiry")
            case CancelOrder(reason=reason):
                return _cancelled(state, reason)
            case ExpireOrder():
                return _cancelled(state, "expired")

    def is_terminal(self, state: OrderState) -> bool:
        return state.status in ("paid", "cancelled")


def _cancelled(state: OrderState, reason: str) -> Decision[OrderEvent, OrderEffect]:
    if state.status != "placed":
        return reject("nothing to cancel", {"status": state.status})
    return accept(OrderCancelled(reason)).cancel("expiry")


# -- a workflow with nothing but a number, for tests that count


class Add(Command, frozen=True):
    """Asks for the number to grow; a negative one is refused."""

    counter: str
    by: int = 1


class Added(Event, frozen=True):
    """The number grew."""

    by: int


class Counter(Workflow[int, Add, Added, Never]):
    """A number that only grows."""

    type = "counter"
    key = "counter"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Added) -> int:
        return state + event.by

    def decide(self, now: datetime, state: int, command: Add) -> Decision[Added, Never]:
        return accept(Added(command.by)) if command.by >= 0 else reject("negative")


def app() -> App:
    """
    An app of both workflows.
    """
    return App(workflows=[Order, Counter])


def settings(**changes: Any) -> Settings:
    """
    Settings that keep everything in memory unless the changes name servers.
    """
    defaults = {"redis_url": "memory://", "namespace": "test", "partitions": PARTITIONS}
    return Settings.of(**(defaults | changes))


# -- on the way


def ref(key: str = "o-1", workflow: str = "order", partitions: int = PARTITIONS) -> Ref:
    """
    A reference to an instance, in the partition that is its own.
    """
    return Ref(partition_of(workflow, key, partitions), workflow, key)


def refs(count: int, workflow: str = "order", partition: int | None = None) -> list[Ref]:
    """
    References to different instances, of any partition or all of one.
    """
    found: list[Ref] = []
    number = 0
    while len(found) < count:
        number += 1
        one = ref(f"o-{number}", workflow)
        if partition in (None, one.partition):
            found.append(one)
    return found


def envelope(command: Command | None = None, *, command_id: str = "c-1", **changes: Any) -> Envelope:
    """
    A command on its way to the order o-1.
    """
    command = command or PlaceOrder("o-1")
    key = getattr(command, "order_id", None) or getattr(command, "counter", "")
    workflow = "counter" if isinstance(command, Add) else "order"
    values: dict[str, Any] = {
        "id": command_id,
        "workflow": workflow,
        "key": key,
        "payload": encode(command),
        "sent_ms": NOW_MS,
    }
    return Envelope(**(values | changes))


def delivery(
    command: Command | None = None, *, command_id: str = "c-1", redeliveries: int = 0, **changes: Any
) -> Delivery:
    """
    A command as the transport hands it out.
    """
    sent = envelope(command, command_id=command_id, **changes)
    partition = partition_of(sent.workflow, sent.key, PARTITIONS)
    return Delivery(partition, encode_envelope(sent), redeliveries, command_id)


def answer(command_id: str = "c-1", kind: str = "accepted", **changes: Any) -> Answer:
    """
    An outcome on its way back.
    """
    values: dict[str, Any] = {"seq": 1, "entry": entry(command_id)} if kind == "accepted" else {}
    return Answer(command_id, kind, **(values | changes))


# -- what is kept


def entry(command_id: str = "c-1", *events: Event, at_ms: int = NOW_MS, token: int = 1) -> bytes:
    """
    One decision as the log keeps it: an order that was placed.
    """
    return encode(Entry(command_id, "PlaceOrder", at_ms, token, events or (OrderPlaced(100),)))


def command_id(stored: bytes) -> str:
    """
    The id of the command that led to an entry.
    """
    return msgspec.msgpack.decode(stored, type=Entry[Any]).command_id


def record(seq: int = 1, command_id: str = "c-1", *events: Event) -> Record[Any]:
    """
    One decision as users read it.
    """
    return Record(seq, command_id, "PlaceOrder", NOW, 1, events or (OrderPlaced(100),), None, None)


def snapshot(seq: int = 1, head: str = "c-1", state: Any = None) -> Snapshot:
    """
    An order that was placed, folded up to a record.
    """
    return Snapshot(
        seq, head, 1, encode(OrderState("placed", 100) if state is None else state), ((head, seq, NOW_MS),)
    )


def effect(effect_id: str = "c-1:0", *, of: Ref | None = None, seq: int = 1) -> EffectEntry:
    """
    An effect in the outbox: the card of an order is to be charged.
    """
    of = of or ref()
    return EffectEntry(effect_id, of.workflow, of.key, seq, encode(ChargeCard(of.key, 100)), NOW_MS)


def timer(name: str = "order/o-1/expiry", *, delay_ms: int = 3_600_000, due_ms: int = 0) -> TimerEntry:
    """
    A timer of an order as it is proposed: due an hour after the commit.
    """
    return TimerEntry(
        name, encode_envelope(envelope(ExpireOrder("o-1"), command_id=f"timer:{name}")), delay_ms, due_ms
    )


def commit(view: Opened | Ref, *command_ids: str, **changes: Any) -> Commit:
    """
    The decisions of these commands on a view of an instance; of no command: a check that the view still holds.

    A reference stands for the view of an instance that does not exist.
    """
    if isinstance(view, Ref):
        view = Opened(view, 0, "", 0, RunState.RUNNING, None, ())
    values: dict[str, Any] = {
        "entries": [entry(command_id, token=view.token) for command_id in command_ids],
        "new_head": command_ids[-1] if command_ids else view.head,
        "was": view.run_state,
        "run_state": view.run_state,
    }
    return Commit(view.ref, view.seq, view.head, view.token, **(values | changes))


def refusal(command_id: str, of: Ref | None = None) -> tuple[str, bytes]:
    """
    The name in its partition of a command that was refused, and what its sender is told.
    """
    answer = Answer(command_id, "rejected", reason="no", details=encode({"amount": 7}))
    return f"{(of or ref()).scope}:{command_id}", encode(answer)


def dead_letter(letter_id: str = "0.d-1", **changes: Any) -> DeadLetter:
    """
    A command that was given up on; its id says in which partition.
    """
    values: dict[str, Any] = {
        "id": letter_id,
        "kind": "command",
        "partition": int(letter_id.partition(".")[0]),
        "body": encode_envelope(envelope()),
        "error": "ValueError: no",
        "traceback": "Traceback (most recent call last): ...",
        "attempts": 3,
        "at_ms": NOW_MS,
        "command_id": "c-1",
        "workflow": "order",
        "key": "o-1",
        "message_type": "PlaceOrder",
    }
    return DeadLetter(**(values | changes))


def member(member_id: str = "m-1", pools: Sequence[str] = ("command",)) -> Member:
    """
    A living worker process.
    """
    return Member(member_id, tuple(pools), "host", 4711, NOW)
