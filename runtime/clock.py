"""Clocks: the only way that the heart learns the time."""

import functools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)
#: The end of the year 9999, in milliseconds since 1970: a timer may be set for later, but no date is.
LAST_MS = 253_402_300_799_000


class Clock(Protocol):
    """Tells the time; proved by tests/unit/test_clock.py."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back, for measuring how long something takes."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's seconds, which never go back."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved, for tests."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        """Return the time that the clock was set to."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds from 1970 to the time that the clock was set to."""
        return (self._now - _EPOCH) / _SECOND

    def advance(self, by: timedelta) -> None:
        """Move the clock forward; it never goes back."""
        if by < timedelta(0):
            message = "a clock only moves forward"
            raise ValueError(message)
        self._now += by


def to_ms(moment: datetime) -> int:
    """Return a time as whole milliseconds since 1970, the form in which records keep it.

    It is worked out in whole numbers: a float would lose a millisecond of some times that came from one.
    """
    return (moment - _EPOCH) // _MS


# All records of a turn have the same time.
@functools.lru_cache(maxsize=64)
def from_ms(ms: int) -> datetime:
    """Return the time of so many milliseconds since 1970, in UTC; the last that there is for any that is later."""
    return datetime.fromtimestamp(ms / 1000, UTC) if ms < LAST_MS else datetime.max.replace(tzinfo=UTC)


def to_ms_up(moment: datetime) -> int:
    """Return the first whole millisecond since 1970 at or after a time: what is due then is never early."""
    return span_ms_up(moment - _EPOCH)


def span_ms_up(span: timedelta) -> int:
    """Return a length of time in whole milliseconds, rounded up."""
    # Not by `//` and a sign: the longest length of time has none that is longer.
    return span.days * 86_400_000 + span.seconds * 1_000 - -span.microseconds // 1_000


def monotonic() -> float:
    """Return seconds on a clock that never goes back, for measuring how long something took."""
    return time.monotonic()
