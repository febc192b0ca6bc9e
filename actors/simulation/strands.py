"""Strands: what a simulation has in place of threads. One at a time goes, and a scheduler says which.

A strand runs ordinary code until that waits. It is carried by a greenlet where that library is installed, else by a
thread that waits until it is its turn: the runs are the same, only slower.
"""

from __future__ import annotations

import asyncio
import heapq
import importlib
import itertools
import threading
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from holdfast.runtime.errors import Ending

#: What each turn of a strand takes: so time goes on however busy everybody is.
STEP_S = 0.00002
#: A run that takes more turns than this goes round in circles.
TURNS_MAX = 2_000_000

try:
    _greenlet: Any = importlib.import_module("greenlet")
except ImportError:
    _greenlet = None


class Crash(Ending):
    """The simulated process died here."""


class Host(Protocol):
    """What strands belong to: it dies, and it may stand still for a while, with all of them."""

    dead: bool
    stalled_until: float


class Strand:
    """One line of execution."""

    __slots__ = ("_run", "awaited", "carried", "done", "doomed", "host", "ident", "name", "ticket", "waiting")

    def __init__(self, run: Callable[[], None], name: str, host: Host | None, ident: int) -> None:
        self._run = run
        self.name = name
        self.host = host
        self.ident = ident
        #: Which of its waits it is in; what was to end an earlier one finds another number.
        self.ticket = 0
        self.waiting = False
        self.doomed = False
        self.done = False
        self.awaited: list[Strand] = []
        self.carried: Any = None

    def run(self) -> None:
        """Run to the end."""
        self._run()


class Carrier(Protocol):
    """Passes control from one strand to another."""

    def adopt(self, strand: Strand) -> None:
        """Have a strand stand for the code that calls."""
        ...

    def carry(self, strand: Strand, main: Callable[[Strand], Strand]) -> None:
        """Prepare a strand; `main` runs it and returns who goes on after its end."""
        ...

    def switch(self, here: Strand, there: Strand) -> None:
        """Go on there; return when somebody comes back here."""
        ...


class Greenlets:
    """Carries strands on greenlets."""

    def adopt(self, strand: Strand) -> None:
        """Have a strand stand for the code that calls."""
        self._root = strand.carried = _greenlet.getcurrent()

    def carry(self, strand: Strand, main: Callable[[Strand], Strand]) -> None:
        """Prepare a greenlet."""

        def run(_result: object = None) -> None:
            # A greenlet that ends goes on in its parent, with what it returned.
            there = main(strand).carried
            if there is not self._root:
                strand.carried.parent = there

        strand.carried = _greenlet.greenlet(run, self._root)

    def switch(self, _here: Strand, there: Strand) -> None:
        """Go on there."""
        there.carried.switch()


class Threads:
    """Carries strands on threads that wait for their turn."""

    def adopt(self, strand: Strand) -> None:
        """Have a strand stand for the code that calls."""
        strand.carried = _Baton()

    def carry(self, strand: Strand, main: Callable[[Strand], Strand]) -> None:
        """Prepare a thread."""
        baton = strand.carried = _Baton()

        def run() -> None:
            baton.lock.acquire()
            main(strand).carried.pass_on()

        baton.thread = threading.Thread(target=run, name=strand.name, daemon=True)

    def switch(self, here: Strand, there: Strand) -> None:
        """Go on there."""
        there.carried.pass_on()
        here.carried.lock.acquire()


class _Baton:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.thread: threading.Thread | None = None

    def pass_on(self) -> None:
        if self.thread is not None and self.thread.ident is None:
            self.thread.start()
        self.lock.release()


def carrier() -> Carrier:
    """Return the quickest carrier that there is."""
    return Greenlets() if _greenlet is not None else Threads()


class Scheduler:
    """Says who goes on, by chance, and what time it is."""

    def __init__(self, random: Random, carried_by: Carrier | None = None) -> None:
        self.now = 0.0
        self.turns = 0
        #: What went wrong; from then on the root alone goes on, until it ends everybody.
        self.failure: BaseException | None = None
        self.ending = False
        self._chance = random.random
        self._carrier = carried_by or carrier()
        self._numbers = itertools.count(1)
        self._ready: list[Strand] = []
        self._later: list[tuple[float, int, Strand | Callable[[], None], int]] = []
        self._alive: dict[int, Strand] = {}
        #: The event loops of the run, to be closed at its end.
        self.loops: list[asyncio.AbstractEventLoop] = []
        self.root = self.current = Strand(lambda: None, "root", None, 0)
        self._carrier.adopt(self.root)

    # -- strands

    def spawn(self, run: Callable[[], None], name: str, host: Host | None = None) -> Strand:
        """Begin another strand; it has its first turn when it comes to that."""
        strand = Strand(run, name, host, next(self._numbers))
        self._carrier.carry(strand, self._main)
        self._alive[strand.ident] = strand
        self._ready.append(strand)
        return strand

    def _main(self, strand: Strand) -> Strand:
        try:
            if not strand.doomed:
                strand.run()
        except Crash:
            pass
        except BaseException as error:  # noqa: BLE001 - it is told where the simulation ends
            self.fail(error)
        strand.done = True
        del self._alive[strand.ident]
        for waiting in strand.awaited:
            self.wake(waiting)
        self.current = self._pick()
        return self.current

    def fail(self, error: BaseException) -> None:
        """Have the root end the run because of an error; the first counts."""
        if self.failure is None:
            self.failure = error
        self.wake(self.root)

    def doom(self, host: Host) -> None:
        """Have all strands of a host die at their next turn, which comes at once."""
        for strand in list(self._alive.values()):
            if strand.host is host:
                strand.doomed = True
                self.wake(strand)

    def finish(self) -> None:
        """End all strands; to be called by the root."""
        self.ending = True
        for strand in list(self._alive.values()):
            strand.doomed = True
            self.wake(strand)
        for _ in range(1_000):
            if not self._alive:
                break
            for strand in list(self._alive.values()):
                self.wake(strand)
            self.pause()
        for loop in self.loops:
            if not loop.is_closed():
                loop.close()
        left = ", ".join(strand.name for strand in self._alive.values())
        if left:
            message = f"these would not end: {left}"
            raise RuntimeError(message)

    # -- time

    def call_at(self, at: float, what: Callable[[], None]) -> None:
        """Have something done at a time, between the turns of strands; it must not wait."""
        heapq.heappush(self._later, (at, next(self._numbers), what, 0))

    def wait(self, seconds: float | None = None) -> None:
        """Wait until somebody wakes us, or for so long."""
        here = self.current
        if here.doomed:
            raise Crash
        here.ticket += 1
        here.waiting = True
        if seconds is not None:
            heapq.heappush(self._later, (self.now + seconds, next(self._numbers), here, here.ticket))
        self._switch()

    def pause(self) -> None:
        """Let others go on, perhaps."""
        if self.current.doomed:
            raise Crash
        self._ready.append(self.current)
        self._switch()

    def join(self, strand: Strand, seconds: float | None = None) -> None:
        """Wait for a strand's end."""
        if not strand.done:
            strand.awaited.append(self.current)
            self.wait(seconds)

    def wake(self, strand: Strand) -> None:
        """Have a strand that waits go on."""
        if strand.waiting:
            strand.waiting = False
            self._ready.append(strand)

    def _switch(self) -> None:
        here = self.current
        there = self._pick()
        if there is not here:
            # The event loop that runs here does not run there; it may be the same thread.
            loop = asyncio._get_running_loop()
            if loop is not None:
                asyncio._set_running_loop(None)
            self.current = there
            self._carrier.switch(here, there)
            if loop is not None:
                asyncio._set_running_loop(loop)
        if here.doomed:
            raise Crash

    def _pick(self) -> Strand:
        self.turns += 1
        if self.turns > TURNS_MAX and self.failure is None:
            self.fail(RuntimeError("it goes round in circles"))
        ready, later = self._ready, self._later
        while True:
            if self.failure is not None and not self.ending and self.root in ready:
                ready.remove(self.root)
                return self.root
            while later and (later[0][0] <= self.now or not ready):
                at, _, what, ticket = heapq.heappop(later)
                self.now = max(self.now, at)
                if not isinstance(what, Strand):
                    what()
                elif what.waiting and what.ticket == ticket:
                    what.waiting = False
                    ready.append(what)
            index = int(self._chance() * len(ready)) if len(ready) > 1 else 0
            strand = ready[index]
            ready[index] = ready[-1]
            ready.pop()
            host = strand.host
            if host is not None and host.stalled_until > self.now and not host.dead and not self.ending:
                strand.ticket += 1
                strand.waiting = True
                heapq.heappush(later, (host.stalled_until, next(self._numbers), strand, strand.ticket))
                continue
            self.now += STEP_S
            return strand
