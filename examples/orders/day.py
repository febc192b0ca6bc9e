"""A business day: it is closed once, every night, and what was sold is written down."""

from __future__ import annotations

from datetime import datetime

import msgspec

from holdfast import Command, Decision, Effect, Event, Workflow, accept, reject


class CloseDay(Command, frozen=True):
    """Close a day's books. The schedule sends it."""

    #: Such as 2026-01-31.
    day: str


class RecordTakings(Command, frozen=True):
    """Say what was sold that day, in cents."""

    day: str
    orders: int
    amount: int


class DayClosed(Event, frozen=True):
    """Nothing more is sold on this day."""


class TakingsRecorded(Event, frozen=True):
    """What was sold is written down."""

    orders: int
    amount: int


class CountTakings(Effect, frozen=True):
    """Ask the read model what was sold."""

    day: str


class DayState(msgspec.Struct, frozen=True):
    """How far a day is."""

    closed: bool = False
    orders: int | None = None
    amount: int = 0


class Day(Workflow[DayState, CloseDay | RecordTakings, DayClosed | TakingsRecorded, CountTakings]):
    """One business day."""

    type = "day"
    key = "day"

    def initial(self) -> DayState:
        """Return a day that goes on."""
        return DayState()

    def evolve(self, state: DayState, event: DayClosed | TakingsRecorded) -> DayState:
        """Return the day after an event."""
        match event:
            case DayClosed():
                return msgspec.structs.replace(state, closed=True)
            case TakingsRecorded(orders=orders, amount=amount):
                return msgspec.structs.replace(state, orders=orders, amount=amount)

    def decide(
        self,
        now: datetime,  # noqa: ARG002 - the schedule knows when a day ends
        state: DayState,
        command: CloseDay | RecordTakings,
    ) -> Decision[DayClosed | TakingsRecorded, CountTakings]:
        """Answer a command."""
        match command:
            case CloseDay() if state.closed:
                return reject("the day is closed")
            case CloseDay(day=day):
                return accept(DayClosed()).effect(CountTakings(day))
            case RecordTakings() if not state.closed:
                return reject("the day goes on")
            case RecordTakings(orders=orders, amount=amount):
                return accept(TakingsRecorded(orders, amount))

    def status(self, state: DayState) -> str:
        """Return where a day is, for diagrams."""
        return "written down" if state.orders is not None else "closed" if state.closed else "open"

    def is_terminal(self, state: DayState) -> bool:
        """Return whether the day is over and written down."""
        return state.orders is not None
