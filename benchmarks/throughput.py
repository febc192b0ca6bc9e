"""How many keyed state transitions a second are submitted and applied, beside plain dramatiq?

Run it as
    python -m benchmarks.throughput [--commands 20000] [--keys 1000] [--processes 1] [--runs 3] [--json]
"""

from __future__ import annotations

from collections import Counter as Counts
from dataclasses import dataclass

from benchmarks.counter import Increment, app
from benchmarks.crew import crew, namespace
from benchmarks.ground import Ground, Meter, Row
from benchmarks.report import command
from benchmarks.rival import rival
from benchmarks.rows import compared
from benchmarks.tally import Tally
from holdfast import Client

APP = "benchmarks.counter:app"
#: Counters that are incremented before anything is measured: enough for every partition to have been at work.
WARM_UP = 64


@dataclass(frozen=True)
class Options:
    """How much of it."""

    commands: int = 20_000
    keys: int = 1_000
    #: Holdfast's worker processes; dramatiq has its default, one for each core.
    processes: int = 1
    #: Measure this load alone.
    only: str = ""


@dataclass(frozen=True)
class Load:
    """So many commands, which go round the keys."""

    what: str
    commands: int
    keys: int
    #: Whether all are in the queues before the workers start.
    full: bool

    def key(self, number: int) -> str:
        """Return whom a command is for."""
        return f"k{number % self.keys}"

    def wanted(self) -> dict[str, int]:
        """Return how many commands each key gets."""
        return dict(Counts(map(self.key, range(self.commands))))


def loads(options: Options) -> list[Load]:
    """Return what is measured, each for itself."""
    commands, keys = options.commands, options.keys
    return [
        Load("submitted and applied", commands, keys, full=False),
        Load("queue full", commands, keys, full=True),
        Load("queue full, all keys distinct", commands, commands, full=True),
        Load("queue full, one hot key", commands, 1, full=True),
    ]


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure each load once, plain dramatiq and Holdfast in turn."""
    rows: list[Row] = []
    for load in loads(options):
        if options.only not in ("", load.what):
            continue
        rows.append(dramatiq_row(where, load))
        if not load.full:  # confirms are the business of who publishes
            rows.append(dramatiq_row(where, load, confirms=True))
        rows.append(holdfast_row(where, load, options.processes))
    return compared(rows, "dramatiq")


def dramatiq_row(where: Ground, load: Load, *, confirms: bool = False) -> Row:
    """Measure plain dramatiq: from the first send, or from the first that is applied, to the last one."""
    system = "dramatiq, confirms" if confirms else "dramatiq"
    with rival(where, confirms=confirms) as plain:

        def submit() -> None:
            for number in range(load.commands):
                plain.increment.send(load.key(number))

        if load.full:
            submit()
        with plain.workers(where):
            if load.full:
                plain.await_count(1)
                meter = Meter(where)
                before = plain.count()
            else:
                plain.warm_up()
                meter, before = Meter(where), 0
                submit()
            plain.await_count(load.commands)
            return meter.row(system, load.what, max(1, load.commands - before))


def holdfast_row(where: Ground, load: Load, processes: int = 1) -> Row:
    """Measure Holdfast over the same stretch."""
    with namespace(where, app) as client, Tally(client.settings) as tally:
        return holdfast_over(where, client, tally, load, "holdfast", processes)


def holdfast_over(
    where: Ground,
    client: Client,
    tally: Tally,
    load: Load,
    system: str,
    processes: int = 1,
    **servers: int,
) -> Row:
    """Measure a client's commands and the workers; `servers` are as the meter's."""
    if load.full:
        submit(client, load)
    with crew(where, client.settings, APP, processes=processes):
        if load.full:
            tally.await_instances(1)
            meter = Meter(where, **servers)
            before = _applied(tally, load)
        else:
            warm_up(client)
            meter, before = Meter(where, **servers), 0
            submit(client, load)
        if load.keys == load.commands:
            tally.await_instances(load.keys + (0 if load.full else WARM_UP))
        else:
            tally.await_records(load.wanted())
        return meter.row(system, load.what, max(1, load.commands - before))


def submit(client: Client, load: Load) -> None:
    """Send all commands, confirmed."""
    client.send_many(Increment(load.key(number)) for number in range(load.commands))


def warm_up(client: Client) -> None:
    """Have every part do what it will do, some times."""
    for number in range(WARM_UP):
        client.execute(Increment(f"warm{number}"), timeout=60)


def _applied(tally: Tally, load: Load) -> int:
    """Return how many are applied already; counted while the clock runs, so that it is none too few."""
    if load.keys == load.commands:
        return tally.instances()
    return sum(tally.records(list(load.wanted())))


main = command("throughput", __doc__, measure, Options)

if __name__ == "__main__":
    main()
