"""Schedules as users declare them, and the arithmetic of their ticks.

A schedule sends a command at every tick of a cron line in a time zone, or of an interval. Ticks of an interval are the
whole multiples of it since 1970 in UTC, so that a new deployment does not move them.

Where clocks go forward, a tick at a time that does not exist that day comes when the gap is over; where they go back,
a tick at a time that exists twice comes the first time only. A line that runs every hour or minute runs through both
as if clocks did not change. So says Debian's cron, and cronsim, which reads the lines.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from holdfast.runtime.checks import function_problem, said, span_problem
from holdfast.runtime.clock import from_ms, span_ms_up, to_ms
from holdfast.runtime.codec import encode
from holdfast.runtime.errors import WorkflowError
from holdfast.runtime.message import Command

#: The form of a schedule's name: it is the key of an instance, and part of the ids of the commands that it sends.
_NAME_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: The shortest interval: a tick is a few records in a log.
EVERY_MIN = timedelta(seconds=1)
#: The longest one, and the oldest that a tick may be: far more than the life of any program.
SPAN_MAX = timedelta(days=100 * 365)
#: What may be written for a cron line.
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Overlap(StrEnum):
    """What happens to a tick while the instance that the last one started still runs."""

    #: Its command is sent all the same.
    ALLOW = "allow"
    #: It is skipped, and listed as such.
    SKIP = "skip"
    #: It waits until that instance has finished.
    QUEUE = "queue"


class CatchUp(StrEnum):
    """What happens to ticks that came while nobody was there to see them."""

    #: They are left out, unless they are not older than a minute.
    SKIP = "skip"
    #: The last of them is made up for.
    LAST = "last"
    #: All of them are made up for, in order.
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A command at every tick: `Schedule(name="nightly", cron="0 2 * * *", tz="Europe/Berlin", command=...)`.

    Args:
        name: Names it among the app's schedules, for good: its past is kept under it.
        command: Makes the command of a tick, which it is told with its time zone. It runs in the timer pool: keep it
            quick. When it raises, it is tried again a few times, and then the tick is listed as failed.
        cron: Five fields, or six with seconds first; or @daily and the like. Either this or `every`.
        every: An interval of at least a second.
        tz: The time zone of the cron line and of the ticks that `command` and `filter` see.
        overlap: What becomes of a tick while the instance that the last one started still runs.
        catch_up: What becomes of ticks that were missed.
        window: How old a tick may be to be made up for; None for any age.
        filter: Says of each tick whether it is one; runs like `command`.
    """

    name: str
    command: Callable[[datetime], Command]
    cron: str | None = None
    every: timedelta | None = None
    tz: str = "UTC"
    overlap: Overlap | str = Overlap.ALLOW
    catch_up: CatchUp | str = CatchUp.LAST
    window: timedelta | None = None
    filter: Callable[[datetime], bool] | None = None

    def check(self) -> None:
        """Find what is wrong with it.

        Raises:
            WorkflowError: The message names the schedule and says what is wrong.
        """
        problem = self._problem()
        if problem:
            message = f"schedule {said(self.name)}: {problem}"
            raise WorkflowError(message)

    def _problem(self) -> str:
        name: Any = self.name
        if not isinstance(name, str) or not _NAME_FORM.fullmatch(name):
            return "a name is 1 to 64 letters, digits, dots, dashes or underscores"
        if (self.cron is None) == (self.every is None):
            return 'it needs either `cron` or `every`, such as cron="0 2 * * *" or every=timedelta(hours=1)'
        for what, given, kind in (
            ("overlap", self.overlap, Overlap),
            ("catch_up", self.catch_up, CatchUp),
        ):
            if given not in list(kind):
                return f"{what} is {said(given)}; there are: {', '.join(kind)}"
        return self._problem_of_functions() or self._problem_of_times()

    def _problem_of_functions(self) -> str:
        problem = function_problem(self.command, "tick", name="command")
        if problem:
            return f"`command` {problem}, or command=lambda tick: CloseDay(...)"
        problem = None if self.filter is None else function_problem(self.filter, "tick", name="filter")
        return f"`filter` {problem}, or filter=lambda tick: tick.day == 1" if problem else ""

    def _problem_of_times(self) -> str:
        cron: Any = self.cron
        for what, span, least in (
            ("every", self.every, EVERY_MIN),
            ("window", self.window, timedelta(milliseconds=1)),
        ):
            problem = None if span is None else span_problem(span, least, SPAN_MAX)
            if problem:
                return f"`{what}` {problem}"
        try:
            ZoneInfo(self.tz)
        except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
            return f'there is no time zone {said(self.tz)}; write the name of one, such as tz="Europe/Berlin"'
        if self.every is not None:
            return ""
        if not isinstance(cron, str):
            return f'`cron` is {said(cron)}; it must be a line, such as cron="0 2 * * *"'
        try:
            found = next(ticks_after(self.spec, datetime(2024, 1, 1, tzinfo=UTC)), None)
        except CronSimError as error:
            return f"the cron line {self.cron!r} cannot be read: {error}"
        return "" if found else f"the cron line {self.cron!r} never comes to a tick"

    @property
    def spec(self) -> Spec:
        """The part of it that is kept beside its past."""
        return Spec(
            self.cron or "",
            span_ms_up(self.every) if self.every else 0,
            self.tz,
            Overlap(self.overlap),
            CatchUp(self.catch_up),
            span_ms_up(self.window) if self.window else 0,
        )


class Spec(msgspec.Struct, frozen=True):
    """What a schedule is, without its functions: as the log keeps it."""

    cron: str
    every_ms: int
    tz: str
    overlap: Overlap
    catch_up: CatchUp
    #: 0 for no limit.
    window_ms: int

    @property
    def fingerprint(self) -> str:
        """A short text that another definition does not have."""
        return hashlib.sha256(encode(self)).hexdigest()[:12]

    def local(self, tick: datetime) -> datetime:
        """Return a tick in the schedule's own time zone."""
        return tick.astimezone(ZoneInfo(self.tz))


#: Longer than any change of the clock for summer or winter, and the hours that it repeats.
NIGHT = timedelta(hours=3)


def ticks_after(spec: Spec, moment: datetime) -> Iterator[datetime]:
    """Yield the ticks after a time, in order and in UTC."""
    if spec.every_ms:
        at_ms = (to_ms(moment) // spec.every_ms + 1) * spec.every_ms
        while True:
            yield from_ms(at_ms)
            at_ms += spec.every_ms
    for tick in CronSim(_line(spec), spec.local(moment)):
        found = tick.astimezone(UTC)
        # From the second of two hours of one name the line begins with what it has in the first.
        if found > moment:
            yield found


def ticks_before(spec: Spec, moment: datetime) -> Iterator[datetime]:
    """Yield the ticks at or before a time, the latest first."""
    if spec.every_ms:
        at_ms = to_ms(moment) // spec.every_ms * spec.every_ms
        while True:
            yield from_ms(at_ms)
            at_ms -= spec.every_ms
    # The line is read backwards from the next whole second, which leaves out where it begins.
    begin = moment.replace(microsecond=0) + timedelta(seconds=1)
    if spec.local(begin).utcoffset() != spec.local(begin - NIGHT).utcoffset():
        # Nor does it find, from within the hours around a change of the clock, what came in them.
        begin += NIGHT
    for tick in CronSim(_line(spec), spec.local(begin), reverse=True):
        found = tick.astimezone(UTC)
        if found <= moment:
            yield found


def _line(spec: Spec) -> str:
    return _ALIASES.get(spec.cron.strip().lower(), spec.cron)
