"""Log lines in colour, for a person at a terminal: the level by how bad it is, the facts more quietly."""

from __future__ import annotations

import logging

from rich.color import ColorSystem
from rich.style import Style

from holdfast.actors.logs import FieldFormatter

_LEVELS = {
    logging.DEBUG: Style(dim=True),
    logging.INFO: Style(color="green"),
    logging.WARNING: Style(color="yellow"),
    logging.ERROR: Style(color="red", bold=True),
    logging.CRITICAL: Style(color="white", bgcolor="red", bold=True),
}
_FACTS = Style(color="cyan")
_PLAIN = Style()


class ColourFormatter(FieldFormatter):
    """Colours what `FieldFormatter` has escaped: the only escapes in a line are ours."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and those of a traceback below it."""
        first, newline, rest = super().format(record).partition("\n")
        level = f"{record.levelname:<7}"
        before, found, after = first.partition(level)
        sentence, gap, facts = after.rpartition("  ")
        if not gap or "=" not in facts:
            sentence, gap, facts = after, "", ""
        style = _LEVELS.get(record.levelno, _PLAIN)
        return f"{before}{_in(style, found)}{sentence}{gap}{_in(_FACTS, facts)}{newline}{rest}"


def _in(style: Style, text: str) -> str:
    return style.render(text, color_system=ColorSystem.STANDARD) if text else ""
