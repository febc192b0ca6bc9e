"""Who lives and who serves what, in Redis."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.codec import encode
from holdfast.runtime.config import Settings
from holdfast.runtime.ports import POOLS, Member, Roll, Share

_decoder = msgspec.msgpack.Decoder(Member)
_types_decoder = msgspec.msgpack.Decoder(list[str])


class RedisMembership:
    """Knows the living. Their time is Redis's."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._partitions = settings.partitions

    def beat(
        self, member: Member, ttl_ms: int, serving: Collection[Share] = (), knows: Sequence[str] = ()
    ) -> Roll:
        """Say that a member lives, and look at its claims in the same round trip; see beat.lua and unclaimed.lua."""
        pools: dict[int, list[str]] = defaultdict(list)
        for pool, partition in serving:
            pools[partition].append(pool)
        facts = (encode(member), self._partitions, secrets.token_hex(8), encode(list(knows)))
        beat = self._beat(member.id, ttl_ms, *facts)
        looks = [
            Call(Script.UNCLAIMED, (self._keys.serving(partition),), (member.id, *names))
            for partition, names in pools.items()
        ]
        living, *found = scripts.run(self._link, [beat, *looks])
        lost = {
            (pool.decode(), partition)
            for partition, names in zip(pools, found, strict=True)
            for pool in names
        }
        return Roll(_members(living), lost)

    def living(self) -> list[Member]:
        """Return the living members."""
        return _members(scripts.run(self._link, [self._beat("")])[0])

    def _beat(self, member_id: str, *args: str | int | bytes) -> Call:
        own = self._keys
        keys = (own.members(), own.member_facts(), own.meta(), own.knows(member_id))
        return Call(Script.BEAT, keys, (member_id, *args))

    def known(self) -> dict[str, set[str]]:
        """Return what the living know; one of the last release does not say it."""
        names = [member.id for member in self.living()]
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for name in names:
                pipe.get(self._keys.knows(name))
            found: Any = pipe.execute()
        known = {
            name: set(_types_decoder.decode(data))
            for name, data in zip(names, found, strict=True)
            if data is not None
        }
        return {name: types for name, types in known.items() if types}

    def leave(self, member_id: str) -> None:
        """Forget a member first, and then free what it served: nobody takes it for alive in between."""
        with unavailable(self._link):
            pipe = self._link.at(self._keys.members()).pipeline(transaction=True)
            pipe.zrem(self._keys.members(), member_id)
            pipe.hdel(self._keys.member_facts(), member_id)
            pipe.delete(self._keys.knows(member_id))
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


def _members(found: Sequence[bytes | None]) -> list[Member]:
    return sorted(_decoder.decode(facts) for facts in found if facts is not None)
