"""Roster: who serves what, and what waits there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from holdfast.runtime.backlog import BEHIND_MAX, Backlog, Load
from holdfast.runtime.ports import POOLS, Member, Membership, Transport


class Post(NamedTuple):
    """One pool's work on one partition: who does it, and how far behind it is."""

    pool: str
    partition: int
    #: Who serves it; None where nobody that lives does.
    member: Member | None
    #: What waits: commands, unfinished effects, timers that are due, records that the slowest projection has not read.
    waiting: int
    #: Whether more than `waiting` wait, which were not counted.
    more: bool
    #: Since when the first of them waits, in milliseconds since 1970 by the server's time; 0 where nothing does, or
    #: where nobody knows, as of commands.
    since_ms: int
    #: The server's time.
    now_ms: int

    @property
    def deserted(self) -> bool:
        """Whether something waits here and nobody serves it."""
        return self.member is None and self.waiting > 0


def roster(
    backlog: Backlog, membership: Membership, transport: Transport, pools: Sequence[str] = POOLS
) -> list[Post]:
    """Return who serves what, pool by pool and partition by partition."""
    living = {member.id: member for member in membership.living()}
    owners = {pool: membership.owners(pool) for pool in pools}
    depths = transport.depths() if "command" in pools else []
    loads = backlog.loads()
    return [
        Post(
            pool,
            load.partition,
            living.get(owners[pool][load.partition] or ""),
            *_waiting(pool, load, depths),
        )
        for pool in pools
        for load in loads
    ]


def _waiting(pool: str, load: Load, depths: Sequence[int]) -> tuple[int, bool, int, int]:
    """Return what waits for a pool: how many, whether more, since when; and the time."""
    match pool:
        case "command":
            return depths[load.partition], False, 0, load.now_ms
        case "effect":
            return load.effects, False, load.effects_since_ms, load.now_ms
        case "timer":
            return load.due, False, load.due_since_ms, load.now_ms
        case _:
            behind = [one for one in load.readings if one.behind > 0]
            most = max((one.behind for one in behind), default=0)
            return most, most >= BEHIND_MAX, min((one.since_ms for one in behind), default=0), load.now_ms
