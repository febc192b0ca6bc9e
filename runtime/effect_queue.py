"""The ports of the effect pool: the outbox as a queue, and the places that limits hand out.

An effect stays in its partition's outbox until it is finished. Whoever begins it becomes its holder, and only its
holder may finish it or put it off. A holder that lives keeps it, also when the partition has gone to somebody else;
what a dead one held is taken from it by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from holdfast.runtime.effect import result_mark
from holdfast.runtime.keys import Ref
from holdfast.runtime.limit import Want

#: The position before everything.
START = "0-0"
#: Ends of effects that are remembered in a partition, about: the latest.
ENDED_MAX = 1_000


class Waiting(NamedTuple):
    """An effect in a partition's outbox, as it is stored."""

    partition: int
    #: Where in the outbox; a position is never used twice.
    position: str
    data: bytes


class Ticket(NamedTuple):
    """Which effect, and where it is. The instance and the id are empty when its bytes cannot be read."""

    partition: int
    position: str
    workflow: str = ""
    key: str = ""
    id: str = ""
    #: How many attempts the caller knows of: a begin whose answer was lost is not counted again.
    seen: int = 0

    @property
    def mark(self) -> str:
        """What names it wherever its instance must not be told: a digest."""
        return result_mark(Ref(self.partition, self.workflow, self.key).scope, self.id)


class Begun(NamedTuple):
    """It is ours to run."""

    #: 1 for the first attempt.
    attempt: int


class HeldBy(NamedTuple):
    """Another process has begun it; if that is dead, it is to be named to `begin`."""

    owner: str
    #: How many attempts were begun.
    attempts: int


class Refusal(StrEnum):
    """Why an effect was not begun."""

    #: It is no longer there.
    GONE = "gone"
    #: Another process serves the partition.
    FENCED = "fenced"


class Note(msgspec.Struct, frozen=True, array_like=True):
    """Why an effect waits, for people."""

    #: "retry", "limit" or "rate".
    reason: str
    error: str = ""
    at_ms: int = 0


class PutOff(NamedTuple):
    """An effect that is to wait in the schedule."""

    ticket: Ticket
    delay_ms: int
    note: Note


class PendingEffect(NamedTuple):
    """One line of what runs and waits, for tools."""

    partition: int
    workflow: str
    key: str
    id: str
    #: The name of the effect's class; empty when its bytes cannot be read.
    effect: str
    #: "waiting", "running", "retry", "limit" or "rate".
    state: str
    #: How many attempts were begun.
    attempts: int
    #: When it came to be in this state, in milliseconds since 1970.
    since_ms: int
    #: When it goes on, in milliseconds since 1970; 0 where no time is set.
    until_ms: int = 0
    #: Who runs it.
    owner: str = ""
    #: What the last attempt failed with, or what it waits for.
    error: str = ""


class Ended(NamedTuple):
    """How an effect ended that led to no command."""

    attempts: int
    #: When, in milliseconds since 1970.
    at_ms: int


class EffectQueue(Protocol):
    """Hands out effects to who serves their partition; proved by tests/contract/test_effects.py."""

    def arrivals(self, after: Mapping[int, str], limit: int, timeout_s: float) -> list[Waiting]:
        """Wait for effects behind these positions, by partition, and return up to `limit` of each in order."""
        ...

    def begin(
        self, tickets: Sequence[Ticket], owner: str, dead: Collection[str] = ()
    ) -> list[Begun | HeldBy | Refusal]:
        """Become the holder of effects and count an attempt of each; `dead` are holders to take them from."""
        ...

    def holders(self, tickets: Sequence[Ticket]) -> list[str]:
        """Return who holds effects; an empty name where nobody does."""
        ...

    def holds(self, tickets: Sequence[Ticket], owner: str) -> list[bool]:
        """Return which effects are still there and ours to finish."""
        ...

    def finish(self, tickets: Sequence[Ticket], owner: str, attempts: Sequence[int] = ()) -> list[bool]:
        """Remove effects that are done with; False for one that is gone or another's.

        Args:
            tickets, owner: Which, and whose they are.
            attempts: For each how many it took, where no command says that, or else 0: see `ended`.
        """
        ...

    def ended(self, partition: int) -> dict[str, Ended]:
        """Return the ends of effects that led to no command, by `result_mark`: of each partition the latest."""
        ...

    def put_off(self, delays: Sequence[PutOff], owner: str) -> list[bool]:
        """Move effects to the schedule, from where they come back as new arrivals; False as for `finish`."""
        ...

    def let_go(self, partition: int, owner: str, keeping: Collection[Ticket]) -> bool:
        """Hold no effects any more of a partition that another serves by now, but for these.

        False while the owner serves it: then nothing is changed, and it finds in the outbox what it holds.
        """
        ...

    def restore(self, ticket: Ticket, data: bytes) -> None:
        """Put an effect that was given up back into the outbox, its attempts forgotten."""
        ...

    def pending(self, partition: int, limit: int) -> list[PendingEffect]:
        """Return what waits and runs, the outbox in order and then what is put off."""
        ...


class Slots(Protocol):
    """Hands out the places of limits and rates; proved by tests/contract/test_slots.py.

    A place of a limit is a lease: it comes free by itself when its holder no longer renews it.
    """

    def acquire(self, wants: Sequence[Want], lease_ms: int) -> list[int]:
        """Return 0 for each that may begin, else after how many milliseconds it may: its turn in a rate is kept for it.

        Where a limit is full nobody knows when: -1.
        """
        ...

    def renew(self, wants: Sequence[Want], lease_ms: int) -> None:
        """Keep places for longer."""
        ...

    def give_back(self, wants: Sequence[Want]) -> None:
        """Free places of limits; what began has begun, so a rate gets nothing back."""
        ...
