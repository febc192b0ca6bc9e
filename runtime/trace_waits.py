"""Trace waits: what an instance is still waiting for, in words."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.runtime.clock import to_ms
from holdfast.runtime.control import RESUME_TIMER
from holdfast.runtime.instance import RunState
from holdfast.runtime.instance_trace import NodeKind, NodeStatus, TraceNode, TraceWait
from holdfast.runtime.keys import Ref

_EFFECTS = {
    NodeStatus.WAITING: ("effect", "effect {} to be run"),
    NodeStatus.RUNNING: ("effect", "effect {} to end"),
    NodeStatus.RETRY: ("retry", "the next try of effect {}"),
    NodeStatus.LIMIT: ("limit", "the turn of effect {}"),
    NodeStatus.RATE: ("limit", "the turn of effect {}"),
}


def waits_of(
    nodes: Iterable[TraceNode], ref: Ref, run_state: RunState, reason: str, parked: int
) -> tuple[TraceWait, ...]:
    """Return what is open of an instance, the next to go on first; what goes on at no known time comes last."""
    found = [
        wait
        for node in nodes
        if node.open and (node.workflow, node.key) == (ref.workflow, ref.key)
        for wait in (_wait(node),)
    ]
    if run_state is RunState.PAUSED:
        kept = f", with {parked:,} commands kept" if parked else ""
        why = f" ({reason})" if reason else ""
        if not any(wait.kind == "resume" for wait in found):
            found.append(TraceWait(kind="resume", what=f"holdfast resume{why}{kept}"))
    elif not found and not run_state.finished:
        found.append(TraceWait(kind="command", what="a command"))
    return tuple(sorted(found, key=_by_time))


def _by_time(wait: TraceWait) -> tuple[bool, int, str]:
    at = wait.until or wait.since
    return wait.until is None, to_ms(at) if at is not None else 0, wait.what


def _wait(node: TraceNode) -> TraceWait:
    name = node.name or node.command_id
    if node.status is NodeStatus.DEAD:
        what = {NodeKind.EFFECT: "effect ", NodeKind.TIMER: "timer "}.get(node.kind, "") + name
        kind, said = "dead-letter", f"somebody to deal with dead letter {node.dead_letter} ({what})"
    elif node.kind is NodeKind.TIMER:
        resumes = node.name == "holdfast.Resume" or node.timer == RESUME_TIMER
        kind = "resume" if resumes else "timer"
        said = "the end of the pause" if resumes else f"timer {node.timer or name}"
    else:
        kind, words = _EFFECTS[node.status]
        said = words.format(name)
    since = node.ended if node.status is NodeStatus.DEAD else node.at
    return TraceWait(
        kind=kind,
        what=said,
        since=since,
        until=None if node.status is NodeStatus.DEAD else node.until,
        node=node.id,
    )
