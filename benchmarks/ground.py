"""The ground that a benchmark stands on: private servers with the settings of deploy/, and what they cost."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import RabbitServer, RedisServer

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Ground:
    """Two servers."""

    redis_url: str
    amqp_url: str
    redis_pid: int
    rabbitmq_pid: int


@contextmanager
def ground() -> Iterator[Ground]:
    """Start private servers on loopback, and stop them in the end."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        redis, rabbitmq = RedisServer(Path(folder) / "redis"), RabbitServer(Path(folder) / "rabbitmq")
        try:
            redis.start()
            rabbitmq.start()
            yield Ground(redis.url, rabbitmq.url, redis.pid, rabbitmq.pid)
        finally:
            rabbitmq.stop()
            redis.stop()


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that processes and their living descendants have used."""
    total = 0
    for pid in pids:
        total += _ticks(pid) + sum(int(cpu_seconds([child]) * _TICKS) for child in _children(pid))
    return total / _TICKS


def _ticks(pid: int) -> int:
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all lie under."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
