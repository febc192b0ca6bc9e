"""The sizes of instances in Redis: MEMORY USAGE of a sample, since to ask for every key would hold up everybody else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.sample import size_of
from holdfast.runtime.config import Settings
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Size

#: Instances measured in one round trip.
PAGE = 100


class RedisSizes:
    """Measures instances in Redis."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._partitions = settings.partitions

    def sizes(self, workflows: Sequence[str], sample: int) -> list[Size]:
        """Measure some instances of each workflow, picked by chance in each partition and run state."""
        return [self._size(workflow, sample) for workflow in workflows]

    def _size(self, workflow: str, sample: int) -> Size:
        places = [(partition, state) for partition in range(self._partitions) for state in RunState]
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition, state in places:
                pipe.zcard(self._keys.instances(partition, workflow, state))
            counts: list[int] = pipe.execute()
            total = sum(counts)
            for (partition, state), count in zip(places, counts, strict=True):
                # Its share of the sample, and at least one of every place that has any.
                share = -(-sample * count // total) if total else 0
                pipe.zrandmember(self._keys.instances(partition, workflow, state), share)
            picked = [
                Ref(partition, workflow, key.decode())
                for (partition, _), keys in zip(places, pipe.execute(), strict=True)
                for key in keys
            ]
        measured = [
            one
            for start in range(0, len(picked), PAGE)
            for one in self._measured(picked[start : start + PAGE])
        ]
        return size_of(workflow, total, measured)

    def _measured(self, refs: Sequence[Ref]) -> list[tuple[str, int]]:
        own = self._keys
        kinds = (own.actor, own.log, own.snap, own.parked, own.parked_bodies, own.observations)
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for ref in refs:
                for key in kinds:
                    pipe.memory_usage(key(ref))
            found: list[Any] = pipe.execute()
        return [
            (ref.key, sum(int(count or 0) for count in found[len(kinds) * index : len(kinds) * (index + 1)]))
            for index, ref in enumerate(refs)
        ]
