"""Trace spans: an instance trace as OpenTelemetry sees traces. Pure: nothing is sent here.

Ids are digests of what they stand for, so the same life drawn twice has the same spans: whoever stores them by id has
each once. The trace under which a command was decided in fact, where there was one, is linked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from holdfast.runtime import trace_names as names
from holdfast.runtime.clock import to_ms
from holdfast.runtime.instance_trace import InstanceTrace, NodeKind, NodeStatus, TraceNode
from holdfast.runtime.message import describe

#: What a span's attribute may be.
Value = str | int | bool | tuple[str, ...]

_SPANS = {
    NodeKind.RECORD: names.COMMAND_SPAN,
    NodeKind.EFFECT: names.EFFECT_SPAN,
    NodeKind.TIMER: names.TIMER_SPAN,
    NodeKind.DEAD_LETTER: names.DEAD_LETTER_SPAN,
}
_FAILED = (NodeStatus.DEAD, NodeStatus.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span, with times in nanoseconds since 1970."""

    trace_id: int
    span_id: int
    parent_id: int | None
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Value] = field(default_factory=dict)
    #: The (trace, span) under which it happened.
    link: tuple[int, int] | None = None
    #: Why it failed; None where it did not.
    error: str | None = None


def spans_of(trace: InstanceTrace, namespace: str, *, messages: bool = True) -> list[Span]:
    """Return the spans of a trace, the instance's own first, each behind the one above it.

    Args:
        trace, namespace: Of what, and where it is.
        messages: Whether they carry what errors say: with a payload in it, maybe. Else their types alone.
    """
    scope = f"{namespace}/{trace.workflow}/{len(trace.key)}/{trace.key}"
    trace_id = _digest(f"trace {scope}", 16)
    root_id = _digest(f"span {scope}", 8)
    times = [at for node in trace.nodes for at in (node.at, node.ended) if at is not None]
    start, end = (min(times), max(times)) if times else (trace.drawn, trace.drawn)
    root = Span(
        trace_id=trace_id,
        span_id=root_id,
        parent_id=None,
        name=names.INSTANCE_SPAN.format(workflow=trace.workflow),
        start_ns=_ns(start),
        end_ns=_ns(end),
        attributes={
            **_instance(trace.workflow, trace.key),
            names.RUN_STATE: str(trace.run_state),
            names.SEQ: trace.seq,
        },
    )
    found = [root]
    for node in trace.nodes:
        parent_id = root_id if node.parent is None else _digest(f"span {scope} {node.parent}", 8)
        began = node.at or start
        # What is open has not ended: it goes as far as the life is known.
        ended = node.ended if node.ended is not None and node.status is not NodeStatus.RETRY else end
        if node.ended is None and not node.open:
            ended = began
        found.append(
            Span(
                trace_id=trace_id,
                span_id=_digest(f"span {scope} {node.id}", 8),
                parent_id=parent_id,
                name=_SPANS[node.kind].format(
                    name=node.name or "?", workflow=node.workflow, kind=_kind(node)
                ),
                start_ns=_ns(began),
                end_ns=max(_ns(ended), _ns(began)),
                attributes=_attributes(node, _reason(node, messages=messages)),
                link=_link(node),
                error=(_reason(node, messages=messages) or str(node.status))
                if node.status in _FAILED
                else None,
            )
        )
    return found


def _instance(workflow: str, key: str) -> dict[str, Value]:
    return {
        names.CONVERSATION_ID: f"{workflow}/{key}",
        names.WORKFLOW_TYPE: workflow,
        names.WORKFLOW_KEY: key,
        names.REBUILT: True,
    }


def _reason(node: TraceNode, *, messages: bool) -> str:
    """Return why something is as it is; what stands at a record was said by a person, or has no error in it."""
    if messages or node.kind is NodeKind.RECORD:
        return node.reason
    kind, colon, _ = node.reason.partition(": ")
    return kind if colon and kind.isidentifier() else ""


def _attributes(node: TraceNode, reason: str) -> dict[str, Value]:
    effect, timer = node.kind is NodeKind.EFFECT, node.kind is NodeKind.TIMER
    found: dict[str, Any] = {
        names.SEQ: node.seq,
        names.COMMAND: "" if effect else node.name,
        names.COMMAND_ID: "" if effect else node.command_id,
        names.MESSAGE_ID: node.command_id,
        names.EFFECT: node.name if effect else "",
        names.EFFECT_ID: node.command_id if effect else "",
        names.ATTEMPTS: node.attempts,
        names.CAUSE: node.cause,
        names.SENDER: node.sender,
        names.EVENTS: tuple(describe(event) for event in node.events),
        names.TIMER: node.timer,
        names.TIMER_DUE: node.until.isoformat() if timer and node.until is not None else "",
        names.REASON: reason,
        names.DEAD_LETTER_ID: node.dead_letter,
    }
    given = {name: value for name, value in found.items() if value}
    return {**_instance(node.workflow, node.key), names.STATUS: str(node.status), **given}


def _kind(node: TraceNode) -> str:
    """Return what kind of dead letter it is, as far as a node of its own has one: what is named is a command."""
    return "command" if node.command_id else "work"


def _link(node: TraceNode) -> tuple[int, int] | None:
    try:
        return (int(node.trace_id, 16), int(node.span_id, 16)) if node.trace_id else None
    except ValueError:
        return None


def _ns(at: datetime) -> int:
    return to_ms(at) * 1_000_000


def _digest(text: str, size: int) -> int:
    """Return a number that is never 0, which no id may be."""
    found = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
    return int.from_bytes(found, "big") or 1
