"""Spans of the effect pool: one for each attempt.

An attempt is a child of the decision that asked for the effect, or has a link to it where that was long ago. What the
attempt leads to is in its own trace: the handler's spans, what it sends to others, and the result command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Span

from holdfast.actors.tracing import names
from holdfast.actors.tracing.context import origin, text_of, within
from holdfast.actors.tracing.tracing import Tracing, harmless, instance

if TYPE_CHECKING:
    from holdfast.actors.effect_job import Job


class Attempt:
    """The span of one attempt, and the context that its handler runs in."""

    __slots__ = ("asked", "context", "span")

    def __init__(self, asked: str | None, context: Context, span: Span | None) -> None:
        #: The trace of the decision that asked for the effect.
        self.asked = asked
        self.context = context
        self.span = span


class EffectSpans:
    """Traces attempts; called by whoever runs them."""

    def __init__(self, tracing: Tracing, now_ms: Callable[[], int]) -> None:
        self._tracing = tracing
        self._now_ms = now_ms

    @harmless
    def begin(self, job: Job) -> None:
        """Say that an attempt begins: from here on the effect is traced under it."""
        entry, former = job.entry, job.span
        if entry is None:
            return
        asked = former.asked if former is not None else entry.trace
        job.span = None
        came = origin(asked, entry.at_ms, self._now_ms())
        if came.dropped:
            job.span = Attempt(asked, came.parent, None)
            return
        span = self._tracing.start(names.RUN, job.tag, came.parent, came.links, kept=bool(came.links))
        job.span = Attempt(asked, within(span), span if span.is_recording() else None)
        job.entry = replace(entry, trace=text_of(span.get_span_context()))
        if not span.is_recording():
            return
        span.set_attributes(
            {
                names.SYSTEM: self._tracing.database,
                names.OPERATION: names.RUN.operation,
                names.OPERATION_TYPE: names.RUN.messaging,
                names.DESTINATION: f"{self._tracing.namespace}.effects",
                names.PARTITION: str(job.partition),
                names.MESSAGE_ID: entry.id,
                names.EFFECT: job.tag,
                names.EFFECT_ID: entry.id,
                names.ATTEMPT: job.attempt,
                names.SEQ: entry.seq,
            }
        )
        span.set_attributes(instance(entry.workflow, entry.key))
        span.set_attributes(self._tracing.payload(entry.payload))

    @harmless
    def enter(self, job: Job) -> None:
        """Have spans that the handler starts be children of the attempt's; the thread or task ends with it."""
        if job.span is not None:
            attach(job.span.context)

    @harmless
    def end(self, job: Job, error: BaseException | None) -> None:
        """Say what an attempt came to."""
        if job.span is None or job.span.span is None:
            return
        span, job.span.span = job.span.span, None
        span.set_attribute(names.OUTCOME, "done" if error is None else "failed")
        if error is not None:
            self._tracing.fail(span, error)
        span.end()
