"""Tracing: what everything needs that makes spans. Where nobody wants any there is none of it, and None in its place."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import ParamSpec, TypeVar

import msgspec
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    Status,
    StatusCode,
    TracerProvider,
    get_tracer_provider,
)
from opentelemetry.util.types import AttributeValue

from holdfast.actors.tracing import names
from holdfast.actors.tracing.context import ROOT
from holdfast.actors.tracing.names import Kind
from holdfast.runtime.config import Settings
from holdfast.runtime.dead_letter import sentence_of, shortened, traceback_of
from holdfast.runtime.errors import message_of
from holdfast.runtime.redaction import redact

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: The most of a payload that a span carries.
PAYLOAD_CHARS_MAX = 4_096

_said = set[str]()


def harmless(call: Callable[P, R]) -> Callable[P, R | None]:
    """Have nothing that goes wrong with a span reach the work that it is about: then there is None, and a word in the log.

    What is given spans to sample, process or export is not ours, and may raise anything.
    """

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            kind = type(error).__name__
            if kind not in _said:
                _said.add(kind)
                log.warning(
                    "a span was lost; others like it are not told of", extra={"error": sentence_of(error)}
                )
            return None

    return run


def _version() -> str:
    try:
        return version("holdfast")
    except PackageNotFoundError:  # an uninstalled checkout
        return ""


class Tracing:
    """Starts and fails spans."""

    def __init__(self, settings: Settings, provider: TracerProvider) -> None:
        # Who has a provider has the SDK; who traces nothing need not import it.
        from holdfast.actors.tracing.lottery import lottery_of

        self.tracer = provider.get_tracer("holdfast", _version())
        self._lottery = lottery_of(provider)
        self.namespace = settings.namespace
        self.commands = f"{settings.namespace}.commands"
        self.system = str(settings.transport)
        self.database = "memory" if self.system == "memory" else "redis"
        #: Whether spans carry payloads. What is encrypted elsewhere is nowhere to be read.
        self.payloads = settings.trace_payloads and not settings.encrypted
        #: Whether they carry what errors say: with a payload in it, maybe.
        self.messages = not settings.encrypted

    def start(
        self,
        kind: Kind,
        destination: str,
        parent: Context = ROOT,
        links: Sequence[Link] = (),
        start_ns: int | None = None,
        *,
        kept: bool = False,
    ) -> Span:
        """Start a span; attributes are for those that turn out to be recorded.

        Args:
            kind, destination: What it is called after.
            parent: What it is below of.
            links: What it is about, or what was long before it.
            start_ns: When it began, if that was before.
            kept: Whether it begins a trace that is kept because that of its cause is: it is not drawn for again.
        """
        if kept and self._lottery is not None:
            self._lottery.win()
        return self.tracer.start_span(
            kind.name(destination), parent, kind.kind, links=links, start_time=start_ns
        )

    def keeps(self) -> bool:
        """Return whether a trace that begins now may be kept: then it is to be begun next, by this thread."""
        return self._lottery is None or self._lottery.draw()

    def messaging(
        self, kind: Kind, destination: str, partition: int | None = None
    ) -> dict[str, AttributeValue]:
        """Return what the messaging conventions want to be said."""
        found: dict[str, AttributeValue] = {
            names.SYSTEM: self.system,
            names.OPERATION: kind.operation,
            names.OPERATION_TYPE: kind.messaging,
            names.DESTINATION: destination,
        }
        if partition is not None:
            found[names.PARTITION] = str(partition)
        return found

    def payload(self, data: bytes) -> Mapping[str, AttributeValue]:
        """Return a payload as an attribute, where that is switched on."""
        if not self.payloads:
            return {}
        try:
            text = msgspec.json.encode(msgspec.msgpack.decode(data)).decode()
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
            return {}
        return {names.PAYLOAD: text[:PAYLOAD_CHARS_MAX]}

    def fail(self, span: Span, error: BaseException) -> None:
        """Say on a span what went wrong."""
        kind = type(error).__name__
        self.failed(span, kind, redact(message_of(error)), redact(traceback_of(error)))

    def failed(self, span: Span, kind: str, message: str, traceback: str = "") -> None:
        """Say on a span that an error of this type came up."""
        span.set_attribute(names.ERROR_TYPE, kind)
        facts = {names.EXCEPTION_TYPE: kind}
        if self.messages:
            message = shortened(message)
            facts[names.EXCEPTION_MESSAGE] = message
            if traceback:
                facts[names.EXCEPTION_TRACEBACK] = traceback
        span.add_event(names.EXCEPTION, facts)
        span.set_status(Status(StatusCode.ERROR, f"{kind}: {message}" if self.messages else kind))


def instance(workflow: str, key: str) -> dict[str, AttributeValue]:
    """Return the attributes by which all spans of an instance are found."""
    return {names.WORKFLOW: workflow, names.KEY: key, names.CONVERSATION_ID: f"{workflow}/{key}"}


def tracing_of(settings: Settings, provider: TracerProvider | None = None) -> Tracing | None:
    """Return what makes spans with a provider, or else with the global one; None where there is none."""
    found = provider or get_tracer_provider()
    if isinstance(found, ProxyTracerProvider | NoOpTracerProvider):
        return None
    return Tracing(settings, found)
