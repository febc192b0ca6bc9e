"""Spans of the projection pool: one for each batch that was applied, with links to the decisions in it.

A batch that is tried again while its store is away has one span, and so has another try of instances that were parked.
One of which everything was applied before, as after a crash, has none; nor has a walk over the logs, of a new projection
or a rebuild.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import attach, detach
from opentelemetry.trace import Link, Span, SpanContext

from holdfast.actors.projections import ProjectionBatch, ProjectionLane
from holdfast.actors.tracing import names
from holdfast.actors.tracing.commands import LINKS_MAX
from holdfast.actors.tracing.context import ROOT, UNSAMPLED, read, within
from holdfast.actors.tracing.dead_letters import parts_of, trace_of_record
from holdfast.actors.tracing.tracing import Tracing, harmless, instance
from holdfast.runtime.redaction import redact

#: Instances of a batch that were parked whose errors its span has.
ERRORS_MAX = 10


class TracedProjectionLane(ProjectionLane):
    """A projection whose batches are traced."""

    def __init__(self, *args: Any, tracing: Tracing, **options: Any) -> None:
        super().__init__(*args, **options)
        self._tracing = tracing

    def work(self, batch: ProjectionBatch) -> None:
        """Apply a batch, until that goes through."""
        span, before = self._span_of(batch), self.events
        token = attach(within(span) if span is not None else UNSAMPLED)
        try:
            super().work(batch)
        finally:
            detach(token)
            if span is not None:
                self._end_span(span, batch, self.events - before)

    @harmless
    def _span_of(self, batch: ProjectionBatch) -> Span | None:
        contexts: list[SpanContext] = []
        untraced = False
        for work in batch.works:
            # Another try of what was parked: of the records, which are yet to be read, nothing is known here.
            untraced = untraced or work.parked is not None
            for entry in work.entries:
                trace, _ = trace_of_record(entry.data)
                untraced = untraced or trace is None
                found = read(trace)
                if found is not None and found.trace_flags.sampled and len(contexts) < LINKS_MAX:
                    contexts.append(found)
        if not (contexts or untraced):
            return None  # a walk over the logs; or it was decided for all of them that they are not traced
        tracing, name = self._tracing, batch.track.reader.projection
        links = [Link(context) for context in contexts]
        span = tracing.start(names.APPLY, name, ROOT, links, kept=bool(links))
        if not span.is_recording():
            return None
        span.set_attributes(
            {
                names.SYSTEM: tracing.database,
                names.OPERATION: names.APPLY.operation,
                names.OPERATION_TYPE: names.APPLY.messaging,
                names.DESTINATION: f"{tracing.namespace}.feed",
                names.BATCH_COUNT: sum(max(1, len(work.entries)) for work in batch.works),
                names.PROJECTION: name,
                names.GENERATION: batch.track.reader.generation,
            }
        )
        if len(batch.works) == 1:
            ref = batch.works[0].ref
            span.set_attributes(instance(ref.workflow, ref.key))
        return span

    @harmless
    def _end_span(self, span: Span, batch: ProjectionBatch, events: int) -> None:
        shares = batch.track.shares
        parked = [
            shares[work.ref.partition].parked[work.ref]
            for work in batch.works
            if work.ref.partition in shares and work.ref in shares[work.ref.partition].parked
        ]
        if not batch.done:
            self._tracing.failed(span, "Unfinished", "the batch is left to others")
        elif not (events or parked):
            return  # nothing was new: it was traced before
        else:
            for one in parked[:ERRORS_MAX]:
                kind, message = parts_of(one.error)
                self._tracing.failed(span, kind, redact(message), redact(one.traceback))
        span.set_attributes({names.EVENTS: events, names.PARKED: len(parked)})
        span.end()
