"""What a rival is to those who measure it."""

from __future__ import annotations

from typing import Protocol

from benchmarks.ground import Ground

#: One measurement: `system`, `what`, its figures, and in words what the system `guarantees` in the mode measured.
Row = dict[str, float | str]


class Rival(Protocol):
    """A system that can be measured beside Holdfast."""

    @property
    def name(self) -> str:
        """How it is asked for, and what its rows say."""

    def missing(self) -> str | None:
        """Say why it cannot run here, or nothing if it can; this never installs or fetches anything."""

    def transitions(self, where: Ground, commands: int, keys: int) -> list[Row]:
        """Measure keyed state transitions: `submitted and applied`, `queue full` where there is one, `one alone, answered`."""

    def processes(self, where: Ground, count: int) -> list[Row]:
        """Measure processes of three durable steps, many together and one alone."""

    def timers(self, where: Ground, count: int) -> list[Row]:
        """Measure how late timers are that are all due at one instant."""

    def recovery(self, where: Ground, count: int) -> list[Row]:
        """Kill all workers amid processes, start others at once, and measure until the last begun process is completed."""
