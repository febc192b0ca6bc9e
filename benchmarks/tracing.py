"""What do traces and metrics cost?

Run it as
    python -m benchmarks.tracing [--commands 60000] [--count 1000] [--runs 3] [--json]

Everything that is exported goes to a collector that keeps nothing. `off, again` is measured last in each run: how far it
is from `off` says what a difference is worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from benchmarks import counter, steps, throughput
from benchmarks.crew import crew, namespace
from benchmarks.ground import Ground, Row
from benchmarks.process import completed, many
from benchmarks.report import command
from benchmarks.rows import compared
from benchmarks.sink import Sink, sink
from benchmarks.tally import Tally
from benchmarks.throughput import Load
from holdfast import App, Client, connect

PROCESSES = "processes"
WARM_UP = 20


@dataclass(frozen=True)
class Options:
    """How much of it."""

    #: Enough for more than one export: the first has much to set up.
    commands: int = 60_000
    keys: int = 1_000
    #: Three-step processes that are begun at once.
    count: int = 1_000


@dataclass(frozen=True)
class Way:
    """How much is seen of the work."""

    name: str
    #: The share of commands whose trace is kept, and whether that is decided where they are sent or in the worker.
    share: float | None = None
    by_client: bool = False
    metrics: bool = False

    def environment(self, collector: Sink) -> dict[str, str]:
        """Return what workers find in their environment."""
        if self.share is None and not self.metrics:
            return {}
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_TRACES_EXPORTER": "none" if self.share is None else "otlp",
            "OTEL_METRICS_EXPORTER": "otlp" if self.metrics else "none",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(self.share or 0),
        }


WAYS = (
    Way("off"),
    Way("traced, 1%", 0.01),
    Way("traced by the client, 1%", 0.01, by_client=True),
    Way("traced, 100%", 1),
    Way("metrics", metrics=True),
    Way("off, again"),
)


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure each way once, for each load."""
    rows: list[Row] = []
    loads = [
        Load("queue full", options.commands, options.keys, full=True),
        Load("submitted and applied", options.commands, options.keys, full=False),
    ]
    with sink() as collector:
        for load in loads:
            rows += [_applied(where, way, load, collector) for way in WAYS]
        rows += [_processes(where, way, options.count, collector) for way in WAYS]
    return compared(rows, "off")


@contextmanager
def _client(where: Ground, way: Way, app: App, collector: Sink) -> Iterator[tuple[Ground, Client]]:
    """Return a client in a namespace of its own, and the ground for its workers."""
    environment: Mapping[str, str] = {**where.environment, **way.environment(collector)}
    seen = replace(where, environment=environment)
    with namespace(where, app) as plain:
        if not way.by_client:
            yield seen, plain
            return
        provider = TracerProvider(sampler=ParentBasedTraceIdRatio(way.share or 0))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
        with connect(app, plain.settings, tracer_provider=provider) as traced:
            yield seen, traced
        provider.shutdown()


def _applied(where: Ground, way: Way, load: Load, collector: Sink) -> Row:
    with (
        _client(where, way, counter.app, collector) as (seen, client),
        Tally(client.settings) as tally,
    ):
        return throughput.holdfast_over(seen, client, tally, load, way.name, collector=collector.pid)


def _processes(where: Ground, way: Way, number: int, collector: Sink) -> Row:
    names = (f"t-{index}" for index in count())
    with (
        _client(where, way, steps.app, collector) as (seen, client),
        crew(seen, client.settings, "benchmarks.steps:app", pools=("command", "effect")),
    ):
        for _ in range(WARM_UP):
            completed(client, next(names))
        return many(seen, client, way.name, names, number, collector=collector.pid)


main = command("tracing", __doc__, measure, Options)

if __name__ == "__main__":
    main()
