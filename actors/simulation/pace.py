"""The pace of a simulated process: its waiting, its threads and its event loops go by the scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.actors.pace import Pace, Thread
from holdfast.actors.simulation.strands import Crash, Host, Scheduler, Strand

#: When simulations begin.
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class SimulatedClock:
    """A wall clock that may be wrong, and a monotonic one that is not.

    The wall clock leaps over stretches of time in which nothing happens. The other one does not know of them: nobody
    has to be kept alive meanwhile.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        #: How far the wall clock has leapt.
        self.leapt_s = 0.0

    def now(self) -> datetime:
        """Return the time."""
        return BEGINNING + timedelta(seconds=self._scheduler.now + self.leapt_s)

    def monotonic(self) -> float:
        """Return the seconds since the simulation began, without those that were leapt over."""
        # Some code takes 0 for never.
        return self._scheduler.now + 1.0


class SkewedClock:
    """The clock of a machine that is wrong by so much."""

    def __init__(self, clock: SimulatedClock, skew_s: float) -> None:
        self._clock = clock
        self._skew = timedelta(seconds=skew_s)

    def now(self) -> datetime:
        """Return the time, as far as this machine knows."""
        return self._clock.now() + self._skew

    def monotonic(self) -> float:
        """Return the seconds."""
        return self._clock.monotonic()


class SimulatedEvent(threading.Event):
    """An event that strands wait for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._set = False
        self._awaited: list[Strand] = []

    def is_set(self) -> bool:
        """Return whether it was set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake whoever waits."""
        self._set = True
        for strand in self._awaited:
            self._scheduler.wake(strand)

    def clear(self) -> None:
        """Have it be waited for again."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for so long."""
        if not self._set:
            here = self._scheduler.current
            self._awaited.append(here)
            try:
                self._scheduler.wait(timeout)
            finally:
                self._awaited.remove(here)
        return self._set


class SimulatedThread:
    """A strand that is begun like a thread."""

    def __init__(
        self, scheduler: Scheduler, host: Host | None, target: Callable[[], None], name: str
    ) -> None:
        self._scheduler = scheduler
        self._host = host
        self._target = target
        self._name = name
        self._strand: Strand | None = None

    @property
    def ident(self) -> int | None:
        """Its number, once it was started."""
        return None if self._strand is None else self._strand.ident

    def start(self) -> None:
        """Begin."""
        self._strand = self._scheduler.spawn(self._target, self._name, self._host)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        if self._strand is not None:
            self._scheduler.join(self._strand, timeout)


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop that waits for nothing but time."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._news = SimulatedEvent(scheduler)
        # What asyncio asks whether anything has come in.
        self._selector = self

    def time(self) -> float:
        """Return the seconds of the simulation."""
        return self._scheduler.now

    def select(self, timeout: float | None) -> list[Any]:
        """Let time pass until something is to be done."""
        if timeout is None or timeout > 0:
            self._news.wait(timeout)
        self._news.clear()
        return []

    def _process_events(self, _events: list[Any]) -> None:
        pass

    def close(self) -> None:
        """End what still runs here and now, rather than whenever it is found to be garbage."""
        for task in asyncio.all_tasks(self):
            coroutine: Any = task.get_coro()
            with contextlib.suppress(BaseException):
                coroutine.close()
        super().close()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Say nothing of what died with its process."""
        if not self.is_closed() and not isinstance(context.get("exception"), Crash):
            super().call_exception_handler(context)

    def _write_to_self(self) -> None:
        self._news.set()


class SimulatedFuture(Future[None]):
    """A future whose result strands wait for."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._arrived = SimulatedEvent(scheduler)
        self.add_done_callback(lambda _future: self._arrived.set())

    def result(self, timeout: float | None = None) -> None:
        """Wait for the result."""
        self._arrived.wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end."""
        self._arrived.wait(timeout)
        return super().exception(0)


class SimulatedPace(Pace):
    """The pace of one simulated process."""

    def __init__(self, scheduler: Scheduler, clock: SimulatedClock | SkewedClock, host: Host | None) -> None:
        super().__init__(clock)
        self._scheduler = scheduler
        self._host = host

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._scheduler.wait(seconds)

    def event(self) -> threading.Event:
        """Return an event that strands wait for."""
        return SimulatedEvent(self._scheduler)

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        """Return a strand."""
        return SimulatedThread(self._scheduler, self._host, target, name)

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return an event loop whose time is the simulation's."""
        made = SimulatedLoop(self._scheduler)
        self._scheduler.loops.append(made)
        return made
