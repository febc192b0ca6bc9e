"""The desk where a person, or a program, deals with schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from holdfast.runtime.app import App
from holdfast.runtime.clock import SystemClock, from_ms, to_ms
from holdfast.runtime.errors import Refused, UsageError
from holdfast.runtime.message import Command
from holdfast.runtime.outcome import Accepted, Outcome, Rejected
from holdfast.runtime.schedule import Spec, ticks_after
from holdfast.runtime.timetable import (
    BackfillSchedule,
    PauseSchedule,
    RemoveSchedule,
    ResumeSchedule,
    Timetable,
    TriggerSchedule,
)

#: How many of the next ticks are shown.
NEXT = 5


@dataclass(frozen=True, slots=True)
class ScheduleTick:
    """A tick, and what became of it: sent, waiting, or why not."""

    tick: datetime
    what: str
    #: The instance that its command was for; empty where none was sent.
    workflow: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleLine:
    """What is known of a schedule."""

    name: str
    spec: Spec
    paused: bool
    #: Why it was paused.
    reason: str
    #: The app has no such schedule: its ticks come to nothing.
    orphaned: bool
    #: The next ticks, in the schedule's own time zone; none while it is paused.
    next: tuple[datetime, ...]
    sent: int
    skipped: int
    failed: int
    #: Ticks that wait to be sent.
    waiting: tuple[ScheduleTick, ...]
    #: The latest ticks that came to an end, the newest first.
    latest: tuple[ScheduleTick, ...]


class ScheduleDesk:
    """Lists schedules, and changes what they do."""

    def __init__(
        self,
        app: App,
        state: Callable[[str], Timetable | None],
        names: Callable[[], Iterator[str]],
        execute: Callable[[Command], Outcome],
    ) -> None:
        self._app = app
        self._state = state
        self._names = names
        self._execute = execute

    def list(self) -> list[ScheduleLine]:
        """Return all schedules by name, those too that the app no longer has."""
        found = (self.get(name) for name in sorted(self._names()))
        return [line for line in found if line is not None]

    def get(self, name: str) -> ScheduleLine | None:
        """Return one schedule, or None if it was never started or is removed."""
        state = self._state(name)
        if state is None or state.spec is None or state.removed:
            return None
        spec, now = state.spec, SystemClock().now()
        begin = from_ms(state.next_ms - 1) if state.next_ms else now
        upcoming = () if state.paused else islice(ticks_after(spec, begin), NEXT)
        return ScheduleLine(
            name,
            spec,
            state.paused,
            state.reason,
            name not in self._app.schedules,
            tuple(spec.local(tick) for tick in upcoming),
            state.sent,
            state.skipped,
            state.failed,
            tuple(ScheduleTick(spec.local(from_ms(one.at_ms)), "waiting") for one in state.queue),
            tuple(
                ScheduleTick(
                    spec.local(from_ms(one.at_ms)),
                    one.what,
                    one.target.workflow if one.target else "",
                    one.target.key if one.target else "",
                )
                for one in reversed(state.outcomes)
            ),
        )

    def pause(self, name: str, *, reason: str = "") -> None:
        """Let no more ticks come until it is resumed; ticks of the pause are not made up for.

        Raises:
            Refused: There is no such schedule, or it is paused already.
            PublishFailed, ReplyTimeout: As for `Client.execute`; so for the other verbs.
        """
        self._tell(name, PauseSchedule(name, reason))

    def resume(self, name: str) -> None:
        """Let ticks come again.

        Raises:
            Refused: There is no such schedule, or it is not paused.
        """
        self._tell(name, ResumeSchedule(name))

    def trigger(self, name: str) -> None:
        """Send the command of a tick of now, whether it is paused or not; the filter is not asked, the overlap policy is.

        Raises:
            Refused: There is no such schedule.
        """
        self._tell(name, TriggerSchedule(name))

    def backfill(self, name: str, begin: datetime, end: datetime) -> int:
        """Send the commands of all ticks between two times, both included, and return how many that are.

        Ticks that were sent before are sent again: their commands have ids of this backfill's own. Where the overlap
        policy is not `allow`, they wait for each other.

        Raises:
            Refused: There is no such schedule, no tick in that time, or more than a thousand.
            UsageError: A time has no zone.
        """
        if begin.tzinfo is None or end.tzinfo is None:
            message = "a backfill needs times with a time zone, such as datetime(2026, 1, 1, tzinfo=UTC)"
            raise UsageError(message)
        outcome = self._tell(name, BackfillSchedule(name, to_ms(begin), to_ms(end)))
        return sum(len(event.ticks) for event in outcome.events)

    def remove(self, name: str) -> None:
        """Forget a schedule, with its counts and what waits to be sent; code that still has it brings it back anew.

        A tick that was taken stays taken, and an instance that it started last is still heeded by its overlap policy.

        Raises:
            Refused: There is no such schedule.
        """
        self._tell(name, RemoveSchedule(name))

    def _tell(self, name: str, command: Command) -> Accepted[Any]:
        outcome = self._execute(command)
        if isinstance(outcome, Accepted):
            return outcome
        reason = outcome.reason if isinstance(outcome, Rejected) else type(outcome).__name__
        message = f"schedule {name!r}: {reason}"
        raise Refused(message)
