"""What does each level of durability cost: commands a second from full queues, and the latency of one alone?

Run it as
    python -m benchmarks.durability [--commands 20000] [--alone 300] [--json]
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import redis

from benchmarks.counter import Increment, app
from benchmarks.full import HEARTBEAT, MEMBER_TTL_MS, drain
from benchmarks.ground import Ground, ground, quantile
from benchmarks.shown import Row, show
from benchmarks.stage import asking, await_served, await_that, calm, crew, fresh
from holdfast import Accepted, Client, connect
from tests.support.servers import RedisServer

LEVELS = ("memory", "everysec", "fsync", "replicated(1)")
WARM_UP = 20
#: Writes of the size of a small commit, each brought to the disk.
SYNCS, SYNC_BYTES = 200, 512


@contextmanager
def server(level: str) -> Iterator[str]:
    """Run what a level demands, and yield the URL: no file, one for every second, one for every write, or a replica."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-")))
        config = {"memory": {"appendonly": "no"}, "fsync": {"appendfsync": "always"}}.get(level, {})
        primary = stack.enter_context(RedisServer(folder / "primary", repl_diskless_sync_delay=0, **config))
        if level.startswith("replicated"):
            replica = stack.enter_context(
                RedisServer(folder / "replica", replicaof=f"127.0.0.1 {primary.port}")
            )
            with redis.Redis.from_url(primary.url) as client:
                await_that("the replica is online", lambda: _online(client))
            calm(replica.url)  # a replica begins with a file of its own
        yield primary.url


def _online(client: redis.Redis) -> bool:
    client.set("holdfast-bench", 1)
    return bool(client.wait(1, 100))


def measure(where: Ground, commands: int, keys: int, alone: int, levels: Sequence[str] = LEVELS) -> list[Row]:
    """Measure each level on a Redis of its own, with the same RabbitMQ."""
    rows = [disk()]
    for level in levels:
        with (
            server(level) as url,
            fresh(url, where.amqp_url + HEARTBEAT, durability=level, member_ttl_ms=MEMBER_TTL_MS) as settings,
            connect(app, settings) as client,
            crew("benchmarks.counter:app", settings, 1, ("command",)),
            asking(settings) as ports,
        ):
            pids = await_served(ports, settings, 1)
            for _ in range(WARM_UP):
                _once(client)
            found = drain(client, pids, commands, keys)
            rows.append(
                {
                    "system": f"holdfast, {level}",
                    "what": "queue full",
                    "per_second": round(found.per_second),
                    "cores": round(found.cores, 2),
                    "cpu_us": round(found.cpu_us),
                }
            )
            rows.append(_latency(f"holdfast, {level}", "one alone, answered", _times(client, alone)))
    return rows


def _once(client: Client) -> None:
    outcome = client.execute(Increment("alone"), timeout=60)
    if not isinstance(outcome, Accepted):
        message = f"not accepted: {outcome}"
        raise TypeError(message)


def _times(client: Client, count: int) -> list[float]:
    times = []
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
    return _latency("the disk", "one small write, synced", times)


def _latency(system: str, what: str, times: Sequence[float]) -> Row:
    return {
        "system": system,
        "what": what,
        "p50_ms": round(quantile(times, 0.5), 2),
        "p99_ms": round(quantile(times, 0.99), 2),
    }


@click.command()
@click.option("--commands", default=20_000, show_default=True)
@click.option("--keys", default=1_000, show_default=True)
@click.option(
    "--alone", default=300, show_default=True, help="Commands of which each waits for the one before."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a table.")
def main(commands: int, keys: int, alone: int, as_json: bool) -> None:
    """Measure what durability costs."""
    with ground() as where:
        show("durability", measure(where, commands, keys, alone), as_json=as_json)


if __name__ == "__main__":
    main()
