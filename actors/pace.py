"""Pace: what a process takes its time from, waits on and starts threads with.

Everything that a worker process does goes by the pace that it is given: in production the machine's clock and threads,
in a simulation a scheduler that decides who goes on, and when.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Protocol

from holdfast.runtime.clock import Clock, SystemClock


class Thread(Protocol):
    """Something that runs beside the others, as `threading.Thread` does."""

    @property
    def ident(self) -> int | None:
        """A number once it was started, and None before."""
        ...

    def start(self) -> None:
        """Begin."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        ...


class Pace:
    """The machine's own pace."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()

    def sleep(self, seconds: float) -> None:
        """Do nothing for so long."""
        time.sleep(seconds)

    def event(self) -> threading.Event:
        """Return something that one thread waits for and another one sets."""
        return threading.Event()

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        """Return a thread that was not started yet; it does not keep the process alive."""
        return threading.Thread(target=target, name=name, daemon=True)

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return an event loop for coroutines."""
        return asyncio.new_event_loop()


#: The pace of every process that is not simulated.
MACHINE = Pace()
