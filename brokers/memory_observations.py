"""Observations in memory."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.brokers.memory import MemoryServer
from holdfast.runtime.keys import Ref
from holdfast.runtime.observation import KEPT_MAX, Observation


class MemoryObservations:
    """Keeps observations."""

    def __init__(self, server: MemoryServer, *, kept_max: int = KEPT_MAX) -> None:
        self._server = server
        self._kept_max = kept_max

    def observe(self, seen: Sequence[tuple[Ref, Observation]]) -> None:
        """Keep them, the latest of each instance."""
        with self._server.changed:
            for ref, one in seen:
                kept = self._server.observations.setdefault(ref, [])
                kept.append(one)
                del kept[: -self._kept_max]

    def observations(self, ref: Ref, limit: int) -> list[Observation]:
        """Return the latest, newest first."""
        with self._server.changed:
            return self._server.observations.get(ref, [])[::-1][:limit]
