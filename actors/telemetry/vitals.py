"""Vitals: what a lane is doing, and since when. Written by its threads, read by whoever asks for its health."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.runtime.clock import monotonic


class Vitals:
    """What one lane is doing."""

    def __init__(self, name: str, clock: Callable[[], float] = monotonic) -> None:
        self.name = name
        #: Batches that were worked on.
        self.turns = 0
        self._clock = clock
        #: What is done, and since when; one value, so that both are of one moment.
        self.now: tuple[str, float] = ("starting", clock())
        #: When the last batch was through.
        self.turned_at: float | None = None

    def begin(self, what: str) -> float:
        """Say what is done from now on; return the time."""
        now = self._clock()
        if what == "settling":
            self.turned_at = now
        self.now = (what, now)
        return now
