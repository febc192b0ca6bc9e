"""Spans of foreign messages: from when one is translated until it is in the queue of its partition."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from opentelemetry.trace import Span

from holdfast.actors.doorman import DoorBatch, Doorman
from holdfast.actors.tracing import names
from holdfast.actors.tracing.context import ROOT, below, read, text_of
from holdfast.actors.tracing.tracing import Tracing, harmless, instance
from holdfast.runtime.codec import decode_envelope, encode_envelope
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Delivery


class TracedDoorman(Doorman):
    """The lane of foreign messages, traced. Whoever sends a `traceparent` in the headers has his trace go on."""

    def __init__(self, *args: Any, tracing: Tracing, **options: Any) -> None:
        super().__init__(*args, **options)
        self._tracing = tracing
        self._spans: dict[int, Span] = {}

    def _translated(self, batch: DoorBatch, delivery: Delivery) -> tuple[Ref, bytes]:
        known = id(delivery) in batch.translated
        ref, body = super()._translated(batch, delivery)
        if not known:
            body = self._begin(delivery, ref, body) or body
            batch.translated[id(delivery)] = ref, body
        return ref, body

    @harmless
    def _begin(self, delivery: Delivery, ref: Ref, body: bytes) -> bytes:
        tracing, envelope = self._tracing, decode_envelope(body)
        above = read(envelope.trace)
        if above is not None and not above.trace_flags.sampled:
            return body
        destination = f"{tracing.namespace}.ingress"
        span = tracing.start(names.FORWARD, destination, below(above) if above is not None else ROOT)
        if span.is_recording():
            self._spans[id(delivery)] = span
            span.set_attributes(tracing.messaging(names.FORWARD, destination, ref.partition))
            span.set_attributes(instance(ref.workflow, ref.key))
            span.set_attribute(names.MESSAGE_ID, envelope.id)
            span.set_attributes(tracing.payload(envelope.payload))
        return encode_envelope(replace(envelope, trace=text_of(span.get_span_context())))

    def settle(self, batch: DoorBatch) -> None:
        """Acknowledge what was sent on, and keep back what waits."""
        try:
            super().settle(batch)
        finally:
            self._end(batch)

    @harmless
    def _end(self, batch: DoorBatch) -> None:
        done = {id(delivery) for delivery in batch.done}
        for name in [id(delivery) for delivery in batch.deliveries]:
            span = self._spans.pop(name, None)
            if span is not None and name in done:
                span.end()
