"""
`benchmarks.scaling`.
"""

import pytest

from benchmarks.ground import Ground
from benchmarks.scaling import Options, measure
from tests.benchmarks.figures import check, figure
from tests.benchmarks.rows import assert_sane

pytestmark = pytest.mark.slow


def test_full_queues_are_drained(where: Ground) -> None:
    """
    By as many processes as wanted, and every command is applied once (or there would be no figures).
    """
    rows = measure(where, Options(600, 50, processes="2", partitions="4"))

    check(rows)
    assert [row["what"] for row in rows] == ["queue full, 4 partitions, 2 processes"]
    assert_sane(rows)
    assert figure(rows[0], "per_second") > 10
    assert figure(rows[0], "cores") > 0
    assert figure(rows[0], "workers_us") > 0
