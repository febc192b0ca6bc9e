"""
`benchmarks.replay`.
"""

import pytest

from benchmarks.ground import Ground
from benchmarks.replay import Options, judged, measure
from tests.benchmarks.figures import beginning, check, figure, named

pytestmark = pytest.mark.slow


def test_instances_are_opened_from_logs_and_snapshots(where: Ground) -> None:
    """
    Every size from its whole log; those that would have a snapshot also from that, with half of a tail after it.
    """
    rows = judged(measure(where, Options("10,1000,2000", seconds=0.05)))

    check(rows)
    assert [row["folded"] for row in beginning(rows, "whole log")] == [10, 1_000, 2_000]
    slowly = beginning(rows, "snapshot, a record a minute")
    assert [(row["events"], row["folded"], row["ids"]) for row in slowly] == [
        (1_000, 250, 750),
        (2_000, 250, 1_440),
    ]
    rush = beginning(rows, "snapshot, all in 24 h")
    assert [(row["events"], row["folded"], row["ids"]) for row in rush] == [
        (1_000, 250, 750),
        (2_000, 250, 1_750),
    ]
    assert figure(named(rows, "an event of 2,000 to one of 1,000")[0], "ratio") > 0
