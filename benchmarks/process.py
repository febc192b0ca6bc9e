"""How many three-step order processes a second, each step an effect, and how long does one alone take, beside a bare pipeline?

Run it as
    python -m benchmarks.process [--count 2000] [--alone 200] [--transports rabbitmq] [--runs 3] [--json]

The bare pipeline is dramatiq's own: three messages, each sent by the worker of the one before. It keeps nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from benchmarks.crew import crew, namespace
from benchmarks.ground import Ground, Meter, Row
from benchmarks.latency import alone
from benchmarks.report import command
from benchmarks.rival import rival
from benchmarks.rows import compared
from benchmarks.steps import STEPS, Begin, Process, app
from holdfast import Client, RunState
from holdfast.actors.wiring import open_ports

APP = "benchmarks.steps:app"
#: How handlers run, and what the keys of such processes begin with.
KINDS = {"threads": "t", "coroutines": "a"}
WARM_UP = 20
TIMEOUT_S = 300
#: How often it is looked how many are completed.
LOOK_S = 0.005


@dataclass(frozen=True)
class Options:
    """How much of it."""

    #: Processes that are begun at once.
    count: int = 2_000
    #: Processes that are begun one at a time.
    alone: int = 200
    #: What carries Holdfast's commands: rabbitmq, redis, or both with a comma between them.
    transports: str = "rabbitmq"
    #: Holdfast's worker processes.
    processes: int = 1


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure once: the bare pipeline, and Holdfast with both kinds of handlers."""
    rows = dramatiq_rows(where, options)
    for transport in options.transports.split(","):
        rows += holdfast_rows(where, options, transport)
    return compared(rows, "dramatiq pipeline")


def dramatiq_rows(where: Ground, options: Options) -> list[Row]:
    """Measure the bare pipeline."""
    with rival(where) as plain, plain.workers(where):

        def once(_: int) -> float:
            began = time.perf_counter()
            plain.begin(plain.answers)
            plain.await_answer()
            return (time.perf_counter() - began) * 1000

        plain.warm_up()
        for number in range(WARM_UP):
            once(number)
        lone = alone(where, "dramatiq pipeline", "one alone", options.alone, once)
        plain.redis.delete(f"{plain.prefix}:all")
        meter = Meter(where)
        for _ in range(options.count):
            plain.begin()
        plain.await_count(options.count)
        return [meter.row("dramatiq pipeline", "processes", options.count), lone]


def holdfast_rows(where: Ground, options: Options, transport: str) -> list[Row]:
    """Measure Holdfast with handlers on threads and on the event loop."""
    rows: list[Row] = []
    with _at_work(where, options, rabbitmq=transport == "rabbitmq") as client:
        for kind, prefix in KINDS.items():
            system = f"holdfast, {kind}" if transport == "rabbitmq" else f"holdfast on Redis, {kind}"
            names = (f"{prefix}-{number}" for number in count())

            def once(_: int, names: Iterator[str] = names) -> float:
                began = time.perf_counter()
                completed(client, next(names))
                return (time.perf_counter() - began) * 1000

            lone = alone(where, system, "one alone", options.alone, once)
            rows += [many(where, client, system, names, options.count), lone]
    return rows


@contextmanager
def _at_work(where: Ground, options: Options, *, rabbitmq: bool) -> Iterator[Client]:
    with (
        namespace(where, app, rabbitmq=rabbitmq) as client,
        crew(where, client.settings, APP, processes=options.processes, pools=("command", "effect")),
    ):
        for number in range(WARM_UP):
            for prefix in KINDS.values():
                completed(client, f"{prefix}-warm{number}")
        yield client


def completed(client: Client, key: str) -> None:
    """Begin a process, and wait for its end."""
    client.send(Begin(key))
    client.wait(Process, key, until=lambda state: state.step > STEPS, timeout=60)


def many(
    where: Ground, client: Client, system: str, names: Iterator[str], number: int, **servers: int
) -> Row:
    """Measure from the first command sent to the last process completed; `servers` are as the meter's."""
    ports = open_ports(client.settings)
    try:
        want = ports.directory.count(Process.type, RunState.COMPLETED) + number
        meter = Meter(where, **servers)
        client.send_many(Begin(next(names)) for _ in range(number))
        deadline = time.monotonic() + TIMEOUT_S
        while ports.directory.count(Process.type, RunState.COMPLETED) < want:
            if time.monotonic() > deadline:
                message = "the processes were not completed in time"
                raise TimeoutError(message)
            time.sleep(LOOK_S)
        return meter.row(system, "processes", number)
    finally:
        ports.close()


main = command("process", __doc__, measure, Options)

if __name__ == "__main__":
    main()
