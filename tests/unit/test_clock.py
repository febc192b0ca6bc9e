"""
Clocks, and times as whole milliseconds.
"""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.runtime.clock import (
    Clock,
    ManualClock,
    SystemClock,
    from_ms,
    monotonic,
    span_ms_up,
    to_ms,
    to_ms_up,
)

YEAR_2200_MS = 7_258_118_400_000
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - zones follow


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()])
def test_a_clock_tells_the_time_in_utc(clock: Clock) -> None:
    """
    Every clock tells an aware time, so that no two machines mean different moments.
    """
    assert timedelta(0) == clock.now().utcoffset()


def test_the_system_clock_goes_on() -> None:
    """
    The machine's clock is the machine's.
    """
    before = datetime.now(UTC)

    assert before <= SystemClock().now() <= datetime.now(UTC)


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    """
    Tests say when time passes.
    """
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    clock.advance(timedelta(days=1))
    clock.advance(timedelta(0))

    assert [datetime(2026, 1, 2, tzinfo=UTC)] * 2 == [clock.now(), clock.now()]


def test_a_manual_clock_never_goes_back() -> None:
    """
    A test that wants yesterday wants another clock.
    """
    with pytest.raises(ValueError, match="a clock only moves forward"):
        ManualClock().advance(timedelta(microseconds=-1))


@given(st.integers(0, YEAR_2200_MS))
@example(1001)
@example(1_079_337_347_472)
@example(2_183_226_373_411)
def test_milliseconds_come_back(ms: int) -> None:
    """
    A time that a record keeps, handed back as a time, finds that record again: no millisecond is lost on the way.
    """
    assert ms == to_ms(from_ms(ms))


def test_no_time_is_too_late_to_be_shown() -> None:
    """
    A timer may be set for later than there are dates: it is shown as the last of them.
    """
    assert [datetime.max.replace(tzinfo=UTC)] * 2 == [from_ms(260_000_000_000_000), from_ms(10**18)]


@given(MOMENTS)
def test_milliseconds_are_rounded_down_and_up(moment: datetime) -> None:
    """
    What happened is kept at or before its moment, what is due at or after it, each by less than a millisecond.
    """
    down, up = from_ms(to_ms(moment)), from_ms(to_ms_up(moment))

    assert down <= moment <= up
    assert up - down == timedelta(milliseconds=0 if down == moment else 1)


@given(st.timedeltas(timedelta(0), timedelta(days=36_500)))
def test_spans_are_rounded_up(span: timedelta) -> None:
    """
    A delay is never cut short.
    """
    ms = timedelta(milliseconds=span_ms_up(span))

    assert timedelta(0) <= ms - span < timedelta(milliseconds=1)


def test_the_zone_of_a_time_is_no_matter() -> None:
    """
    The same moment is the same number.
    """
    there = timezone(timedelta(hours=5, minutes=30))

    assert to_ms(datetime(2026, 1, 1, tzinfo=UTC)) == to_ms(datetime(2026, 1, 1, 5, 30, tzinfo=there))


def test_monotonic_never_goes_back() -> None:
    """
    It is for lengths of time.
    """
    assert monotonic() <= monotonic()
