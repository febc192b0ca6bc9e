"""Instance traces: one instance's life as a tree, told from its log and from what still waits for it.

The tree is a list: every node says which one is above it, and stands behind that. So a history of any length can be
walked, written and sent without recursion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from holdfast.runtime.instance import RunState

#: Two records that are farther apart than this have a gap between them, in milliseconds.
GAP_MS = 60_000
#: Records that a trace has unless more are asked for: a tree that somebody reads.
RECORDS_DEFAULT = 200
#: Records that a trace may have: a tree is in memory as a whole.
RECORDS_MAX = 10_000


class NodeKind(StrEnum):
    """What a node of a trace stands for."""

    #: A decided command: one record of the log.
    RECORD = "record"
    EFFECT = "effect"
    TIMER = "timer"
    #: Work of the instance that was given up on and left no other node.
    DEAD_LETTER = "dead-letter"


class NodeStatus(StrEnum):
    """What became of what a node stands for."""

    #: Records: it was decided by the workflow, or it moved the run.
    DECIDED = "decided"
    PAUSED = "pause"
    RESUMED = "resume"
    CANCELLED_RUN = "cancel"
    DATA_DELETED = "delete-data"
    #: Effects: it is to be run, or runs, or waits for its next try or its turn.
    WAITING = "waiting"
    RUNNING = "running"
    RETRY = "retry"
    LIMIT = "limit"
    RATE = "rate"
    #: It has ended; its workflow was told that it failed.
    DONE = "done"
    FAILED = "failed"
    #: Timers: it is not due yet, or due and not sent yet.
    PENDING = "pending"
    DUE = "due"
    #: Its command was decided; it was sent, and nothing was recorded (a refusal, or it is on its way).
    FIRED = "fired"
    SENT = "sent"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    #: Both: it is a dead letter.
    DEAD = "dead"
    #: It is gone, and the log does not say how: withdrawn when the instance ended, or done before that.
    OVER = "over"
    #: What became of it is told by records that are not in this trace.
    LATER = "later"


#: The statuses of what is not at its end yet.
OPEN = frozenset(
    {
        NodeStatus.WAITING,
        NodeStatus.RUNNING,
        NodeStatus.RETRY,
        NodeStatus.LIMIT,
        NodeStatus.RATE,
        NodeStatus.PENDING,
        NodeStatus.DUE,
        NodeStatus.DEAD,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceNode:
    """One thing that happened to an instance, or that still waits."""

    #: Unique in the trace, and the same whenever it is drawn.
    id: str
    #: The id of what it followed from; None for what came from outside.
    parent: str | None
    #: How many nodes are above it.
    depth: int
    kind: NodeKind
    status: NodeStatus
    #: The instance that it belongs to: the traced one, or one that it sent a command to.
    workflow: str
    key: str
    #: The name of the command's or the effect's class; of a timer, of the command that it sends.
    name: str
    #: When it was decided, asked for, set or given up; None where that is not known any more.
    at: datetime | None
    #: When it ended, where that is known.
    ended: datetime | None = None
    #: When a timer is or was due, and when an effect goes on.
    until: datetime | None = None
    #: The record's number, or that of the record that asked for it; 0 where there is none.
    seq: int = 0
    #: The id of the command, of the effect, or of the command that a timer sends.
    command_id: str = ""
    #: Records: the id of what led to the command, and who sent it: client, effect, timer, schedule, dead-letter or
    #: elsewhere.
    cause: str | None = None
    sender: str = ""
    events: tuple[Any, ...] = ()
    #: The key of a keyed timer.
    timer: str | None = None
    #: Effects and dead letters: attempts that were begun, as far as that is still known; 0 where it is not.
    attempts: int = 0
    #: What the last attempt failed with, why the work was given up, or why the run was moved.
    reason: str = ""
    #: Under which id `holdfast dead` knows it.
    dead_letter: str = ""
    #: How long nothing was recorded before it, in milliseconds; 0 where that was no longer than a minute.
    gap_ms: int = 0
    #: The OpenTelemetry trace and span under which it was decided, where there was one.
    trace_id: str = ""
    span_id: str = ""
    #: How many nodes below it were left out because of the wanted depth.
    hidden: int = 0

    @property
    def open(self) -> bool:
        """Whether it is not at its end yet."""
        return self.status in OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceWait:
    """Something that is still open at the end of a trace."""

    #: effect, retry, limit, timer, dead-letter, resume or command.
    kind: str
    #: In words: "timer remind".
    what: str
    since: datetime | None = None
    #: When it goes on by itself, where that is known.
    until: datetime | None = None
    #: The node that it is, where it has one in the trace.
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceTrace:
    """The life of one instance as a tree: what led to what, and what it still waits for."""

    workflow: str
    key: str
    run_state: RunState
    #: Why it is in its run state, where somebody said so.
    reason: str
    #: The number of its last record, and of the first and last one in this trace.
    seq: int
    first: int
    last: int
    #: When the trace was drawn.
    drawn: datetime
    #: Every node behind the one above it; those with the same parent in the order of time.
    nodes: Sequence[TraceNode]
    #: What is still open, the next to go on first.
    waits: Sequence[TraceWait]
    #: What the trace does not show, in whole sentences; empty where it shows everything that is known.
    notes: Sequence[str] = ()

    @property
    def roots(self) -> list[TraceNode]:
        """What came from outside, or from what the trace does not show."""
        return [node for node in self.nodes if node.parent is None]

    def children(self, node: TraceNode) -> list[TraceNode]:
        """Return what followed from a node."""
        return [one for one in self.nodes if one.parent == node.id]
