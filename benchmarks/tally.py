"""The tally: counts what Holdfast applied without folding a state, so that looking costs next to nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import redis

from benchmarks.counter import Counter
from holdfast import Settings
from holdfast.brokers.keys import Keys
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref, partition_of

TIMEOUT_S = 300
#: How often it looks, and at how many logs at once when it need not wait for the first of them.
LOOK_S = 0.005
LOGS_PER_LOOK = 200


class Tally:
    """Counts counters and their records."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keys(settings.namespace)
        self._partitions = settings.partitions
        self._redis = redis.Redis.from_url(settings.redis_url)

    def ref(self, key: str) -> Ref:
        """Return which instance that is."""
        return Ref(partition_of(Counter.type, key, self._partitions), Counter.type, key)

    def records(self, keys: Sequence[str]) -> list[int]:
        """Return how many records each counter has."""
        pipe = self._redis.pipeline(transaction=False)
        for key in keys:
            pipe.xlen(self._keys.log(self.ref(key)))
        return list(pipe.execute())

    def instances(self) -> int:
        """Return how many counters there are."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in range(self._partitions):
            pipe.zcard(self._keys.instances(partition, Counter.type, RunState.RUNNING))
        return sum(pipe.execute())

    def await_instances(self, want: int) -> None:
        """Wait until there are so many counters."""
        self._until(lambda: self.instances() >= want, f"{want:,} counters")

    def await_records(self, want: Mapping[str, int]) -> None:
        """Wait until each counter has so many records; those that have are not looked at again."""
        left = list(want)

        def looked() -> bool:
            size = 1
            while left:
                some = left[:size]
                short = [
                    key for key, count in zip(some, self.records(some), strict=True) if count < want[key]
                ]
                left[:size] = short
                if short:
                    return False
                size = LOGS_PER_LOOK
            return True

        self._until(looked, f"the records of {len(want):,} counters")

    def _until(self, looked: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not looked():
            if time.monotonic() > deadline:
                message = f"Holdfast did not come to {what} in time"
                raise TimeoutError(message)
            time.sleep(LOOK_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()
