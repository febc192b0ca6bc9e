"""How soon is work carried on when its workers are killed, and is anything lost or decided twice?

Run it as
    python -m benchmarks.recovery [--rate 150] [--burst 200] [--runs 3] [--json]

Processes of three effects are begun at a steady rate, and a burst of them right before SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.crew import crew
from benchmarks.ground import ROOT, Ground, Row
from benchmarks.report import command
from benchmarks.stage import asking, await_served, await_that, fresh
from benchmarks.steps import STEPS, Begin, Process, app
from holdfast import Client, RunState, Settings, connect
from holdfast.actors.wiring import Ports
from holdfast.runtime.clock import to_ms
from holdfast.runtime.keys import partition_of

APP = "benchmarks.steps:app"
POOLS = ("command", "effect", "timer")
WARM_UP = 20
#: How long there is a steady load before the burst.
LEAD_S = 1.0
#: So much of the burst is done when the workers are killed: it meets them in the middle.
STRIKE_AT = 0.25
#: What was promised.
RESTARTED_MAX_S, TAKEN_OVER_MAX_S = 2.0, 15.0
END_S = 60.0

RESTARTED = "restarted at once"

#: Kills all workers that are to die, and returns when it did.
Strike = Callable[[], float]


@dataclass(slots=True)
class Load:
    """Begins processes, also at a steady rate from a thread of its own, and knows when each was confirmed."""

    client: Client
    rate: float
    sent: dict[str, float] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _failures: list[Exception] = field(default_factory=list)

    @contextmanager
    def going(self) -> Iterator[None]:
        """Send at the rate meanwhile."""
        thread = threading.Thread(target=self._run, name="load")
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _run(self) -> None:
        began, number = time.monotonic(), 0
        try:
            while not self._stopping.is_set():
                self.begin([f"s{number}"])
                number += 1
                time.sleep(max(0.0, began + number / self.rate - time.monotonic()))
        except Exception as error:  # noqa: BLE001 - raised again by `going`
            self._failures.append(error)

    def begin(self, keys: Sequence[str]) -> None:
        """Begin processes, and return when the broker has them."""
        self.client.send_many(Begin(key) for key in keys)
        self.sent.update(dict.fromkeys(keys, time.time()))


# -- those who are killed


def family(pid: int) -> list[int]:
    """Return a process and all its descendants, the eldest first: who would start another one anew goes before it."""
    found, look = list[int](), [pid]
    while look:
        one = look.pop(0)
        found.append(one)
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                look += [int(child) for child in (thread / "children").read_text(encoding="ascii").split()]
    return found


def kill(pids: Sequence[int]) -> float:
    """Kill processes with SIGKILL, and return when."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return time.time()


def _master(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])


@contextmanager
def foreign(settings: Settings, *, elsewhere: bool) -> Iterator[int]:
    """Run a worker that nobody starts again, and yield the process whose family it is.

    Args:
        settings: Where it serves.
        elsewhere: As if on another machine: in a process namespace of its own, so that others cannot see that it is
            dead, but only that it is no longer heard of.
    """
    command = [sys.executable, "-m", "holdfast.cli", "worker", APP]
    command += [word for pool in POOLS for word in ("--pool", pool)]
    if elsewhere:
        command = ["unshare", "--pid", "--fork", "--kill-child", *command]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | settings.to_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        kill(family(process.pid))
        process.wait()


def can_unshare() -> bool:
    """Return whether this user may make process namespaces."""
    try:
        done = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


# -- what became of the work


def _struck(client: Client, ports: Ports, load: Load, burst: int, strike: Strike) -> float:
    """Have a burst come, kill in the middle of it, and return when; wait until all that was begun is completed."""
    with load.going():
        time.sleep(LEAD_S)
        before = ports.directory.count(Process.type, RunState.COMPLETED)
        load.begin([f"b{number}" for number in range(burst)])
        want = before + burst * STRIKE_AT
        await_that(
            "a part of the burst is done",
            lambda: ports.directory.count(Process.type, RunState.COMPLETED) >= want,
            step_s=0.005,
        )
        killed = strike()
        for number in range(burst):
            _done(client, f"b{number}")
    with contextlib.suppress(TimeoutError):  # then it is counted what is lost
        await_that(
            "all is completed",
            lambda: ports.directory.count(Process.type, RunState.COMPLETED) >= len(load.sent) + WARM_UP,
            seconds_max=END_S,
        )
    return killed


def _done(client: Client, key: str) -> None:
    client.wait(Process, key, until=lambda state: state.step > STEPS, timeout=END_S)


def figures_of(client: Client, ports: Ports, load: Load, killed: float, partitions: set[int]) -> Row:
    """Return how soon the killed workers' partitions went on, and whether every process is complete, once."""
    killed_ms, all_ = killed * 1000, client.settings.partitions
    lost = doubled = 0
    firsts, lasts, ends = list[float](), list[float](), dict[str, float]()
    for key, records in client.histories(Process, load.sent):
        steps = [event.step for record in records for event in record.events]
        lost += not steps or steps[-1] <= STEPS
        doubled += len(steps) > len(set(steps)) or len(records) > STEPS + 1
        times = [to_ms(record.at) for record in records]
        ends[key] = times[-1] if times else killed_ms
        ours = partition_of(Process.type, key, all_) in partitions and load.sent[key] <= killed
        if ours and ends[key] > killed_ms:
            firsts.append(min(one for one in times if one > killed_ms))
            lasts.append(ends[key])
    first, last = min(firsts, default=killed_ms), max(lasts, default=killed_ms)
    level = max((ends[key] for key, at in load.sent.items() if at * 1000 <= first), default=killed_ms)
    return {
        "in_flight": len(lasts),
        "first_s": round((first - killed_ms) / 1000, 2),
        "last_s": round((last - killed_ms) / 1000, 2),
        "level_s": round(max(0.0, level - killed_ms) / 1000, 2),
        "sent": len(load.sent),
        "lost": lost,
        "doubled": doubled,
        "dead_letters": ports.dead_letters.count(),
    }


def _warm(client: Client) -> None:
    for number in range(WARM_UP):
        client.send(Begin(f"w{number}"))
        _done(client, f"w{number}")


def restarted(where: Ground, rate: float, burst: int, processes: int = 2) -> Row:
    """Kill all workers, with their masters; their supervisor starts others at once."""
    with (
        fresh(where.redis_url, where.amqp_url) as settings,
        connect(app, settings) as client,
        asking(settings) as ports,
        crew(where, settings, APP, processes=processes, pools=POOLS),
    ):
        pids = await_served(ports, settings, processes)
        _warm(client)
        doomed = [one for pid in pids for one in family(_master(pid))]
        load = Load(client, rate)
        killed = _struck(client, ports, load, burst, lambda: kill(doomed))
        everywhere = set(range(settings.partitions))
        figures = figures_of(client, ports, load, killed, everywhere)
        return {"system": "holdfast", "what": RESTARTED, **figures}


def taken_over(where: Ground, rate: float, burst: int, *, elsewhere: bool) -> Row:
    """Kill one of two workers for good; the other one takes its partitions over."""
    with (
        fresh(where.redis_url, where.amqp_url) as settings,
        connect(app, settings) as client,
        asking(settings) as ports,
        crew(where, settings, APP, pools=POOLS),
    ):
        await_served(ports, settings, 1)
        staying = {member.id for member in ports.membership.living()}
        with foreign(settings, elsewhere=elsewhere) as ancestor:
            await_served(ports, settings, 2)
            _warm(client)
            doomed = family(ancestor)
            gone = {
                partition
                for pool in ("command", "effect")
                for partition, owner in enumerate(ports.membership.owners(pool))
                if owner not in staying
            }
            load = Load(client, rate)
            killed = _struck(client, ports, load, burst, lambda: kill(doomed))
            figures = figures_of(client, ports, load, killed, gone)
        where_ = "another machine's" if elsewhere else "the same machine's"
        return {"system": "holdfast", "what": f"{where_} taken over", **figures}


def judged(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with whether they keep what was promised."""
    return [row | {"verdict": "held" if _held(row) else "not held"} for row in rows]


def _held(row: Row) -> bool:
    max_s = RESTARTED_MAX_S if row["what"] == RESTARTED else TAKEN_OVER_MAX_S
    whole = not float(row["lost"]) + float(row["doubled"]) + float(row["dead_letters"])
    return whole and bool(row["in_flight"]) and float(row["last_s"]) <= max_s


@dataclass(frozen=True)
class Options:
    """How much of it."""

    #: Processes begun in a second, and right before the kill.
    rate: float = 150.0
    burst: int = 200


def measure(where: Ground, options: Options) -> list[Row]:
    """Kill workers in each way once."""
    rate, burst = options.rate, options.burst
    rows = [restarted(where, rate, burst), taken_over(where, rate, burst, elsewhere=False)]
    if can_unshare():
        rows.append(taken_over(where, rate, burst, elsewhere=True))
    return rows


main = command("recovery", __doc__, measure, Options, after=judged)

if __name__ == "__main__":
    main()
