"""Named points between the steps of every flow, where a test may strike.

In production `reach` is one dictionary look-up in an empty dictionary.
A test arms a point with any callable: one that raises, one that waits, or one that kills the process.
"""

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """Every point: those of each flow in the order in which it passes them.

    A point lies behind the step that it names, and before the next one. tests/crash strikes at each of them.
    """

    # A command.
    RECEIVED = "received"
    OPENED = "opened"
    UNIQUES_CLAIMED = "uniques-claimed"
    DECIDED = "decided"
    COMMITTED = "committed"
    UNIQUES_SETTLED = "uniques-settled"
    SNAPSHOT = "snapshot"
    LOG_TRIMMED = "log-trimmed"
    DEAD_LETTERS_WRITTEN = "dead-letters-written"
    BARRIER_PASSED = "barrier-passed"
    EFFECTS_STARTED = "effects-started"
    REPLIED = "replied"
    ACKED = "acked"

    # What an instance that is over leaves behind: timers, effects, dead letters.
    REMAINING_TIMERS_REMOVED = "remaining-timers-removed"
    REMAINING_EFFECTS_REMOVED = "remaining-effects-removed"
    REMAINS_REMOVED = "remains-removed"

    # A partition.
    PARTITION_CLAIMED = "partition-claimed"
    HANDOVER_DRAINED = "handover-drained"
    HANDOVER_RELEASED = "handover-released"
    HANDOVER_YIELDED = "handover-yielded"

    # A foreign message.
    INGRESS_RECEIVED = "ingress-received"
    INGRESS_REPUBLISHED = "ingress-republished"
    INGRESS_BURIED = "ingress-buried"
    INGRESS_ACKED = "ingress-acked"

    # An effect.
    EFFECT_READ = "effect-read"
    EFFECT_PLACED = "effect-placed"
    EFFECT_BEGUN = "effect-begun"
    EFFECT_DURABLE = "effect-durable"
    EFFECT_RUN = "effect-run"
    EFFECT_PUBLISHED = "effect-published"
    EFFECT_BURIED = "effect-buried"
    EFFECT_FINISHED = "effect-finished"
    EFFECT_PUT_OFF = "effect-put-off"

    # A timer; a schedule begins with the pool, and each of its ticks is more than one message.
    SCHEDULES_BEGUN = "schedules-begun"
    TIMER_MOVED = "timer-moved"
    TIMER_DURABLE = "timer-durable"
    TICK_HALF_SENT = "tick-half-sent"
    TIMER_PUBLISHED = "timer-published"
    TIMER_REMOVED = "timer-removed"

    # What a projection applies.
    PROJECTION_READ = "projection-read"
    PROJECTION_WRITTEN = "projection-written"
    POSITION_WRITTEN = "position-written"
    POSITION_STORED = "position-stored"
    PARKED_LETTERS_WRITTEN = "parked-letters-written"
    PARKED = "parked"
    PARKED_LETTERS_REMOVED = "parked-letters-removed"
    UNPARKED = "unparked"
    FEED_ACKNOWLEDGED = "feed-acknowledged"
    FEED_TRIMMED = "feed-trimmed"

    # A rebuild.
    SWITCH_BEGUN = "switch-begun"
    MODEL_SWITCHED = "model-switched"
    READERS_REMOVED = "readers-removed"
    MODEL_DROPPED = "model-dropped"

    # Retention.
    ARCHIVED = "archived"
    DELETION_SENT = "deletion-sent"

    # A dead letter that a person has tried again.
    DEAD_LETTER_SENT = "dead-letter-sent"


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
