"""Observations in Redis: a stream per instance, no longer than it may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.runtime.codec import encode
from holdfast.runtime.config import Settings
from holdfast.runtime.keys import Ref
from holdfast.runtime.observation import KEPT_MAX, Observation

_decoder = msgspec.msgpack.Decoder(Observation)


class RedisObservations:
    """Keeps observations in Redis."""

    def __init__(self, settings: Settings, link: RedisLink, *, kept_max: int = KEPT_MAX) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._kept_max = kept_max

    def observe(self, seen: Sequence[tuple[Ref, Observation]]) -> None:
        """Keep them, the latest of each instance."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for ref, one in seen:
                pipe.xadd(
                    self._keys.observations(ref), {"o": encode(one)}, maxlen=self._kept_max, approximate=False
                )
            pipe.execute()

    def observations(self, ref: Ref, limit: int) -> list[Observation]:
        """Return the latest, newest first."""
        with unavailable(self._link):
            found: Any = self._link.client.xrevrange(self._keys.observations(ref), count=limit)
        return [_decoder.decode(fields[b"o"]) for _, fields in found]
