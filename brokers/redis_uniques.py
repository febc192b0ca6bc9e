"""Unique keys in Redis: a hash each, in the partition that the key itself decides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.config import Settings
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.uniques import (
    CLAIM_MARGIN_MS,
    CLAIM_MS,
    Claim,
    Claimed,
    ClaimResult,
    Contested,
    Taken,
    unique_partition,
)


class _Held(NamedTuple):
    """What the index says of a key that another has or had."""

    holder: str
    seq: str
    until: str
    #: Whether nobody is just about to commit it: then the holder itself has it, or nobody.
    settled: bool

    @property
    def as_found(self) -> str:
        return f"{self.holder}|{self.seq}|{self.until}"


class RedisUniques:
    """Keeps unique keys in Redis."""

    def __init__(self, settings: Settings, link: RedisLink, *, claim_ms: int = CLAIM_MS) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._partitions = settings.partitions
        self._claim_ms = claim_ms
        self._margin_ms = min(CLAIM_MARGIN_MS, claim_ms // 3)

    def claim(self, claims: Sequence[Claim]) -> list[ClaimResult]:
        """Claim keys; see claim_unique.lua. Keys that another seems to have are looked after, and tried once more."""
        nows = self._nows(claims)
        first = self._try(claims, [""] * len(claims))
        held = [(index, found) for index, found in enumerate(first) if isinstance(found, _Held)]
        if not held:
            return [self._result(found, now) for found, now in zip(first, nows, strict=True)]
        has = self._have([(claims[index], found.holder) for index, found in held])
        results: dict[int, int | _Held] = dict(enumerate(first))
        again = []
        for (index, found), really in zip(held, has, strict=True):
            if not really and found.settled:
                again.append((index, found.as_found))
            else:
                results[index] = found._replace(settled=really)
        if again:
            second = self._try([claims[index] for index, _ in again], [stale for _, stale in again])
            for (index, _), found_now in zip(again, second, strict=True):
                results[index] = (
                    found_now._replace(settled=False) if isinstance(found_now, _Held) else found_now
                )
        return [self._result(results[index], now) for index, now in enumerate(nows)]

    def _nows(self, claims: Sequence[Claim]) -> list[int | None]:
        """Return the time of the servers on which the holders commit, where those are not the same for all keys.

        A claim ends by one server's clock and is used by another's. It lasts from after now, so it has not run out
        before now and its length are over on either.
        """
        if self._link.cluster is None:
            return [None] * len(claims)
        with unavailable(self._link):
            tags = {claim.holder.partition: self._keys.actor(claim.holder) for claim in claims}
            times = {partition: self._link.at(key).time() for partition, key in tags.items()}
        now = {partition: seconds * 1000 + micros // 1000 for partition, (seconds, micros) in times.items()}
        return [now[claim.holder.partition] for claim in claims]

    def _result(self, found: int | _Held, now_ms: int | None) -> ClaimResult:
        if isinstance(found, int):
            until_ms = found if now_ms is None else now_ms + self._claim_ms
            return Claimed(until_ms - self._margin_ms)
        return Taken(found.holder) if found.settled else Contested(found.holder)

    def _try(self, claims: Sequence[Claim], stale: Sequence[str]) -> list[int | _Held]:
        def args(index: int) -> tuple[str | int, ...]:
            return claims[index].holder.key, claims[index].seq, stale[index]

        replies = self._run(claims, Script.CLAIM_UNIQUE, (self._claim_ms,), args)
        return [
            int(reply[1])
            if reply[0] == b"claimed"
            else _Held(reply[1].decode(), reply[2].decode(), reply[3].decode(), reply[4] == b"1")
            for reply in replies
        ]

    def _run(
        self, claims: Sequence[Claim], script: Script, head: Sequence[str | int], args: Any
    ) -> list[Any]:
        """Run a script for each partition, and return its replies in the order of the claims."""
        by_partition: dict[int, list[int]] = defaultdict(list)
        for index, claim in enumerate(claims):
            by_partition[self._partition(claim)].append(index)
        calls = [
            Call(
                script,
                [self._keys.unique(partition, claims[i].holder.workflow, claims[i].unique) for i in indexes],
                (*head, *(arg for i in indexes for arg in args(i))),
            )
            for partition, indexes in by_partition.items()
        ]
        found: dict[int, Any] = {}
        for indexes, replies in zip(by_partition.values(), scripts.run(self._link, calls), strict=True):
            if isinstance(replies, list):
                found.update(zip(indexes, replies, strict=True))
        return [found.get(index) for index in range(len(claims))]

    def _partition(self, claim: Claim) -> int:
        return unique_partition(claim.holder.workflow, claim.unique, self._partitions)

    def _have(self, wanted: Sequence[tuple[Claim, str]]) -> list[bool]:
        """Return whether those who are said to hold these keys have them, by their own record."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for claim, holder in wanted:
                workflow = claim.holder.workflow
                ref = Ref(partition_of(workflow, holder, self._partitions), workflow, holder)
                pipe.hmget(self._keys.actor(ref), "unique", "run_state")
            found = pipe.execute()
        return [
            unique is not None
            and unique.decode() == claim.unique
            and not RunState(run_state.decode()).finished
            for (claim, _), (unique, run_state) in zip(wanted, found, strict=True)
        ]

    def confirm(self, claims: Sequence[Claim]) -> None:
        """Confirm claims; see settle_unique.lua."""
        self._run(claims, Script.SETTLE_UNIQUE, ("confirm",), lambda i: (claims[i].holder.key, claims[i].seq))

    def give_up(self, claims: Sequence[Claim]) -> None:
        """Free keys; see settle_unique.lua."""
        self._run(claims, Script.SETTLE_UNIQUE, ("free",), lambda i: (claims[i].holder.key, claims[i].seq))

    def find(self, workflow: str, unique: str) -> str | None:
        """Return who has a key, by his own record."""
        partition = unique_partition(workflow, unique, self._partitions)
        with unavailable(self._link):
            holder: Any = self._link.client.hget(self._keys.unique(partition, workflow, unique), "holder")
        if holder is None:
            return None
        key = holder.decode()
        claim = Claim(unique, Ref(0, workflow, key), 0)
        return key if self._have([(claim, key)])[0] else None
