"""The plots: a drawing of each benchmark's rows, as SVG that is the same for the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.rows import LEAST, MOST, Row

#: What may be drawn as bars, and what the axis says.
BARS = {"per_second": "a second", "p50_ms": "milliseconds, p50", "p99_ms": "milliseconds, p99"}
#: Inches: a line of bars, and what is around them.
WIDTH, LINE, FRAME = 8.0, 0.32, 1.1

SETTINGS: Any = {"svg.hashsalt": "holdfast", "svg.fonttype": "none", "font.size": 8}


def draw(name: str, rows: Sequence[Row], folder: Path, curve: tuple[str, str] | None = None) -> Path | None:
    """Draw rows to a file in the folder, and return it; None where there is nothing to draw."""
    with mpl.rc_context(SETTINGS):
        figure = _curve(rows, *curve) if curve is not None else _bars(rows)
        if figure is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}.svg"
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.read_text(encoding="utf-8")
    file.write_text("".join(f"{line.rstrip()}\n" for line in text.splitlines()), encoding="utf-8")
    return file


def _bars(rows: Sequence[Row]) -> Figure | None:
    found = {column: [row for row in rows if column in row] for column in BARS}
    found = {column: some for column, some in found.items() if some}
    if not found:
        return None
    sizes = [len(some) for some in found.values()]
    figure = Figure(figsize=(WIDTH, sum(sizes) * LINE + len(sizes) * FRAME), layout="constrained")
    axes = figure.subplots(len(found), squeeze=False, height_ratios=[size * LINE + FRAME for size in sizes])
    colours = _colours(rows)
    for axis, (column, some) in zip(axes[:, 0], found.items(), strict=True):
        some = sorted(some, key=lambda row: [one.get("what") for one in some].index(row.get("what")))  # noqa: PLW2901 - the same, in order
        values = [float(row[column]) for row in some]
        least = [float(row.get(column + LEAST, row[column])) for row in some]
        most = [float(row.get(column + MOST, row[column])) for row in some]
        around = [
            [value - low for value, low in zip(values, least, strict=True)],
            [high - value for value, high in zip(values, most, strict=True)],
        ]
        axis.barh(
            range(len(some)),
            values,
            xerr=around,
            color=[colours[_system(row)] for row in some],
            error_kw={"elinewidth": 0.8, "capsize": 2},
        )
        axis.set_yticks(range(len(some)), [f"{row.get('what', '')}: {_system(row)}" for row in some])
        axis.invert_yaxis()
        axis.set_xlabel(BARS[column])
        if column != "per_second":
            axis.set_xscale("log")
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _curve(rows: Sequence[Row], x: str, y: str) -> Figure | None:
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if x in row and y in row:
            lines.setdefault(_system(row), []).append((float(row[x]), float(row[y])))
    if not lines:
        return None
    figure = Figure(figsize=(WIDTH, WIDTH / 2), layout="constrained")
    axis = figure.subplots()
    for system, points in lines.items():
        points.sort()
        axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=system)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _system(row: Row) -> str:
    return str(row.get("system", row.get("store", "holdfast")))


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    """Return a colour for each system: blues for Holdfast, greys for the others."""
    systems = dict.fromkeys(map(_system, rows))
    own = [system for system in systems if "holdfast" in system]
    others = [system for system in systems if system not in own]
    blues, greys = ("#1f5fa8", "#5b9bd5", "#9dc3e6"), ("#7f7f7f", "#a6a6a6", "#595959", "#c9c9c9")
    return {
        **{system: blues[at % len(blues)] for at, system in enumerate(own)},
        **{system: greys[at % len(greys)] for at, system in enumerate(others)},
    }
