"""Wrapped data keys in Redis: beside the instances, in a hash of their partition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.backlog import read_name
from holdfast.runtime.config import Settings
from holdfast.runtime.keys import Ref

#: Data keys that one look takes.
PAGE = 1_000


class RedisSecrets:
    """Keeps secrets. One for each thread, unless its user lets one thread in at a time."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)

    def secrets(self, refs: Sequence[Ref]) -> list[bytes | None]:
        """Return what is kept."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for ref in refs:
                pipe.hget(self._keys.secrets(ref.partition), ref.scope)
            found: list[bytes | None] = pipe.execute()
            return found

    def keep(self, new: Sequence[tuple[Ref, bytes]]) -> list[bytes]:
        """Keep what is new: who comes second gets what is there."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for ref, data in new:
                pipe.hsetnx(self._keys.secrets(ref.partition), ref.scope, data)
                pipe.hget(self._keys.secrets(ref.partition), ref.scope)
            found: list[Any] = pipe.execute()
            return found[1::2]

    def replace(self, ref: Ref, old: bytes, new: bytes) -> bool:
        """Replace it; see rewrap.lua."""
        call = Call(Script.REWRAP, (self._keys.secrets(ref.partition),), (ref.scope, old, new))
        return bool(scripts.run(self._link, [call])[0])

    def all(self, partition: int) -> Iterator[tuple[Ref, bytes]]:
        """Yield what is kept in a partition, the namespace's own in -1."""
        cursor = 0
        while True:
            with unavailable(self._link):
                reply: Any = self._link.client.hscan(self._keys.secrets(partition), cursor, count=PAGE)
            cursor, found = reply
            for scope, data in found.items():
                name = read_name(scope.decode() + "/")
                yield Ref(partition, name.workflow, name.key) if name else Ref(partition, "", ""), data
            if not cursor:
                return
