"""
The throughput benchmark, with few commands.
"""

import pytest

from benchmarks.ground import Ground
from benchmarks.throughput import Options, dramatiq_row, holdfast_row, loads, measure
from tests.benchmarks.rows import assert_sane, names

pytestmark = pytest.mark.slow

FEW = Options(commands=600, keys=20)


def test_submitted_and_applied_is_measured_beside_dramatiq_with_and_without_confirms(where: Ground) -> None:
    """
    One run has the rivals first, and says how many times the plain one the others are.
    """
    rows = measure(where, Options(commands=600, keys=20, only="submitted and applied"))

    load = "submitted and applied"
    assert [(load, "dramatiq"), (load, "dramatiq, confirms"), (load, "holdfast")] == names(rows)
    assert_sane(rows)
    assert [False, True, True] == ["ratio" in row for row in rows]


@pytest.mark.parametrize("what", ["queue full", "queue full, all keys distinct", "queue full, one hot key"])
def test_a_full_queue_is_measured(where: Ground, what: str) -> None:
    """
    Every load ends, with each command applied.
    """
    (load,) = (load for load in loads(FEW) if load.what == what)

    rows = [dramatiq_row(where, load), holdfast_row(where, load)]

    assert [(what, "dramatiq"), (what, "holdfast")] == names(rows)
    assert_sane(rows)
