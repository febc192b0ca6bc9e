"""
Retry policies: how often, how long in between, and which numbers make no sense.
"""

from typing import Any

import pytest

from holdfast import Retry, WorkflowError


def test_waits_grow_up_to_the_cap() -> None:
    """
    Each wait is longer by the factor, until the cap; after the last attempt there is none.
    """
    retry = Retry(attempts=6, first=1, factor=2, cap=5, jitter=0)

    assert [1, 2, 4, 5, 5, None] == [retry.wait_s(attempt) for attempt in range(1, 7)]


def test_the_default_is_five_attempts() -> None:
    """
    About one second and doubling.
    """
    waits = [Retry(jitter=0).wait_s(attempt) for attempt in range(1, 6)]

    assert [1, 2, 4, 8, None] == waits


def test_one_attempt_has_no_wait() -> None:
    """
    What is never tried again waits for nothing, nor does what was begun too often.
    """
    assert [None, None] == [Retry(attempts=1).wait_s(1), Retry(attempts=3).wait_s(7)]


def test_jitter_spreads() -> None:
    """
    Waits lie within their share above the plain wait, and are not all the same.
    """
    waits = [Retry(first=10, jitter=0.5).wait_s(1) or 0 for _ in range(50)]

    assert all(10 <= wait <= 15 for wait in waits)
    assert len(set(waits)) > 1


def test_many_attempts_do_not_overflow() -> None:
    """
    A long life of retries ends at the cap.
    """
    assert 300 == Retry(attempts=1_000_000, jitter=0).wait_s(100_000)


@pytest.mark.parametrize(
    "values",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"first": -1},
        {"first": "1"},
        {"factor": 0.5},
        {"cap": float("nan")},
        {"jitter": 2},
        {"attempts": None},
        {"cap": float("inf")},
        {"first": False},
        {"unless": (ValueError("an instance"),)},
        {"unless": None},
        {"unless": "ValueError"},
        {"unless": [5]},
        {"unless": (ValueError, (KeyError, OSError))},
    ],
)
def test_senseless_policies_are_refused(values: dict[str, Any]) -> None:
    """
    The message names the argument.
    """
    with pytest.raises(WorkflowError, match=next(iter(values))):
        Retry(**values)


@pytest.mark.parametrize("unless", [ValueError, (ValueError,), [ValueError], {ValueError}])
def test_what_would_not_help_is_one_class_or_several(unless: Any) -> None:
    """
    However it is written, it is a tuple.
    """
    assert (ValueError,) == Retry(unless=unless).unless
