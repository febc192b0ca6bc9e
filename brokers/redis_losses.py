"""Losses in Redis: who answers is known by the replication id, and what is missing by the log itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.redis_log import record_in
from holdfast.runtime.config import Settings
from holdfast.runtime.loss import Known, Loss

#: Instances that are looked at in one round trip.
PAGE = 500


class RedisLosses:
    """Compares what was known with what Redis has. For one thread at a time."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)

    def epoch(self) -> int:
        """Return how often another server was met."""
        return self._link.changes

    def refresh(self) -> int:
        """Connect, and return how often another server was met."""
        with unavailable(self._link):
            self._link.touch()
        return self._link.changes

    def compare(self, known: Sequence[Known]) -> list[Loss]:
        """Look at where instances are, and at the very record where they are further."""
        return [
            loss
            for start in range(0, len(known), PAGE)
            for loss in self._compare(known[start : start + PAGE])
        ]

    def _compare(self, known: Sequence[Known]) -> list[Loss]:
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for ref, seq, _ in known:
                pipe.hmget(self._keys.actor(ref), "seq", "head")
                pipe.xrange(self._keys.log(ref), f"{seq}-0", f"{seq}-0")
            found: list[Any] = pipe.execute()
        losses = []
        for one, (seq, head), entries in zip(known, found[::2], found[1::2], strict=True):
            at, by = int(seq or 0), (head or b"").decode()
            # Where the log is further and does not have the record any more, that was trimmed or deleted.
            there = one.head if at > one.seq else by if at == one.seq else None
            if entries and at >= one.seq:
                there = _command_of(record_in(entries[0][1]))
            if there != one.head:
                losses.append(Loss(one, at, by))
        return losses


def _command_of(entry: bytes) -> str:
    """Return whose command made a record: the first field of every entry; nobody's, where it is none."""
    if not entry:
        return ""
    fields: list[Any] = msgspec.msgpack.decode(entry)
    return str(fields[0])
