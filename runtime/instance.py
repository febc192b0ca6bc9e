r"""The life cycle of an instance, as a table.

Two rules of this file: everything that decides whether a run may move is in `MOVES`, and nothing here knows who asks.

    initiated -> running -> completed -> data deleted
                 |     ^ \-> cancelled -> data deleted
                 v     |
                 paused  -> cancelled

A decider's instance is running from its first record on; `initiated` is for the front ends that create a run
before its first step.
"""

from enum import StrEnum

from holdfast.runtime.errors import UsageError


class RunState(StrEnum):
    """Where an instance is in its life."""

    INITIATED = "initiated"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DATA_DELETED = "data-deleted"

    @property
    def finished(self) -> bool:
        """Whether commands are no longer decided, for good."""
        return self in _FINISHED


#: From every run state, the run states that it may move to.
MOVES: dict[RunState, frozenset[RunState]] = {
    RunState.INITIATED: frozenset({RunState.RUNNING, RunState.PAUSED}),
    RunState.RUNNING: frozenset({RunState.COMPLETED, RunState.PAUSED, RunState.CANCELLED}),
    RunState.PAUSED: frozenset({RunState.RUNNING, RunState.CANCELLED}),
    RunState.COMPLETED: frozenset({RunState.DATA_DELETED}),
    RunState.CANCELLED: frozenset({RunState.DATA_DELETED}),
    RunState.DATA_DELETED: frozenset(),
}

_FINISHED = frozenset({RunState.COMPLETED, RunState.CANCELLED, RunState.DATA_DELETED})


def move(source: RunState, target: RunState) -> RunState:
    """Return the target if the move is legal.

    Raises:
        UsageError: The table has no such move.
    """
    if target is source:
        message = f"the instance is {source} already"
        raise UsageError(message)
    if target not in MOVES[source]:
        legal = ", ".join(sorted(MOVES[source])) or "nothing"
        message = f"an instance that is {source} cannot become {target}; it may become {legal}"
        raise UsageError(message)
    return target
