"""Exporters: where metrics go, as the OTEL_* variables of OpenTelemetry say. Nothing of it is loaded unless one is named.

    OTEL_METRICS_EXPORTER   otlp, prometheus, console or none, several with commas; what else is installed goes by its name
    OTEL_EXPORTER_OTLP_*    an endpoint alone means otlp
    OTEL_SDK_DISABLED       true for no telemetry at all

An app that has set a MeterProvider of its own when it was loaded keeps it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from inspect import signature
from typing import Any

from opentelemetry import metrics

from holdfast.actors.otel import endpoint_problem, resource
from holdfast.actors.telemetry.endpoint import Page
from holdfast.runtime.errors import SetupError

log = logging.getLogger(__name__)

#: How long what was not exported may hold up the end of a worker.
FLUSH_S = 3.0
#: OpenTelemetry's own, where OTEL_METRICS_EXPORTER names prometheus and nobody names a port.
PROMETHEUS_PORT = 9464
PORT_MAX = 65_535

_GROUP = "opentelemetry_metrics_exporter"
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_INSTALLS = {
    "otlp_proto_http": "pip install 'holdfast[otlp]'",
    "otlp_proto_grpc": "pip install opentelemetry-exporter-otlp-proto-grpc",
    "prometheus": "pip install 'holdfast[prometheus]'",
}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


@dataclass(frozen=True, slots=True)
class Exporting:
    """Where metrics go."""

    provider: Any
    #: What /metrics says; None where Prometheus is not among the exporters.
    page: Page | None
    #: Whether the provider is ours to end.
    ours: bool = True

    def close(self) -> None:
        """Export what was not, if that takes no longer than FLUSH_S."""
        if not self.ours:
            return

        def flush() -> None:
            try:
                self.provider.shutdown(timeout_millis=FLUSH_S * 1000)
            except Exception as error:  # noqa: BLE001 - nobody can do anything about it now
                log.warning("the last metrics were not exported", extra={"error": repr(error)})

        thread = threading.Thread(target=flush, name="holdfast-flush", daemon=True)
        thread.start()
        thread.join(FLUSH_S)


def named(environment: Mapping[str, str], *, port: bool) -> list[str]:
    """Return the exporters that are asked for; a port for metrics alone means Prometheus."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    said = environment.get("OTEL_METRICS_EXPORTER", "")
    names = [name.strip() for name in said.split(",") if name.strip()]
    if not names:
        names = ["otlp"] if any(environment.get(name) for name in _ENDPOINTS) else []
        names += ["prometheus"] if port else []
    return [name for name in dict.fromkeys(names) if name != "none"]


def wants_port(environment: Mapping[str, str]) -> tuple[str, int] | None:
    """Return where OpenTelemetry's own variables want metrics to be served, if they do."""
    if "prometheus" not in named(environment, port=False):
        return None
    said = environment.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip()
    port = int(said) if said.isdecimal() and said.isascii() and int(said) <= PORT_MAX else 0
    if said and not port:
        facts = {"said": said, "port": PROMETHEUS_PORT}
        log.warning("OTEL_EXPORTER_PROMETHEUS_PORT is no port; another one is used", extra=facts)
    port = port or PROMETHEUS_PORT
    return environment.get("OTEL_EXPORTER_PROMETHEUS_HOST", "") or "127.0.0.1", port


def open_exporters(environment: Mapping[str, str], *, port: bool) -> Exporting | None:
    """Return where metrics go, or None where nobody wants any. What cannot be used is said and left out."""
    from opentelemetry.metrics import NoOpMeterProvider

    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    names = named(environment, port=port)
    if not names:
        given = metrics.get_meter_provider()
        foreign = type(given).__name__ != "_ProxyMeterProvider" and not isinstance(given, NoOpMeterProvider)
        return Exporting(given, None, ours=False) if foreign else None
    readers: list[Any] = []
    page: Page | None = None
    for name in names:
        try:
            if name == "prometheus":
                reader, page = _prometheus()
            else:
                reader = _periodic(name, environment)
        except Exception as error:  # noqa: BLE001 - a worker without metrics is better than none
            _left_out(name, error)
        else:
            readers.append(reader)
    if not readers:
        return None
    try:
        return _provider(readers, page)
    except Exception as error:  # noqa: BLE001 - as above
        _left_out(",".join(names), error)
        return None


def _left_out(name: str, error: Exception) -> None:
    missing = isinstance(error, _Missing | ImportError)
    install = error.install if isinstance(error, _Missing) else _INSTALLS.get(name, "install what it needs")
    what = str(error) if isinstance(error, _Missing | SetupError) else f"{type(error).__name__}: {error}"
    facts = {"exporter": name, "error": what, "do": install if missing else "correct the OTEL_* variables"}
    log.warning("metrics cannot be exported", extra=facts)


def _provider(readers: list[Any], page: Page | None) -> Exporting:
    from opentelemetry.sdk.metrics import MeterProvider

    provider = MeterProvider(readers, resource=resource(), shutdown_on_exit=False)
    given = metrics.get_meter_provider()
    if type(given).__name__ == "_ProxyMeterProvider":
        metrics.set_meter_provider(provider)  # so the app's own metrics go the same way
    return Exporting(provider, page)


def _prometheus() -> tuple[Any, Page]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import REGISTRY
    from prometheus_client.exposition import choose_encoder

    def page(accept: str) -> tuple[str, bytes]:
        encoder, kind = choose_encoder(accept)
        return kind, encoder(REGISTRY)

    # Labels of the scope say nothing here; older readers have none.
    known = signature(PrometheusMetricReader).parameters
    options: dict[str, Any] = {"scope_info_enabled": False} if "scope_info_enabled" in known else {}
    return PrometheusMetricReader(**options), page


def _periodic(name: str, environment: Mapping[str, str]) -> Any:
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    return PeriodicExportingMetricReader(_exporter(name, environment)())


def _exporter(name: str, environment: Mapping[str, str]) -> Callable[[], Any]:
    if name == "otlp":
        name = _otlp(environment)
    found = tuple(entry_points(group=_GROUP, name=name))
    if not found:
        raise _Missing(name)
    exporter: Callable[[], Any] = found[0].load()
    return exporter


def _otlp(environment: Mapping[str, str]) -> str:
    said = next((value for name in _PROTOCOLS if (value := environment.get(name, "").strip())), "")
    if said and said not in _OTLP:
        message = f"the OTLP protocol is {said!r}; it must be {' or '.join(_OTLP)}"
        raise SetupError(message)
    name = _OTLP[said or "http/protobuf"]
    if (
        not said
        and not entry_points(group=_GROUP, name=name)
        and entry_points(group=_GROUP, name=_OTLP["grpc"])
    ):
        name = _OTLP["grpc"]
    variable = next((one for one in _ENDPOINTS if environment.get(one)), "")
    problem = endpoint_problem(environment[variable]) if variable and name == _OTLP["http/protobuf"] else ""
    if problem:
        message = f"{variable} {problem}"
        raise SetupError(message)
    return name


class _Missing(Exception):
    """An exporter is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the exporter {name!r} is not installed")
        self.install = _INSTALLS.get(name, "install what provides it, or correct OTEL_METRICS_EXPORTER")
