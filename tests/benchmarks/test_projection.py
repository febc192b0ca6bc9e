"""
`benchmarks.projection`.
"""

import pytest

from benchmarks.ground import Ground
from benchmarks.projection import Options, measure
from tests.benchmarks.figures import check, figure, named

pytestmark = pytest.mark.slow


def test_stores_are_filled_and_rebuilt(where: Ground) -> None:
    """
    From the logs, from the feed, one at a time, and once more beside the live one.
    """
    rows = measure(where, Options(120, 20, alone=3, stores="sqlite"))

    check(rows)
    assert {row["system"] for row in rows} == {"sqlite"}
    assert [row["events"] for row in rows[:3]] == [120, 120, 3]
    meanwhile = figure(named(rows, "one alone during the rebuild")[0], "events")
    assert named(rows, "rebuilt beside the live one")[0]["events"] == 2 * 120 + 3 + 1 + meanwhile
