"""
The benchmark of what the same bytes cost without Holdfast, with few of them.
"""

import pytest

from benchmarks.ground import Ground
from benchmarks.limit import Options, measure
from tests.benchmarks.rows import assert_sane, names

pytestmark = pytest.mark.slow


def test_limits_are_held_against_holdfast(where: Ground) -> None:
    """
    Both limits say how many times that is what Holdfast reached in the same run.
    """
    rows = measure(where, Options(commands=600, keys=20))

    assert [
        ("queue full", "pika, consume and ack"),
        ("queue full", "commit script"),
        ("queue full", "holdfast"),
    ] == names(rows)
    assert_sane(rows)
    assert [True, True, False] == ["ratio" in row for row in rows]
