"""What commands say beside their results, on standard error. Workers say something too, and need no more to start."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.runtime.printable import printable

log = logging.getLogger(__name__)

#: Not empty while everything that is said must be a log line.
_lines: list[None] = []


def note(sentence: str) -> None:
    """Say something that is not the result, on standard error; as a log line where those are JSON."""
    if _lines:
        log.info(sentence)
        return
    print(f"holdfast: {printable(sentence)}", file=sys.stderr, flush=True)


@contextmanager
def in_lines() -> Iterator[None]:
    """Have everything that is said be a log line: a program reads it."""
    level = log.level
    log.setLevel(logging.INFO)
    _lines.append(None)
    try:
        yield
    finally:
        _lines.pop()
        log.setLevel(level)
