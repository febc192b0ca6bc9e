r"""An order, from the basket to the parcel.

    PLACED --ConfirmPayment--> PAID --ConfirmReservation--> RESERVED --ConfirmShipment--> SHIPPED
       \________________________\______________________________/
                                 \-> CANCELLING --ConfirmRefund--> CANCELLED

Whatever goes wrong leads to CANCELLING: money and goods are given back, and only then is the order cancelled. Both are
given back by the order's own number, also what was taken by a call whose answer was lost; so it does not matter how far
the order had come, and an answer that arrives too late is refused.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, assert_never

import msgspec

from holdfast import Accept, Command, Decision, Effect, EffectFailed, Event, Workflow, accept, reject

#: How long the payment may take.
PAYMENT_LIMIT = timedelta(minutes=15)
#: The timer that sees to it.
PAYMENT_TIMER = "payment"

Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


# -- what is asked of an order


class PlaceOrder(Command, frozen=True):
    """Order goods; the amount is in cents."""

    order_id: str
    customer: str
    sku: str
    quantity: Positive
    amount: Positive


class CancelOrder(Command, frozen=True):
    """Call the order off; possible until it is handed to the carrier."""

    order_id: str


class ConfirmPayment(Command, frozen=True):
    """Say that the card was charged."""

    order_id: str
    payment: str


class DeclinePayment(Command, frozen=True):
    """Say that the card will never be charged."""

    order_id: str
    reason: str


class ExpirePayment(Command, frozen=True):
    """Say that the payment has taken too long. A timer sends it."""

    order_id: str


class ConfirmReservation(Command, frozen=True):
    """Say that the goods are set aside."""

    order_id: str


class ReportShortage(Command, frozen=True):
    """Say that there are not enough goods."""

    order_id: str


class ConfirmShipment(Command, frozen=True):
    """Say that the parcel is on its way."""

    order_id: str
    parcel: str


class ConfirmRefund(Command, frozen=True):
    """Say that whatever was charged was given back."""

    order_id: str
    amount: int


class GiveUp(EffectFailed, frozen=True, kw_only=True):
    """Say that something was tried again and again, and given up."""

    order_id: str


# -- what happened


class OrderPlaced(Event, frozen=True):
    """Goods were ordered."""

    customer: str
    sku: str
    quantity: int
    amount: int


class OrderPaid(Event, frozen=True):
    """The card was charged."""

    payment: str
    amount: int


class StockReserved(Event, frozen=True):
    """The goods are set aside."""


class OrderShipped(Event, frozen=True):
    """The parcel is on its way."""

    parcel: str


class CancellationBegun(Event, frozen=True):
    """The order will not be fulfilled: what was taken is given back."""

    reason: str


class OrderCancelled(Event, frozen=True):
    """Everything was given back."""

    refunded: int


# -- what is to be done


class ChargeCard(Effect, frozen=True):
    """Charge the customer's card."""

    order_id: str
    customer: str
    amount: int


class ReserveStock(Effect, frozen=True):
    """Set goods aside."""

    order_id: str
    sku: str
    quantity: int


class ShipParcel(Effect, frozen=True):
    """Hand the goods to a carrier."""

    order_id: str


class RefundPayment(Effect, frozen=True):
    """Give back whatever was charged for the order, and charge nothing for it any more."""

    order_id: str


class ReleaseStock(Effect, frozen=True):
    """Put back whatever was set aside for the order, and set nothing aside for it any more."""

    order_id: str


Commands = (
    PlaceOrder
    | CancelOrder
    | ConfirmPayment
    | DeclinePayment
    | ExpirePayment
    | ConfirmReservation
    | ReportShortage
    | ConfirmShipment
    | ConfirmRefund
    | GiveUp
)
Events = OrderPlaced | OrderPaid | StockReserved | OrderShipped | CancellationBegun | OrderCancelled
Effects = ChargeCard | ReserveStock | ShipParcel | RefundPayment | ReleaseStock


# -- an order


class Status(StrEnum):
    """How far an order is."""

    NEW = "new"
    PLACED = "placed"
    PAID = "paid"
    RESERVED = "reserved"
    SHIPPED = "shipped"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


#: What an order waits for: if that is given up, the order is as well. Anything else that is, is a person's to mend.
AWAITED: dict[Status, type[Effects]] = {
    Status.PLACED: ChargeCard,
    Status.PAID: ReserveStock,
    Status.RESERVED: ShipParcel,
}


class OrderState(msgspec.Struct, frozen=True):
    """What the next decision needs to know."""

    status: Status = Status.NEW
    sku: str = ""
    quantity: int = 0
    amount: int = 0


class Order(Workflow[OrderState, Commands, Events, Effects]):
    """One order."""

    type = "order"
    key = "order_id"

    def initial(self) -> OrderState:
        """Return the state before anything happened."""
        return OrderState()

    def evolve(self, state: OrderState, event: Events) -> OrderState:
        """Return the state after an event."""
        match event:
            case OrderPlaced(sku=sku, quantity=quantity, amount=amount):
                return OrderState(Status.PLACED, sku, quantity, amount)
            case OrderPaid():
                return msgspec.structs.replace(state, status=Status.PAID)
            case StockReserved():
                return msgspec.structs.replace(state, status=Status.RESERVED)
            case OrderShipped():
                return msgspec.structs.replace(state, status=Status.SHIPPED)
            case CancellationBegun():
                return msgspec.structs.replace(state, status=Status.CANCELLING)
            case OrderCancelled():
                return msgspec.structs.replace(state, status=Status.CANCELLED)
            case _:
                assert_never(event)

    def decide(self, now: datetime, state: OrderState, command: Commands) -> Decision[Events, Effects]:  # noqa: ARG002 - the timer knows what time it is
        """Answer a command."""
        match command, state.status:
            case PlaceOrder(), Status.NEW:
                return _place(command)
            case ConfirmPayment(order_id=order_id, payment=payment), Status.PLACED:
                paid = accept(OrderPaid(payment, state.amount)).cancel(PAYMENT_TIMER)
                return paid.effect(ReserveStock(order_id, state.sku, state.quantity))
            case ConfirmReservation(order_id=order_id), Status.PAID:
                return accept(StockReserved()).effect(ShipParcel(order_id))
            case ConfirmShipment(parcel=parcel), Status.RESERVED:
                return accept(OrderShipped(parcel))
            case DeclinePayment(order_id=order_id, reason=reason), Status.PLACED:
                return _cancel(order_id, f"the payment was declined: {reason}")
            case ExpirePayment(order_id=order_id), Status.PLACED:
                return _cancel(order_id, "the payment took too long")
            case ReportShortage(order_id=order_id), Status.PAID:
                return _cancel(order_id, "there are not enough goods")
            case GiveUp(order_id=order_id, effect=effect), status if _awaited(status) == effect:
                return _cancel(order_id, f"{effect} was given up")
            case CancelOrder(order_id=order_id), Status.PLACED | Status.PAID:
                return _cancel(order_id, "the customer called it off")
            case ConfirmRefund(amount=amount), Status.CANCELLING:
                return accept(OrderCancelled(amount))
            case _:
                return reject(f"an order that is {state.status} does not take {type(command).__name__}")

    def is_terminal(self, state: OrderState) -> bool:
        """Return whether the order is finished."""
        return state.status in (Status.SHIPPED, Status.CANCELLED)


def _awaited(status: Status) -> str | None:
    effect = AWAITED.get(status)
    return None if effect is None else effect.__name__


def _place(command: PlaceOrder) -> Decision[Events, Effects]:
    order_id = command.order_id
    placed = accept(OrderPlaced(command.customer, command.sku, command.quantity, command.amount))
    asked: Accept[Events, Effects] = placed.effect(ChargeCard(order_id, command.customer, command.amount))
    return asked.timer(ExpirePayment(order_id), key=PAYMENT_TIMER, after=PAYMENT_LIMIT)


def _cancel(order_id: str, reason: str) -> Decision[Events, Effects]:
    begun = accept(CancellationBegun(reason)).cancel(PAYMENT_TIMER)
    return begun.effect(RefundPayment(order_id), ReleaseStock(order_id))
