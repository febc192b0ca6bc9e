"""The app: the workflows, what is done for their effects, the read model, and the schedule.

    holdfast dev examples.orders.app:app

keeps the payments, the warehouse and the sales in the folder that ORDERS_DIR names, else in `.orders/`.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from examples.orders.day import CloseDay, CountTakings, Day, RecordTakings
from examples.orders.payments import Declined, PaymentProvider
from examples.orders.sales import Sales, takings
from examples.orders.warehouse import Warehouse
from examples.orders.workflow import (
    ChargeCard,
    ConfirmPayment,
    ConfirmRefund,
    ConfirmReservation,
    ConfirmShipment,
    DeclinePayment,
    Order,
    RefundPayment,
    ReleaseStock,
    ReportShortage,
    ReserveStock,
    ShipParcel,
)
from holdfast import App, EffectContext, Permanent, Retry, Schedule

#: What is on the shelves in the beginning.
GOODS = {"tea": 100_000, "cups": 100_000, "a single rare vase": 1}

FOLDER = Path(os.environ.get("ORDERS_DIR", ".orders")).absolute()
#: A provider like this one fails often, so tries come soon after another; with yours, be more patient.
STUBBORN = Retry(attempts=12, first=0.05, cap=1.0)


@cache
def provider() -> PaymentProvider:
    """Return the payment provider: one call in five goes wrong, one card in twenty is refused."""
    return PaymentProvider(_folder() / "payments.db", unreachable=0.1, answers_lost=0.1, declines=0.05)


@cache
def warehouse() -> Warehouse:
    """Return the warehouse, with something in it."""
    found = Warehouse(_folder() / "warehouse.db")
    found.fill(GOODS)
    return found


def _folder() -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    return FOLDER


def sales_file() -> Path:
    """Return where the read model is."""
    return _folder() / "sales.db"


def close_yesterday(tick: datetime) -> CloseDay:
    """Return the command that closes the day that has just ended, in the time of the schedule."""
    return CloseDay((tick - timedelta(days=1)).date().isoformat())


app = App(
    workflows=[Order, Day],
    projections=[Sales(sales_file())],
    schedules=[
        Schedule(name="close-the-day", cron="0 2 * * *", tz="Europe/Berlin", command=close_yesterday),
    ],
)


@app.effect(ChargeCard, retry=STUBBORN, timeout=10)
def charge(effect: ChargeCard, ctx: EffectContext) -> ConfirmPayment | DeclinePayment:
    """Charge the card, under the one key of this effect: an attempt whose answer was lost is not charged again."""
    try:
        payment = provider().charge(ctx.idempotency_key, effect.order_id, effect.amount)
    except Declined as error:
        return DeclinePayment(effect.order_id, str(error))
    return ConfirmPayment(effect.order_id, payment)


@app.effect(ReserveStock)
def reserve(effect: ReserveStock, ctx: EffectContext) -> ConfirmReservation | ReportShortage:  # noqa: ARG001 - the order's number is key enough
    """Set the goods aside."""
    if warehouse().reserve(effect.order_id, effect.sku, effect.quantity):
        return ConfirmReservation(effect.order_id)
    return ReportShortage(effect.order_id)


@app.effect(ShipParcel)
def ship(effect: ShipParcel, ctx: EffectContext) -> ConfirmShipment:  # noqa: ARG001 - as above
    """Hand the goods to a carrier."""
    parcel = warehouse().ship(effect.order_id)
    if parcel is None:
        message = f"nothing is set aside for {effect.order_id}"
        raise Permanent(message)
    return ConfirmShipment(effect.order_id, parcel)


@app.effect(RefundPayment, retry=STUBBORN)
def refund(effect: RefundPayment, ctx: EffectContext) -> ConfirmRefund:  # noqa: ARG001 - as above
    """Give back whatever was charged."""
    return ConfirmRefund(effect.order_id, provider().void(effect.order_id))


@app.effect(ReleaseStock)
def release(effect: ReleaseStock, ctx: EffectContext) -> None:  # noqa: ARG001 - as above
    """Put the goods back. The order does not wait for it."""
    warehouse().release(effect.order_id)


@app.effect(CountTakings)
def count(effect: CountTakings, ctx: EffectContext) -> RecordTakings:  # noqa: ARG001 - as above
    """Ask the read model what was sold."""
    return RecordTakings(effect.day, *takings(sales_file(), effect.day))
