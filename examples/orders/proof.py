"""Proof: what must be true when all orders are finished, whatever failed on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from examples.orders.payments import Books
from examples.orders.workflow import OrderPaid, OrderPlaced, OrderShipped
from holdfast import Record


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that must be true, and whether it is."""

    sentence: str
    holds: bool


@dataclass(slots=True)
class Tally:
    """What the orders' logs say."""

    orders: int = 0
    shipped: int = 0
    cancelled: int = 0
    unfinished: int = 0
    #: In cents: what those paid that were shipped.
    amount: int = 0
    #: Orders with any event of a kind more than once.
    twice: int = 0

    def add(self, records: Iterable[Record[Any]]) -> None:
        """Read one order's log."""
        events = [event for record in records for event in record.events]
        names = [type(event).__name__ for event in events]
        self.orders += 1
        self.twice += len(names) != len(set(names))
        if any(isinstance(event, OrderShipped) for event in events):
            self.shipped += 1
            self.amount += sum(event.amount for event in events if isinstance(event, OrderPaid))
        elif "OrderCancelled" in names:
            self.cancelled += 1
        else:
            self.unfinished += any(isinstance(event, OrderPlaced) for event in events)


def prove(
    expected: int, tally: Tally, books: Books, stock: Mapping[str, int], sales: Mapping[str, tuple[int, int]]
) -> list[Claim]:
    """Return what must be true of the logs, the provider's books, the warehouse and the read model together."""
    wrong = books.unreachable + books.answers_lost
    return [
        Claim(
            f"{tally.orders:,} orders: {tally.shipped:,} shipped, {tally.cancelled:,} cancelled, {tally.unfinished:,} open",
            tally.orders == expected and tally.unfinished == 0,
        ),
        Claim(
            f"the provider was called {books.calls:,} times, and {wrong:,} calls went wrong; "
            f"{books.answers_lost:,} of these had charged the card",
            books.calls >= expected,
        ),
        Claim(f"{books.charged_twice} orders were charged twice", books.charged_twice == 0),
        Claim(
            f"{books.charged:,} charges are kept: one for each parcel, and none for what was cancelled",
            books.charged == tally.shipped == stock["parcels"],
        ),
        Claim(
            f"provider, logs and read model agree on {books.amount / 100:,.2f}",
            books.amount == tally.amount == sales.get("shipped", (0, 0))[1],
        ),
        Claim(
            "the read model has every order once, as it ended",
            {status: count for status, (count, _) in sales.items()}
            == {
                status: count
                for status, count in (("shipped", tally.shipped), ("cancelled", tally.cancelled))
                if count
            },
        ),
        Claim(f"{tally.twice} orders have anything in their log twice", tally.twice == 0),
    ]
