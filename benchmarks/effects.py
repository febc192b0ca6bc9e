"""How many three-step processes a second, each step an effect, and how long does one alone take?

Run it as
    python -m benchmarks.effects [--count 6000] [--runs 1] [--workers 1] [--json]
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmarks.commands import Meter, Row, alone, summary
from benchmarks.ground import Ground, ground
from benchmarks.process import STEPS, Begin, Process, app
from holdfast import Client, RunState, Settings, Supervisor, connect
from holdfast.actors.wiring import open_ports, remove_namespace

ROOT = Path(__file__).parents[1]
WARM_UP = 20


@contextmanager
def at_work(where: Ground, workers: int, *, rabbitmq: bool) -> Iterator[Client]:
    """Run workers in a fresh namespace, and remove it in the end."""
    settings = Settings.of(
        redis_url=where.redis_url,
        amqp_url=where.amqp_url if rabbitmq else "",
        namespace=f"b{secrets.token_hex(4)}",
    )
    log = Path(tempfile.gettempdir()) / f"holdfast-bench-{os.getpid()}.log"
    crew = Supervisor(
        "benchmarks.process:app",
        settings,
        processes=workers,
        pools=("command", "effect"),
        folder=ROOT,
        log_file=log,
    )
    try:
        with connect(app, settings) as client, crew:
            for number in range(WARM_UP):
                _once(client, f"w{number}")
                _once(client, f"a-w{number}")
            yield client
    finally:
        remove_namespace(settings)
        log.unlink(missing_ok=True)


def _once(client: Client, key: str) -> None:
    client.send(Begin(key))
    client.wait(Process, key, until=lambda state: state.step > STEPS, timeout=60)


def throughput(client: Client, where: Ground, system: str, prefix: str, count: int) -> Row:
    """Measure from the first command sent to the last process completed."""
    directory = open_ports(client.settings).directory
    done = directory.count(Process.type, RunState.COMPLETED)
    meter = Meter(where)
    client.send_many(Begin(f"{prefix}{number}") for number in range(count))
    deadline = time.monotonic() + 300
    while directory.count(Process.type, RunState.COMPLETED) < done + count:
        if time.monotonic() > deadline:
            message = "the processes were not completed in time"
            raise TimeoutError(message)
        time.sleep(0.01)
    return meter.row(system, f"processes of {STEPS} effects", count)


def run(where: Ground, count: int, workers: int) -> list[Row]:
    """Measure both transports and both kinds of handlers once."""
    rows: list[Row] = []
    for name, rabbitmq in (("rabbitmq", True), ("redis", False)):
        with at_work(where, workers, rabbitmq=rabbitmq) as client:
            for kind, prefix in (("threads", "t"), ("coroutines", "a")):
                system = f"{name}, {kind}"
                numbers = iter(range(10_000))
                rows.append(
                    alone(system, lambda p=prefix, n=numbers, c=client: _once(c, f"{p}-one-{next(n)}"))  # type: ignore[misc]  # mypy cannot type a default in a lambda
                )
                rows.append(throughput(client, where, system, f"{prefix}-", count))
    return rows


@click.command()
@click.option("--count", default=6_000, show_default=True, help="Processes in one measurement.")
@click.option("--runs", default=1, show_default=True)
@click.option("--workers", default=1, show_default=True, help="Worker processes.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a table.")
def main(count: int, runs: int, workers: int, as_json: bool) -> None:
    """Measure three-step processes per second and the latency of one."""
    rows: list[Row] = []
    with ground() as where:
        for _ in range(runs):
            rows += run(where, count, workers)
    for row in summary(rows):
        if as_json:
            click.echo(json.dumps(row))
        else:
            figures = "  ".join(
                f"{name}={value}" for name, value in row.items() if name not in ("system", "what")
            )
            click.echo(f"{row['system']:24} {row['what']:24} {figures}")


if __name__ == "__main__":
    main()
