"""Setup: the exporters of a worker process, as the standard OTEL_* variables ask for them.

    OTEL_TRACES_EXPORTER            otlp, console, none or what else is installed, with commas between them
    OTEL_EXPORTER_OTLP_ENDPOINT     alone it asks for otlp; so does OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
    OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*, ...   read by OpenTelemetry itself

Where the app has set up a provider of its own, that is used and nothing is read here. Client processes are the user's:
nothing is set up in them.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import trace

from holdfast.actors.otel import endpoint_problem, resource
from holdfast.actors.tracing.tracing import harmless
from holdfast.runtime.clock import monotonic
from holdfast.runtime.errors import SetupError

log = logging.getLogger(__name__)

#: How long a worker that stops waits until what it has traced is exported. What is not by then is lost.
FLUSH_S = 3.0

_GROUP = "opentelemetry_traces_exporter"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class Exporting:
    """What exports the spans of this process."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        # A collector that does not answer holds up the exporter, and nobody else.
        self._thread = threading.Thread(target=self._shutdown, name="holdfast-spans", daemon=True)
        self._until = 0.0

    def begin_close(self) -> None:
        """Begin to export what is left; what is ended from now on is not."""
        self._until = monotonic() + FLUSH_S
        self._thread.start()

    def close(self) -> None:
        """Wait until that is done, within a bounded time of its beginning."""
        self._thread.join(max(0.0, self._until - monotonic()))
        if self._thread.is_alive():
            log.warning("the last spans were not exported: the collector does not answer")

    @harmless
    def _shutdown(self) -> None:
        self._provider.shutdown()


def asked_for(environment: Mapping[str, str]) -> list[str]:
    """Return the exporters that the environment asks for.

    Raises:
        SetupError: A protocol or an endpoint is none.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    usual = "otlp" if any(environment.get(name) for name in _ENDPOINTS) else "none"
    wanted = environment.get("OTEL_TRACES_EXPORTER", "").strip() or usual
    found = [name.strip() for name in wanted.split(",")]
    return [_otlp(environment) if name == "otlp" else name for name in found if name not in ("", "none")]


def _otlp(environment: Mapping[str, str]) -> str:
    protocol = next(
        (value for name in _PROTOCOLS if (value := environment.get(name, "").strip())), "http/protobuf"
    )
    if protocol not in _OTLP:
        message = f"{_PROTOCOLS[1]} is {protocol!r}; it must be {' or '.join(_OTLP)}"
        raise SetupError(message)
    name = next((name for name in _ENDPOINTS if environment.get(name)), "")
    problem = endpoint_problem(environment[name]) if name and protocol == "http/protobuf" else ""
    if problem:
        message = f"{name} {problem}"
        raise SetupError(message)
    return _OTLP[protocol]


def set_up(environment: Mapping[str, str] | None = None) -> Exporting | None:
    """Set up the global provider of this process; None where no exporter is asked for, or the app has a provider.

    Raises:
        SetupError: An exporter is not installed, or cannot be made.
    """
    wanted = asked_for(os.environ if environment is None else environment)
    if not wanted or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    exporters = [_exporter(name) for name in wanted]
    try:
        provider = _provider(exporters)
    except Exception as error:
        # Some values are read by OpenTelemetry when it is imported, others when something is made of them.
        message = f"an OTEL_* variable is wrong: {type(error).__name__}: {error}; correct it, or leave it out"
        raise SetupError(message) from error
    trace.set_tracer_provider(provider)
    return Exporting(provider)


def _provider(exporters: list[Any]) -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from holdfast.actors.tracing.lottery import Ids

    provider = TracerProvider(resource=resource(), id_generator=Ids(), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter(name: str) -> Any:
    found = next(iter(entry_points(group=_GROUP, name=name)), None)
    if found is None:
        what = {
            "otlp_proto_http": "holdfast[otlp]",
            "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
        }
        hint = f"pip install '{what[name]}'" if name in what else "is its package installed?"
        message = f"the environment asks for the trace exporter {name!r}, which is not there: {hint}"
        raise SetupError(message)
    try:
        return found.load()()
    except Exception as error:
        message = f"the trace exporter {name!r} cannot be made: {type(error).__name__}: {error}"
        raise SetupError(message) from error
