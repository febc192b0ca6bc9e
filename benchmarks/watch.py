"""The watch: a thread that waits for what the other one asked for, so that it is seen when it is there and not later."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

TIMEOUT_S = 60.0
#: From when the watch says that it begins to wait until it is at the server.
SETTLE_S = 0.002


class Watch:
    """Takes the time when things are there: `seen = watch.timed(wait, act)`."""

    def __init__(self) -> None:
        self._waits: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._seen: queue.SimpleQueue[float | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def timed(self, wait: Callable[[], object], act: Callable[[], object]) -> float:
        """Return the milliseconds from the call of `act` to the end of `wait`, which waits on a thread of its own.

        The system is idle when `act` is called: `wait` is at its server by then.
        """
        self._waits.put(wait)
        time.sleep(SETTLE_S)
        began = time.perf_counter()
        act()
        seen = self._seen.get(timeout=TIMEOUT_S)
        if isinstance(seen, BaseException):
            raise seen
        return (seen - began) * 1000

    def _run(self) -> None:
        while (wait := self._waits.get()) is not None:
            try:
                wait()
                self._seen.put(time.perf_counter())
            except BaseException as error:  # noqa: BLE001 - raised again by who waits
                self._seen.put(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waits.put(None)
        if kind is None:
            self._thread.join()
