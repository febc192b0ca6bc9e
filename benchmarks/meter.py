"""The meter: what a stretch of work cost in time, processor time and memory, and whom.

Memory is the peak of what a process held in RAM during the stretch (VmHWM, set back at its beginning), added up over
its processes: what forked processes share is counted in each of them. Linux only, as /proc is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import Row

if TYPE_CHECKING:
    from benchmarks.ground import Ground

_TICKS = os.sysconf("SC_CLK_TCK")
#: What to write to /proc/<pid>/clear_refs to have the peak begin anew.
_RESET_PEAK = "5"


class Meter:
    """Measures from when it is made: `meter = Meter(where); ...; row = meter.row("holdfast", "queue full", 20_000)`.

    Args:
        where: The ground, whose servers are told apart from the workers.
        servers: Further servers by name, as postgres=pid.
    """

    def __init__(self, where: Ground, **servers: int) -> None:
        self._servers = where.servers | servers
        #: Everything below these processes is no worker.
        self._apart = {*where.attendants, *(_branch(pid) for pid in self._servers.values())}
        for pid in (*self._workers(), *tree(*self._servers.values())):
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
        self._cpu = self._read()
        self._busy = _busy_seconds()
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long it has measured."""
        return time.perf_counter() - self._began

    def row(self, system: str, what: str, count: int) -> Row:
        """Return how many a second, and what each cost."""
        seconds = self.seconds
        return {
            "system": system,
            "what": what,
            "per_second": round(count / seconds, 1 if count < 100 * seconds else None),
            **self.cost(count),
        }

    def cost(self, count: int) -> Row:
        """Return microseconds of processor time for each of `count`, and the peak of memory in MiB, by who used them.

        `others_cores` is how many cores something else kept busy meanwhile: figures taken beside much of that are worth little.
        """
        seconds, busy = self.seconds, _busy_seconds() - self._busy
        used = {name: at - self._cpu.get(name, 0) for name, at in self._read().items()}
        found: Row = {f"{name}_us": round(own / count * 1e6) for name, own in used.items()}
        found["others_cores"] = round(max(0.0, busy - sum(used.values())) / seconds, 2)
        found["workers_mb"] = round(peak_mb(self._workers()))
        return found | {f"{name}_mb": round(peak_mb(tree(pid))) for name, pid in self._servers.items()}

    def _read(self) -> dict[str, float]:
        return {
            "client": _own_ticks(os.getpid()) / _TICKS,
            "workers": sum(map(_ticks, self._workers())) / _TICKS,
            **{name: cpu_seconds([pid]) for name, pid in self._servers.items()},
        }

    def _workers(self) -> list[int]:
        return tree(*(pid for pid in _children(os.getpid()) if pid not in self._apart))


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that processes and their descendants have used, also of those that have ended."""
    return sum(map(_ticks, tree(*pids))) / _TICKS


def peak_mb(pids: Iterable[int]) -> float:
    """Return the most memory that processes held since their peaks were set back, in MiB."""
    return sum(map(_peak_kib, pids)) / 1024


def tree(*pids: int) -> list[int]:
    """Return processes and their living descendants."""
    found = list(dict.fromkeys(pids))
    for pid in found:
        found += [child for child in _children(pid) if child not in found]  # the loop goes on over them
    return found


def attendants() -> frozenset[int]:
    """Return the processes that this one has started and that still run."""
    return frozenset(_children(os.getpid()))


def _branch(pid: int) -> int:
    """Return which of this process's children has the other among its descendants; else the other itself."""
    at = pid
    while at > 1:
        parent = _parent(at)
        if parent == os.getpid():
            return at
        at = parent
    return pid


def _stat(pid: int) -> list[str]:
    """Return what follows a process's name in its stat file; nothing when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _busy_seconds() -> float:
    """Return the processor time that everything on this machine has used, and that its host has taken from it."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        user, nice, system, _idle, _waiting, irq, softirq, stolen, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + softirq + stolen) / _TICKS


def _own_ticks(pid: int) -> int:
    return sum(map(int, _stat(pid)[11:13]))


def _ticks(pid: int) -> int:
    """Return what a process has used, and what its children had that ended: a server that ends a helper used no less."""
    return sum(map(int, _stat(pid)[11:15]))


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _peak_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []
