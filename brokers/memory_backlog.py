"""The backlog in memory."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.brokers.memory import MemoryServer
from holdfast.runtime.backlog import BEHIND_MAX, Idle, Load, Reading, Scheduled, Unfinished
from holdfast.runtime.instance import RunState


class MemoryBacklog:
    """Shows what waits in memory."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def loads(self) -> list[Load]:
        """Count what waits."""
        with self._server.changed:
            return [self._load(partition) for partition in range(self._server.partitions)]

    def _load(self, partition: int) -> Load:
        now = self._server.now_ms()
        effects = self._server.effects[partition]
        dues = sorted(due for due, _ in self._server.timers[partition].values())
        moved = sorted(due for _, due, _ in self._server.due[partition].values())
        due = sorted([one for one in dues if one <= now] + moved)
        return Load(
            partition,
            now,
            len(effects),
            min((effect.at_ms for effect in effects), default=0),
            len(dues),
            len(due),
            due[0] if due else 0,
            len(self._server.feeds[partition]),
            tuple(
                self._reading(partition, name, position)
                for name, position in sorted(self._server.readers[partition].items())
            ),
        )

    def _reading(self, partition: int, name: str, position: str) -> Reading:
        unread = [
            entry for id_, _, _, entry in self._server.feeds[partition] if _place(id_) > _place(position)
        ]
        since_ms = msgspec.msgpack.decode(unread[0])[2] if unread else 0
        return Reading(name, min(len(unread), BEHIND_MAX), since_ms)

    def idle(self, workflow: str, run_states: Sequence[RunState], until_ms: int, limit: int) -> list[Idle]:
        """Return what has not changed, the longest idle first."""
        with self._server.changed:
            found = [
                Idle(ref, instance.run_state, instance.updated_ms)
                for ref, instance in self._server.instances.items()
                if ref.workflow == workflow and instance.run_state in run_states
                if instance.updated_ms <= until_ms
            ]
        return sorted(found, key=lambda one: (one.updated_ms, one.ref.key.encode()))[:limit]

    def effects(self, limit: int) -> list[Unfinished]:
        """Return the oldest effects."""
        with self._server.changed:
            return [
                Unfinished(partition, entry.at_ms, entry)
                for partition, entries in self._server.effects.items()
                for entry in entries[:limit]
            ]

    def scheduled(self, limit: int, partitions: Sequence[int] | None = None) -> list[Scheduled]:
        """Return what is due next."""
        wanted = range(self._server.partitions) if partitions is None else partitions
        with self._server.changed:
            return [
                Scheduled(partition, name, due)
                for partition in wanted
                for due, name in sorted(
                    (due, name) for name, (due, _) in self._server.timers[partition].items()
                )[:limit]
            ]

    def payloads(self, wanted: Sequence[Scheduled]) -> list[bytes | None]:
        """Return what is scheduled."""
        with self._server.changed:
            found = [self._server.timers[one.partition].get(one.name) for one in wanted]
        return [
            timer.envelope if timer is not None else None
            for _, timer in (pair or (0, None) for pair in found)
        ]


def _place(id_: str) -> tuple[int, ...]:
    return tuple(int(part) for part in id_.split("-") if part.isdigit())
