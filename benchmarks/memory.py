"""What does an idle instance cost: bytes in Redis by what it has, and bytes in a worker that keeps it at hand?

Run it as
    python -m benchmarks.memory [--instances 20000] [--cached 5000] [--runs 3] [--json]
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis

from benchmarks.account import Account, Close, app
from benchmarks.ground import Ground, Row
from benchmarks.report import command
from benchmarks.seed import Desk, deposit, desk, snapshot
from benchmarks.stage import another_redis, await_that, calm, fresh
from holdfast import Settings
from holdfast.runtime.control import DeleteData

#: What an idle instance may cost.
BYTES_MAX = 1024
EVENTS = 10
#: Ids that a long-lived instance remembers at the least.
IDS = 1_000
#: What Redis has to send or to write is none of the instances' cost: so much of it does not count.
BUFFERS_MAX = 64 * 1024

Stage = Callable[[Desk, int], None]


@dataclass(frozen=True)
class Options:
    """How much of it."""

    #: Instances in Redis, and in a worker.
    instances: int = 20_000
    cached: int = 5_000


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure Redis by what instances have, each on a fresh server, and a worker by how many ids each remembers."""
    instances, cached = options.instances, options.cached
    rows = [_in_redis(what, stages, instances) for what, stages in SHAPES.items()]
    rows += [
        _in_worker(where, records, count)
        for records, count in ((1, cached), (EVENTS, cached), (IDS, max(1, cached // 50)))
    ]
    return rows


def judged(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, those about Redis with whether they keep what was promised."""
    return [
        row | {"verdict": "under 1 KB" if float(row["bytes"]) < BYTES_MAX else "over 1 KB"}
        if "own_keys_bytes" in row
        else row
        for row in rows
    ]


# -- in Redis


def _key(number: int) -> str:
    return f"account-{number:08}"


def _deposits(count: int) -> Stage:
    def stage(at: Desk, instances: int) -> None:
        for number in range(count):
            at.fill(deposit(_key(one), number) for one in range(instances))

    return stage


def _snapshots(at: Desk, instances: int) -> None:
    for batch in _batches(instances):
        snapshot(at, *(at.ref(Account.type, _key(number)) for number in batch))


def _closed(at: Desk, instances: int) -> None:
    at.fill(Close(_key(number)) for number in range(instances))


def _deleted(at: Desk, instances: int) -> None:
    """Do what retention has done when an instance was archived."""
    for batch in _batches(instances):
        deleted = DeleteData("kept long enough")
        at.run([at.control(Account.type, _key(number), deleted) for number in batch])


SHAPES: dict[str, tuple[Stage, ...]] = {
    "running, 1 event": (_deposits(1),),
    f"running, {EVENTS} events": (_deposits(EVENTS),),
    f"running, {EVENTS} events and a snapshot": (_deposits(EVENTS), _snapshots),
    f"completed, {EVENTS} events": (_deposits(EVENTS - 1), _closed),
    "data deleted by retention": (_deposits(EVENTS - 1), _closed, _deleted),
}


def _in_redis(what: str, stages: tuple[Stage, ...], instances: int) -> Row:
    with another_redis() as url, fresh(url) as settings, desk(app, settings) as at:
        before = _used(url)
        for stage in stages:
            stage(at, instances)
        at.let_go()
        bytes_each = (_used(url) - before) / instances
        (size,) = at.ports.sizes.sizes([Account.type], min(instances, 1_000))
        if size.instances != instances:
            message = f"there are {size.instances} instances instead of {instances}"
            raise ValueError(message)
        return {
            "system": "holdfast",
            "what": what,
            "instances": instances,
            "bytes": round(bytes_each),
            "own_keys_bytes": round(size.bytes / instances),
        }


def _used(url: str) -> int:
    """Return the memory that Redis uses for data, once it has nothing left to write."""
    calm(url)
    with redis.Redis.from_url(url) as client:

        def info() -> dict[str, Any]:
            return cast("dict[str, Any]", client.info())

        await_that("Redis wrote its file", lambda: info()["aof_buffer_length"] <= BUFFERS_MAX)
        time.sleep(0.2)  # tables that grow or shrink do so in the background
        found = info()
        return int(found["used_memory"]) - int(found["mem_clients_normal"]) - int(found["aof_buffer_length"])


# -- in a worker


def _in_worker(where: Ground, records: int, count: int) -> Row:
    with fresh(where.redis_url) as settings, desk(app, settings) as at:
        _deposits(records)(at, count)
        at.let_go()
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            bytes_each = pool.submit(_grown, settings.to_environment(), count).result() / count
        return {
            "system": "holdfast",
            "what": f"in a worker, {records:,} ids remembered"
            if records > 1
            else "in a worker, 1 id remembered",
            "instances": count,
            "bytes": round(bytes_each),
        }


def _grown(environment: dict[str, str], count: int) -> int:
    """Open so many instances in this process, and return by how much it grew."""
    with desk(app, Settings.from_environment(environment)) as at:
        at.run([at.delivery(deposit("warm"))])
        before = _resident()
        for batch in _batches(count):
            at.run([at.delivery(deposit(_key(number))) for number in batch])
        if len(at.turn.cache) < count:
            message = f"only {len(at.turn.cache)} of {count} instances are at hand"
            raise ValueError(message)
        return _resident() - before


def _batches(count: int, size: int = 100) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def _resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


main = command("memory", __doc__, measure, Options, after=judged)

if __name__ == "__main__":
    main()
