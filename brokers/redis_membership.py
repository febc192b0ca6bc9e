"""Who lives and who serves what, in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.codec import encode
from holdfast.runtime.config import Settings
from holdfast.runtime.ports import POOLS, Member

_decoder = msgspec.msgpack.Decoder(Member)


class RedisMembership:
    """Knows the living. Their time is Redis's."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._partitions = settings.partitions

    def beat(self, member: Member, ttl_ms: int) -> list[Member]:
        """Say that a member lives; see beat.lua."""
        return self._beat((member.id, ttl_ms, encode(member)))

    def living(self) -> list[Member]:
        """Return the living members."""
        return self._beat(("", 0, ""))

    def _beat(self, args: Sequence[str | int | bytes]) -> list[Member]:
        call = Call(Script.BEAT, (self._keys.members(), self._keys.member_facts()), args)
        found = scripts.run(self._link, [call])[0]
        return sorted(_decoder.decode(facts) for facts in found if facts is not None)

    def leave(self, member_id: str) -> None:
        """Forget a member first, and then free what it served: nobody takes it for alive in between."""
        with unavailable(self._link):
            pipe = self._link.at(self._keys.members()).pipeline(transaction=True)
            pipe.zrem(self._keys.members(), member_id)
            pipe.hdel(self._keys.member_facts(), member_id)
            pipe.execute()
        calls = [
            Call(Script.YIELD, (self._keys.serving(partition),), (member_id, *POOLS))
            for partition in range(self._partitions)
        ]
        scripts.run(self._link, calls)

    def claim(self, partition: int, pool: str, member_id: str, living: Sequence[str]) -> bool:
        """Become the one who serves a partition; see claim.lua.

        Whoever serves it already may have come to life since the caller learned who lives. So only the newest list
        says that he is dead, and then the partition is taken from him and from nobody else.
        """
        holder = self._claim(partition, pool, member_id, "")
        if holder != member_id and holder not in living and holder not in {one.id for one in self.living()}:
            holder = self._claim(partition, pool, member_id, holder)
        return holder == member_id

    def _claim(self, partition: int, pool: str, member_id: str, former: str) -> str:
        call = Call(Script.CLAIM, (self._keys.serving(partition),), (pool, member_id, former))
        holder: bytes = scripts.run(self._link, [call])[0]
        return holder.decode()

    def yield_(self, partition: int, pool: str, member_id: str) -> None:
        """Stop serving a partition; see yield.lua."""
        scripts.run(self._link, [Call(Script.YIELD, (self._keys.serving(partition),), (member_id, pool))])

    def owners(self, pool: str) -> list[str | None]:
        """Return who serves each partition."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition in range(self._partitions):
                pipe.hget(self._keys.serving(partition), pool)
            found: Any = pipe.execute()
        return [owner.decode() if owner is not None else None for owner in found]
