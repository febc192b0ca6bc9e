"""Sales: a read model in SQLite, one line for each order, written together with how far it goes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from examples.orders.workflow import (
    CancellationBegun,
    Order,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
)
from holdfast import Projection, ProjectionContext, SqlStore, on

METADATA = sa.MetaData()
SALES = sa.Table(
    "sales",
    METADATA,
    sa.Column("order_id", sa.String, primary_key=True),
    sa.Column("customer", sa.String, nullable=False),
    sa.Column("amount", sa.Integer, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    #: The day on which its status changed the last time, in UTC.
    sa.Column("day", sa.String, nullable=False),
)


class Sales(Projection):
    """What was sold to whom, and what became of it."""

    name = "sales"
    source = Order

    def __init__(self, file: Path) -> None:
        self.store = SqlStore(f"sqlite:///{file}", METADATA)

    @on(OrderPlaced)
    def placed(self, event: OrderPlaced, ctx: ProjectionContext) -> None:
        """Begin a line."""
        line = {"order_id": ctx.key, "customer": event.customer, "amount": event.amount}
        ctx.tx.execute(
            ctx.tx.table(SALES).insert().values(line | {"status": "placed", "day": ctx.at.date().isoformat()})
        )

    @on(OrderPaid, OrderShipped, CancellationBegun, OrderCancelled)
    def moved(
        self, event: OrderPaid | OrderShipped | CancellationBegun | OrderCancelled, ctx: ProjectionContext
    ) -> None:
        """Write down how far the order is."""
        sales = ctx.tx.table(SALES)
        status = {
            OrderPaid: "paid",
            OrderShipped: "shipped",
            CancellationBegun: "cancelling",
            OrderCancelled: "cancelled",
        }
        ctx.tx.execute(
            sales.update()
            .where(sales.c.order_id == ctx.key)
            .values(status=status[type(event)], day=ctx.at.date().isoformat())
        )


def takings(file: Path, day: str) -> tuple[int, int]:
    """Return how many orders were shipped on a day, and for how much."""
    question = "SELECT count(*), coalesce(sum(amount), 0) FROM sales WHERE status = 'shipped' AND day = ?"
    with closing(sqlite3.connect(file)) as connection:
        orders, amount = connection.execute(question, (day,)).fetchone()
    return int(orders), int(amount)


def by_status(file: Path) -> dict[str, tuple[int, int]]:
    """Return by status how many orders there are, and for how much."""
    question = "SELECT status, count(*), sum(amount) FROM sales GROUP BY status"
    with closing(sqlite3.connect(file)) as connection:
        return {status: (orders, amount) for status, orders, amount in connection.execute(question)}
