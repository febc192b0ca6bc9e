"""
A collector of our own: takes spans and metrics over OTLP/HTTP and keeps them.
"""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Received(NamedTuple):
    name: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    attributes: dict[str, str]
    #: Which process exported it.
    instance: str


class Metered(NamedTuple):
    """
    What one process has said last of one metric with one set of attributes.
    """

    service: str
    instance: str
    name: str
    attributes: tuple[tuple[str, str], ...]


class Collector(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Received] = []
        #: The last value of each counter and gauge, and of each histogram how often and how much in all.
        self.metrics: dict[Metered, float | tuple[int, float]] = {}
        self.units: dict[str, str] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer: Any
        if self.path == "/v1/metrics":
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))
            answer = ExportMetricsServiceResponse()
        else:
            assert self.path == "/v1/traces"
            self._take_spans(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.SerializeToString())

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        assert isinstance(self.server, Collector)
        for resource in request.resource_metrics:
            facts = _texts(resource.resource.attributes)
            own = (facts.get("service.name", ""), facts.get("service.instance.id", ""))
            # An export says everything that the process has to say now: a gauge that is not in it has no value any more.
            said = {name: value for name, value in self.server.metrics.items() if name[:2] != own}
            for metric in (one for scope in resource.scope_metrics for one in scope.metrics):
                self.server.units[metric.name] = metric.unit
                kind = str(metric.WhichOneof("data"))
                for point in getattr(metric, kind).data_points:
                    name = Metered(*own, metric.name, tuple(sorted(_texts(point.attributes).items())))
                    said[name] = (
                        (point.count, point.sum)
                        if kind == "histogram"
                        else float(getattr(point, str(point.WhichOneof("value"))))
                    )
            self.server.metrics = said

    def _take_spans(self, request: ExportTraceServiceRequest) -> None:
        assert isinstance(self.server, Collector)
        for resource in request.resource_spans:
            facts = _texts(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.server.spans += [
                    Received(
                        span.name,
                        facts.get("service.name", ""),
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        tuple(link.span_id.hex() for link in span.links),
                        _texts(span.attributes),
                        facts.get("service.instance.id", ""),
                    )
                    for span in scope.spans
                ]

    def log_message(self, *_: object) -> None:
        """
        Say nothing.
        """


def _texts(attributes: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """
    Have a collector listen.
    """
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
