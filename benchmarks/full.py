"""A queue that is full when the workers go at it: the load that scaling and durability share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from benchmarks.counter import Counter, Increment, app
from benchmarks.crew import crew
from benchmarks.ground import Ground, Meter, Row
from benchmarks.stage import asking, await_served
from holdfast import Client, Settings, connect
from holdfast.runtime.clock import to_ms

APP = "benchmarks.counter:app"
#: Workers stand still while the queues are filled, and must not be taken for dead: by others, and by RabbitMQ.
MEMBER_TTL_MS = 120_000
HEARTBEAT = "?heartbeat=120"


def drain(
    where: Ground, client: Client, pids: Sequence[int], commands: int, keys: int, **servers: int
) -> Row:
    """Fill the queues while all workers stand still, let them go all at once, and return how quick they were.

    `per_second` is over all records, `middle_per_second` while a tenth to nine tenths of them were made; `cores` is how
    many processors workers, this process and the servers kept busy on average. `servers` are as the meter's.

    Raises:
        ValueError: Not every command was decided once.
    """
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        client.send_many(Increment(f"k{number % keys}") for number in range(commands))
    finally:
        meter, began_ms = Meter(where, **servers), time.time() * 1000
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    for key in range(keys):
        want = commands // keys + (key < commands % keys)
        client.wait(Counter, f"k{key}", until=lambda state, want=want: state.value >= want, timeout=300)  # type: ignore[misc]  # mypy cannot type a default in a lambda
    took, cost = meter.seconds, meter.cost(commands)
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
    used_us = sum(float(used) for name, used in cost.items() if name.endswith("_us"))
    return {
        "per_second": round(commands / max(1, at_ms[-1] - began_ms) * 1000),
        "middle_per_second": round((len(at_ms) - 2 * tenth) / middle_ms * 1000),
        "cores": round(used_us * commands / 1e6 / took, 2),
        **cost,
    }


def run(where: Ground, settings: Settings, commands: int, keys: int, processes: int) -> Row:
    """Start workers, wait until they share all partitions, and drain full queues with them."""
    with (
        connect(app, settings) as client,
        crew(where, settings, APP, processes=processes, pools=("command",)),
        asking(settings) as ports,
    ):
        pids = await_served(ports, settings, processes)
        return drain(where, client, pids, commands, keys)
