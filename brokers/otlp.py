"""OTLP: sends spans that were made elsewhere to a collector, over HTTP."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from holdfast.runtime import trace_names as names
from holdfast.runtime.errors import SetupError, Unavailable, UsageError
from holdfast.runtime.redaction import hide_password, redact
from holdfast.runtime.trace_spans import Span

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import ReadableSpan

#: Spans of one request.
SPANS_PER_REQUEST = 512
#: How long a collector may take.
TIMEOUT_S = 10.0
#: Where collectors listen unless told otherwise, and the path that traces have there.
DEFAULT_URL = "http://localhost:4318"
TRACES_PATH = "/v1/traces"

#: What the library's long warnings have that a person can act on.
_REASON = re.compile(
    r"Connection refused|No route to host|Network is unreachable|Name or service not known|"
    r"Temporary failure in name resolution|Connection reset by peer|timed out|code: .*",
)

_LIBRARY = "opentelemetry.exporter.otlp.proto.http"


def traces_url(url: str) -> str:
    """Return where traces are sent for what somebody named; for nothing, where OTEL_EXPORTER_OTLP_* say.

    Raises:
        UsageError: It is no HTTP address.
    """
    named = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "") if not url else ""
    base = named or url or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") or DEFAULT_URL
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        message = (
            f"{hide_password(base)!r} is no address of a collector; write {DEFAULT_URL} (OTLP over HTTP)"
        )
        raise UsageError(message)
    if named:
        return named
    if url and parts.path not in ("", "/"):
        return url
    return base.rstrip("/") + TRACES_PATH


def send_spans(spans: Sequence[Span], url: str = "") -> str:
    """Send spans to a collector, and return where that was.

    Raises:
        UsageError: The address is none.
        SetupError: The exporter is not installed.
        Unavailable: The collector does not answer, or refuses.
    """
    address = traces_url(url)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        message = (
            "sending traces takes the package opentelemetry-exporter-otlp-proto-http: "
            "pip install 'holdfast[otlp]'"
        )
        raise SetupError(message) from error
    except Exception as error:
        raise _wrong_setup(error) from error
    with _listening() as said:
        try:
            exporter = OTLPSpanExporter(endpoint=address, timeout=TIMEOUT_S)
        except Exception as error:
            raise _wrong_setup(error) from error
        try:
            for at in range(0, len(spans), SPANS_PER_REQUEST):
                _send(exporter, spans[at : at + SPANS_PER_REQUEST], address, said)
        finally:
            exporter.shutdown()  # type: ignore[no-untyped-call]
    return address


def _wrong_setup(error: Exception) -> SetupError:
    """Return what to say where OpenTelemetry does not take a value, be it when it is imported."""
    message = f"an OTEL_* variable is wrong: {type(error).__name__}: {error}; correct it, or leave it out"
    return SetupError(message)


def _send(exporter: OTLPSpanExporter, spans: Sequence[Span], address: str, said: list[str]) -> None:
    from opentelemetry.sdk.trace.export import SpanExportResult

    why = ""
    try:
        if exporter.export([_readable(span) for span in spans]) is SpanExportResult.SUCCESS:
            return
    except Exception as error:  # noqa: BLE001 - whatever the library's HTTP client raises, it says why
        why = str(error)
    why = " ".join((why or _cause(said)).split())
    message = (
        f"the collector at {hide_password(address)} did not take the trace: {why}; "
        f"is one running there that takes OTLP over HTTP, as on port {urlsplit(DEFAULT_URL).port}?"
    )
    raise Unavailable(redact(message, address))


def _cause(said: Sequence[str]) -> str:
    """Return why, as far as the library said: its last words are about retries, those before about what was wrong."""
    found = [match[0] for line in said for match in [_REASON.search(line)] if match is not None]
    if found:
        return found[-1]
    return (
        "it does not answer" if said and "timeout" in said[-1] else (said or ["it refused"])[-1].rstrip(".")
    )


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Hear what the library logs, instead of having it printed: that is the only place where it says why."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log, ear = logging.getLogger(_LIBRARY), Ear(logging.WARNING)
    before = log.propagate
    log.addHandler(ear)
    log.propagate = False
    try:
        yield said
    finally:
        log.removeHandler(ear)
        log.propagate = before


def _readable(span: Span) -> ReadableSpan:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    parent = None if span.parent_id is None else _context(span.trace_id, span.parent_id)
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id),
        parent=parent,
        resource=Resource.create(
            {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": names.SERVICE}
        ),
        attributes=span.attributes,
        links=() if span.link is None else (Link(_context(*span.link)),),
        kind=SpanKind.INTERNAL,
        instrumentation_scope=InstrumentationScope(names.SCOPE),
        status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=span.start_ns,
        end_time=span.end_ns,
    )


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
