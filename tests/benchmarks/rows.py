"""
What rows of a run must have to be of any use.
"""

from collections.abc import Sequence

from benchmarks.rows import Row

COSTS = {
    "client_us",
    "workers_us",
    "redis_us",
    "rabbitmq_us",
    "others_cores",
    "workers_mb",
    "redis_mb",
    "rabbitmq_mb",
}


def names(rows: Sequence[Row]) -> list[tuple[object, object]]:
    """
    Return what was measured, in order.
    """
    return [(row["what"], row["system"]) for row in rows]


def assert_sane(rows: Sequence[Row]) -> None:
    """
    Every row has a rate or a latency above nothing, and says what it cost whom.
    """
    for row in rows:
        figures = [row[name] for name in ("per_second", "p50_ms") if name in row]
        assert figures, row
        assert all(isinstance(figure, int | float) and figure > 0 for figure in figures), row
        assert COSTS <= row.keys(), row
        assert all(isinstance(row[name], int | float) and row[name] >= 0 for name in COSTS), row  # type: ignore[operator]  # numbers, as was looked
        assert row["redis_mb"] != 0, row
        if "p50_ms" in row:
            assert row["p50_ms"] <= row["p99_ms"] <= row["max_ms"], row  # type: ignore[operator]  # numbers
