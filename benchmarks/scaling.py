"""How many commands a second are applied from full queues, by worker processes and by partitions?

Run it as
    python -m benchmarks.scaling [--commands 20000] [--processes 1,2,4] [--partitions 1,4,16,64] [--runs 3] [--json]
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.full import HEARTBEAT, MEMBER_TTL_MS, run
from benchmarks.ground import Ground, Row
from benchmarks.report import command
from benchmarks.stage import fresh, numbers


@dataclass(frozen=True)
class Options:
    """How much of it."""

    commands: int = 20_000
    keys: int = 1_000
    processes: str = "1,2,4"
    partitions: str = "1,4,16,64"


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure every number of processes with every number of partitions."""
    rows: list[Row] = []
    for partitions in numbers(options.partitions):
        for processes in numbers(options.processes):
            with fresh(
                where.redis_url,
                where.amqp_url + HEARTBEAT,
                partitions=partitions,
                member_ttl_ms=MEMBER_TTL_MS,
            ) as settings:
                found = run(where, settings, options.commands, options.keys, processes)
            what = f"queue full, {partitions} partitions, {processes} processes"
            rows.append({"system": "holdfast", "what": what, **found})
    return rows


main = command("scaling", __doc__, measure, Options)

if __name__ == "__main__":
    main()
