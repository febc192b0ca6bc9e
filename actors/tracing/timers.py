"""Spans of the timer pool.

    wait    from when a timer was set until it was moved    child of the decision that set it
      fire  until its command is confirmed or decided       child of the wait; of nothing, with a link, after a long one
        tick    a schedule's command is made

A timer that is sent again because something went wrong in between has one span still, as long as this process lives.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace
from opentelemetry.trace import Span

from holdfast.actors.ticks import Message, Ticks
from holdfast.actors.tracing import names
from holdfast.actors.tracing.context import below, origin, read, text_of, within
from holdfast.actors.tracing.tracing import Tracing, harmless, instance
from holdfast.runtime.codec import decode_envelope, encode_envelope
from holdfast.runtime.errors import Undecodable
from holdfast.runtime.message import Envelope
from holdfast.runtime.schedule import Schedule
from holdfast.runtime.timers import Due, Timers
from holdfast.runtime.timetable import SCHEDULE_TYPE, SendTick

#: Timers on their way that are remembered; of more, those that were begun first lose their spans.
BEGUN_MAX = 20_000

_Key = tuple[int, str]


class TimerSpans:
    """Traces timers from when they were moved until they are removed."""

    def __init__(self, tracing: Tracing, now_ms: Callable[[], int]) -> None:
        self.tracing = tracing
        self._now_ms = now_ms
        #: What is sent in place of a timer, and its span.
        self._begun: OrderedDict[_Key, tuple[Due, Span | None]] = OrderedDict()

    def fired(self, due: Due) -> Due:
        """Return a timer as it is to be sent: in its own trace."""
        key = (due.partition, due.id)
        found = self._begun.get(key)
        if found is None:
            found = self._fired(due) or (due, None)
            if found[0] is not due:
                self._begun[key] = found
            if len(self._begun) > BEGUN_MAX:
                self._begun.popitem(last=False)
        return found[0]

    @harmless
    def _fired(self, due: Due) -> tuple[Due, Span | None]:
        try:
            envelope = decode_envelope(due.body)
        except Undecodable:  # whoever decides it makes a dead letter of it
            return due, None
        tracing, moved_ms = self.tracing, due.moved_ms
        # A schedule's timers follow one another for ever: each is a trace of its own, and drawn for by itself.
        linked = envelope.workflow == SCHEDULE_TYPE
        came = origin(envelope.trace, envelope.sent_ms, moved_ms, linked=linked)
        if came.dropped:
            return due, None
        about = instance(envelope.workflow, envelope.key)
        waited_ms = max(0, moved_ms - envelope.sent_ms) if envelope.sent_ms else 0
        parent, moved_ns = came.parent, moved_ms * 1_000_000
        if read(envelope.trace) is not None and not (came.links or linked):
            wait = tracing.start(
                names.WAIT, envelope.workflow, parent, start_ns=moved_ns - waited_ms * 1_000_000
            )
            wait.set_attributes(about)
            wait.end(moved_ns)
            parent = within(wait)
        kept = bool(came.links) and not linked
        span = tracing.start(names.FIRE, envelope.workflow, parent, came.links, kept=kept)
        body = encode_envelope(
            replace(envelope, trace=text_of(span.get_span_context()), sent_ms=self._now_ms())
        )
        if span.is_recording():
            span.set_attributes(tracing.messaging(names.FIRE, tracing.commands, due.partition))
            span.set_attributes(about)
            span.set_attributes(
                {names.MESSAGE_ID: envelope.id, names.TIMER_LATE_MS: max(0, moved_ms - due.due_ms)}
            )
            if waited_ms:
                span.set_attribute(names.TIMER_WAITED_MS, waited_ms)
            span.set_attributes(tracing.payload(envelope.payload))
        return due._replace(body=body), span if span.is_recording() else None

    def removed(self, sent: Sequence[Due]) -> None:
        """Say that timers were sent and are done with."""
        for due in sent:
            _, span = self._begun.pop((due.partition, due.id), (due, None))
            if span is not None:
                self._end(span)

    @harmless
    def _end(self, span: Span) -> None:
        span.end()


class TracedTicks(Ticks):
    """Makes of timers what is to be published, in a trace."""

    def __init__(self, *args: Any, spans: TimerSpans, **options: Any) -> None:
        super().__init__(*args, **options)
        self._spans = spans
        self._failed: Exception | None = None

    def messages(self, due: Due) -> Sequence[Message]:
        """Return what is to be published for a timer."""
        return super().messages(self._spans.fired(due))

    def _sent(self, envelope: Envelope, send: SendTick) -> list[Message]:
        self._failed = None
        span = self._begin(envelope, send)
        if span is None:
            return super()._sent(envelope, send)
        try:
            return super()._sent(replace(envelope, trace=text_of(span.get_span_context())), send)
        finally:
            self._end(span)

    def _made(self, envelope: Envelope, schedule: Schedule, send: SendTick) -> Envelope | None:
        try:
            return super()._made(envelope, schedule, send)
        except Exception as error:
            self._failed = error
            raise

    @harmless
    def _begin(self, envelope: Envelope, send: SendTick) -> Span | None:
        tracing, above = self._spans.tracing, read(envelope.trace)
        if above is None or not above.trace_flags.sampled:
            return None
        span = tracing.start(names.TICK, send.name, below(above))
        span.set_attributes(instance(envelope.workflow, envelope.key))
        span.set_attributes({names.SCHEDULE: send.name, names.TICK_ID: str(send.tick)})
        return span

    @harmless
    def _end(self, span: Span) -> None:
        if self._failed is not None:
            self._spans.tracing.fail(span, self._failed)
        span.end()


class TracedTimers:
    """Timers whose removal ends their spans."""

    def __init__(self, inner: Timers, spans: TimerSpans) -> None:
        self._inner = inner
        self._spans = spans

    def remove(self, sent: Sequence[Due]) -> None:
        """Forget what was sent."""
        self._inner.remove(sent)
        self._spans.removed(sent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
