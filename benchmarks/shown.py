"""Rows of figures, and how they are shown: as a table, or as a line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from benchmarks.targets import judged

#: One measurement. `system` and `what` say what was measured, and no other row of a run says the same; numbers say how
#: it went. Verdicts are added to rows when all runs are done.
Row = dict[str, float | str]


def show(name: str, rows: Sequence[Row], *, as_json: bool) -> None:
    """Print the rows of a benchmark, held against its targets, with a column for every figure that any of them has."""
    rows = judged(name, rows)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    columns = list(dict.fromkeys(name for row in rows for name in ("system", "what", *row)))
    table = Table(*columns)
    for row in rows:
        table.add_row(*(_said(row.get(name, "")) for name in columns))
    Console(width=max(120, Console().width)).print(table)


def _said(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
