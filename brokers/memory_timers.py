"""Timers in memory: the specification of those in Redis."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.brokers.memory import MemoryServer
from holdfast.runtime.keys import partition_of
from holdfast.runtime.record import EffectEntry, TimerEntry
from holdfast.runtime.timers import (
    OWN_PREFIX,
    RETRY_PREFIX,
    Due,
    Fired,
    PendingTimer,
    listed,
    timer_scope,
)

#: The longest single wait: a server's clock that is moved by hand wakes nobody.
WAIT_STEP_S = 0.02

_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)


class MemoryTimers:
    """Keeps commands until their time."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        #: By partition, when the first pending timer was due when we last looked.
        self._first: dict[int, int | None] = {}

    def fire(self, partitions: Sequence[int], owner: str, limit: int) -> list[Fired]:
        """Move what is due by the server's clock."""
        with self._server.changed:
            return [self._fire(partition, owner, limit) for partition in partitions]

    def _fire(self, partition: int, owner: str, limit: int) -> Fired:
        server = self._server
        if owner and server.owners.get(("timer", partition), owner) != owner:
            return Fired(partition, 0, None, fenced=True)
        now_ms = server.now_ms()
        pending, due = server.timers[partition], server.due[partition]
        moving = sorted((at, name) for name, (at, _) in pending.items() if at <= now_ms)[:limit]
        for at, name in moving:
            _, timer = pending.pop(name)
            if name.startswith(RETRY_PREFIX):
                server.effects[partition].append(_effect_decoder.decode(timer.envelope))
            else:
                server.fired += 1
                due[f"{now_ms}-{server.fired}"] = (name, at, timer.envelope)
        if moving:
            server.changed.notify_all()
        first = self._first[partition] = self._next(partition)
        waiting = [Due(partition, id_, body, at) for id_, (_, at, body) in list(due.items())[:limit]]
        return Fired(partition, len(moving), None if first is None else max(0, first - now_ms), waiting)

    def _next(self, partition: int) -> int | None:
        return min((at for at, _ in self._server.timers[partition].values()), default=None)

    def remove(self, sent: Sequence[Due]) -> None:
        """Forget what was sent."""
        with self._server.changed:
            for one in sent:
                self._server.due[one.partition].pop(one.id, None)

    def wait(self, partitions: Sequence[int], timeout_s: float) -> set[int]:
        """Wait for a timer that is due before the others."""
        with self._server.changed:
            self._server.changed.wait_for(
                lambda: any(map(self._sooner, partitions)), min(timeout_s, WAIT_STEP_S)
            )
            return {partition for partition in partitions if self._sooner(partition)}

    def _sooner(self, partition: int) -> bool:
        """Say whether the next timer is due already, or before the one that was the next."""
        first, known = self._next(partition), self._first.get(partition)
        return first is not None and (known is None or first < known or first <= self._server.now_ms())

    def pending(
        self, *, workflow: str | None = None, key: str | None = None, limit: int = 100
    ) -> list[PendingTimer]:
        """Return timers by due time."""
        scope, server = timer_scope(workflow, key), self._server
        whole = workflow is not None and key is not None
        partitions = (
            [partition_of(workflow or "", key or "", server.partitions)]
            if whole
            else range(server.partitions)
        )
        with server.changed:
            found = [
                (at, name, body)
                for partition in partitions
                for name, at, body in (
                    *server.due[partition].values(),
                    *((name, at, _body(entry)) for name, (at, entry) in server.timers[partition].items()),
                )
                if name.startswith(scope) and not name.startswith(OWN_PREFIX)
            ]
        return [listed(name, at, body) for at, name, body in sorted(found)[:limit]]


def _body(entry: TimerEntry) -> bytes:
    return entry.envelope
