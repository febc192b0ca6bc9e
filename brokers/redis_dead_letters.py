"""The index of dead letters in Redis: a sorted set by time and a hash, per partition."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys, name_of_effect
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.clock import to_ms
from holdfast.runtime.codec import encode
from holdfast.runtime.config import Settings
from holdfast.runtime.dead_letter import DeadLetter, Wanted
from holdfast.runtime.record import EffectEntry

#: Dead letters read at a time.
PAGE = 100
#: Dead letters that are encoded and written at a time.
ADDED_MAX = 100

_decoder = msgspec.msgpack.Decoder(DeadLetter)


class RedisDeadLetters:
    """Keeps dead letters in Redis."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._partitions = settings.partitions

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters: the letter first, so that the index never points at nothing."""
        with unavailable(self._link):
            for start in range(0, len(letters), ADDED_MAX):
                # In transactions: a server that becomes full in between must not keep what no index points at.
                for partition, some in _by_partition(letters[start : start + ADDED_MAX]).items():
                    pipe = self._link.at(self._keys.dead(partition)).pipeline(transaction=True)
                    for letter in some:
                        pipe.hset(self._keys.dead_letters(partition), letter.id, encode(letter))
                        pipe.zadd(self._keys.dead(partition), {letter.id: letter.at_ms})
                    pipe.execute()

    def list(
        self,
        *,
        workflow: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        message_type: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Return the newest that match, over all partitions."""
        wanted = Wanted(workflow, key, kind, message_type, to_ms(since) if since else None)
        merged = heapq.merge(
            *(self._newest(partition, wanted.since_ms) for partition in range(self._partitions)),
            key=lambda letter: (letter.at_ms, letter.id),
            reverse=True,
        )
        return list(islice(filter(wanted.admits, merged), limit))

    def _newest(self, partition: int, since_ms: int | None) -> Iterator[DeadLetter]:
        start = 0
        while True:
            with unavailable(self._link):
                index = self._keys.dead(partition)
                low = "-inf" if since_ms is None else since_ms
                ids: Any = self._link.client.zrevrangebyscore(index, "+inf", low, start=start, num=PAGE)
                found: Any = self._link.client.hmget(self._keys.dead_letters(partition), ids) if ids else []
            yield from (_decoder.decode(data) for data in found if data is not None)
            if len(ids) < PAGE:
                return
            start += PAGE

    def count(
        self,
        *,
        workflow: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        message_type: str | None = None,
        since: datetime | None = None,
    ) -> int:
        """Return how many match; without filters no letter is read."""
        wanted = Wanted(workflow, key, kind, message_type, to_ms(since) if since else None)
        if wanted == Wanted(since_ms=wanted.since_ms):
            with unavailable(self._link):
                pipe = self._link.client.pipeline(transaction=False)
                for partition in range(self._partitions):
                    low = "-inf" if wanted.since_ms is None else wanted.since_ms
                    pipe.zcount(self._keys.dead(partition), low, "+inf")
                return sum(pipe.execute())
        letters = (
            letter
            for partition in range(self._partitions)
            for letter in self._newest(partition, wanted.since_ms)
        )
        return sum(map(wanted.admits, letters))

    def get(self, id: str) -> DeadLetter | None:  # noqa: A002 - the field's name
        """Return one."""
        partition = _partition(id, self._partitions)
        if partition is None:
            return None
        with unavailable(self._link):
            data: Any = self._link.client.hget(self._keys.dead_letters(partition), id)
        return _decoder.decode(data) if data is not None else None

    def remove(self, id: str) -> bool:  # noqa: A002 - the field's name
        """Forget one."""
        partition = _partition(id, self._partitions)
        if partition is None:
            return False
        with unavailable(self._link):
            pipe = self._link.at(self._keys.dead(partition)).pipeline(transaction=True)
            pipe.zrem(self._keys.dead(partition), id)
            pipe.hdel(self._keys.dead_letters(partition), id)
            return bool(pipe.execute()[1])

    def revive(self, id: str, entry: EffectEntry) -> bool:  # noqa: A002 - the field's name
        """Put an effect back; see revive.lua."""
        partition = _partition(id, self._partitions)
        if partition is None:
            return False
        own = self._keys
        keys = (
            own.dead(partition),
            own.dead_letters(partition),
            own.effects(partition),
            own.begun(partition),
        )
        name = name_of_effect(entry.workflow, entry.key, entry.id)
        return bool(scripts.run(self._link, [Call(Script.REVIVE, keys, (id, encode(entry), name))])[0])


def _partition(id_: str, partitions: int) -> int | None:
    """Return the partition that a dead letter's id names, or None if it is no such id."""
    text = id_.partition(".")[0]
    return int(text) if text.isascii() and text.isdigit() and int(text) < partitions else None


def _by_partition(letters: Sequence[DeadLetter]) -> dict[int, list[DeadLetter]]:
    found: dict[int, list[DeadLetter]] = {}
    for letter in letters:
        found.setdefault(letter.partition, []).append(letter)
    return found
