"""Probe: asks a server from time to time whether it is there, on a thread and a connection of its own."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.runtime.clock import monotonic
from holdfast.runtime.redaction import redact

log = logging.getLogger(__name__)

#: A server that has not answered for so many intervals is away, though it may not have refused either.
INTERVALS_MAX = 3


class Probe:
    """Asks one server."""

    def __init__(
        self,
        name: str,
        interval_s: float,
        ask: Callable[[], object],
        close: Callable[[], None] = lambda: None,
        urls: Sequence[str] = (),
    ) -> None:
        """Take what to ask.

        Args:
            name: What the server is called.
            interval_s: How long to wait between two questions.
            ask: Raises when the server does not answer.
            close: Lets go of what is asked.
            urls: Whose secrets must not be told.
        """
        self.name = name
        self._interval_s = interval_s
        self._ask = ask
        self._close = close
        self._urls = tuple(urls)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"holdfast-probe-{name}", daemon=True)
        #: When it last answered, and since when it always has; and what it said instead.
        self._answered_at = -math.inf
        self._well_since = math.inf
        self._error = ""

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; nobody waits for an answer."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._ask()
            except Exception as error:  # noqa: BLE001 - whatever it is: the server cannot be used
                self._error = redact(f"{type(error).__name__}: {error}", *self._urls)
                self._well_since = math.inf
            else:
                self._error = ""
                self._answered_at = monotonic()
                self._well_since = min(self._well_since, self._answered_at)
            self._stopping.wait(self._interval_s)
        self._close()

    @property
    def well(self) -> bool:
        """Whether it answers."""
        late = monotonic() - self._answered_at > INTERVALS_MAX * self._interval_s
        return not self._error and not late

    @property
    def well_s(self) -> float:
        """For how long it has answered each time."""
        return max(0.0, monotonic() - self._well_since) if self.well else 0.0

    def report(self) -> dict[str, Any]:
        """Return what is said of it."""
        age_s = monotonic() - self._answered_at
        found: dict[str, Any] = {
            "status": "ok" if self.well else "away",
            "answered_age_s": round(age_s, 3) if age_s < math.inf else None,
        }
        return found | ({"error": self._error} if self._error else {})
