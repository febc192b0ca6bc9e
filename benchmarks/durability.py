"""What does each level of durability cost: commands a second from full queues, and the latency of one alone?

Run it as
    python -m benchmarks.durability [--commands 20000] [--alone 300] [--runs 3] [--json]
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.counter import Increment, app
from benchmarks.crew import crew
from benchmarks.full import APP, HEARTBEAT, MEMBER_TTL_MS, drain
from benchmarks.ground import Ground, Meter, Row, latencies
from benchmarks.report import command
from benchmarks.stage import asking, await_served, await_that, calm, fresh
from holdfast import Accepted, Client, connect
from tests.support.servers import RedisServer

LEVELS = ("memory", "everysec", "fsync", "replicated(1)")
WARM_UP = 20
#: Writes of the size of a small commit, each brought to the disk.
SYNCS, SYNC_BYTES = 200, 512


@contextmanager
def servers(level: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Run what a level demands: no file, one for every second, one for every write, or a replica.

    Yield the URL, and each process id by its name, as the meter wants them.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-")))
        config = {"memory": {"appendonly": "no"}, "fsync": {"appendfsync": "always"}}.get(level, {})
        primary = stack.enter_context(RedisServer(folder / "primary", repl_diskless_sync_delay=0, **config))
        pids = {"redis": primary.pid}
        if level.startswith("replicated"):
            replica = stack.enter_context(
                RedisServer(folder / "replica", replicaof=f"127.0.0.1 {primary.port}")
            )
            with redis.Redis.from_url(primary.url) as client:
                await_that("the replica is online", lambda: _online(client))
            calm(replica.url)  # a replica begins with a file of its own
            pids["replica"] = replica.pid
        yield primary.url, pids


def _online(client: redis.Redis) -> bool:
    client.set("holdfast-bench", 1)
    return bool(client.wait(1, 100))


@dataclass(frozen=True)
class Options:
    """How much of it."""

    commands: int = 20_000
    keys: int = 1_000
    #: Commands of which each waits for the one before.
    alone: int = 300
    #: With | between them.
    levels: str = "|".join(LEVELS)


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure each level on a Redis of its own, with the same RabbitMQ."""
    rows = [disk()]
    for level in options.levels.split("|"):
        system = f"holdfast, {level}"
        with (
            servers(level) as (url, own),
            fresh(url, where.amqp_url + HEARTBEAT, durability=level, member_ttl_ms=MEMBER_TTL_MS) as settings,
            connect(app, settings) as client,
            crew(where, settings, APP, pools=("command",)),
            asking(settings) as ports,
        ):
            pids = await_served(ports, settings, 1)
            for _ in range(WARM_UP):
                _once(client)
            found = drain(where, client, pids, options.commands, options.keys, **own)
            rows.append({"system": system, "what": "queue full", **found})
            meter = Meter(where, **own)
            times = _times(client, options.alone)
            rows.append(latencies(system, "one alone, answered", times) | meter.cost(len(times)))
    return rows


def _once(client: Client) -> None:
    outcome = client.execute(Increment("alone"), timeout=60)
    if not isinstance(outcome, Accepted):
        message = f"not accepted: {outcome}"
        raise TypeError(message)


def _times(client: Client, count: int) -> list[float]:
    times = list[float]()
    for _ in range(count):
        began = time.perf_counter()
        _once(client)
        times.append((time.perf_counter() - began) * 1000)
    return times


def disk() -> Row:
    """Measure what bringing one small write to this machine's disk takes: no level that does can be quicker."""
    times = []
    with tempfile.TemporaryFile(prefix="holdfast-bench-") as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(b"x" * SYNC_BYTES)
            file.flush()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return latencies("the disk", "one small write, synced", times)


main = command("durability", __doc__, measure, Options)

if __name__ == "__main__":
    main()
