"""Log lines for people: a constant sentence, then its facts as name=value."""

import logging

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FieldFormatter(logging.Formatter):
    """Formats a record with the facts that were given as `extra`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line."""
        line = super().formatMessage(record)
        facts = " ".join(f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD)
        return f"{line}  {facts}" if facts else line


def use_fields() -> None:
    """Have every handler of the root logger show facts."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(FieldFormatter())
