"""Timers in Redis: one script moves what is due, and a channel tells of timers that are due before the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import redis

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import SOCKET_TIMEOUT_S, RedisLink, unavailable
from holdfast.brokers.redis_timer_names import TimerNames
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.clock import monotonic
from holdfast.runtime.config import Settings
from holdfast.runtime.keys import partition_of
from holdfast.runtime.timers import OWN_PREFIX, Due, Fired, PendingTimer, listed, timer_scope

#: The pool whose members fire timers.
POOL = "timer"
#: Names that are read at a time for a listing.
STRIDE = 1_000
#: How long a subscription may take to begin: as long as any other answer.
SUBSCRIBE_S = SOCKET_TIMEOUT_S

_Line = tuple[int, str, bytes]  # due, name, envelope


class RedisTimers:
    """Keeps commands until their time, which is Redis's. One for each thread."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._partitions = settings.partitions
        self._channels = {
            self._keys.schedule(partition).encode(): partition for partition in range(settings.partitions)
        }
        self._pubsub: Any = None
        self._heard: set[int] = set()
        self._subscribed: frozenset[int] = frozenset()

    def fire(self, partitions: Sequence[int], owner: str, limit: int) -> list[Fired]:
        """Move what is due; see fire.lua."""
        own = self._keys
        calls = [
            Call(
                Script.FIRE,
                (
                    own.schedule(p),
                    own.timers(p),
                    own.due(p),
                    own.effects(p),
                    own.serving(p),
                    own.timer_names(p),
                ),
                (limit, POOL, owner),
            )
            for p in partitions
        ]
        if not calls:
            return []
        replies = scripts.run(self._link, calls)
        return [_fired(partition, reply) for partition, reply in zip(partitions, replies, strict=True)]

    def remove(self, sent: Sequence[Due]) -> None:
        """Delete the entries."""
        by_partition: dict[int, list[str]] = defaultdict(list)
        for one in sent:
            by_partition[one.partition].append(one.id)
        if not by_partition:
            return
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition, ids in by_partition.items():
                pipe.xdel(self._keys.due(partition), *ids)
            pipe.execute()

    # -- waiting

    def wait(self, partitions: Sequence[int], timeout_s: float) -> set[int]:
        """Listen to the partitions' channels; nothing is missed from the first wait with the same ones on."""
        wanted = frozenset(partitions)
        try:
            with unavailable(self._link):
                if wanted != self._subscribed:
                    self._subscribe(wanted)
                    return set(wanted)  # what was said until now was not heard
                return self._listen(timeout_s)
        except BaseException:
            self._hang_up()
            raise

    def _subscribe(self, wanted: frozenset[int]) -> None:
        self._hang_up()
        if not wanted:
            return
        self._pubsub = self._link.client.pubsub(ignore_subscribe_messages=False)
        self._pubsub.subscribe(*(self._keys.schedule(partition) for partition in sorted(wanted)))
        deadline, begun = monotonic() + SUBSCRIBE_S, 0
        while begun < len(wanted):
            message = self._pubsub.get_message(timeout=max(0.0, deadline - monotonic()))
            if message is None and monotonic() >= deadline:
                sentence = "no subscription in time"
                raise redis.exceptions.TimeoutError(sentence)
            begun += message is not None and message["type"] == "subscribe"
        self._subscribed = wanted

    def _listen(self, timeout_s: float) -> set[int]:
        heard: set[int] = set()
        message = self._pubsub.get_message(timeout=timeout_s)
        while message is not None:
            if message["type"] == "message":
                heard.add(self._channels[message["channel"]])
            message = self._pubsub.get_message(timeout=0)
        return heard

    def _hang_up(self) -> None:
        self._subscribed = frozenset()
        if self._pubsub is not None:
            with suppress(redis.exceptions.RedisError, OSError):
                self._pubsub.close()
            self._pubsub = None

    # -- listing

    def pending(
        self, *, workflow: str | None = None, key: str | None = None, limit: int = 100
    ) -> list[PendingTimer]:
        """Return timers by due time; those of one instance are found by their names."""
        scope = timer_scope(workflow, key)
        found: list[_Line] = []
        if workflow is not None and key is not None:
            found += self._of_one(partition_of(workflow, key, self._partitions), scope)
        else:
            for partition in range(self._partitions):
                found += self._of_partition(partition, scope, limit)
        return [listed(name, due_ms, body) for due_ms, name, body in sorted(found)[:limit]]

    def _of_one(self, partition: int, scope: str) -> Iterator[_Line]:
        yield from self._moved(partition, scope)
        for names in TimerNames(self._keys, self._link).beginning_with(partition, scope):
            with unavailable(self._link):
                scores: Any = self._link.client.zmscore(
                    self._keys.schedule(partition), [name.decode() for name in names]
                )
            yield from self._bodies(
                partition, [(name, due) for name, due in zip(names, scores, strict=True) if due is not None]
            )

    def _of_partition(self, partition: int, scope: str, limit: int) -> Iterator[_Line]:
        yield from self._moved(partition, scope)
        start, count, stride = 0, 0, min(max(limit, 1), STRIDE)
        while count < limit:
            with unavailable(self._link):
                page: Any = self._link.client.zrange(
                    self._keys.schedule(partition), start, start + stride - 1, withscores=True
                )
            wanted = [(name, due) for name, due in page if _matches(name.decode(), scope)]
            count += len(wanted)
            yield from self._bodies(partition, wanted)
            if len(page) < stride:
                return
            start += stride
            stride = STRIDE

    def _moved(self, partition: int, scope: str) -> Iterator[_Line]:
        """Yield what is due and was not sent yet; there is never much of it."""
        with unavailable(self._link):
            found: Any = self._link.client.xrange(self._keys.due(partition), count=STRIDE)
        for _, fields in found:
            name = fields[b"n"].decode()
            if _matches(name, scope):
                yield int(fields[b"d"]), name, fields[b"e"]

    def _bodies(self, partition: int, due: Sequence[tuple[bytes, float]]) -> Iterator[_Line]:
        if not due:
            return
        with unavailable(self._link):
            bodies: Any = self._link.client.hmget(self._keys.timers(partition), [name for name, _ in due])
        for (name, due_ms), body in zip(due, bodies, strict=True):
            if body is not None:  # it fired in between
                yield int(due_ms), name.decode(), body


def _matches(name: str, scope: str) -> bool:
    return name.startswith(scope) and not name.startswith(OWN_PREFIX)


def _fired(partition: int, reply: Any) -> Fired:
    if reply == b"fenced":
        return Fired(partition, 0, None, fenced=True)
    moved, next_ms, *rest = reply
    due = [
        Due(partition, rest[at].decode(), rest[at + 2], int(rest[at + 1])) for at in range(0, len(rest), 3)
    ]
    return Fired(partition, moved, next_ms if next_ms >= 0 else None, due)
