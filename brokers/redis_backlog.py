"""The backlog in Redis: one round trip for all partitions, and nothing is read that is not asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.backlog import BEHIND_MAX, Idle, Load, Reading, Scheduled, Unfinished
from holdfast.runtime.config import Settings
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.record import EffectEntry

#: Payloads that are read in one round trip.
PAYLOADS_PER_READ = 500

_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)


class RedisBacklog:
    """Shows what waits in Redis."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._partitions = settings.partitions

    def loads(self) -> list[Load]:
        """Count what waits; see look.lua."""
        keys = self._keys
        calls = [
            Call(
                Script.LOOK,
                (
                    keys.effects(partition),
                    keys.schedule(partition),
                    keys.due(partition),
                    keys.feed(partition),
                    keys.readers(partition),
                ),
                (BEHIND_MAX,),
            )
            for partition in range(self._partitions)
        ]
        return [_load(partition, found) for partition, found in enumerate(scripts.run(self._link, calls))]

    def idle(self, workflow: str, run_states: Sequence[RunState], until_ms: int, limit: int) -> list[Idle]:
        """Return the beginnings of the directory's sorted sets."""
        places = [(partition, state) for partition in range(self._partitions) for state in run_states]
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition, state in places:
                pipe.zrangebyscore(
                    self._keys.instances(partition, workflow, state),
                    "-inf",
                    until_ms,
                    start=0,
                    num=limit,
                    withscores=True,
                )
            replies: Any = pipe.execute()
        found = [
            Idle(Ref(partition, workflow, key.decode()), state, int(updated))
            for (partition, state), lines in zip(places, replies, strict=True)
            for key, updated in lines
        ]
        return sorted(found, key=lambda one: (one.updated_ms, one.ref.key.encode()))[:limit]

    def effects(self, limit: int) -> list[Unfinished]:
        """Return the beginnings of the outboxes."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition in range(self._partitions):
                pipe.xrange(self._keys.effects(partition), count=limit)
            replies: Any = pipe.execute()
        return [
            Unfinished(partition, int(id_.partition(b"-")[0]), entry)
            for partition, found in enumerate(replies)
            for id_, fields in found
            if (entry := _read(fields.get(b"e", b""))) is not None
        ]

    def scheduled(self, limit: int, partitions: Sequence[int] | None = None) -> list[Scheduled]:
        """Return the beginnings of the schedules: names and times only."""
        wanted = range(self._partitions) if partitions is None else partitions
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition in wanted:
                pipe.zrange(self._keys.schedule(partition), 0, limit - 1, withscores=True)
            replies: Any = pipe.execute()
        return [
            Scheduled(partition, name.decode(errors="replace"), int(due))
            for partition, found in zip(wanted, replies, strict=True)
            for name, due in found
        ]

    def payloads(self, wanted: Sequence[Scheduled]) -> list[bytes | None]:
        """Return what is scheduled, some hundred to a round trip."""
        found: list[bytes | None] = []
        for start in range(0, len(wanted), PAYLOADS_PER_READ):
            with unavailable(self._link):
                pipe = self._link.client.pipeline(transaction=False)
                for one in wanted[start : start + PAYLOADS_PER_READ]:
                    pipe.hget(self._keys.timers(one.partition), one.name)
                found += pipe.execute()
        return found


def _load(partition: int, found: Sequence[Any]) -> Load:
    now, effects, effects_since, scheduled, due, due_since, feed, *readers = found
    readings = sorted(Reading(name.decode(), behind, since) for name, behind, since in readers)
    return Load(partition, now, effects, effects_since, scheduled, due, due_since, feed, tuple(readings))


def _read(data: bytes) -> EffectEntry | None:
    """Return an effect, or None for one that nobody can read: that is the effect pool's to bury, not ours to fail on."""
    try:
        return _effect_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
