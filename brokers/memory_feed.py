"""The feed, what projections parked, and a read model's checkpoints in memory: the specification of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from holdfast.brokers.memory import MemoryServer, ReaderState
from holdfast.runtime.feed import (
    NO_ORDERS,
    START,
    Behind,
    FeedEntry,
    Generations,
    Order,
    ParkedKey,
    Place,
    Reader,
    Step,
    place_of,
)
from holdfast.runtime.keys import Ref


class MemoryFeed:
    """The feeds and the parked instances."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._shared = server.reading

    # -- the projections

    def generations(self, projection: str) -> tuple[Generations | None, int]:
        """Return the generations and the number of orders."""
        with self._server.changed:
            return self._shared.generations.get(projection), self._shared.orders.get(projection, 0)

    def change(self, projection: str, old: Generations | None, new: Generations | None) -> bool:
        """Compare, then replace."""
        with self._server.changed:
            if self._shared.generations.get(projection) != old:
                return False
            if new is None:
                self._shared.generations.pop(projection, None)
                self._shared.orders.pop(projection, None)
            else:
                self._shared.generations[projection] = new
            return True

    def projections(self) -> list[str]:
        """Return the names."""
        with self._server.changed:
            return sorted(self._shared.generations)

    # -- reading

    def _serves(self, partition: int, owner: str) -> bool:
        return self._server.owners.get(("projection", partition)) in (None, owner)

    def register(self, reader: Reader, partitions: Sequence[int], owner: str) -> dict[int, Place]:
        """Begin at the end, with a walk to do."""
        with self._server.changed:
            found = {}
            for partition in partitions:
                if self._serves(partition, owner):
                    readers = self._server.readers[partition]
                    if str(reader) not in readers:
                        readers[str(reader)] = self._end(partition)
                        self._shared.readers[partition, reader] = ReaderState()
                    found[partition] = self._place(reader, partition)
            return found

    def _end(self, partition: int) -> str:
        return self._server.feed_ends.get(partition, START)

    def _place(self, reader: Reader, partition: int) -> Place:
        state = self._shared.readers[partition, reader]
        return Place(self._server.readers[partition][str(reader)], state.walk, state.walked)

    def _after(self, partition: int, position: str) -> list[FeedEntry]:
        start = place_of(position)
        return [FeedEntry(*one) for one in self._server.feeds[partition] if place_of(one[0]) > start]

    def read(
        self, reader: Reader, after: Mapping[int, str], limit: int, owner: str
    ) -> dict[int, list[FeedEntry] | None]:
        """Return what is behind the positions."""
        with self._server.changed:
            return {
                p: self._after(p, position)[:limit]
                if self._serves(p, owner) and str(reader) in self._server.readers[p]
                else None
                for p, position in after.items()
            }

    def await_news(self, after: Mapping[int, str], timeout_s: float) -> list[int]:
        """Wait for a commit."""

        def news() -> list[int]:
            return [p for p, position in after.items() if self._after(p, position)]

        with self._server.changed:
            return self._server.changed.wait_for(news, timeout_s)

    def records(self, wanted: Sequence[tuple[Ref, int]], limit: int) -> list[list[tuple[int, bytes]]]:
        """Return stretches of logs."""
        with self._server.changed:
            logs = [
                self._server.instances[ref].log if ref in self._server.instances else [] for ref, _ in wanted
            ]
            return [
                list(enumerate(log[seq : seq + limit], seq + 1))
                for log, (_, seq) in zip(logs, wanted, strict=True)
            ]

    def instances(
        self, partition: int, workflows: Sequence[str], walk: str, limit: int
    ) -> tuple[list[Ref], str | None]:
        """Return instances in the order in which they were created; the walk is how many there were before."""
        with self._server.changed:
            refs = list(self._server.instances)
        start = int(walk or 0)
        stretch = refs[start : start + limit]
        found = [ref for ref in stretch if ref.partition == partition and ref.workflow in workflows]
        return found, str(start + limit) if start + limit < len(refs) else None

    def acknowledge(self, reader: Reader, steps: Sequence[Step], owner: str) -> list[bool]:
        """Keep how far the reader is, and wake everybody."""
        with self._server.changed:
            done = [self._acknowledge(reader, step, owner) for step in steps]
            self._server.changed.notify_all()
            return done

    def _acknowledge(self, reader: Reader, step: Step, owner: str) -> bool:
        readers = self._server.readers[step.partition]
        if not self._serves(step.partition, owner) or str(reader) not in readers:
            return False
        readers[str(reader)] = step.position
        state = self._shared.readers[step.partition, reader]
        state.walk, state.walked = step.walk, state.walked + step.walked
        return True

    def trim(self, partitions: Sequence[int]) -> int:
        """Forget what is before every reader's position."""
        with self._server.changed:
            count = 0
            for partition in partitions:
                feed, readers = self._server.feeds[partition], self._server.readers[partition]
                low = min(map(place_of, readers.values()), default=(0, 0))
                kept = [one for one in feed if place_of(one[0]) >= low]
                count += len(feed) - len(kept)
                feed[:] = kept
            return count

    # -- looking

    def end(self, partitions: Sequence[int]) -> list[str]:
        """Return the last positions."""
        with self._server.changed:
            return [self._end(partition) for partition in partitions]

    def behind(self, reader: Reader) -> list[Behind]:
        """Count what the reader is not done with; memory knows no times of entries."""
        with self._server.changed:
            return [
                Behind(
                    p,
                    self._place(reader, p),
                    len(self._after(p, readers[str(reader)])),
                    0.0,
                    len(self._shared.parked.get((p, reader), {})),
                )
                for p, readers in self._server.readers.items()
                if str(reader) in readers
            ]

    def await_positions(self, reader: Reader, positions: Mapping[int, str], timeout_s: float) -> bool:
        """Wait for acknowledgements."""

        def reached() -> bool:
            return all(
                str(reader) in self._server.readers[p]
                and self._shared.readers[p, reader].walk is None
                and place_of(self._server.readers[p][str(reader)]) >= place_of(wanted)
                for p, wanted in positions.items()
            )

        with self._server.changed:
            return self._server.changed.wait_for(reached, timeout_s)

    def count(self, workflows: Sequence[str]) -> int:
        """Return how many instances there are."""
        with self._server.changed:
            return sum(ref.workflow in workflows for ref in self._server.instances)

    def remove(self, reader: Reader, partitions: Sequence[int]) -> None:
        """Forget the reader; a feed without readers is emptied."""
        with self._server.changed:
            for partition in partitions:
                self._server.readers[partition].pop(str(reader), None)
                self._shared.readers.pop((partition, reader), None)
                self._shared.parked.pop((partition, reader), None)
                self._shared.orders_given.pop((partition, reader), None)
                self._shared.applied.pop((partition, reader), None)
                if not self._server.readers[partition]:
                    self._server.feeds[partition].clear()

    # -- parking

    def park(
        self, reader: Reader, parked: Sequence[ParkedKey], done: Mapping[Ref, Order] = NO_ORDERS
    ) -> None:
        """Keep parked instances of a reader that is still known."""
        with self._server.changed:
            for one in parked:
                if str(reader) in self._server.readers[one.partition]:
                    given = self._shared.orders_given.get((one.partition, reader), {})
                    if one.ref in given and given[one.ref] == done.get(one.ref):
                        del given[one.ref]
                    self._shared.parked.setdefault((one.partition, reader), {})[one.ref] = one

    def unpark(self, reader: Reader, refs: Sequence[Ref]) -> None:
        """Forget parked instances."""
        with self._server.changed:
            for ref in refs:
                self._shared.orders_given.get((ref.partition, reader), {}).pop(ref, None)
                self._shared.parked.get((ref.partition, reader), {}).pop(ref, None)

    def parked(self, reader: Reader, partitions: Sequence[int]) -> list[tuple[ParkedKey, Order]]:
        """Return parked instances, the longest parked first."""
        with self._server.changed:
            found = [
                (one, self._shared.orders_given.get((p, reader), {}).get(ref, Order()))
                for p in partitions
                for ref, one in self._shared.parked.get((p, reader), {}).items()
            ]
        return sorted(found, key=lambda one: (one[0].at_ms, one[0].ref))

    def order(self, reader: Reader, refs: Sequence[Ref], order: str) -> list[bool]:
        """Note orders for those that are parked."""
        with self._server.changed:
            self._shared.ordered += 1
            given = Order(order, str(self._shared.ordered))
            found = [ref in self._shared.parked.get((ref.partition, reader), {}) for ref in refs]
            for ref, there in zip(refs, found, strict=True):
                if there:
                    self._shared.orders_given.setdefault((ref.partition, reader), {})[ref] = given
            orders = self._shared.orders
            orders[reader.projection] = orders.get(reader.projection, 0) + 1
            return found


class MemoryWriting:
    """What a checkpoint keeps in memory."""

    tx: Any = None

    def __init__(self, server: MemoryServer, reader: Reader) -> None:
        self._server = server
        self._reader = reader
        self.kept: list[tuple[Ref, int]] = []

    def seqs(self, refs: Sequence[Ref]) -> list[int]:
        """Return up to which record instances are applied."""
        applied = self._server.reading.applied
        return [applied.get((ref.partition, self._reader), {}).get(ref, 0) for ref in refs]

    def keep(self, seqs: Sequence[tuple[Ref, int]], positions: Mapping[int, str]) -> None:  # noqa: ARG002 - the port's signature
        """Have it kept."""
        self.kept += seqs


class MemoryCheckpoints:
    """A read model of which only the checkpoints are kept, in memory."""

    exactly_once = False

    def __init__(self, server: MemoryServer, projection: str) -> None:
        self._server = server
        self._projection = projection

    def prepare(self, generation: int, *, live: bool) -> None:
        """Need nothing."""

    @contextmanager
    def transaction(self, generation: int, partitions: Sequence[int]) -> Iterator[MemoryWriting]:  # noqa: ARG002 - the port's signature
        """Keep the checkpoints when the handlers are done."""
        reader = Reader(self._projection, generation)
        with self._server.changed:
            writing = MemoryWriting(self._server, reader)
        yield writing
        with self._server.changed:
            for ref, seq in writing.kept:
                applied = self._server.reading.applied.setdefault((ref.partition, reader), {})
                applied[ref] = max(seq, applied.get(ref, 0))

    def positions(self, generation: int) -> dict[int, str]:  # noqa: ARG002 - the port's signature
        """Return nothing: memory loses everything or nothing."""
        return {}

    def reachable(self) -> bool:
        """Return True: it is here."""
        return True

    def switch(self, generation: int) -> None:
        """Need nothing: who reads asks for the live generation."""

    def drop(self, generation: int) -> None:
        """Need nothing: what the feed's removal leaves is nothing."""

    def close(self) -> None:
        """Need nothing."""
