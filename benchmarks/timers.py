"""How late are timers, applied, at a steady rate and all at one instant; and what does a commit cost beside a million?

Run it as
    python -m benchmarks.timers [--rate 500] [--seconds 10] [--instant 5000] [--pending 1000000] [--processes 1] [--json]

Lateness is from the time that a timer was set for to the time in the record of the command that it sent.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import redis
from rich.console import Console
from rich.table import Table

from benchmarks.alarm import Alarm, Arm, Ring, app
from benchmarks.ground import Ground, ground, quantile
from holdfast import Client, Settings, Supervisor, connect
from holdfast.actors.wiring import open_ports, remove_namespace
from holdfast.brokers.keys import Keys
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.message import Envelope
from holdfast.runtime.ports import Commit, Committed, Opened
from holdfast.runtime.record import Entry, TimerEntry

ROOT = Path(__file__).parents[1]
#: How long setting the timers may take before the first of them is due.
LEAD_S = 4.0
#: Commits whose cost is measured, and instances in each.
COMMITS = 400
BATCH = 16

Row = dict[str, float | str]


@contextmanager
def workers(where: Ground, processes: int) -> Iterator[Client]:
    """Run workers on a fresh namespace."""
    settings = Settings.of(
        redis_url=where.redis_url, amqp_url=where.amqp_url, namespace=f"b{secrets.token_hex(4)}"
    )
    log = Path(tempfile.gettempdir()) / f"holdfast-bench-{os.getpid()}.log"
    try:
        with (
            connect(app, settings) as client,
            Supervisor("benchmarks.alarm:app", settings, processes=processes, folder=ROOT, log_file=log),
        ):
            client.execute(Arm("warm", datetime.now(UTC)), timeout=60)
            client.wait(Alarm, "warm", until=lambda state: state.rang == 1, timeout=60)
            yield client
    finally:
        remove_namespace(settings)
        log.unlink(missing_ok=True)


def lateness(client: Client, what: str, due: list[datetime]) -> Row:
    """Set an alarm for each time, wait until all went off, and return how late they were."""
    client.send_many(Arm(f"a{number}", at) for number, at in enumerate(due))
    slack_s = (due[0] - datetime.now(UTC)).total_seconds()
    keys = [f"a{number}" for number in range(len(due))]
    for key in keys:
        client.wait(Alarm, key, until=lambda state: state.rang >= 1, timeout=120)
    late = []
    for _, records in client.histories(Alarm, keys):
        (armed, rang) = records
        late.append((rang.at - armed.events[0].at).total_seconds() * 1000)  # type: ignore[union-attr]  # the first event is Armed
    return {
        "what": what,
        "timers": len(due),
        "earliest_ms": round(min(late), 1),
        "p50_ms": round(quantile(late, 0.5), 1),
        "p99_ms": round(quantile(late, 0.99), 1),
        "max_ms": round(max(late), 1),
        "set_before_s": round(slack_s, 1),
    }


def steady(where: Ground, processes: int, rate: int, seconds: float) -> Row:
    """Have so many timers a second come due."""
    with workers(where, processes) as client:
        start = datetime.now(UTC) + timedelta(seconds=LEAD_S)
        due = [start + timedelta(seconds=number / rate) for number in range(int(rate * seconds))]
        return lateness(client, f"{rate} a second", due)


def instant(where: Ground, processes: int, count: int) -> Row:
    """Have so many timers come due at one instant."""
    with workers(where, processes) as client:
        at = datetime.now(UTC) + timedelta(seconds=LEAD_S)
        return lateness(client, "at one instant", [at] * count)


def short(where: Ground, processes: int, delay_ms: int = 10, count: int = 200) -> Row:
    """Set timers for very soon, one at a time, while the pool sleeps."""
    with workers(where, processes) as client:
        late = []
        for number in range(count):
            key = f"s{number}"
            client.send(Arm(key, datetime.now(UTC) + timedelta(milliseconds=delay_ms)))
            client.wait(Alarm, key, until=lambda state: state.rang >= 1, timeout=60)
            armed, rang = client.history(Alarm, key)
            late.append((rang.at - armed.events[0].at).total_seconds() * 1000)  # type: ignore[union-attr]  # the first event is Armed
    return {
        "what": f"alone, {delay_ms} ms ahead",
        "timers": count,
        "earliest_ms": round(min(late), 1),
        "p50_ms": round(quantile(late, 0.5), 1),
        "p99_ms": round(quantile(late, 0.99), 1),
        "max_ms": round(max(late), 1),
    }


def beside(where: Ground, pending: int) -> list[Row]:
    """Measure commits with a timer each, with nothing and with so many timers pending in the same partition."""
    settings = Settings.of(redis_url=where.redis_url, namespace=f"b{secrets.token_hex(4)}", partitions=1)
    ports = open_ports(settings)
    keys = Keys(settings.namespace)
    rows: list[Row] = []
    number = 0
    try:
        with redis.Redis.from_url(where.redis_url) as client:
            for count in (0, pending):
                _fill(client, keys, count)
                times = []
                for _ in range(COMMITS):
                    commits = []
                    for _ in range(BATCH):
                        number += 1
                        commits.append(_commit(f"k{number}"))
                    began = time.perf_counter()
                    results = ports.journal.commit(commits, "bench")
                    times.append((time.perf_counter() - began) * 1000)
                    if not all(isinstance(result, Committed) for result in results):
                        message = f"not committed: {results}"
                        raise TypeError(message)
                looks = []
                for _ in range(COMMITS):
                    began = time.perf_counter()
                    ports.timers.fire([0], "", 256)
                    looks.append((time.perf_counter() - began) * 1000)
                rows.append(
                    {
                        "what": f"commit of {BATCH} with {count:,} pending",
                        "timers": count,
                        "p50_ms": round(quantile(times, 0.5), 2),
                        "p99_ms": round(quantile(times, 0.99), 2),
                        "look_p50_ms": round(quantile(looks, 0.5), 2),
                    }
                )
    finally:
        ports.close()
        remove_namespace(settings)
    return rows


def _fill(client: redis.Redis, keys: Keys, count: int) -> None:
    """Set timers for next year, as commits would."""
    later = int((time.time() + 31_536_000) * 1000)
    for start in range(0, count, 10_000):
        names = [f"alarm/9/{n:09}/t" for n in range(start, min(start + 10_000, count))]
        pipe = client.pipeline(transaction=False)
        pipe.zadd(keys.schedule(0), {name: later + at for at, name in enumerate(names)})
        pipe.hset(keys.timers(0), mapping={name: _body(name) for name in names})
        pipe.execute()


def _body(key: str) -> bytes:
    return encode_envelope(Envelope(f"{key}:t0", "alarm", key, encode(Ring(key, datetime.now(UTC)))))


def _commit(key: str) -> Commit:
    ref = Ref(partition_of("alarm", key, 1), "alarm", key)
    view = Opened(ref, 0, "", 0, Commit(ref, 0, "", 0).was, None, ())
    entry = encode(Entry(f"c-{key}", "Arm", 1, 0, ()))
    timer = TimerEntry(f"{ref.scope}/ring", _body(key), 3_600_000)
    return Commit(view.ref, 0, "", 0, [entry], f"c-{key}", timers=[timer])


@click.command()
@click.option("--rate", default=500, show_default=True, help="Timers a second.")
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--instant", "count", default=5_000, show_default=True, help="Timers at one instant.")
@click.option("--pending", default=1_000_000, show_default=True, help="Timers beside which commits are made.")
@click.option("--processes", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a table.")
def main(rate: int, seconds: float, count: int, pending: int, processes: int, as_json: bool) -> None:
    """Measure the lateness of timers, and what they cost a commit."""
    with ground() as where:
        rows = [
            short(where, processes),
            steady(where, processes, rate, seconds),
            instant(where, processes, count),
            *beside(where, pending),
        ]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(row.get(name, "")) for name in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
