"""Targets: what the figures are held against, and whether they are reached.

Ratios are to plain dramatiq in the same run, those of tracing to Holdfast without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.rows import Row


class Target(NamedTuple):
    """A bound for one figure of one row."""

    benchmark: str
    system: str
    what: str
    figure: str
    bound: float
    #: Whether more is better.
    at_least: bool
    #: The target as a sentence.
    said: str

    def is_of(self, row: Row) -> bool:
        """Whether a row of the benchmark is the one."""
        return (row.get("system"), row.get("what")) == (self.system, self.what)

    def holds(self, value: float) -> bool:
        """Whether this figure reaches it."""
        return value >= self.bound if self.at_least else value < self.bound


TARGETS = (
    Target("throughput", "holdfast", "submitted and applied", "ratio", 3, True, "3x plain dramatiq"),
    Target("throughput", "holdfast", "queue full", "ratio", 5, True, "5x plain dramatiq"),
    Target("latency", "holdfast", "alone, publish to commit", "p50_ms", 2, False, "p50 under 2 ms"),
    Target("latency", "holdfast", "alone, publish to commit", "p99_ms", 10, False, "p99 under 10 ms"),
    Target("process", "holdfast, threads", "processes", "ratio", 1.5, True, "1.5x the bare pipeline"),
    Target("process", "holdfast, coroutines", "processes", "ratio", 1.5, True, "1.5x the bare pipeline"),
    Target("process", "holdfast, threads", "one alone", "p50_ms", 4, False, "p50 under 4 ms"),
    Target("process", "holdfast, coroutines", "one alone", "p50_ms", 4, False, "p50 under 4 ms"),
    Target("timers", "holdfast", "500 a second", "p99_ms", 50, False, "p99 under 50 ms"),
    Target("timers", "holdfast", "at one instant", "p99_ms", 500, False, "p99 under 500 ms"),
    Target("replay", "holdfast", "whole log, 10,000 events", "worker_ms", 50, False, "under 50 ms"),
    Target("recovery", "holdfast", "restarted at once", "last_s", 2, False, "under 2 s"),
    Target("recovery", "holdfast", "the same machine's taken over", "last_s", 15, False, "under 15 s"),
    Target("recovery", "holdfast", "another machine's taken over", "last_s", 15, False, "under 15 s"),
    Target("memory", "holdfast", "running, 1 event", "bytes", 1_024, False, "under 1 KB"),
    *(
        Target("tracing", way, what, "ratio", 0.9, True, "10% less at most")
        for what in ("queue full", "submitted and applied", "processes")
        for way in ("traced, 1%", "traced by the client, 1%")
    ),
)


def judged(benchmark: str, rows: Iterable[Row]) -> list[Row]:
    """Return rows with `target` and `reached` where there is a target for them."""
    return [_judged(benchmark, row) for row in rows]


def _judged(benchmark: str, row: Row) -> Row:
    said: list[str] = []
    answers: list[str] = []
    for target in TARGETS:
        value = row.get(target.figure)
        if benchmark != target.benchmark or not target.is_of(row) or isinstance(value, str | None):
            continue
        said.append(target.said)
        answers.append("yes" if target.holds(value) else "no")
    if not said:
        return row
    reached = answers[0] if len(set(answers)) == 1 else ", ".join(answers)
    return row | {"target": ", ".join(said), "reached": reached}
