"""
`benchmarks.timers`.
"""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.ground import Ground
from benchmarks.rows import Row
from benchmarks.timers import Options, lateness, measure, serving
from tests.benchmarks.figures import check, named

pytestmark = pytest.mark.slow


def test_all_alarms_go_off_once(where: Ground) -> None:
    """
    None early, none twice, in each of the three ways.
    """
    rows = unhurried(where, Options(rate=50, seconds=1, instant=100, alone=3, processes=1))

    check(rows)  # not early: no figure is negative
    assert named(rows, "50 a second")[0]["timers"] == 50
    assert named(rows, "at one instant")[0]["timers"] == 100
    assert all(row.get("wrong", 0) == 0 for row in rows)
    assert [row["timers"] for row in rows if row["what"] == "alone, 10 ms ahead"] != [0]


def unhurried(where: Ground, options: Options) -> list[Row]:
    """
    Measure, and again where the machine was too busy to set all timers before the first was due.
    """
    for _ in range(4):
        with contextlib.suppress(ValueError):
            return measure(where, options)
    return measure(where, options)


def test_timers_that_were_set_too_late_are_no_measurement(where: Ground) -> None:
    """
    Rather than figures that are too good or too bad there are none.
    """
    with (
        serving(where, 1) as (client, ports),
        pytest.raises(ValueError, match="setting 3 timers took longer"),
    ):
        lateness(where, client, ports, "too late", [datetime.now(UTC) - timedelta(seconds=1)] * 3)
