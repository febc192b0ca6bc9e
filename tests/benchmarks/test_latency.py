"""
The latency benchmark, with few commands.
"""

import itertools
import statistics

import pytest

from benchmarks.ground import Ground
from benchmarks.latency import Options, arrivals, measure
from tests.benchmarks.rows import assert_sane, names


@pytest.mark.slow
def test_latency_is_measured_alone_and_at_rates(where: Ground) -> None:
    """
    Plain dramatiq comes first where the system is idle; then Holdfast goes on at shares of its highest rate.
    """
    rows = measure(where, Options(alone=20, keys=5, seconds=0.5, commands=600))

    assert [
        ("alone, publish to commit", "dramatiq"),
        ("alone, answered", "dramatiq"),
        ("alone, publish to commit", "holdfast"),
        ("alone, answered", "holdfast"),
        ("at 50% of the highest rate", "holdfast"),
        ("at 80% of the highest rate", "holdfast"),
    ] == names(rows)
    assert_sane(rows)


def test_arrivals_are_the_same_each_time_and_as_many_as_asked_for() -> None:
    """
    They come by chance, but every run has the same.
    """
    first, again = list(arrivals(1_000, 10)), list(arrivals(1_000, 10))

    assert first == again
    assert sorted(first) == first
    assert first[-1] < 10
    assert 9_500 < len(first) < 10_500
    gaps = [after - before for before, after in itertools.pairwise(first)]
    assert pytest.approx(1.0, rel=0.1) == statistics.stdev(gaps) / statistics.mean(gaps)
