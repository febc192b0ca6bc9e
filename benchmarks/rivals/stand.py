"""One rival made ready to be measured, and the measurements themselves, the same for all of them."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ground import Ground, cpu_seconds, quantile
from benchmarks.rivals.crew import Crew
from benchmarks.rivals.driver import Driver
from benchmarks.rivals.rival import Row
from benchmarks.rivals.tally import LAST_STEP, Mark, Tally

#: One item at a time, on an idle system.
ALONE = 500
WARM_UP = 50
#: Timers are set so much sooner than they are due, and what setting each of them takes.
LEAD_S = 4.0
#: The workers are killed when so much is completed.
KILL_AT = 0.4
RECOVERY_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Stand:
    """A rival's client, its workers, its servers and what they have marked."""

    name: str
    guarantees: str
    driver: Driver
    crew: Callable[[], Crew]
    tally: Tally
    #: What the rival keeps its state in, and what carries its messages: their processor time is told apart.
    servers: Sequence[int]
    alone: int = ALONE
    #: To have a full queue, workers are frozen while it fills: a server that finds none would call them ever more seldom.
    frozen: bool = False
    #: What setting one timer may take, until it is where it waits.
    lead_each_s: float = 0.0015

    def row(self, what: str, figures: Row) -> Row:
        """Return a row."""
        return {"system": self.name, "what": what, **figures, "guarantees": self.guarantees}

    @contextmanager
    def meter(self, items: int) -> Iterator[Row]:
        """Measure the processor time of a stretch for each item; the row is filled in the end."""
        figures: Row = {}
        before = self._cpu()
        yield figures
        own, servers = (after - was for after, was in zip(self._cpu(), before, strict=True))
        figures["python_us"] = round(own / items * 1e6)
        figures["servers_us"] = round(servers / items * 1e6)

    def _cpu(self) -> tuple[float, float]:
        # Servers are our descendants too.
        servers = cpu_seconds(self.servers)
        return cpu_seconds([os.getpid()]) - servers, servers

    def transitions(self, commands: int, keys: int) -> list[Row]:
        """Measure increments."""
        with self.crew() as crew:
            self.driver.ask("increments_answered", count=WARM_UP)
            rows = [self._many("submitted and applied", "increments", commands, commands, crew, keys=keys)]
            times = self.driver.ask("increments_answered", count=self.alone)["times_ms"]
            rows.append(self.row("one alone, answered", _spread(times)))
        rows.append(self._queue_full(commands, keys))
        total = self.driver.ask("total")["total"]
        if total != 2 * commands:
            raise RuntimeError(f"{self.name}: the counters add up to {total} instead of {2 * commands}")
        return rows

    def _queue_full(self, commands: int, keys: int) -> Row:
        """Measure from the first item applied to the last, all of them submitted before."""
        self.tally.clear()
        if not self.frozen:
            self.driver.ask("increments", count=commands, keys=keys)
        with self.crew() as crew:
            if self.frozen:
                self.driver.ask("increments_answered", count=WARM_UP)
                self.tally.clear()
                crew.pause()
                self.driver.ask("increments", count=commands, keys=keys)
                crew.cont()
            self.tally.await_count(1, alive=crew.check)
            with self.meter(commands) as figures:
                self.tally.await_count(commands, alive=crew.check)
            ats = sorted(mark.at for mark in self.tally.marks())
        figures["per_second"] = round((commands - 1) / (ats[-1] - ats[0]))
        return self.row("queue full", figures)

    def _many(self, what: str, do: str, count: int, marks: int, crew: Crew, **arguments: object) -> Row:
        """Measure from the first submission to the last mark."""
        self.tally.clear()
        with self.meter(count) as figures:
            began = self.driver.ask(do, count=count, **arguments)["began"]
            self.tally.await_count(marks, alive=crew.check)
        last = max(mark.at for mark in self.tally.marks())
        figures["per_second"] = round(count / (last - began))
        return self.row(what, figures)

    def processes(self, count: int) -> list[Row]:
        """Measure processes of three steps."""
        with self.crew() as crew:
            self.driver.ask("processes_answered", count=WARM_UP)
            rows = [self._many("processes of 3 effects", "processes", count, count * LAST_STEP, crew)]
            times = self.driver.ask("processes_answered", count=self.alone)["times_ms"]
            rows.append(self.row("one process alone", _spread(times)))
        return rows

    def timers(self, count: int) -> list[Row]:
        """Measure timers that are due at one instant."""
        with self.crew() as crew:
            self.driver.ask("increments_answered", count=WARM_UP)
            self.tally.clear()
            due = time.time() + LEAD_S + count * self.lead_each_s
            set_before_s = due - self.driver.ask("timers", count=count, at=due)["ended"]
            self.tally.await_count(count, alive=crew.check)
        late = [(mark.at - due) * 1000 for mark in self.tally.marks()]
        figures = {"timers": count, "earliest_ms": round(min(late), 1), **_spread(late)}
        figures |= {"max_ms": round(max(late), 1), "set_before_s": round(set_before_s, 1)}
        return [self.row("timers at one instant", figures)]

    def recovery(self, count: int) -> list[Row]:
        """Kill the workers amid processes, and start others at once."""
        with self.crew() as crew:
            self.driver.ask("processes_answered", count=WARM_UP)
            self.tally.clear()
            self.driver.tell("processes", count=count)
            self.tally.await_count(int(count * LAST_STEP * KILL_AT), alive=crew.check)
            killed = crew.kill()
            crew.start()
            self.tally.await_completed(count, RECOVERY_S_MAX)
            self.driver.hear()
        return [self.row("processes after SIGKILL", carried_on(self.tally.marks(), killed, count))]


def carried_on(marks: Sequence[Mark], killed: float, count: int) -> Row:
    """Say what became of the processes that were begun and not completed when the workers were killed, and of all."""
    begun = {mark.number for mark in marks if mark.at <= killed}
    completed = {mark.number for mark in marks if mark.step == LAST_STEP}
    before = {mark.number for mark in marks if mark.step == LAST_STEP and mark.at <= killed}
    later = [mark for mark in marks if mark.at > killed]
    resumed = [mark.at for mark in later if mark.step == LAST_STEP and mark.number in begun - before]
    return {
        "in_flight": len(begun - before),
        "first_s": round(min((mark.at for mark in later), default=killed) - killed, 2),
        "carried_on_s": round(max(resumed, default=killed) - killed, 2),
        "all_done_s": round(max((mark.at for mark in later), default=killed) - killed, 2),
        "steps_twice": len(marks) - len({(mark.number, mark.step) for mark in marks}),
        "not_completed": count - len(completed),
    }


def _spread(times: Sequence[float]) -> Row:
    return {"p50_ms": round(quantile(times, 0.5), 2), "p99_ms": round(quantile(times, 0.99), 2)}


class Measured(ABC):
    """A rival that is measured at a stand; a subclass says how to open one, and what there is of it."""

    name: str

    @abstractmethod
    def opened(self, where: Ground) -> AbstractContextManager[Stand]:
        """Make everything ready, and take it down in the end."""

    def transitions(self, where: Ground, commands: int, keys: int) -> list[Row]:
        """Measure keyed state transitions."""
        with self.opened(where) as stand:
            return stand.transitions(commands, keys)

    def processes(self, where: Ground, count: int) -> list[Row]:
        """Measure processes of three steps."""
        with self.opened(where) as stand:
            return stand.processes(count)

    def timers(self, where: Ground, count: int) -> list[Row]:
        """Measure timers due at one instant."""
        with self.opened(where) as stand:
            return stand.timers(count)

    def recovery(self, where: Ground, count: int) -> list[Row]:
        """Kill the workers amid processes."""
        with self.opened(where) as stand:
            return stand.recovery(count)


def environment(folder: Path, prefix: str, where: Ground, **more: str) -> dict[str, str]:
    """Return what drivers and workers find in their environment."""
    ours = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return ours | {
        "RIVAL_TALLY": str(folder / "tally"),
        "RIVAL_PREFIX": prefix,
        "RIVAL_REDIS_URL": where.redis_url,
        "RIVAL_AMQP_URL": where.amqp_url,
        # Buffered output would be read late, and bytecode does not belong in the tree.
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }
