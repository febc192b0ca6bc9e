"""How do the rivals do on this machine?

Run it as
    python -m benchmarks.rivals --with dramatiq,celery,dbos,restate [--commands 5000] [--json]
"""

from __future__ import annotations

import json
from collections.abc import Callable

import click
from rich.console import Console
from rich.table import Table

from benchmarks.facts import facts
from benchmarks.ground import Ground, ground
from benchmarks.rivals import Rival, Row, available, known

#: What is measured, in this order.
KINDS = ("transitions", "processes", "timers", "recovery")


def measured(rival: Rival, where: Ground, kind: str, counts: dict[str, int], keys: int) -> list[Row]:
    """Measure one rival at one thing."""
    calls: dict[str, Callable[[], list[Row]]] = {
        "transitions": lambda: rival.transitions(where, counts[kind], keys),
        "processes": lambda: rival.processes(where, counts[kind]),
        "timers": lambda: rival.timers(where, counts[kind]),
        "recovery": lambda: rival.recovery(where, counts[kind]),
    }
    return calls[kind]()


@click.command()
@click.option("--with", "names", default=",".join(known()), show_default=True, help="Which rivals.")
@click.option("--what", default=",".join(KINDS), show_default=True, help="Which measurements.")
@click.option("--commands", default=20_000, show_default=True)
@click.option("--keys", default=1_000, show_default=True)
@click.option("--processes", default=2_000, show_default=True)
@click.option("--timers", default=5_000, show_default=True)
@click.option(
    "--recovered", default=1_000, show_default=True, help="Processes amid which workers are killed."
)
@click.option(
    "--runs", default=1, show_default=True, help="Each rival so often, in turn; every row is shown."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a table.")
def main(
    names: str,
    what: str,
    commands: int,
    keys: int,
    processes: int,
    timers: int,
    recovered: int,
    runs: int,
    as_json: bool,
) -> None:
    """Measure rivals, in turn, on private servers."""
    kinds = what.split(",")
    if not set(kinds) <= set(KINDS):
        raise click.BadParameter(f"there are {', '.join(KINDS)}", param_hint="--what")
    try:
        rivals = available(names.split(","))
    except LookupError as error:
        raise click.BadParameter(str(error), param_hint="--with") from None
    counts = dict(zip(KINDS, (commands, processes, timers, recovered), strict=True))
    rows: list[Row] = []
    with ground() as where:
        if as_json:
            asked = str(__doc__).partition("\n")[0]
            click.echo(json.dumps(facts(where) | {"question": asked, "runs": runs}))
        for _ in range(runs):
            for kind in kinds:
                for rival in rivals:
                    found = measured(rival, where, kind, counts, keys)
                    rows += found
                    if as_json:
                        for row in found:
                            click.echo(json.dumps(row))
    if not as_json:
        _show(rows)


def _show(rows: list[Row]) -> None:
    console = Console()
    for what in dict.fromkeys(row["what"] for row in rows):
        same = [row for row in rows if row["what"] == what]
        columns = [name for name in same[0] if name not in ("what", "guarantees")]
        table = Table(*columns, title=str(what), title_justify="left")
        for row in same:
            table.add_row(*(str(row.get(name, "")) for name in columns))
        console.print(table)
    for system, guarantees in {row["system"]: row["guarantees"] for row in rows}.items():
        console.print(f"{system}: {guarantees}", highlight=False)


if __name__ == "__main__":
    main()
