"""Named points between the steps of every flow, where a test may strike.

In production `reach` is one dictionary look-up in an empty dictionary.
A test arms a point with any callable: one that raises, one that waits, or one that kills the process.
"""

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """Every point, in the order in which a command passes them."""

    RECEIVED = "received"
    OPENED = "opened"
    DECIDED = "decided"
    COMMITTED = "committed"
    SNAPSHOT = "snapshot"
    BARRIER_PASSED = "barrier-passed"
    REPLIED = "replied"
    ACKED = "acked"
    HANDOVER_DRAINED = "handover-drained"
    INGRESS_REPUBLISHED = "ingress-republished"
    #: The points of an effect, in the order in which it passes them.
    EFFECT_READ = "effect-read"
    EFFECT_RUN = "effect-run"
    EFFECT_PUBLISHED = "effect-published"
    EFFECT_FINISHED = "effect-finished"
    TIMER_MOVED = "timer-moved"
    TIMER_PUBLISHED = "timer-published"
    PROJECTION_WRITTEN = "projection-written"
    POSITION_STORED = "position-stored"


_armed: dict[Point, Callable[[], None]] = {}


def reach(point: Point) -> None:
    """Pass a point; do what a test armed it with, if anything."""
    action = _armed.get(point)
    if action is not None:
        action()


def arm(point: Point, action: Callable[[], None]) -> None:
    """Make every later pass of the point call `action`."""
    _armed[point] = action


def disarm() -> None:
    """Forget every armed point."""
    _armed.clear()
