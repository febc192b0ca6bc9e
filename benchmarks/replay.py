"""How long does it take to bring an instance into memory that has 10 to 100,000 events, and is that linear?

Run it as
    python -m benchmarks.replay [--events 10,100,1000,10000,100000] [--seconds 1] [--runs 3] [--json]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.account import Account, app
from benchmarks.ground import Ground, Row, median
from benchmarks.report import command
from benchmarks.seed import Desk, desk, extend, history, snapshot
from benchmarks.stage import fresh, numbers
from holdfast import Client, connect
from holdfast.runtime.keys import Ref
from holdfast.runtime.turn import SNAPSHOT_SHARE, fold_with_fallback

#: How far apart records are: an instance that is written to now and then, and one that was filled in a rush, all of
#: whose command ids are of the last 24 hours and therefore remembered.
SLOWLY_MS = 60_000
RUSH_MS = 0
#: An instance is opened at least this often, and for as long as it is asked.
OPENS_MIN = 5
#: Where the check begins: below it the round trips are most of what an instance costs.
LINEAR_FROM = 1_000
LINEAR_MAX = 1.5


@dataclass(frozen=True)
class Options:
    """How much of it."""

    events: str = "10,100,1000,10000,100000"
    #: How long each is opened again and again.
    seconds: float = 1.0


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure each size, from the whole log and from a snapshot."""
    rows: list[Row] = []
    events, seconds = numbers(options.events), options.seconds
    with (
        fresh(where.redis_url) as settings,
        desk(app, settings) as at,
        connect(app, settings) as client,
    ):
        every = settings.snapshot_every
        for count in events:
            ref = history(at, f"whole-{count}", count, apart_ms=SLOWLY_MS)
            rows.append(_row(at, client, ref, "whole log", count, count, 0, seconds))
        for what, apart_ms in (
            ("snapshot, a record a minute", SLOWLY_MS),
            ("snapshot, all in 24 h", RUSH_MS),
        ):
            for count in (one for one in events if one > every):
                ref, tail, ids = with_snapshot(at, f"{apart_ms}-{count}", count, apart_ms)
                rows.append(_row(at, client, ref, what, count, tail, ids, seconds))
    return rows


def with_snapshot(at: Desk, key: str, count: int, apart_ms: int) -> tuple[Ref, int, int]:
    """Write a log with its snapshot where it is on average: half of what a worker waits until it takes the next one.

    Return the instance, the records after the snapshot, and the command ids in it.
    """
    now_ms = int(time.time() * 1000)
    remembered = count if apart_ms == RUSH_MS else min(count, 24 * 60 * 60 * 1000 // apart_ms)
    tail = max(at.settings.snapshot_every, remembered // SNAPSHOT_SHARE) // 2
    ref, first_ms = at.ref(Account.type, key), now_ms - count * apart_ms
    extend(at, ref, count - tail, first_ms=first_ms, apart_ms=apart_ms)
    ids = snapshot(at, ref)
    extend(at, ref, tail, first_ms=first_ms + (count - tail) * apart_ms, apart_ms=apart_ms)
    return ref, tail, ids


def _row(
    at: Desk, client: Client, ref: Ref, what: str, events: int, tail: int, ids: int, seconds: float
) -> Row:
    """Open an instance again and again, as a worker does that has it not in its cache, and as a client does."""
    definition = at.app.definition(ref.workflow)
    opening: list[float] = []

    def opened() -> None:
        began = time.perf_counter()
        found = at.ports.journal.open([ref], at.owner)[0]
        opening.append(time.perf_counter() - began)
        actor = fold_with_fallback(at.ports.journal, definition, found)  # type: ignore[arg-type]  # nobody else holds it
        if actor.seq != events or actor.state.deposits != events:
            message = f"{ref} has {actor.seq} records instead of {events}"
            raise ValueError(message)

    worker, cpu = _medians(opened, seconds)
    client_s, _ = _medians(lambda: client.state(Account, ref.key), seconds)
    return {
        "system": "holdfast",
        "what": f"{what}, {events:,} events",
        "events": events,
        "folded": tail,
        "ids": ids,
        "worker_ms": round(worker * 1000, 3),
        "read_ms": round(median(opening) * 1000, 3),
        "state_ms": round(client_s * 1000, 3),
        "us_per_event": round(worker / events * 1e6, 2),
        "cpu_us_per_event": round(cpu / events * 1e6, 2),
    }


def _medians(once: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Return how long something takes, and how much processor time of this process, in seconds."""
    times: list[float] = []
    cpu: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < OPENS_MIN or time.perf_counter() < until:
        began, worked = time.perf_counter(), time.process_time()
        once()
        times.append(time.perf_counter() - began)
        cpu.append(time.process_time() - worked)
    return median(times), median(cpu)


def judged(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, and behind them what an event costs in the longest log by what it costs in one of a thousand.

    In processor time of the process that opens: what else the machine does is no part of it, nor is Redis.
    """
    return [*rows, *_linear(rows)]


def _linear(rows: Sequence[Row]) -> Iterator[Row]:
    whole = {
        int(row["events"]): float(row["cpu_us_per_event"])
        for row in rows
        if str(row["what"]).startswith("whole log")
    }
    small, large = min((one for one in whole if one >= LINEAR_FROM), default=0), max(whole)
    if small < large and small:
        ratio = whole[large] / whole[small]
        yield {
            "system": "holdfast",
            "what": f"an event of {large:,} to one of {small:,}",
            "ratio": round(ratio, 2),
            "verdict": "linear" if ratio <= LINEAR_MAX else "grows",
        }


main = command("replay", __doc__, measure, Options, after=judged)

if __name__ == "__main__":
    main()
