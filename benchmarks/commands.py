"""How many commands a second are submitted and applied, and how long does one alone take, beside plain dramatiq?

Run it as
    python -m benchmarks.commands [--commands 20000] [--keys 1000] [--runs 3] [--processes 1] [--json]
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import redis
from rich.console import Console
from rich.table import Table

from benchmarks.counter import Counter, Increment, app
from benchmarks.ground import Ground, cpu_seconds, ground, median, quantile
from holdfast import Accepted, Client, Settings, Supervisor, connect
from holdfast.actors.wiring import remove_namespace

ROOT = Path(__file__).parents[1]
#: One command at a time, on an idle system.
ALONE = 500
WARM_UP = 50

Row = dict[str, float | str]


@contextmanager
def holdfast_at(where: Ground) -> Iterator[tuple[Client, Settings]]:
    """Connect to a fresh namespace, and remove it in the end."""
    settings = Settings.of(
        redis_url=where.redis_url, amqp_url=where.amqp_url, namespace=f"b{secrets.token_hex(4)}"
    )
    try:
        with connect(app, settings) as client:
            yield client, settings
    finally:
        remove_namespace(settings)


def applied(client: Client, commands: int, keys: int) -> None:
    """Wait until every counter is where all its commands leave it."""
    for key in range(keys):
        want = commands // keys + (key < commands % keys)
        client.wait(Counter, f"k{key}", until=lambda state, want=want: state.value == want, timeout=300)  # type: ignore[misc]  # mypy cannot type a default in a lambda


def holdfast_run(where: Ground, commands: int, keys: int, processes: int) -> list[Row]:
    """Measure Holdfast once: submitted and applied, queue full, one alone."""
    rows: list[Row] = []
    log = Path(tempfile.gettempdir()) / f"holdfast-bench-{os.getpid()}.log"
    with holdfast_at(where) as (client, settings):
        workers = Supervisor(
            "benchmarks.counter:app", settings, processes=processes, folder=ROOT, log_file=log
        )
        with workers:
            for _ in range(WARM_UP):
                client.execute(Increment("warm"), timeout=60)
            meter = Meter(where)
            client.send_many(Increment(f"k{i % keys}") for i in range(commands))
            applied(client, commands, keys)
            rows.append(meter.row("holdfast", "submitted and applied", commands))
            rows.append(alone("holdfast", lambda: _executed(client)))
    with holdfast_at(where) as (client, settings):
        client.send_many(Increment(f"k{i % keys}") for i in range(commands))
        workers = Supervisor(
            "benchmarks.counter:app", settings, processes=processes, folder=ROOT, log_file=log
        )
        with workers:
            client.wait(Counter, "k0", until=lambda _: True, timeout=60)
            meter = Meter(where)
            applied(client, commands, keys)
            rows.append(meter.row("holdfast", "queue full", commands))
    log.unlink(missing_ok=True)
    return rows


def _executed(client: Client) -> None:
    outcome = client.execute(Increment("alone"))
    if not isinstance(outcome, Accepted):
        message = f"not accepted: {outcome}"
        raise TypeError(message)


def dramatiq_run(where: Ground, commands: int, keys: int) -> list[Row]:
    """Measure plain dramatiq once, with its default of a process for each core and eight threads in each."""
    prefix = f"b{secrets.token_hex(4)}"
    environment = os.environ | {
        "BENCHMARK_AMQP_URL": where.amqp_url,
        "BENCHMARK_REDIS_URL": where.redis_url,
        "BENCHMARK_PREFIX": prefix,
    }
    os.environ.update(environment)
    sys.modules.pop("benchmarks.rival", None)  # it reads its prefix when it is imported
    rival = importlib.import_module("benchmarks.rival")

    rows: list[Row] = []
    with _dramatiq_workers(environment):
        for _ in range(WARM_UP):
            _answered(rival, prefix)
        client = redis.Redis.from_url(where.redis_url)
        client.delete(f"{prefix}:all")
        meter = Meter(where)
        for i in range(commands):
            rival.increment.send(f"k{i % keys}")
        _counted(client, prefix, commands)
        rows.append(meter.row("dramatiq", "submitted and applied", commands))
        rows.append(alone("dramatiq", lambda: _answered(rival, prefix)))
    client.delete(f"{prefix}:all")
    for i in range(commands):
        rival.increment.send(f"k{i % keys}")
    with _dramatiq_workers(environment):
        _counted(client, prefix, 1)
        meter = Meter(where)
        _counted(client, prefix, commands)
        rows.append(meter.row("dramatiq", "queue full", commands))
    for key in client.scan_iter(match=f"{prefix}:*", count=1000):
        client.delete(key)
    rival.broker.close()
    return rows


@contextmanager
def _dramatiq_workers(environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "dramatiq", "benchmarks.rival:broker", "--threads", "8", "--skip-logging"],
        cwd=ROOT,
        env=environment,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _answered(rival: object, prefix: str) -> None:
    address = f"{prefix}:answer"
    rival.increment.send("alone", address)  # type: ignore[attr-defined]  # the freshly imported module
    rival.client.blpop([address], timeout=60)  # type: ignore[attr-defined]  # as above


def _counted(client: redis.Redis, prefix: str, want: int) -> None:
    """Wait for the count; looking every millisecond costs the rival next to nothing."""
    deadline = time.monotonic() + 300
    while int(client.get(f"{prefix}:all") or 0) < want:
        if time.monotonic() > deadline:
            message = "dramatiq did not finish in time"
            raise TimeoutError(message)
        time.sleep(0.001)


class Meter:
    """Measures the wall clock and the processor time of a stretch."""

    def __init__(self, where: Ground) -> None:
        self._where = where
        self._began = time.perf_counter()
        self._cpu = self._read()

    def _read(self) -> dict[str, float]:
        servers = [self._where.redis_pid], [self._where.rabbitmq_pid]
        redis_s, rabbitmq_s = (cpu_seconds(pids) for pids in servers)
        return {"all": cpu_seconds([os.getpid()]), "redis": redis_s, "rabbitmq": rabbitmq_s}

    def row(self, system: str, what: str, commands: int) -> Row:
        """Return commands per second, and microseconds of processor time per command by who used them."""
        seconds = time.perf_counter() - self._began
        used = {name: (value - self._cpu[name]) / commands * 1e6 for name, value in self._read().items()}
        own = used["all"] - used["redis"] - used["rabbitmq"]
        return {
            "system": system,
            "what": what,
            "per_second": round(commands / seconds),
            "python_us": round(own),
            "redis_us": round(used["redis"]),
            "rabbitmq_us": round(used["rabbitmq"]),
        }


def alone(system: str, once: Callable[[], None]) -> Row:
    """Measure one command at a time, from its submission to the answer that it was applied."""
    times = []
    for _ in range(ALONE):
        began = time.perf_counter()
        once()
        times.append((time.perf_counter() - began) * 1000)
    return {
        "system": system,
        "what": "one alone, answered",
        "p50_ms": round(quantile(times, 0.5), 2),
        "p99_ms": round(quantile(times, 0.99), 2),
    }


def summary(rows: list[Row]) -> list[Row]:
    """Return the median of every figure over the runs."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((str(row["system"]), str(row["what"])), []).append(row)
    medians: list[Row] = []
    for (system, what), same in found.items():
        middle: Row = {"system": system, "what": what, "runs": len(same)}
        for name in same[0].keys() - middle.keys():
            middle[name] = median([float(one[name]) for one in same])
        medians.append(middle)
    return medians


@click.command()
@click.option("--commands", default=20_000, show_default=True)
@click.option("--keys", default=1_000, show_default=True)
@click.option("--runs", default=3, show_default=True)
@click.option("--processes", default=1, show_default=True, help="Holdfast's worker processes.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a table.")
def main(commands: int, keys: int, runs: int, processes: int, as_json: bool) -> None:
    """Measure commands per second and the latency of one, Holdfast and plain dramatiq in turn."""
    rows: list[Row] = []
    with ground() as where:
        for _ in range(runs):
            rows += dramatiq_run(where, commands, keys)
            rows += holdfast_run(where, commands, keys, processes)
    found = summary(rows)
    if as_json:
        for row in found:
            click.echo(json.dumps(row))
        return
    columns = ["system", "what", "per_second", "p50_ms", "p99_ms", "python_us", "redis_us", "rabbitmq_us"]
    table = Table(*columns)
    for row in sorted(found, key=lambda row: str(row["what"])):
        table.add_row(
            *(
                f"{row[name]:,}" if isinstance(row.get(name), float) else str(row.get(name, ""))
                for name in columns
            )
        )
    Console().print(table)


if __name__ == "__main__":
    main()
