"""Trace tree: makes one tree of an instance's records and of what still waits for it. Pure: it is handed all that.

The rules of this file, which all follow from how ids are made:

- The n-th effect of a command has the id `<command id>:<n>`; the commands that it leads to say that id as their cause.
  Their own ids begin with it, or, in other instances, with a digest of the instance and the effect's id.
- The n-th timer of a command sends a command with the id `<command id>:t<n>`, or a digest in place of the first part.
- A pause that ends by itself sends `<command id>:resume`; one behind a dead letter has the id `<dead command>:pause`.
- Records say by name what was asked for. What is not in the outbox, among the timers or the dead letters any more is
  over; how it ended, and how many attempts that took, is told by what it led to. Of an effect that led to no command the
  partition remembers that for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from holdfast.runtime.clock import from_ms, to_ms
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.effect import result_mark
from holdfast.runtime.effect_queue import Ended, PendingEffect
from holdfast.runtime.errors import Undecodable
from holdfast.runtime.instance import RunState
from holdfast.runtime.instance_trace import GAP_MS, InstanceTrace, NodeKind, NodeStatus, TraceNode
from holdfast.runtime.keys import Ref
from holdfast.runtime.record import EffectEntry, Record
from holdfast.runtime.timers import PendingTimer, timer_id
from holdfast.runtime.timetable import SCHEDULE_TYPE
from holdfast.runtime.trace_waits import waits_of

_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)

#: What a record of each verb is called.
_VERBS = {
    status.value: status
    for status in (
        NodeStatus.PAUSED,
        NodeStatus.RESUMED,
        NodeStatus.CANCELLED_RUN,
        NodeStatus.DATA_DELETED,
    )
}


#: The kinds of dead letters that hold a command on its way.
_COMMANDS = ("command", "timer")


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of one instance."""

    ref: Ref
    #: The number of its last record, and its run state with the reason and how many commands are kept.
    seq: int
    run_state: RunState = RunState.RUNNING
    reason: str = ""
    parked: int = 0
    #: A page of its log, in order and without gaps.
    records: Sequence[Record[Any]] = ()
    #: What still waits.
    effects: Sequence[PendingEffect] = ()
    timers: Sequence[PendingTimer] = ()
    letters: Sequence[DeadLetter] = ()
    #: How effects ended that led to no command, the partition's latest, by `result_mark`.
    ended: Mapping[str, Ended] = field(default_factory=dict)

    @property
    def to_the_end(self) -> bool:
        """Whether the page has the last record."""
        return bool(self.records) and self.records[-1].seq >= self.seq


@dataclass(slots=True)
class _Forest:
    """The nodes so far, in the order in which they were found, and what they are known by."""

    nodes: dict[str, TraceNode] = field(default_factory=dict)
    #: Within an instance: the effect, or the record, or the timer of an id; each is a node's id.
    effects: dict[tuple[Ref, str], str] = field(default_factory=dict)
    timers: dict[tuple[Ref, str], str] = field(default_factory=dict)
    records: dict[tuple[Ref, str], str] = field(default_factory=dict)
    letters: dict[tuple[Ref, str], str] = field(default_factory=dict)
    #: Whatever the instance: effects by what the ids of their commands elsewhere begin with, and ticks by their id.
    marks: dict[str, str] = field(default_factory=dict)
    ticks: dict[str, str] = field(default_factory=dict)
    #: Attempts of the effect that sent the command in a dead letter, by the letter's node.
    tries: dict[str, int] = field(default_factory=dict)

    def add(self, node: TraceNode) -> TraceNode:
        self.nodes[node.id] = node
        return node

    def change(self, node_id: str, **changes: Any) -> None:
        self.nodes[node_id] = replace(self.nodes[node_id], **changes)


def build(
    life: Life, now: datetime, others: Sequence[Life] = (), *, depth: int | None = None
) -> InstanceTrace:
    """Return the tree of an instance, with what it led to in others.

    Args:
        life: The instance.
        now: When that was read.
        others: Other instances: of each only what followed from this one becomes part of the tree.
        depth: How many levels are wanted; what is below is counted. None for all.
    """
    forest = _Forest()
    for one in (life, *others):
        _plant(forest, one, now)
    for one in (life, *others):
        _join(forest, one)
    for one in (life, *others):
        _settle(forest, one, now)
    records = life.records
    return InstanceTrace(
        workflow=life.ref.workflow,
        key=life.ref.key,
        run_state=life.run_state,
        reason=life.reason,
        seq=life.seq,
        first=records[0].seq if records else 0,
        last=records[-1].seq if records else 0,
        drawn=now,
        nodes=_in_order(forest.nodes, life.ref, depth),
        waits=waits_of(forest.nodes.values(), life.ref, life.run_state, life.reason, life.parked),
    )


# -- nodes


def _plant(forest: _Forest, life: Life, now: datetime) -> None:
    """Add the nodes of an instance, none below another but what a record asked for."""
    ref, before = life.ref, None
    for record in life.records:
        gap_ms = to_ms(record.at) - to_ms(before.at) if before is not None else 0
        before = record
        node = forest.add(_record_node(ref, record, gap_ms if gap_ms > GAP_MS else 0))
        forest.records[ref, record.command_id] = node.id
        _asked_nodes(forest, ref, record, node)
    for effect in life.effects:
        node_id = _effect(forest, ref, effect.id, effect.effect)
        until = from_ms(effect.until_ms) if effect.until_ms else None
        forest.change(
            node_id,
            status=NodeStatus(effect.state),
            attempts=effect.attempts,
            reason=effect.error,
            until=until,
            name=effect.effect or forest.nodes[node_id].name,
        )
    for timer in life.timers:
        status = NodeStatus.PENDING if timer.due > now else NodeStatus.DUE
        known = forest.timers.get((ref, timer.command_id))
        if known is None:
            node = _node(ref, NodeKind.TIMER, timer.command_id, timer.command, None, status=status)
            known = forest.timers[ref, timer.command_id] = forest.add(node).id
        forest.change(known, status=status, until=timer.due, timer=timer.name)
    for letter in life.letters:
        _bury(forest, ref, letter)


def _record_node(ref: Ref, record: Record[Any], gap_ms: int) -> TraceNode:
    control = record.control
    trace_id, span_id = _context(record.trace)
    return TraceNode(
        id=f"{ref}#{record.seq}",
        parent=None,
        depth=0,
        kind=NodeKind.RECORD,
        status=NodeStatus.DECIDED if control is None else _VERBS.get(control.verb, NodeStatus.DECIDED),
        workflow=ref.workflow,
        key=ref.key,
        name=record.command,
        at=record.at,
        ended=record.at,
        seq=record.seq,
        command_id=record.command_id,
        cause=record.cause,
        sender=_sender(ref, record),
        events=tuple(record.events),
        reason=control.reason if control is not None else "",
        gap_ms=gap_ms,
        trace_id=trace_id,
        span_id=span_id,
    )


def _asked_nodes(forest: _Forest, ref: Ref, record: Record[Any], above: TraceNode) -> None:
    asked = record.asked
    if asked is not None:
        for index, name in enumerate(asked.effects):
            _effect(forest, ref, f"{record.command_id}:{index}", name)
        for index, timer in enumerate(asked.timers):
            due = from_ms(timer.due_ms or to_ms(record.at) + timer.delay_ms)
            own_id = timer_id(ref, record.command_id, index)
            node = _node(
                ref, NodeKind.TIMER, own_id, timer.command, above, until=due, timer=timer.key or None
            )
            forest.timers[ref, own_id] = forest.add(node).id
            if ref.workflow == SCHEDULE_TYPE:
                forest.ticks[own_id] = node.id
    if record.control is not None and record.control.resume_at_ms:
        due, own_id = from_ms(record.control.resume_at_ms), f"{record.command_id}:resume"
        node = _node(ref, NodeKind.TIMER, own_id, "holdfast.Resume", above, until=due)
        forest.timers[ref, own_id] = forest.add(node).id


def _node(
    ref: Ref, kind: NodeKind, own_id: str, name: str, above: TraceNode | None, **more: Any
) -> TraceNode:
    """Return a node for what a record asked for; without the record little is known of it."""
    values = {"status": NodeStatus.OVER, "at": above.at if above else None} | more
    return TraceNode(
        id=f"{ref}:{kind}:{own_id}",
        parent=above.id if above else None,
        depth=0,
        kind=kind,
        workflow=ref.workflow,
        key=ref.key,
        name=name,
        seq=above.seq if above else 0,
        command_id=own_id,
        **values,
    )


def _effect(forest: _Forest, ref: Ref, effect_id: str, name: str) -> str:
    """Return the node of an effect; it is added where it is not there yet."""
    known = forest.effects.get((ref, effect_id))
    if known is not None:
        return known
    record = forest.records.get((ref, effect_id.rpartition(":")[0]))
    above = forest.nodes[record] if record is not None else None
    node = forest.add(_node(ref, NodeKind.EFFECT, effect_id, name, above))
    forest.effects[ref, effect_id] = forest.marks[result_mark(ref.scope, effect_id)] = node.id
    return node.id


def _bury(forest: _Forest, ref: Ref, letter: DeadLetter) -> None:
    """Say of a node that it is a dead letter, or add one for it."""
    at = from_ms(letter.at_ms)
    said = {
        "status": NodeStatus.DEAD,
        "ended": at,
        "attempts": letter.attempts,
        "reason": letter.error,
        "dead_letter": letter.id,
    }
    effect_id = _effect_id(letter) if letter.kind == "effect" else ""
    timer = forest.timers.get((ref, letter.command_id)) if letter.kind in _COMMANDS else None
    if effect_id:
        forest.change(_effect(forest, ref, effect_id, letter.message_type), **said)
    elif timer is not None:
        forest.change(timer, **said)
    else:
        node = _node(ref, NodeKind.DEAD_LETTER, letter.id, letter.message_type or letter.kind, None, at=at)
        cause, trace, forest.tries[node.id] = _origin(letter)
        trace_id, span_id = _context(trace)
        forest.add(
            replace(node, command_id=letter.command_id, cause=cause, trace_id=trace_id, span_id=span_id)
        )
        forest.change(node.id, **said)
        if letter.command_id:
            forest.letters[ref, letter.command_id] = node.id


def _effect_id(letter: DeadLetter) -> str:
    try:
        return _effect_decoder.decode(letter.body).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _origin(letter: DeadLetter) -> tuple[str | None, str | None, int]:
    """Return what led to the command in a dead letter, its trace, and how many attempts the effect took that sent it."""
    if letter.kind not in _COMMANDS:
        return None, None, 0
    try:
        envelope = decode_envelope(letter.body)
    except Undecodable:
        return None, None, 0
    return envelope.cause, envelope.trace, envelope.attempts


def _context(traceparent: str | None) -> tuple[str, str]:
    parts = (traceparent or "").split("-")
    return (parts[1], parts[2]) if len(parts) >= 4 else ("", "")


# -- what led to what


def _sender(ref: Ref, record: Record[Any]) -> str:
    """Return who sent a command, as far as its id and its cause say."""
    cause, own_id = record.cause, record.command_id
    if own_id.startswith("schedule:"):
        return "schedule"
    if cause is None:
        return "client"
    if own_id == f"{cause}:pause":
        return "dead-letter"
    first, _, suffix = own_id.rpartition(":")
    if suffix[:1] == "t" or suffix == "resume":
        return "timer"
    if first in (cause, result_mark(ref.scope, cause)):
        return "effect"
    return "elsewhere"


def _join(forest: _Forest, life: Life) -> None:
    """Put every record and every dead letter of an instance below what led to it."""
    ref = life.ref
    for record in life.records:
        _put_below(forest, ref, f"{ref}#{record.seq}", record.command_id, record.cause, record.attempts)
    for node_id in [node_id for (of, _), node_id in forest.letters.items() if of == ref]:
        node = forest.nodes[node_id]
        _put_below(forest, ref, node_id, node.command_id, node.cause, forest.tries.get(node_id, 0))


def _put_below(
    forest: _Forest, ref: Ref, node_id: str, command_id: str, cause: str | None, attempts: int
) -> None:
    """Put a node below what led to it; `attempts` is what its command says of the effect that sent it."""
    mark = command_id.rpartition(":")[0]
    timer = forest.timers.get((ref, command_id))
    found = timer or forest.marks.get(mark)
    if found is None and cause is not None:
        found = forest.effects.get((ref, cause))
        if found is None and mark == cause and (ref, cause.rpartition(":")[0]) in forest.records:
            found = _effect(forest, ref, cause, "")  # its record is from before effects were written down
        if found is None and command_id.startswith("schedule:"):
            found = forest.ticks.get(cause)
        if found is None:
            # Ids that somebody made up may not lead in a circle: what led to a record is older than that.
            paused = command_id == f"{cause}:pause"
            found = forest.letters.get((ref, cause)) if paused else forest.records.get((ref, cause))
    if found is None or _loops(forest.nodes[found], forest.nodes[node_id]):
        return
    forest.change(node_id, parent=found)
    above, node = forest.nodes[found], forest.nodes[node_id]
    if above.kind is NodeKind.TIMER and node.kind is NodeKind.RECORD and timer is not None:
        forest.change(found, status=NodeStatus.FIRED, ended=node.at)
    elif above.kind is NodeKind.EFFECT and not above.open:
        failed = command_id.endswith(":f")
        forest.change(
            found,
            status=NodeStatus.FAILED if failed or above.status is NodeStatus.FAILED else NodeStatus.DONE,
            ended=above.ended or node.at,
            attempts=max(above.attempts, attempts),
        )


def _loops(above: TraceNode, node: TraceNode) -> bool:
    """Return whether two nodes of one instance stand in the wrong order."""
    same = (above.workflow, above.key) == (node.workflow, node.key)
    return same and above.seq >= node.seq > 0


# -- how it ended


def _settle(forest: _Forest, life: Life, now: datetime) -> None:
    """Say how effects and timers ended of which nothing is left but the record that asked for them."""
    standing: dict[str, str] = {}
    cancelled: datetime | None = None
    for record in life.records:
        if record.control is not None and record.control.verb == NodeStatus.CANCELLED_RUN:
            cancelled = record.at
        asked = record.asked
        if asked is None:
            continue
        for key in asked.cancels:
            _displaced(forest, standing.pop(key, None), record.at, NodeStatus.CANCELLED)
        for index, timer in enumerate(asked.timers):
            if timer.key:
                _displaced(forest, standing.pop(timer.key, None), record.at, NodeStatus.REPLACED)
                standing[timer.key] = forest.timers[life.ref, timer_id(life.ref, record.command_id, index)]
    _resumed(forest, life)
    _ended(forest, life)
    for (ref, _), node_id in (*forest.effects.items(), *forest.timers.items()):
        node = forest.nodes[node_id]
        if ref != life.ref or node.status is not NodeStatus.OVER:
            continue
        if not life.to_the_end:
            forest.change(node_id, status=NodeStatus.LATER)
        elif node.kind is NodeKind.EFFECT and cancelled is None:
            forest.change(node_id, status=NodeStatus.DONE)
        elif node.kind is NodeKind.TIMER and node.until is not None and node.until <= (cancelled or now):
            forest.change(node_id, status=NodeStatus.SENT)


def _displaced(forest: _Forest, node_id: str | None, at: datetime, status: NodeStatus) -> None:
    """Say that a timer was cancelled or replaced, unless it had been sent by then or is what still waits."""
    if node_id is None:
        return
    node = forest.nodes[node_id]
    if node.status is NodeStatus.OVER and node.until is not None:
        forest.change(node_id, status=status if node.until > at else NodeStatus.SENT, ended=at)


def _resumed(forest: _Forest, life: Life) -> None:
    """Say of the ends of pauses that were not waited for that they were cancelled."""
    pause: str | None = None
    for record in life.records:
        if record.control is None:
            continue
        _displaced(forest, pause, record.at, NodeStatus.CANCELLED)
        pause = forest.timers.get((life.ref, f"{record.command_id}:resume"))


def _ended(forest: _Forest, life: Life) -> None:
    """Say of effects that led to no command what is remembered of their end."""
    for (ref, effect_id), node_id in forest.effects.items():
        end = life.ended.get(result_mark(ref.scope, effect_id)) if ref == life.ref else None
        if end is not None and forest.nodes[node_id].status is NodeStatus.OVER:
            forest.change(node_id, status=NodeStatus.DONE, ended=from_ms(end.at_ms), attempts=end.attempts)


# -- order


def _in_order(nodes: dict[str, TraceNode], of: Ref, depth: int | None) -> tuple[TraceNode, ...]:
    """Return what is rooted in an instance, every node behind the one above it; what is too deep is only counted."""
    below: dict[str | None, list[TraceNode]] = {}
    for node in nodes.values():
        below.setdefault(node.parent, []).append(node)
    for same in below.values():
        same.sort(key=_by_time)
    roots = [node for node in below.get(None, ()) if (node.workflow, node.key) == (of.workflow, of.key)]
    found: list[TraceNode] = []
    todo: list[tuple[TraceNode, int]] = [(node, 0) for node in reversed(roots)]
    while todo:
        node, level = todo.pop()
        following = below.get(node.id, [])
        if depth is not None and level + 1 >= depth:
            found.append(replace(node, depth=level, hidden=_count(following, below)))
            continue
        found.append(replace(node, depth=level))
        todo += [(one, level + 1) for one in reversed(following)]
    return tuple(found)


def _count(nodes: Iterable[TraceNode], below: dict[str | None, list[TraceNode]]) -> int:
    todo, count = list(nodes), 0
    while todo:
        count += 1
        todo += below.get(todo.pop().id, ())
    return count


def _by_time(node: TraceNode) -> tuple[bool, int, bool, int]:
    """Return what nodes with one parent are sorted by; of one time, as the log has them. Of no known time: last."""
    return node.at is None, to_ms(node.at) if node.at is not None else 0, not node.seq, node.seq
