"""Contexts of traces, between the text that is stored and what OpenTelemetry works with.

What is stored is a W3C traceparent: `00-<trace id>-<span id>-<flags>`. Whether a command is traced was decided where its
trace began, and stands in the flags; nobody decides it again.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

#: Work that comes later than this after what asked for it is a trace of its own, with a link: what shows traces gathers
#: their spans for minutes, not for days.
LATE_MS = 5 * 60 * 1000

#: A context in which there is no span.
ROOT = Context()

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
#: How the text of a context ends that is not sampled: its last bit is not set.
UNSAMPLED_ENDS = frozenset("02468ace")


def text_of(context: SpanContext) -> str:
    """Return a context as it is stored."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def read(text: str | None) -> SpanContext | None:
    """Return a context that was stored; None for none, and for what is none: anybody may have written it."""
    found = _FORM.fullmatch(text) if text else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    context = SpanContext(
        int(found[2], 16), int(found[3], 16), is_remote=True, trace_flags=TraceFlags(int(found[4], 16))
    )
    return context if context.is_valid else None


def current() -> str | None:
    """Return the current context as it is stored, if there is one."""
    context = get_current_span().get_span_context()
    return text_of(context) if context.is_valid else None


def below(context: SpanContext) -> Context:
    """Return what makes a span a child of this one."""
    return set_span_in_context(NonRecordingSpan(context), ROOT)


def within(span: Span) -> Context:
    """Return what makes other spans children of this one."""
    return set_span_in_context(span, ROOT)


class Origin(NamedTuple):
    """Where a span comes from: a parent, or a link to what is long past, or nothing."""

    parent: Context
    links: Sequence[Link]
    #: Whether it was decided before that this is not traced.
    dropped: bool


def origin(text: str | None, since_ms: int, now_ms: int, *, linked: bool = False) -> Origin:
    """Return the origin of what was asked for in this context at a time; 0 for a time that nobody knows.

    With `linked` it is the beginning of something else, whatever became of this context: it is traced or not by itself.
    """
    context = read(text)
    if context is None:
        return Origin(ROOT, (), dropped=False)
    dropped = not context.trace_flags.sampled
    if linked:
        return Origin(ROOT, () if dropped else [Link(context)], dropped=False)
    if not since_ms or now_ms - since_ms > LATE_MS:
        return Origin(below(context) if dropped else ROOT, [Link(context)], dropped)
    return Origin(below(context), (), dropped)


def _dropped() -> Iterator[str]:
    trace_id, span_id = secrets.token_hex(8), secrets.token_hex(8)
    return (f"00-{trace_id}{number:016x}-{span_id}-00" for number in itertools.count(1))


_texts = _dropped()


def _reseed() -> None:
    global _texts  # noqa: PLW0603 - one source of ids per process, made anew after a fork
    _texts = _dropped()


os.register_at_fork(after_in_child=_reseed)


def dropped_text() -> str:
    """Return what is stored where a trace begins that is not sampled; cheap, for there are many."""
    return next(_texts)


#: The trace id of what belongs to no trace at all; no log line names it.
NOBODYS = (1 << 128) - 1
#: What surrounds work of which nothing is traced: a span that somebody starts in it is not traced either.
UNSAMPLED = below(SpanContext(NOBODYS, (1 << 64) - 1, is_remote=True))
