"""
A small shop to simulate: orders with a payment, a deadline, compensation, refusals, and two read models.
"""

import asyncio
from datetime import datetime, timedelta
from random import Random
from typing import ClassVar

import msgspec

from holdfast import (
    App,
    CheckpointStore,
    Command,
    Decision,
    Effect,
    EffectContext,
    EffectFailed,
    Event,
    Permanent,
    Projection,
    ProjectionContext,
    Retry,
    Workflow,
    accept,
    on,
    reject,
)
from holdfast.testing import MemoryStore

DEADLINE = timedelta(minutes=10)


class PlaceOrder(Command):
    order_id: str
    amount: int


class AddItem(Command):
    order_id: str
    amount: int


class TakePayment(Command):
    order_id: str


class RecordPayment(Command):
    order_id: str


class ChargeFailed(EffectFailed):
    order_id: str


class ExpireOrder(Command):
    order_id: str


class RecordRefund(Command):
    order_id: str


class OrderPlaced(Event):
    amount: int


class ItemAdded(Event):
    amount: int


class PaymentAsked(Event):
    pass


class OrderPaid(Event):
    amount: int


class OrderLapsed(Event):
    why: str


class PaymentRefunded(Event):
    pass


class Charge(Effect):
    order_id: str
    amount: int


class Refund(Effect):
    order_id: str


class SendReceipt(Effect):
    order_id: str


class OrderState(msgspec.Struct, frozen=True):
    status: str = "new"
    amount: int = 0


Commands = PlaceOrder | AddItem | TakePayment | RecordPayment | ChargeFailed | ExpireOrder | RecordRefund
Events = OrderPlaced | ItemAdded | PaymentAsked | OrderPaid | OrderLapsed | PaymentRefunded
Effects = Charge | Refund | SendReceipt


class ShopOrder(Workflow[OrderState, Commands, Events, Effects]):
    type = "shop_order"
    key = "order_id"

    def initial(self) -> OrderState:
        return OrderState()

    def evolve(self, state: OrderState, event: Events) -> OrderState:
        match event:
            case OrderPlaced(amount=amount):
                return OrderState("placed", amount)
            case ItemAdded(amount=amount):
                return OrderState(state.status, state.amount + amount)
            case PaymentAsked():
                return OrderState("paying", state.amount)
            case OrderPaid():
                return OrderState("paid", state.amount)
            case OrderLapsed():
                return OrderState("lapsed", state.amount)
            case PaymentRefunded():
                return OrderState("refunded", state.amount)

    def decide(self, now: datetime, state: OrderState, command: Commands) -> Decision[Events, Effects]:
        order_id, status = command.order_id, state.status
        match command:
            case PlaceOrder(amount=amount) if status == "new":
                return accept(OrderPlaced(amount)).timer(
                    ExpireOrder(order_id), key="deadline", after=DEADLINE
                )
            case AddItem(amount=amount) if status == "placed":
                # Each item gives more time.
                return accept(ItemAdded(amount)).timer(ExpireOrder(order_id), key="deadline", after=DEADLINE)
            case TakePayment() if status == "placed":
                return accept(PaymentAsked()).effect(Charge(order_id, state.amount))
            case RecordPayment() if status == "paying":
                return accept(OrderPaid(state.amount)).effect(SendReceipt(order_id)).cancel("deadline")
            case RecordPayment() if status == "lapsed":
                return accept(PaymentAsked()).effect(Refund(order_id))
            case ExpireOrder() if status in ("placed", "paying"):
                return accept(OrderLapsed("too late"))
            case ChargeFailed() if status == "paying":
                return accept(OrderLapsed("no money")).cancel("deadline")
            case RecordRefund() if status == "paying":
                return accept(PaymentRefunded())
        return reject(f"not while it is {status}")

    def is_terminal(self, state: OrderState) -> bool:
        return state.status == "refunded"


class Revenue(Projection):
    """What came in, in a store that is written together with the position."""

    name = "revenue"
    source = ShopOrder

    def __init__(self) -> None:
        self.store: MemoryStore = MemoryStore()

    @on(OrderPaid)
    def paid(self, event: OrderPaid, ctx: ProjectionContext) -> None:
        ctx.tx["total"] = ctx.tx.get("total", 0) + event.amount

    @on(OrderPlaced, ItemAdded, OrderLapsed)
    def counted(self, event: Event, ctx: ProjectionContext) -> None:
        name = type(event).__name__
        ctx.tx[name] = ctx.tx.get(name, 0) + 1


class Journeys(Projection):
    """Every step of every order, in a place of its own: so each comes at least once."""

    name = "journeys"
    source = ShopOrder
    store = CheckpointStore()

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {}

    async def apply(self, event: Event, ctx: ProjectionContext) -> None:
        await asyncio.sleep(0)
        steps = self.seen.setdefault(ctx.key, [])
        if ctx.event_id not in steps:
            steps.append(ctx.event_id)


class Bank:
    """The outside world: it knows each charge by its idempotency key, and refuses some."""

    current: ClassVar["Bank"]

    def __init__(self) -> None:
        self.charges: dict[str, int] = {}
        self.refunds: set[str] = set()
        self.receipts: set[str] = set()


def shop() -> App:
    """
    Return the shop, with a new bank.
    """
    bank = Bank.current = Bank()
    app = App(workflows=[ShopOrder], projections=[Revenue(), Journeys()])

    @app.effect(Charge, retry=Retry(attempts=4, first=0.5), timeout=5)
    def charge(effect: Charge, ctx: EffectContext) -> RecordPayment:
        if effect.amount % 7 == 0:
            raise Permanent("no money")
        bank.charges[ctx.idempotency_key] = effect.amount
        return RecordPayment(effect.order_id)

    @app.effect(Refund, retry=Retry(attempts=10, first=0.2, cap=20.0), timeout=1)
    async def refund(effect: Refund, ctx: EffectContext) -> RecordRefund:
        await asyncio.sleep(0.2)
        bank.refunds.add(ctx.idempotency_key)
        return RecordRefund(effect.order_id)

    @app.effect(SendReceipt, retry=Retry(attempts=3, first=3.0))
    async def receipt(effect: SendReceipt, ctx: EffectContext) -> None:
        bank.receipts.add(ctx.idempotency_key)

    return app


def customers(random: Random) -> list[list[Command]]:
    """
    Return what a few customers send: orders, items, payments, and some that makes no sense.
    """
    senders: list[list[Command]] = []
    for number in range(random.randint(1, 3)):
        order_id, sent = f"o-{number}", list[Command]()
        sent.append(PlaceOrder(order_id, random.randint(1, 50)))
        sent += [AddItem(order_id, random.randint(1, 9)) for _ in range(random.randint(0, 3))]
        if random.random() < 0.8:
            sent.append(TakePayment(order_id))
        if random.random() < 0.3:
            sent.append(PlaceOrder(order_id, 1))
        senders.append(sent)
    if random.random() < 0.3:
        senders.append([AddItem("o-0", 1), TakePayment("o-0")])
    return senders
