"""Display: how far a replay is, on the terminal of whoever waits for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

T = TypeVar("T")

#: Steps that are shown at once: a step can be a few microseconds of work.
STEPS = 200


class Display:
    """Bars on standard error, if that is a terminal; nothing otherwise."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def stage(self, name: str, total: int | None = None) -> Stage:
        """Begin a stage of the work; None for nobody knows how much it is."""
        return Stage(self._progress, self._progress.add_task(name, total=total))

    def watch(self, name: str, things: Iterable[T]) -> Iterator[T]:
        """Return things as they come, and show how many came."""
        stage = self.stage(name)
        for thing in things:
            yield thing
            stage.advance()
        stage.show()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class Stage:
    """One bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._unseen = 0

    def advance(self, steps: int = 1) -> None:
        """Say that so much more is done."""
        self._unseen += steps
        if self._unseen >= STEPS:
            self.show()

    def show(self) -> None:
        """Show all that is done."""
        self._progress.advance(self._task, self._unseen)
        self._unseen = 0
