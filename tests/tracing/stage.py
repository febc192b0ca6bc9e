"""
Stage: the shop in this process over ports in memory, and what it has traced.
"""

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
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


#: For how many looks nothing may have happened before nothing is thought to go on.
QUIET_LOOKS = 20


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


class Watch(SpanProcessor):
    """
    Counts the spans that were begun, and those that ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begun = self.ended = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        with self._lock:
            self.begun += 1

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            self.ended += 1


class Stage:
    """
    A client with its worker, and the spans of both.
    """

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, id_generator=Ids(), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        # Behind the exporter: what it has seen end was exported.
        self._watch = Watch()
        self.provider.add_span_processor(self._watch)
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
        Return the span that another is below of, as soon as it is there: it may end after that.
        """
        above = span.parent
        assert above is not None
        eventually(lambda: any(id_of(one) == above.span_id for one in self.spans))
        (found,) = [one for one in self.spans if id_of(one) == above.span_id]
        assert trace_of(found) == trace_of(span)
        return found

    def await_state(self, key: str, *seen: str) -> None:
        self.client.wait(shop.Order, key, until=lambda state: set(seen) <= set(state.seen))

    def await_quiet(self) -> None:
        """
        Wait until nothing more is traced: no span is under way, all is applied, and so it stays for many looks. Looks are
        counted, not time, since all threads of this process may stand still for some seconds.
        """
        seen, looks = -1, 0

        def quiet() -> bool:
            nonlocal seen, looks
            before, seen = seen, self._watch.ended
            at_rest = self._watch.begun == seen == before and all(
                one.percent == 100.0 for one in self.client.projections.list()
            )
            looks = looks + 1 if at_rest else 0
            time.sleep(0.02)
            return looks >= QUIET_LOOKS

        eventually(quiet)

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
    # Who stands still for some seconds is not taken for dead, so nothing is done twice.
    calm = {"lease_ms": 60_000, "member_ttl_ms": 60_000}
    own = Settings.of(
        redis_url="memory://", namespace=f"t{uuid.uuid4().hex[:8]}", partitions=4, **calm, **settings
    )
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
