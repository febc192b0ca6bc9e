"""
Stage: the shop in this process over ports in memory, and what it has traced.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from holdfast import App, Client, Settings, connect
from holdfast.actors.tracing import names
from holdfast.actors.tracing.lottery import Ids
from holdfast.actors.tracing.names import Kind
from tests.support.processes import eventually
from tests.tracing import shop

#: What users' code calls its spans.
USERS = {"thinking", "charging", "shipping", "packing", "booking", "writing", "outside"}


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def value(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def linked(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


class Stage:
    """
    A client with its worker, and the spans of both.
    """

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, id_generator=Ids(), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.client: Client = None  # type: ignore[assignment]  # set before anybody sees it

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def all(self, kind: Kind, **wanted: Any) -> list[ReadableSpan]:
        """
        Return the spans of a kind, with these attributes; a double underscore stands for a dot.
        """
        asked = {f"workflow.{name.replace('__', '.')}": wish for name, wish in wanted.items()}
        return [
            span
            for span in self.spans
            if span.name.split(" ")[0] == kind.operation
            and all(value(span, name) == wish for name, wish in asked.items())
        ]

    def one(self, kind: Kind, **wanted: Any) -> ReadableSpan:
        """
        Return the one span of a kind with these attributes, as soon as it is there.
        """
        eventually(lambda: bool(self.all(kind, **wanted)))
        (found,) = self.all(kind, **wanted)
        return found

    def parent(self, span: ReadableSpan) -> ReadableSpan:
        """
        Return the span that another is below of.
        """
        assert span.parent is not None
        (found,) = [one for one in self.spans if id_of(one) == span.parent.span_id]
        assert trace_of(found) == trace_of(span)
        return found

    def await_state(self, key: str, *seen: str) -> None:
        self.client.wait(shop.Order, key, until=lambda state: set(seen) <= set(state.seen))

    def await_quiet(self) -> None:
        """
        Wait until nothing more is traced for a while.
        """
        count = -1
        while count != len(self.spans):
            count = len(self.spans)
            time.sleep(0.4)

    def wholesome(self) -> None:
        """
        Check what holds for any spans: each was exported once, and what they are below of is there.
        """
        ids = [id_of(span) for span in self.spans]
        assert len(ids) == len(set(ids))
        for span in self.spans:
            if span.parent is not None:
                self.parent(span)


@contextmanager
def stage(app: App | None = None, sampler: Sampler | None = None, **settings: Any) -> Iterator[Stage]:
    """
    Have a client and a worker in this process.
    """
    it = Stage(sampler)
    shop.provider = it.provider
    own = Settings.of(redis_url="memory://", namespace=f"t{uuid.uuid4().hex[:8]}", partitions=4, **settings)
    try:
        with connect(app or shop.app, own, tracer_provider=it.provider) as it.client:
            # The walk over the logs, which is not traced, is over: what comes now is.
            eventually(lambda: all(one.percent == 100.0 for one in it.client.projections.list()))
            yield it
    finally:
        shop.provider = None


def kinds(spans: Sequence[ReadableSpan]) -> set[str]:
    return {span.name.split(" ")[0] for span in spans if span.name not in USERS}


ALL = {kind.operation for kind in names.SPANS}
