"""A queue that is full when the workers go at it: the load that scaling and durability share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.counter import Counter, Increment, app
from benchmarks.ground import cpu_seconds
from benchmarks.stage import asking, await_served, crew
from holdfast import Client, Settings, connect
from holdfast.runtime.clock import to_ms

#: Workers stand still while the queues are filled, and must not be taken for dead: by others, and by RabbitMQ.
MEMBER_TTL_MS = 120_000
HEARTBEAT = "?heartbeat=120"


class Full(NamedTuple):
    """What came of a full queue."""

    per_second: float
    #: Of that while a tenth to nine tenths of the records were made: without beginning and end.
    middle_per_second: float
    #: Processors that were at work on average: workers, this process and both servers; and the workers alone.
    cores: float
    worker_cores: float
    #: Processor time of one command in microseconds, by the same: what else the machine does changes it little.
    cpu_us: float
    worker_us: float


def drain(client: Client, pids: Sequence[int], commands: int, keys: int) -> Full:
    """Fill the queues while all workers stand still, let them go all at once, and return how quick they were.

    Raises:
        ValueError: Not every command was decided once.
    """
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        client.send_many(Increment(f"k{number % keys}") for number in range(commands))
    finally:
        began, own, all_ = time.time(), cpu_seconds(pids), cpu_seconds([os.getpid()])
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    for key in range(keys):
        want = commands // keys + (key < commands % keys)
        client.wait(Counter, f"k{key}", until=lambda state, want=want: state.value >= want, timeout=300)  # type: ignore[misc]  # mypy cannot type a default in a lambda
    took, worked, busy = time.time() - began, cpu_seconds(pids) - own, cpu_seconds([os.getpid()]) - all_
    at_ms = sorted(
        to_ms(record.at)
        for _, records in client.histories(Counter, [f"k{key}" for key in range(keys)])
        for record in records
    )
    if len(at_ms) != commands:
        message = f"{len(at_ms)} records for {commands} commands"
        raise ValueError(message)
    tenth = len(at_ms) // 10
    middle_ms = max(1, at_ms[-1 - tenth] - at_ms[tenth])
    return Full(
        commands / max(0.001, at_ms[-1] / 1000 - began),
        (len(at_ms) - 2 * tenth) / middle_ms * 1000,
        busy / took,
        worked / took,
        busy / commands * 1e6,
        worked / commands * 1e6,
    )


def run(settings: Settings, commands: int, keys: int, processes: int) -> Full:
    """Start workers, wait until they share all partitions, and drain full queues with them."""
    with (
        connect(app, settings) as client,
        crew("benchmarks.counter:app", settings, processes, ("command",)),
        asking(settings) as ports,
    ):
        pids = await_served(ports, settings, processes)
        return drain(client, pids, commands, keys)
