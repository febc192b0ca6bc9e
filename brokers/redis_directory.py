"""The directory in Redis: a sorted set per partition, workflow and run state, merged when it is listed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from holdfast.brokers.cursor import decode_cursor, encode_cursor
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.runtime.clock import from_ms, to_ms
from holdfast.runtime.config import Settings
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Listed, Page

#: Lines read from one sorted set at a time.
STRIDE = 100

_Line = tuple[int, bytes, int, RunState]  # updated, key, partition, run state


class RedisDirectory:
    """Finds instances in Redis."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._partitions = settings.partitions

    def instances(
        self,
        workflow: str,
        *,
        run_state: RunState | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Return instances, the latest changed first.

        One that changes between two pages moves to the front: it is listed again, or only by the next listing.
        """
        low: int | str = to_ms(since) if since else "-inf"
        high: int | str = to_ms(until) if until else "+inf"
        before: tuple[int, bytes] | None = None
        if cursor is not None:
            score, member = decode_cursor(cursor)
            before = (score, member.encode())
            high = min(score, high) if isinstance(high, int) else score
        merged = heapq.merge(
            *(
                self._lines(partition, workflow, state, low, high, before)
                for partition in range(self._partitions)
                for state in ([run_state] if run_state else list(RunState))
            ),
            reverse=True,
        )
        found = list(islice(merged, limit + 1))
        lines = self._listed(workflow, found[:limit])
        more = len(found) > limit
        last = found[limit - 1] if more else None
        return Page(lines, encode_cursor(last[0], last[1].decode()) if last else None)

    def _lines(
        self,
        partition: int,
        workflow: str,
        run_state: RunState,
        low: int | str,
        high: int | str,
        before: tuple[int, bytes] | None,
    ) -> Iterator[_Line]:
        offset = 0
        while True:
            with unavailable(self._link):
                found: Any = self._link.client.zrevrangebyscore(
                    self._keys.instances(partition, workflow, run_state),
                    high,
                    low,
                    start=offset,
                    num=STRIDE,
                    withscores=True,
                )
            for key, score in found:
                if before is None or (int(score), key) < before:
                    yield int(score), key, partition, run_state
            if len(found) < STRIDE:
                return
            offset += STRIDE

    def _listed(self, workflow: str, lines: list[_Line]) -> list[Listed]:
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for _, key, partition, _state in lines:
                pipe.hmget(self._keys.actor(Ref(partition, workflow, key.decode())), "seq", "created")
            facts = pipe.execute()
        return [
            Listed(workflow, key.decode(), state, int(seq or 0), from_ms(int(created or 0)), from_ms(updated))
            for (updated, key, _, state), (seq, created) in zip(lines, facts, strict=True)
        ]

    def count(self, workflow: str, run_state: RunState) -> int:
        """Return how many instances are in a run state."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition in range(self._partitions):
                pipe.zcard(self._keys.instances(partition, workflow, run_state))
            return sum(pipe.execute())
