"""
The benchmark of three-step processes, with few of them.
"""

import pytest

from benchmarks.ground import Ground
from benchmarks.process import Options, measure
from tests.benchmarks.rows import assert_sane, names

pytestmark = pytest.mark.slow


def test_processes_are_measured_beside_the_bare_pipeline(where: Ground) -> None:
    """
    Handlers run on threads and on the event loop; each kind many at once and one alone.
    """
    rows = measure(where, Options(count=60, alone=10))

    assert [
        ("processes", "dramatiq pipeline"),
        ("one alone", "dramatiq pipeline"),
        ("processes", "holdfast, threads"),
        ("one alone", "holdfast, threads"),
        ("processes", "holdfast, coroutines"),
        ("one alone", "holdfast, coroutines"),
    ] == names(rows)
    assert_sane(rows)
    assert ["ratio" in row for row in rows] == [False, False, True, False, True, False]
