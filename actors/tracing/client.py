"""Spans of a client: what is sent, until it is confirmed, and what is executed, until it is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from msgspec.structs import replace
from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context

from holdfast.actors.tracing import names
from holdfast.actors.tracing.context import dropped_text, text_of
from holdfast.actors.tracing.tracing import Tracing, harmless, instance
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import Envelope
from holdfast.runtime.outcome import (
    Accepted,
    AlreadyCompleted,
    DeadLettered,
    Duplicate,
    Outcome,
    Parked,
    Rejected,
)

_OUTCOMES: dict[type, str] = {
    Accepted: "accepted",
    Rejected: "rejected",
    Duplicate: "duplicate",
    AlreadyCompleted: "completed",
    DeadLettered: "dead",
    Parked: "parked",
}


class ClientSpans:
    """Traces what a client does, below the span that is current where it is called."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def publish(
        self,
        ref: Ref,
        envelope: Envelope,
        publish: Callable[[Envelope], Future[None]],
    ) -> Future[None]:
        """Publish a command in a trace."""
        span = self._send(ref, envelope)
        if span is None:
            return publish(envelope)
        if not span.is_recording():
            return publish(replace(envelope, trace=envelope.trace or dropped_text()))
        traced = replace(envelope, trace=text_of(span.get_span_context()))
        try:
            future = publish(traced)
        except BaseException as error:
            self._sent(span, error)
            raise
        future.add_done_callback(lambda sent: self._sent(span, sent.exception()))
        return future

    @harmless
    def _send(self, ref: Ref, envelope: Envelope) -> Span:
        tracing = self._tracing
        span = tracing.start(names.SEND, tracing.commands, get_current())
        if span.is_recording():
            span.set_attributes(
                tracing.messaging(names.SEND, tracing.commands, ref.partition)
                | instance(ref.workflow, ref.key)
                | {names.MESSAGE_ID: envelope.id}
            )
            span.set_attributes(tracing.payload(envelope.payload))
        return span

    @harmless
    def _sent(self, span: Span, error: BaseException | None) -> None:
        if error is not None:
            self._tracing.fail(span, error)
        span.end()

    @contextmanager
    def executing(self, workflow: str, key: str, command: str) -> Iterator[Callable[[Outcome], None]]:
        """Trace what is executed until it is answered; what is yielded is told the outcome."""
        span = self._execute(workflow, key, command) or INVALID_SPAN
        token = attach(set_span_in_context(span)) if span is not INVALID_SPAN else None
        failure: BaseException | None = None
        try:
            yield lambda outcome: span.set_attribute(names.OUTCOME, _OUTCOMES.get(type(outcome), ""))
        except BaseException as error:
            failure = error
            raise
        finally:
            if token is not None:
                detach(token)
            self._sent(span, failure)

    @harmless
    def _execute(self, workflow: str, key: str, command: str) -> Span:
        span = self._tracing.start(names.EXECUTE, workflow, get_current())
        if span.is_recording():
            span.set_attributes(instance(workflow, key))
            span.set_attribute(names.COMMAND, command)
        return span
