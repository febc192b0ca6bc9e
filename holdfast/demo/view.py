"""View: what is seen while the demonstration runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

BAR_WIDTH = 40
#: Between two lines of progress where there is no terminal.
LINE_S = 1.0


class View:
    """Shows progress: alive on a terminal, as plain lines elsewhere."""

    def __init__(self, console: Console, orders: int) -> None:
        self._console = console
        self._orders = orders
        self._began = time.monotonic()
        self._delivered = 0
        self._serving: Mapping[int, int] = {}
        self._partitions = 1
        self._lined_at = 0.0
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._began

    def say(self, sentence: str, style: str = "") -> None:
        """Tell what happens now."""
        self._console.print(Text.assemble((f"{self.seconds:5.1f} s  ", "dim"), (sentence, style)))

    def show(self, delivered: int, serving: Mapping[int, int], partitions: int) -> None:
        """Show how far it is, and how many partitions each worker process serves."""
        self._delivered, self._serving, self._partitions = delivered, serving, partitions
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
        elif self.seconds - self._lined_at >= LINE_S:
            self._lined_at = self.seconds
            workers = ", ".join(f"{pid} serves {count}" for pid, count in serving.items())
            self.say(f"{delivered} of {self._orders} orders delivered; {workers or 'no worker'}")

    def _picture(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_row(
            Text("orders delivered"),
            ProgressBar(total=self._orders, completed=self._delivered, width=BAR_WIDTH),
            Text(f"{self._delivered} of {self._orders}"),
        )
        for pid, count in self._serving.items():
            grid.add_row(
                Text(f"worker {pid}"),
                ProgressBar(
                    total=self._partitions,
                    completed=count,
                    width=BAR_WIDTH,
                    complete_style="cyan",
                    finished_style="cyan",
                ),
                Text(f"{count} of {self._partitions} partitions"),
            )
        return Group(Text(), grid)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
