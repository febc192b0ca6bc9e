"""Rows: what a benchmark measured, as flat facts; several runs of the same become one row with median and spread.

What is text in a row says what was measured, and what is a number is how it went. Rows may have any columns.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

#: A flat dict; `system` and `what` say what was measured.
Row = dict[str, float | str]

#: Behind the name of a figure: the smallest and the largest of all runs.
LEAST, MOST = "_min", "_max"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all lie under."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def latencies(system: str, what: str, times_ms: Sequence[float]) -> Row:
    """Return the row of many times in milliseconds."""
    return {
        "system": system,
        "what": what,
        "p50_ms": round(quantile(times_ms, 0.5), 2),
        "p99_ms": round(quantile(times_ms, 0.99), 2),
        "max_ms": round(max(times_ms), 2),
    }


def compared(rows: Iterable[Row], rival: str) -> list[Row]:
    """Return one run's rows with a `ratio`: the rate of each, by that of the rival in the same run and load."""
    rows = list(rows)
    base = {row["what"]: row["per_second"] for row in rows if row["system"] == rival and "per_second" in row}
    found: list[Row] = []
    for row in rows:
        rate, other = row.get("per_second"), base.get(row["what"])
        known = isinstance(rate, int | float) and isinstance(other, int | float) and row["system"] != rival
        found.append(row | {"ratio": round(rate / other, 2)} if known else row)  # type: ignore[operator]  # numbers, as was looked
    return found


def identity(row: Row) -> tuple[tuple[str, str], ...]:
    """Return what a row measures: all its text."""
    return tuple((name, value) for name, value in row.items() if isinstance(value, str))


def summary(rows: Iterable[Row]) -> list[Row]:
    """Return one row for all that measured the same: the median of every figure, and behind it the spread."""
    found: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        found.setdefault(identity(row), []).append(row)
    return [_summed(same) for same in found.values()]


def _summed(same: Sequence[Row]) -> Row:
    figures: Row = {}
    spread: Row = {}
    for name in dict.fromkeys(name for row in same for name in row):
        values = [value for row in same if not isinstance(value := row.get(name, ""), str)]
        if not values:
            figures[name] = same[0][name]
            continue
        figures[name] = median(values)
        if len(same) > 1:
            spread |= {name + LEAST: min(values), name + MOST: max(values)}
    return figures | spread
