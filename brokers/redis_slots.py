"""The places of limits and rates, in Redis.

dramatiq's rate limiters do not fit: a counter that a dead process has raised comes down only when everybody has been
quiet for a while, and a window says no without saying when to ask again.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.config import Settings
from holdfast.runtime.limit import Want


class RedisSlots:
    """Hands out places. One for each thread."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)

    def acquire(self, wants: Sequence[Want], lease_ms: int) -> list[int]:
        """Take a place and a turn; see acquire.lua."""
        calls = [
            Call(
                Script.ACQUIRE,
                (self._keys.slots(want.limit), self._keys.starts(want.rate)),
                (
                    want.who,
                    lease_ms,
                    want.places if want.limit else 0,
                    want.starts,
                    want.per_ms if want.rate else 0,
                ),
            )
            for want in wants
        ]
        return [int(reply) for reply in scripts.run(self._link, calls)] if calls else []

    def renew(self, wants: Sequence[Want], lease_ms: int) -> None:
        """Keep places that are still held."""
        held = [want for want in wants if want.limit]
        if not held:
            return
        with unavailable(self._link):
            seconds, micros = self._link.at(self._keys.slots("")).time()
            until = seconds * 1000 + micros // 1000 + lease_ms
            pipe = self._link.client.pipeline(transaction=False)
            for want in held:
                pipe.zadd(self._keys.slots(want.limit), {want.who: until}, xx=True)
                pipe.pexpire(self._keys.slots(want.limit), lease_ms + 1000)
            pipe.execute()

    def give_back(self, wants: Sequence[Want]) -> None:
        """Free places."""
        held = [want for want in wants if want.limit]
        if not held:
            return
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for want in held:
                pipe.zrem(self._keys.slots(want.limit), want.who)
            pipe.execute()
