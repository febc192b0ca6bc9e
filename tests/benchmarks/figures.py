"""
What all rows have in common.
"""

import math
from collections.abc import Sequence

from benchmarks.rows import Row


def check(rows: Sequence[Row]) -> None:
    """
    Every row says what was measured and where, and no two the same; every figure is a number that is not negative.
    """
    assert rows
    assert len({(row["system"], row["what"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["system"]
        assert row["what"]
        for value in row.values():
            assert isinstance(value, str) or (math.isfinite(value) and value >= 0), row


def named(rows: Sequence[Row], what: str) -> list[Row]:
    """
    The rows of one measurement.
    """
    found = [row for row in rows if row["what"] == what]
    assert found, f"there is no {what!r} among {sorted({str(row['what']) for row in rows})}"
    return found


def beginning(rows: Sequence[Row], what: str) -> list[Row]:
    """
    The rows of several measurements.
    """
    return [row for row in rows if str(row["what"]).startswith(what)]


def figure(row: Row, name: str) -> float:
    """
    A figure of a row.
    """
    value = row[name]
    assert not isinstance(value, str), row
    return value
