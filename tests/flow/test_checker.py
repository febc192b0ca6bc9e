"""
The checker finds what it is there to find: a test that rests on it can fail.
"""

from datetime import UTC, datetime, timedelta

import pytest

from holdfast import Record
from tests.flow.checker import wrongs
from tests.flow.shop import Fact, Posted

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def log(*numbers: int) -> list[Record[Fact]]:
    """
    Return the log of one sender's commands, as it is when nothing went wrong.
    """
    return [
        Record(
            seq=seq,
            command_id=f"c{number}",
            command="Post",
            at=NOON + timedelta(seconds=seq),
            token=1,
            events=(Posted("s", number),),
            cause=None,
            trace=None,
        )
        for seq, number in enumerate(numbers, 1)
    ]


def test_a_right_log_passes() -> None:
    """A log with every command once and in order has nothing wrong with it."""
    assert [] == wrongs({("a", "s"): [1, 2, 3]}, {"a": log(1, 2, 3)})


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ((1, 3), "lost"),
        ((1, 2, 2, 3), "doubled"),
        ((2, 1, 3), "swapped"),
        ((1, 2, 3, 4), "invented"),
        ((), "empty"),
    ],
)
def test_a_wrong_log_is_found_out(numbers: tuple[int, ...], what: str) -> None:
    """A command that was lost, doubled, swapped or never sent is found."""
    assert wrongs({("a", "s"): [1, 2, 3]}, {"a": log(*numbers)}), what
