r"""An order, from the basket to the door: the workflow of the demonstration.

    PlaceOrder -> PayOrder -> PackOrder -> ShipOrder -> DeliverOrder
         \___________\___________\-> CancelOrder

Every step is refused unless the one before it was taken: commands that arrived twice or out of order would show.
"""

from datetime import datetime
from enum import StrEnum
from typing import Never, assert_never

import msgspec

from holdfast import App, Command, Decision, Event, Workflow, accept, reject


class PlaceOrder(Command, frozen=True):
    """Order goods for an amount in cents."""

    order_id: str
    amount: int


class PayOrder(Command, frozen=True):
    """Pay the whole amount."""

    order_id: str
    amount: int


class PackOrder(Command, frozen=True):
    """Put the goods into a parcel."""

    order_id: str


class ShipOrder(Command, frozen=True):
    """Hand the parcel to a carrier."""

    order_id: str
    carrier: str


class DeliverOrder(Command, frozen=True):
    """Hand the parcel over at the door."""

    order_id: str


class CancelOrder(Command, frozen=True):
    """Call the order off; possible until it is shipped."""

    order_id: str


class OrderPlaced(Event, frozen=True):
    """Goods were ordered."""

    amount: int


class OrderPaid(Event, frozen=True):
    """The amount was paid."""

    amount: int


class OrderPacked(Event, frozen=True):
    """The goods are in a parcel."""


class OrderShipped(Event, frozen=True):
    """The parcel is on its way."""

    carrier: str


class OrderDelivered(Event, frozen=True):
    """The parcel was handed over."""


class OrderCancelled(Event, frozen=True):
    """The order was called off."""


Commands = PlaceOrder | PayOrder | PackOrder | ShipOrder | DeliverOrder | CancelOrder
Events = OrderPlaced | OrderPaid | OrderPacked | OrderShipped | OrderDelivered | OrderCancelled


class Status(StrEnum):
    """How far an order is."""

    NEW = "new"
    PLACED = "placed"
    PAID = "paid"
    PACKED = "packed"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class OrderState(msgspec.Struct, frozen=True):
    """What the next decision needs to know."""

    status: Status = Status.NEW
    amount: int = 0
    carrier: str = ""


class Order(Workflow[OrderState, Commands, Events, Never]):
    """One order."""

    type = "order"
    key = "order_id"

    def initial(self) -> OrderState:
        """Return the state before anything happened."""
        return OrderState()

    def evolve(self, state: OrderState, event: Events) -> OrderState:
        """Return the state after an event."""
        match event:
            case OrderPlaced(amount=amount):
                return OrderState(Status.PLACED, amount)
            case OrderPaid():
                return msgspec.structs.replace(state, status=Status.PAID)
            case OrderPacked():
                return msgspec.structs.replace(state, status=Status.PACKED)
            case OrderShipped(carrier=carrier):
                return msgspec.structs.replace(state, status=Status.SHIPPED, carrier=carrier)
            case OrderDelivered():
                return msgspec.structs.replace(state, status=Status.DELIVERED)
            case OrderCancelled():
                return msgspec.structs.replace(state, status=Status.CANCELLED)
            case _:
                assert_never(event)

    def decide(self, now: datetime, state: OrderState, command: Commands) -> Decision[Events, Never]:  # noqa: ARG002 - an order does not ask what time it is
        """Answer a command."""
        match command, state.status:
            case PlaceOrder(amount=amount), Status.NEW:
                return accept(OrderPlaced(amount))
            case PayOrder(amount=amount), Status.PLACED if amount == state.amount:
                return accept(OrderPaid(amount))
            case PayOrder(amount=amount), Status.PLACED:
                return reject("the amount is wrong", {"to pay": state.amount, "paid": amount})
            case PackOrder(), Status.PAID:
                return accept(OrderPacked())
            case ShipOrder(carrier=carrier), Status.PACKED:
                return accept(OrderShipped(carrier))
            case DeliverOrder(), Status.SHIPPED:
                return accept(OrderDelivered())
            case CancelOrder(), Status.PLACED | Status.PAID | Status.PACKED:
                return accept(OrderCancelled())
            case _:
                return reject(f"an order that is {state.status} does not take {type(command).__name__}")

    def is_terminal(self, state: OrderState) -> bool:
        """Return whether the order is finished."""
        return state.status in (Status.DELIVERED, Status.CANCELLED)


app = App(workflows=[Order])
