"""
`benchmarks.scaling`.
"""

import pytest

from benchmarks.ground import Ground
from benchmarks.scaling import measure
from tests.benchmarks.figures import check, figure

pytestmark = pytest.mark.slow


def test_full_queues_are_drained(where: Ground) -> None:
    """
    By as many processes as wanted, and every command is applied once (or there would be no figures).
    """
    rows = measure(where, commands=600, keys=50, processes=[2], partitions=[4])

    check(rows)
    assert [(row["partitions"], row["processes"]) for row in rows] == [(4, 2)]
    assert figure(rows[0], "per_second") > 10
    assert figure(rows[0], "cores") >= figure(rows[0], "worker_cores") > 0
