"""The page: results as Markdown, with the facts, the targets, a table and a drawing for each benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.catalogue import CATALOGUE, Benchmark
from benchmarks.report import cell, columns_of
from benchmarks.results import FOLDER
from benchmarks.rows import Row
from benchmarks.targets import TARGETS, Target

FILE = FOLDER.parent / "RESULTS.md"
#: What is said once, above all tables.
MACHINE = ("machine", "cores", "memory_gb", "kernel", "python", "redis", "rabbitmq", "packages")
#: Said in the list of targets, and with the benchmark.
ELSEWHERE = ("benchmark", "target", "reached")

HEAD = """\
# Results

Written by `make bench`; what is measured, how, and what each system guarantees meanwhile is in [README.md](README.md).
A figure is the median of the runs, and in brackets are the lowest and the highest.
`ratio` compares with plain dramatiq in the same run, where the table does not say otherwise.
`_us` is processor time for each command or process, `_mb` the peak of memory in MiB: of the client, which is the benchmark itself, the worker processes, and each server.
`others_cores` is how many cores something else kept busy meanwhile; much of that makes the figures worth little.
"""


def page(results: Mapping[str, Sequence[Row]], drawings: Mapping[str, Path]) -> str:
    """Return the page of all results."""
    order = [benchmark.name for benchmark in CATALOGUE]
    names = sorted(results, key=lambda name: order.index(name) if name in order else len(order))
    parts = [HEAD, _machines(results), _targets(results)]
    for name in names:
        parts += _section(name, results[name], drawings.get(name))
    return "\n".join(part for part in parts if part)


def of(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that are no facts."""
    return [row for row in rows if row.get("what") != "facts"]


def facts_of(rows: Sequence[Row]) -> Row:
    """Return the facts; nothing where there are none."""
    return next((row for row in rows if row.get("what") == "facts"), {})


def benchmark_of(name: str) -> Benchmark:
    """Return what the catalogue knows of a name."""
    return next((benchmark for benchmark in CATALOGUE if benchmark.name == name), Benchmark(name))


def markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    text = [columns, ["---"] * len(columns), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in text)


def _machines(results: Mapping[str, Sequence[Row]]) -> str:
    """Return the machine and the versions: one column for each that anything was measured with."""
    known = [facts for rows in results.values() if (facts := facts_of(rows))]
    each = list(dict.fromkeys(tuple(cell(facts, name) for name in MACHINE) for facts in known))
    return markdown(
        ["measured on", *[""] * len(each)],
        [[name, *(one[at] for one in each)] for at, name in enumerate(MACHINE)],
    )


def _targets(results: Mapping[str, Sequence[Row]]) -> str:
    """Return all targets, also of what was not measured."""
    head = ["benchmark", "what", "system", "target", "measured", "reached"]
    return f"## Targets\n\n{markdown(head, [_held(target, results) for target in TARGETS])}"


def _held(target: Target, results: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return a target with the figure that it is about, and whether that reaches it."""
    row = next((row for row in results.get(target.benchmark, ()) if target.is_of(row)), {})
    value = row.get(target.figure)
    measured, reached = "not measured", ""
    if not isinstance(value, str | None):
        measured = f"{target.figure} {cell(row, target.figure)}"
        reached = "yes" if target.holds(value) else "no"
    return [target.benchmark, target.what, target.system, target.said, measured, reached]


def _section(name: str, rows: Sequence[Row], drawing: Path | None) -> list[str]:
    facts, figures = facts_of(rows), of(rows)
    columns = [column for column in columns_of(figures) if column not in ELSEWHERE]
    when = [
        f"{key} {cell(facts, key)}"
        for key in ("date", "commit", "runs", "load_before", "note")
        if key in facts
    ]
    lines = sorted(figures, key=lambda row: [one.get("what") for one in figures].index(row.get("what")))
    return [
        f"## {name}\n",
        f"{facts.get('question', '')}\n",
        f"{', '.join(when)}\n",
        markdown(columns, [[cell(row, column) for column in columns] for row in lines]),
        f"![{name}]({drawing.relative_to(FILE.parent).as_posix()})\n" if drawing is not None else "",
    ]
