"""The report: runs a benchmark several times and says what came of it, as a table or as JSON lines.

A benchmark is a module with `Options`, a frozen dataclass of numbers and text with defaults; `measure(where, options)`,
which returns the rows of one run, rivals and Holdfast in turn; and

    main = command("throughput", __doc__, measure, Options)

The command has an option for each field, and those that all share: --runs, --json, --env. What can only be said of all runs
together, such as whether a median is linear, is said by `after`, which is given their medians.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from benchmarks.facts import facts
from benchmarks.ground import Ground, ground
from benchmarks.meter import Meter
from benchmarks.rows import LEAST, MOST, Row, latencies, median, quantile, summary
from benchmarks.targets import judged

__all__ = [
    "Meter",
    "Row",
    "cell",
    "columns_of",
    "command",
    "json_lines",
    "latencies",
    "median",
    "quantile",
    "summary",
    "table",
]

O = TypeVar("O")  # noqa: E741 - a type, as T is

#: Figures whose spread a table shows; of the others it shows the median alone.
SPREAD_SHOWN = ("per_second", "ratio", "p50_ms", "p99_ms")
#: More columns than any table has.
WIDTH = 1_000


def command(
    name: str,
    question: str | None,
    measure: Callable[[Ground, O], list[Row]],
    options: type[O],
    *,
    runs: int = 3,
    after: Callable[[Sequence[Row]], list[Row]] = list,
) -> click.Command:
    """Return the command line of a benchmark.

    Args:
        name: Its name in the catalogue.
        question: Its docstring, of which the first line is the question.
        measure: Measures once.
        options: What it can be told.
        runs: How often it measures when it is told nothing.
        after: Adds what only the medians of all runs say.
    """
    asked = (question or name).strip().partition("\n")[0]

    def main(runs: int, as_json: bool, env: Sequence[str], **given: Any) -> None:
        rows: list[Row] = []
        environment = dict(one.split("=", 1) for one in env)
        with ground(environment=environment) as where:
            found = facts(where) | {"question": asked, "runs": runs}
            for number in range(runs):
                click.echo(f"{name}: run {number + 1} of {runs}", err=True)
                rows += measure(where, options(**given))
        rows = [found, *judged(name, after(summary(rows)))]
        if as_json:
            click.echo("\n".join(json_lines(name, rows)))
        else:
            # As wide as the figures are: a terminal breaks lines, a narrow table would leave figures out.
            Console(width=WIDTH).print(*tables(name, rows))

    shared: list[click.Parameter] = [
        click.Option(["--runs"], default=runs, show_default=True, help="How often all is measured, in turn."),
        click.Option(["--json", "as_json"], is_flag=True, help="JSON lines instead of a table."),
        click.Option(
            ["--env"], multiple=True, help="NAME=VALUE for Holdfast's workers; any number of these."
        ),
    ]
    return click.Command(name, callback=main, params=[*map(_option, fields(options)), *shared], help=asked)  # type: ignore[arg-type]  # O is a dataclass; there is no way to say so


def _option(field: Any) -> click.Parameter:
    if field.default is MISSING:
        message = f"the option {field.name} of a benchmark needs a default"
        raise TypeError(message)
    flag = f"--{field.name.replace('_', '-')}"
    return click.Option([flag], default=field.default, show_default=True, help=field.metadata.get("help"))


def json_lines(name: str, rows: Iterable[Row]) -> list[str]:
    """Return each row as a line of JSON that names its benchmark."""
    return [json.dumps({"benchmark": name} | row) for row in rows]


def tables(name: str, rows: Sequence[Row]) -> list[Any]:
    """Return the figures as a table for a terminal, and the facts above it."""
    said = [
        ", ".join(f"{key} {value}" for key, value in row.items() if key not in ("system", "what"))
        for row in rows
        if _is_facts(row)
    ]
    return [*(f"{line}\n" for line in said), table(name, [row for row in rows if not _is_facts(row)])]


def _is_facts(row: Row) -> bool:
    return row.get("what") == "facts"


def table(name: str, rows: Sequence[Row]) -> Table:
    """Return rows as a table; the same load stands together."""
    columns = columns_of(rows)
    made = Table(*columns, title=name)
    order = list(dict.fromkeys(row.get("what") for row in rows))
    for row in sorted(rows, key=lambda row: order.index(row.get("what"))):
        made.add_row(*(cell(row, column) for column in columns))
    return made


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Return the columns that any row has, without those that are the spread of another."""
    names = dict.fromkeys(name for row in rows for name in row)
    first = [name for name in ("what", "system") if name in names]
    rest = [name for name in names if name not in first and not _is_spread(name, names)]
    return [*first, *rest]


def _is_spread(name: str, names: Iterable[str]) -> bool:
    return any(name.endswith(end) and name.removesuffix(end) in names for end in (LEAST, MOST))


def cell(row: Row, column: str) -> str:
    """Return a figure as people read it, with its spread where that is shown."""
    value = row.get(column, "")
    if isinstance(value, str):
        return value
    least, most = row.get(column + LEAST), row.get(column + MOST)
    spread = column in SPREAD_SHOWN and not isinstance(least, str | None) and not isinstance(most, str | None)
    return f"{_number(value)} ({_number(least)}..{_number(most)})" if spread else _number(value)  # type: ignore[arg-type]  # numbers, as was looked


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:g}"
