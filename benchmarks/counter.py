"""The workflow that is measured: a counter per key, the smallest state that a command can change."""

from datetime import datetime
from typing import Never

import msgspec

from holdfast import App, Command, Decision, Event, Workflow, accept


class Increment(Command):
    """Add one."""

    counter: str


class Incremented(Event):
    """One was added."""


class Count(msgspec.Struct, frozen=True):
    """How much it is."""

    value: int = 0


class Counter(Workflow[Count, Increment, Incremented, Never]):
    """A counter."""

    type = "counter"
    key = "counter"

    def initial(self) -> Count:
        """Begin at nothing."""
        return Count()

    def evolve(self, state: Count, event: Incremented) -> Count:  # noqa: ARG002 - one kind of event, nothing in it
        """Add one."""
        return Count(state.value + 1)

    def decide(self, now: datetime, state: Count, command: Increment) -> Decision[Incremented, Never]:  # noqa: ARG002 - always yes
        """Accept."""
        return accept(Incremented())


app = App(workflows=[Counter])
