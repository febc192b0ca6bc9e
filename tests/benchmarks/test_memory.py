"""
`benchmarks.memory`.
"""

import pytest

from benchmarks.ground import Ground
from benchmarks.memory import BYTES_MAX, SHAPES, Options, judged, measure
from benchmarks.rows import Row
from tests.benchmarks.figures import check, figure, named

pytestmark = pytest.mark.slow


def test_more_costs_more(where: Ground) -> None:
    """
    All shapes are measured, and what has more in it takes more room.
    """
    rows = measure(where, Options(instances=200, cached=50))

    check(rows)
    assert [row["what"] for row in rows][: len(SHAPES)] == list(SHAPES)
    assert [row["instances"] for row in rows] == [200] * len(SHAPES) + [50, 50, 1]
    one, ten = (figure(named(rows, f"running, {what}")[0], "bytes") for what in ("1 event", "10 events"))
    assert 0 < one < ten < figure(named(rows, "running, 10 events and a snapshot")[0], "bytes")


def test_the_verdict_is_about_what_redis_keeps() -> None:
    """
    Under a kilobyte or not; a worker was promised nothing.
    """
    redis: Row = {"bytes": BYTES_MAX - 1, "own_keys_bytes": 1}
    rows = judged([redis, redis | {"bytes": BYTES_MAX}, {"bytes": 10}])
    assert [row.get("verdict") for row in rows] == ["under 1 KB", "over 1 KB", None]
