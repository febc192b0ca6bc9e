"""Case log: the workflow whose instances are the cases of a process, and whose events are what was done in them."""

from __future__ import annotations

from datetime import datetime
from typing import Never

import msgspec

from holdfast import App, Command, Decision, Event, Workflow, accept, reject


class RecordActivity(Command):
    """Record that something was done in a case, in the words of the process log."""

    case: str
    activity: str | None
    lifecycle: str | None
    resource: str | None
    at: str | None


class CallRoll(Command):
    """Ask whether anybody is at work: refused by whoever is, so that nothing of it stays."""

    case: str


class ActivityRecorded(Event):
    """Something was done."""

    activity: str | None
    lifecycle: str | None
    resource: str | None
    at: str | None


class Progress(msgspec.Struct, frozen=True):
    """How far a case is."""

    recorded: int = 0
    #: What was done last.
    activity: str | None = None


class CaseLog(Workflow[Progress, RecordActivity | CallRoll, ActivityRecorded, Never]):
    """Keeps whatever it is told, in the order in which it is told."""

    type = "case-log"
    key = "case"

    def initial(self) -> Progress:
        """Return a case in which nothing was done."""
        return Progress()

    def evolve(self, state: Progress, event: ActivityRecorded) -> Progress:
        """Count."""
        return Progress(state.recorded + 1, event.activity)

    def decide(
        self,
        now: datetime,  # noqa: ARG002 - what counts is when it happened
        state: Progress,  # noqa: ARG002 - what has happened cannot be refused
        command: RecordActivity | CallRoll,
    ) -> Decision[ActivityRecorded, Never]:
        """Record every activity."""
        if isinstance(command, CallRoll):
            return reject("present")
        return accept(ActivityRecorded(command.activity, command.lifecycle, command.resource, command.at))


app = App(workflows=[CaseLog])
