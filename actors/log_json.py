"""Log lines as JSON: one object on a line, in ASCII, so that nothing in it can end the line or move a cursor."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from holdfast.actors.logs import facts_of
from holdfast.runtime.redaction import redact

#: What every line has; a fact of one of these names gets an underscore behind it.
_OWN = ("time", "level", "logger", "message", "pid", "thread", "exception", "stack")


class JsonFormatter(logging.Formatter):
    """Writes each record as one JSON object."""

    def __init__(self, urls: Sequence[str] = ()) -> None:
        super().__init__()
        self._urls = tuple(urls)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._plain(record.getMessage()),
            "pid": record.process,
            "thread": record.threadName,
        }
        for name, value in facts_of(record).items():
            line[f"{name}_" if name in _OWN else name] = self._plain(value)
        if record.exc_info:
            line["exception"] = self._plain(self.formatException(record.exc_info))
        elif record.exc_text:
            line["exception"] = self._plain(record.exc_text)
        if record.stack_info:
            line["stack"] = self._plain(self.formatStack(record.stack_info))
        return json.dumps(line, ensure_ascii=True)

    def _plain(self, value: Any) -> Any:
        """Return a value as JSON has it, without secrets."""
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, list | tuple):
            return [self._plain(one) for one in value]
        return redact(str(value), *self._urls)
