"""Log lines: a constant sentence, then its facts, as name=value for people and as JSON for programs.

Every line says for which instance and command it was written, and in which trace, where that is known: also a line of
user code. Secrets of the servers' URLs are taken out, whoever wrote them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace

from holdfast.actors.tracing.context import NOBODYS
from holdfast.runtime.bearings import bearings
from holdfast.runtime.config import LogFormat, Settings
from holdfast.runtime.printable import printable, printable_lines
from holdfast.runtime.redaction import redact

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
#: Under which a line's bearings are kept, from when it was written to when it is formatted.
_BEARINGS = "holdfast_bearings"


def bear_record(record: logging.LogRecord) -> bool:
    """Note on a line for which instance, command and trace it was written. Has the form of a logging filter."""
    if not hasattr(record, _BEARINGS):
        facts: dict[str, Any] = bearings()
        span = trace.get_current_span().get_span_context()
        if span.is_valid and span.trace_id != NOBODYS:
            facts |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        setattr(record, _BEARINGS, facts)
    return True


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the facts of a line: its own, and behind them its bearings, where it does not say otherwise itself."""
    bear_record(record)
    facts = {name: value for name, value in vars(record).items() if name not in _STANDARD | {_BEARINGS}}
    return facts | {name: value for name, value in getattr(record, _BEARINGS).items() if name not in facts}


class FieldFormatter(logging.Formatter):
    """Formats a record with the facts that were given as `extra`; what it holds is escaped as on the command line."""

    def __init__(self, urls: Sequence[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s")
        self._urls = tuple(urls)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and those of a traceback below it."""
        return printable_lines(redact(super().format(record), *self._urls))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line."""
        line = super().formatMessage(record)
        facts = self.fields(record)
        return printable(f"{line}  {facts}" if facts else line)

    def fields(self, record: logging.LogRecord) -> str:
        """Return the facts as name=value."""
        return " ".join(f"{name}={value}" for name, value in facts_of(record).items())


def use_fields(wanted: LogFormat = LogFormat.TEXT, terminal: bool = False, urls: Sequence[str] = ()) -> None:
    """Have every handler of the root logger show facts.

    Args:
        wanted: In which form.
        terminal: Whether a person reads it at a terminal.
        urls: Whose secrets are taken out.
    """
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter(wanted, urls, terminal=terminal))
        # On the thread that writes the line: a handler may format it on another.
        handler.removeFilter(bear_record)
        handler.addFilter(bear_record)


def formatter(wanted: LogFormat, urls: Sequence[str] = (), *, terminal: bool) -> logging.Formatter:
    """Return what writes lines in a form."""
    from holdfast.actors.log_colour import ColourFormatter
    from holdfast.actors.log_json import JsonFormatter

    if wanted is LogFormat.JSON or (wanted is LogFormat.AUTO and not terminal):
        return JsonFormatter(urls)
    # See no-color.org: the variable counts if it is there and not empty.
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return ColourFormatter(urls) if colour else FieldFormatter(urls)


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Return the URLs whose secrets must not be told."""
    return tuple(url for url in (settings.amqp_url, *settings.redis_seeds) if url)


def asked_for(environment: Mapping[str, str]) -> tuple[LogFormat, bool]:
    """Return the form that the environment asks for, and whether standard error is a terminal.

    For those who write lines before the settings are read; what is wrong in the variable these will say.
    """
    text = environment.get("HOLDFAST_LOG_FORMAT")
    return LogFormat(text) if text in tuple(LogFormat) else LogFormat.AUTO, os.isatty(2)
