"""Reads what a rival's workers mark: each item applied, or each step of it, with the time on the machine's one clock."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

#: As in drivers/post.py, which must do without this package.
_MARK = struct.Struct("<dII")
_LOOK_S = 0.005
LAST_STEP = 3


class Mark(NamedTuple):
    """A step of an item that was done."""

    at: float
    number: int
    step: int


class Tally:
    """A file of marks. It is looked at from outside, so counting costs the rival nothing but a short write a mark."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def clear(self) -> None:
        """Begin anew; the writers append to the same file."""
        with self.path.open("r+b") as file:
            file.truncate()

    def count(self) -> int:
        """Return how many marks there are."""
        return self.path.stat().st_size // _MARK.size

    def marks(self) -> list[Mark]:
        """Return all marks, in the order of their writing."""
        whole = self.path.read_bytes()[: self.count() * _MARK.size]
        return [Mark(*fields) for fields in _MARK.iter_unpack(whole)]

    def await_count(
        self, count: int, seconds_max: float = 300.0, alive: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until there are so many marks; `alive` raises if there is nothing to wait for."""
        until = time.monotonic() + seconds_max
        while self.count() < count:
            alive()
            if time.monotonic() > until:
                raise TimeoutError(f"only {self.count()} of {count} were done in {seconds_max} s")
            time.sleep(_LOOK_S)

    def await_completed(self, count: int, seconds_max: float) -> None:
        """Wait until so many different items have done their last step, or until the time is over."""
        until = time.monotonic() + seconds_max
        while time.monotonic() < until:
            if (
                self.count() >= count
                and len({mark.number for mark in self.marks() if mark.step == LAST_STEP}) >= count
            ):
                return
            time.sleep(_LOOK_S * 4)
