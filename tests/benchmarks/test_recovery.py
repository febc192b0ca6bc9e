"""
`benchmarks.recovery`.
"""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from benchmarks.ground import Ground
from benchmarks.recovery import RESTARTED, family, judged, kill, restarted, taken_over
from benchmarks.rows import Row
from tests.benchmarks.figures import check, figure

pytestmark = pytest.mark.slow


def struck(measure: Callable[[int], Row]) -> Row:
    """
    Measure with a burst, and with larger ones where the machine was too busy to kill anybody before all was done.
    """
    for burst in (250, 1_000, 4_000):
        row = measure(burst)
        if row["in_flight"]:
            break
    return row


def test_nothing_is_lost_when_all_are_restarted(where: Ground) -> None:
    """
    Workers are killed with work in flight; all of it is completed, each step once.
    """
    row = struck(lambda burst: restarted(where, rate=20, burst=burst, processes=1))

    check([row])
    assert (row["lost"], row["doubled"], row["dead_letters"]) == (0, 0, 0)
    assert figure(row, "sent") >= 250
    assert 0 < figure(row, "in_flight") <= figure(row, "sent")
    assert 0 < figure(row, "first_s") <= figure(row, "last_s")


def test_nothing_is_lost_when_others_take_over(where: Ground) -> None:
    """
    One of two is killed for good.
    """
    row = struck(lambda burst: taken_over(where, rate=20, burst=burst, elsewhere=False))

    check([row])
    assert (row["lost"], row["doubled"], row["dead_letters"]) == (0, 0, 0)
    assert 0 < figure(row, "in_flight") < figure(row, "sent")
    assert figure(row, "last_s") > 0


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "held"),
        ({"last_s": 2.1}, "not held"),
        ({"last_s": 14.0, "what": "another machine's taken over"}, "held"),
        ({"last_s": 16.0, "what": "another machine's taken over"}, "not held"),
        ({"in_flight": 0}, "not held"),
        ({"lost": 1}, "not held"),
        ({"doubled": 1}, "not held"),
        ({"dead_letters": 1}, "not held"),
    ],
)
def test_every_promise_counts(changes: Row, verdict: str) -> None:
    """
    Quick enough, nothing lost, nothing doubled; and where nothing was in flight nothing was shown.
    """
    good: Row = {"what": RESTARTED, "last_s": 1.9, "in_flight": 3, "lost": 0, "doubled": 0, "dead_letters": 0}
    assert judged([good | changes])[0]["verdict"] == verdict


def test_whole_families_are_killed() -> None:
    """
    A process and what it has started, however deep, and nobody else.
    """
    child = subprocess.Popen(
        ["sh", "-c", f"{sys.executable} -c 'import time; time.sleep(60)' & echo; wait"], stdout=-1
    )
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()
    found = family(child.pid)
    assert len(found) == 2
    assert found[0] == child.pid
    assert os.getpid() not in found
    kill(found)
    assert child.wait() == -9
