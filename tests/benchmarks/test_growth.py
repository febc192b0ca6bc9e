"""
`benchmarks.growth`.
"""

import pytest

from benchmarks.ground import Ground
from benchmarks.growth import FLAT_MAX, Options, judged, measure
from tests.benchmarks.figures import beginning, check

pytestmark = pytest.mark.slow


def test_every_step_is_measured_at_every_size(where: Ground) -> None:
    """
    A row for each step and size, with its ratio to the smallest.
    """
    sizes = {
        "histories": (10, 200),
        "ids": (10, 1_200),
        "instances": (0, 300),
        "timers": (0, 2_000),
        "partitions": (1, 4),
    }
    rows = measure(where, Options(rounds=3), sizes)

    check(rows)
    assert len(rows) == 2 * (4 + 4 + 4 + 6 + 5)
    for step, of, want in (
        ("turn of 16 to one", "records", [10, 200]),
        ("turn of 1", "remembered ids", [10, 1_200]),
        ("commit of 16", "other instances", [0, 300]),
        ("look for what is due", "pending timers", [0, 2_000]),
        ("cancel of 1", "pending timers", [0, 2_000]),
        ("turn of 16", "partitions", [1, 4]),
    ):
        found = [row for row in beginning(rows, f"{step}, ") if str(row["what"]).endswith(f" {of}")]
        assert [row["size"] for row in found] == want, step
        assert found[0]["ratio"] == 1


def test_a_verdict_is_about_the_ratio() -> None:
    """
    Up to the limit is flat.
    """
    rows = judged([{"ratio": FLAT_MAX}, {"ratio": FLAT_MAX + 0.1}])
    assert [row["verdict"] for row in rows] == ["flat", "grows"]
