"""What every driver and every rival's workers share: how they are asked, and how they report what was applied.

These files run in the rivals' own environments, by path. They know nothing of Holdfast and need nothing but the rival.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Callable

#: The time, the number of the item, and the step of it that is done.
MARK = struct.Struct("<dII")
STEPS = 3


class Tally:
    """The file that everything applied is marked in, by whichever process; one system call a mark, nothing waits for a disk."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def mark(self, number: int = 0, step: int = STEPS, at: float = 0.0) -> None:
        """Mark one step of one item; with O_APPEND, so short a write is never torn."""
        os.write(self._fd, MARK.pack(at or time.time(), number, step))


def tally() -> Tally:
    """Return the tally of this measurement."""
    return Tally(os.environ["RIVAL_TALLY"])


def timed(once: Callable[[int], object], count: int) -> dict[str, object]:
    """Do something so often, one after the other, and say how long each took."""
    times = []
    for number in range(count):
        began = time.perf_counter()
        once(number)
        times.append((time.perf_counter() - began) * 1000)
    return {"times_ms": times}


def sent(each: Callable[[int], object], count: int) -> dict[str, object]:
    """Submit so many, as fast as one thread can, and say when."""
    began = time.time()
    for number in range(count):
        each(number)
    return {"began": began, "ended": time.time()}


def serve(driver: object) -> None:
    """Do what each line of the input asks, until it ends: {"do": a method of the driver, with its arguments}."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            said = getattr(driver, asked.pop("do"))(**asked)
        except Exception as error:  # noqa: BLE001 - whoever asked is told, whatever it is
            said = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
