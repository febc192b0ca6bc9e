"""How many commands a second are applied from full queues, by worker processes and by partitions?

Run it as
    python -m benchmarks.scaling [--commands 20000] [--processes 1,2,4] [--partitions 1,4,16,64] [--json]
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from benchmarks.full import HEARTBEAT, MEMBER_TTL_MS, run
from benchmarks.ground import Ground, ground
from benchmarks.shown import Row, show
from benchmarks.stage import fresh


def measure(
    where: Ground, commands: int, keys: int, processes: Sequence[int], partitions: Sequence[int]
) -> list[Row]:
    """Measure every number of processes with every number of partitions."""
    rows: list[Row] = []
    for share in partitions:
        for count in processes:
            with fresh(
                where.redis_url,
                where.amqp_url + HEARTBEAT,
                partitions=share,
                member_ttl_ms=MEMBER_TTL_MS,
            ) as settings:
                found = run(settings, commands, keys, count)
            rows.append(
                {
                    "system": "holdfast",
                    "what": f"queue full, {share} partitions, {count} processes",
                    "partitions": share,
                    "processes": count,
                    "per_second": round(found.per_second),
                    "middle_per_second": round(found.middle_per_second),
                    "cores": round(found.cores, 2),
                    "worker_cores": round(found.worker_cores, 2),
                    "cpu_us": round(found.cpu_us),
                    "worker_us": round(found.worker_us),
                    "of_cores": os.cpu_count() or 0,
                }
            )
    return rows


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


@click.command()
@click.option("--commands", default=20_000, show_default=True)
@click.option("--keys", default=1_000, show_default=True)
@click.option("--processes", default="1,2,4", show_default=True)
@click.option("--partitions", default="1,4,16,64", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a table.")
def main(commands: int, keys: int, processes: str, partitions: str, as_json: bool) -> None:
    """Measure commands per second by processes and partitions."""
    with ground() as where:
        show(
            "scaling",
            measure(where, commands, keys, _numbers(processes), _numbers(partitions)),
            as_json=as_json,
        )


if __name__ == "__main__":
    main()
