"""The ports of projections: the feed that they read, the keys that they parked, and the read model that they build.

Every port has an in-memory twin in `brokers/memory_feed.py`; the suites in `tests/contract/` run against every adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import msgspec

from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.errors import Unavailable, UsageError
from holdfast.runtime.keys import Ref

#: Before every entry of a feed.
START = "0-0"


class Generations(msgspec.Struct, frozen=True, array_like=True):
    """Which read models of a projection there are: each rebuild makes a new generation beside the live one."""

    #: The one that readers see.
    live: int = 1
    #: The one that is being built to replace it; 0 for none.
    building: int = 0
    #: Whether the live one stands still, so that the other one can draw level and take its place.
    switching: bool = False
    #: Those that were replaced and are not yet cleared away.
    retired: tuple[int, ...] = ()

    @property
    def active(self) -> tuple[int, ...]:
        """Those that are kept up to date, the live one first."""
        return (self.live, self.building) if self.building else (self.live,)


class Reader(NamedTuple):
    """One generation of a projection, as the feed knows it."""

    projection: str
    generation: int

    def __str__(self) -> str:
        return f"{self.projection}@{self.generation}"

    @classmethod
    def of(cls, letter: DeadLetter) -> Reader | None:
        """Return whose dead letter this is, or None if it is no projection's."""
        projection, _, generation = letter.id.partition(".")[2].rpartition(".")[0].partition("@")
        return (
            cls(projection, int(generation)) if letter.kind == "projection" and generation.isdigit() else None
        )


class FeedEntry(NamedTuple):
    """One record in a partition's feed."""

    id: str
    ref: Ref
    seq: int
    data: bytes


class Place(NamedTuple):
    """How far a reader has come in a partition."""

    #: The last entry of the feed that it is done with.
    position: str
    #: Where its walk over the instances' logs goes on; None when that is done.
    walk: str | None
    #: How many instances it has walked over.
    walked: int


class Step(NamedTuple):
    """What a reader is done with in a partition."""

    partition: int
    #: The last entry that it is done with, and how many there were since the step before.
    position: str
    entries: int
    #: Where its walk goes on, None when that is done; and how many instances it has walked over in this step.
    walk: str | None = None
    walked: int = 0


class Behind(NamedTuple):
    """How far a reader is behind in a partition; see `Place` for the rest."""

    partition: int
    place: Place
    #: Entries of the feed that it is not done with, and for how many seconds the oldest of them has been there.
    records: int
    seconds: float
    #: How many of its keys are parked.
    parked: int


class ParkedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of which an event could not be applied: it waits, the others go on."""

    partition: int
    workflow: str
    key: str
    #: The record, and which of its events; -1 where the record itself is the problem.
    seq: int
    index: int
    #: Which message it is; empty where that is not known.
    event: str
    error: str
    traceback: str
    #: handler: it raised. unreadable: this code cannot read the record. gone: the log has no such record any more.
    #: ahead: the read model has more than the log, which lost its end; a rebuild mends that.
    kind: str
    attempts: int
    at_ms: int
    #: When it is tried again; 0 when that is left to a person.
    due_ms: int
    #: Events of the record that a person had skipped.
    skipped: tuple[int, ...] = ()

    @property
    def ref(self) -> Ref:
        """Which instance."""
        return Ref(self.partition, self.workflow, self.key)

    @property
    def given_up(self) -> bool:
        """Whether it waits for a person."""
        return self.due_ms == 0

    def letter(self, reader: Reader, body: bytes) -> DeadLetter:
        """Return the dead letter of a key that waits for a person; always under the same id."""
        return DeadLetter(
            id=letter_id(reader, self.ref),
            kind="projection",
            partition=self.partition,
            body=body,
            error=self.error,
            traceback=self.traceback,
            attempts=self.attempts,
            at_ms=self.at_ms,
            workflow=self.workflow,
            key=self.key,
            message_type=self.event,
        )


def letter_id(reader: Reader, ref: Ref) -> str:
    """Return the id of the dead letter of a key: `<partition>.<projection>@<generation>.<digest>`."""
    digest = blake2b(f"{ref.workflow}/{ref.key}".encode(), digest_size=9).hexdigest()
    return f"{ref.partition}.{reader}.{digest}"


class Feed(Protocol):
    """Shows projections every record of a partition in commit order; proved by tests/contract/test_feed.py."""

    def generations(self, projection: str) -> tuple[Generations | None, int]:
        """Return a projection's generations, None if it was never served; and a number that grows with each order."""
        ...

    def change(self, projection: str, old: Generations | None, new: Generations | None) -> bool:
        """Replace a projection's generations, unless they are not `old` any more; return whether they were."""
        ...

    def projections(self) -> list[str]:
        """Return the names of all projections that were ever served and not removed."""
        ...

    def register(self, reader: Reader, partitions: Sequence[int], owner: str) -> dict[int, Place]:
        """Begin to read at the feed's end, with all logs still to be walked; who is known goes on where he was.

        From then on every record of the partition is in the feed until this reader is done with it. A partition that
        somebody else than `owner` serves is left out.
        """
        ...

    def read(
        self, reader: Reader, after: Mapping[int, str], limit: int, owner: str
    ) -> dict[int, list[FeedEntry] | None]:
        """Return the entries behind a position in each partition; None where another serves it or removed the reader."""
        ...

    def await_news(self, after: Mapping[int, str], timeout_s: float) -> list[int]:
        """Wait until a partition has an entry behind its position; return those that do."""
        ...

    def records(self, wanted: Sequence[tuple[Ref, int]], limit: int) -> list[list[tuple[int, bytes]]]:
        """Return up to `limit` entries of each log after a sequence number."""
        ...

    def instances(
        self, partition: int, workflows: Sequence[str], walk: str, limit: int
    ) -> tuple[list[Ref], str | None]:
        """Return about `limit` instances of a partition, and where the walk goes on; begin with an empty `walk`.

        Every instance that is there from the walk's beginning to its end, unchanged, is returned at least once.
        """
        ...

    def acknowledge(self, reader: Reader, steps: Sequence[Step], owner: str) -> list[bool]:
        """Keep how far a reader has come, and wake who waits for that; False where another serves the partition."""
        ...

    def trim(self, partitions: Sequence[int]) -> int:
        """Forget entries that every reader is done with, and return about how many."""
        ...

    def end(self, partitions: Sequence[int]) -> list[str]:
        """Return the last position of each feed."""
        ...

    def behind(self, reader: Reader) -> list[Behind]:
        """Return how far a reader is behind in each partition that it is registered in."""
        ...

    def await_positions(self, reader: Reader, positions: Mapping[int, str], timeout_s: float) -> bool:
        """Wait until a reader is done with its walks and these positions; look again at least at every signal."""
        ...

    def count(self, workflows: Sequence[str]) -> int:
        """Return how many instances of these workflows there are."""
        ...

    def remove(self, reader: Reader, partitions: Sequence[int]) -> None:
        """Forget a reader and what it parked; a feed that nobody reads is emptied and no longer written."""
        ...


class Order(NamedTuple):
    """What a person ordered for a parked key."""

    #: retry, skip, or empty for nothing.
    verb: str = ""
    #: What tells it from every other order for the key.
    mark: str = ""


NO_ORDERS: Mapping[Ref, Order] = {}


class Parking(Protocol):
    """Keeps which keys a reader has parked; proved by tests/contract/test_feed_parking.py."""

    def park(
        self, reader: Reader, parked: Sequence[ParkedKey], done: Mapping[Ref, Order] = NO_ORDERS
    ) -> None:
        """Keep parked keys; one that is known is replaced. Orders that were carried out are done with, newer ones stay."""
        ...

    def unpark(self, reader: Reader, refs: Sequence[Ref]) -> None:
        """Forget parked keys and the orders for them."""
        ...

    def parked(self, reader: Reader, partitions: Sequence[int]) -> list[tuple[ParkedKey, Order]]:
        """Return parked keys, each with the last order for it."""
        ...

    def order(self, reader: Reader, refs: Sequence[Ref], order: str) -> list[bool]:
        """Order that parked keys be retried or skipped; False for one that is not parked."""
        ...


class Writing(Protocol):
    """A transaction on a read model: what handlers write, and how far each instance is applied."""

    #: What handlers write with; each kind of store has its own.
    tx: Any

    def seqs(self, refs: Sequence[Ref]) -> list[int]:
        """Return up to which record each instance is applied; 0 for none."""
        ...

    def keep(self, seqs: Sequence[tuple[Ref, int]], positions: Mapping[int, str]) -> None:
        """Have it stored, together with what was written, up to which record instances are applied."""
        ...


class ReadModel(Protocol):
    """What a projection writes to; proved by tests/contract/test_read_model.py. For one thread at a time."""

    #: Whether what is written and how far it goes are stored together.
    exactly_once: bool

    def prepare(self, generation: int, *, live: bool) -> None:
        """Make the places of a generation, if they are not there yet."""
        ...

    def transaction(self, generation: int, partitions: Sequence[int]) -> AbstractContextManager[Writing]:
        """Write to a generation, alone in these partitions, all or nothing.

        Raises:
            Unavailable: The store cannot be reached: nothing was written, or nobody knows whether it was.
            Stale: Another writer was there: nothing was written.
        """
        ...

    def positions(self, generation: int) -> dict[int, str]:
        """Return by partition how far the feed was read, where that is kept with what is written."""
        ...

    def reachable(self) -> bool:
        """Return whether the store answers: then an error of a handler is the handler's."""
        ...

    def switch(self, generation: int) -> None:
        """Show readers this generation from now on."""
        ...

    def drop(self, generation: int) -> None:
        """Clear a generation away."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


class Stale(Unavailable):
    """Another writer was at the read model; the batch is looked at again."""


def place_of(id_: str) -> tuple[int, int]:
    """Return a position in a form that can be compared."""
    ms, _, number = id_.partition("-")
    return int(ms), int(number or 0)


def position_of(text: str, partitions: int) -> tuple[int, str]:
    """Return the partition and the feed id of a position as outcomes carry it: `<partition>/<feed id>`.

    Raises:
        UsageError: It is no position.
    """
    partition, slash, id_ = text.partition("/")
    ms, dash, number = id_.partition("-")
    plain = all(part.isascii() and part.isdigit() for part in (partition, ms, number))
    if not (slash and dash and plain and int(partition) < partitions):
        message = f"{text!r} is no position; an accepted outcome has one, such as '3/1700000000000-0'"
        raise UsageError(message)
    return int(partition), id_
