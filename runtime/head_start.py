"""Head start: an effect that this very process runs is begun by the commit that asks for it.

An effect's usual way is out into its outbox and back: a read wakes the effect pool, which then becomes the effect's
holder. Where the pool serves the partition in the same process and has a place free, the commit makes it the holder:

    reserve a place -> commit (outbox, holder) -> barrier -> start
         |                |
         |                +-- refused, or another serves the partition by now: the place is free again
         +-- no place, a limit, an unknown type: the usual way

The effect is in the outbox all the same, and the pool reads it there. So when the answer to a commit is lost nothing
else is: whoever reads finds the effect his, and runs it. When the partition goes to somebody else before it was read,
the pool lets go of all that it holds there and does not know of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from holdfast.runtime.ports import Commit
from holdfast.runtime.record import EffectEntry


class Place(NamedTuple):
    """A place for one effect with whoever gave it."""

    partition: int
    #: What the giver knows it by.
    token: Any


class Starter(Protocol):
    """The effect pool of a process, as its command pool knows it; for any thread."""

    def reserve(self, partition: int, entries: Sequence[EffectEntry]) -> list[Place | None]:
        """Return a place for each effect that may begin at once; each is to be started or released."""
        ...

    def start(self, begun: Sequence[tuple[Place, str]]) -> None:
        """Run effects whose first attempt is ours and durable, with where they are in the outbox."""
        ...

    def release(self, places: Sequence[Place]) -> None:
        """Take places back: their effects were not begun."""
        ...

    def doubt(self, places: Sequence[Place]) -> None:
        """Take places back: nobody knows whether their effects were begun."""
        ...


class Crossing:
    """Where the command pool and the effect pool of one process meet, if it has both."""

    def __init__(self) -> None:
        #: The effect pool, once there is one.
        self.starter: Starter | None = None

    def head_start(self) -> HeadStart:
        """Return what one lane of the command pool begins effects with."""
        return HeadStart(self)


class HeadStart:
    """The effects that one lane's commits begin. For one thread at a time."""

    def __init__(self, crossing: Crossing) -> None:
        self._crossing = crossing
        #: What was reserved for commits whose answer is not there, and what was begun by those that stand.
        self._reserved: dict[int, list[Place | None]] = {}
        self._begun: list[tuple[Place, str]] = []

    def reserve(self, commits: Sequence[Commit]) -> None:
        """Have commits begin those of their effects that may be run here at once."""
        starter = self._crossing.starter
        if starter is None:
            return
        for commit in commits:
            if commit.effects:
                places = starter.reserve(commit.ref.partition, commit.effects)
                if any(places):
                    commit.begins = [place is not None for place in places]
                    self._reserved[id(commit)] = places

    def settle(self, commit: Commit, positions: Sequence[str] = ()) -> None:
        """Take what became of a commit: where the effects are that it has begun, or nothing if it has begun none."""
        places = [place for place in self._reserved.pop(id(commit), ()) if place is not None]
        if positions:
            self._begun += zip(places, positions, strict=True)
        elif places and self._crossing.starter is not None:
            self._crossing.starter.release(places)

    def start(self) -> None:
        """Run what was begun, now that it is durable."""
        starter = self._crossing.starter
        if self._begun and starter is not None:
            begun, self._begun = self._begun, []
            starter.start(begun)

    def abandon(self) -> None:
        """Give all places back: what was committed is found in the outbox."""
        places = [place for found in self._reserved.values() for place in found if place is not None]
        places += [place for place, _ in self._begun]
        self._reserved, self._begun = {}, []
        if places and self._crossing.starter is not None:
            self._crossing.starter.doubt(places)
