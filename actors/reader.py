"""Reader: folds instances for whoever asks, without touching their leases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from itertools import chain, islice
from typing import Any

from holdfast.runtime.actor import Actor, UnusableSnapshot, gap, start
from holdfast.runtime.app import App
from holdfast.runtime.clock import from_ms, monotonic, to_ms
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import DataDeleted, HistoryError, ReplyTimeout, UsageError
from holdfast.runtime.keys import Ref, check_key, partition_of
from holdfast.runtime.ports import Journal
from holdfast.runtime.record import Record
from holdfast.runtime.turn import fold_with_fallback

#: Histories read in one round trip.
INSTANCES_PER_READ = 100
#: The longest single wait on a log: then it is looked whether that is still the log that was folded.
WAIT_STEP_S = 5.0
#: Log entries read in one round trip.
ENTRIES_PER_READ = 1_000


class Reader:
    """Reads states and histories."""

    def __init__(self, app: App, partitions: int, journal: Callable[[], Journal]) -> None:
        self._app = app
        self._partitions = partitions
        self._journal = journal

    def _find(self, workflow: Any, key: str | int) -> tuple[Definition, Ref]:
        definition = self._app.definition_of(workflow)
        checked = check_key(key, f"this {definition.name}")
        return definition, Ref(
            partition_of(definition.type, checked, self._partitions), definition.type, checked
        )

    def ref(self, workflow: Any, key: str | int) -> Ref:
        """Return which instance that is."""
        return self._find(workflow, key)[1]

    def state(self, workflow: Any, key: str | int, at: int | datetime | None) -> Any:
        """Return a state now, at a sequence number, or at a time; None where there was nothing yet."""
        actor = self.look(workflow, key, at)
        not_deleted(actor)
        return actor.state if actor.seq else None

    def history(self, workflow: Any, key: str | int, after: int, limit: int | None) -> list[Record[Any]]:
        """Return records after a sequence number."""
        return list(islice(self.records(workflow, key, after), limit))

    def records(self, workflow: Any, key: str | int, after: int) -> Iterator[Record[Any]]:
        """Return records after a sequence number as they are read: there may be more than go into memory.

        Raises:
            HistoryError: One cannot be read, or those between two of them are gone.
        """
        definition, ref = self._find(workflow, key)
        while True:
            # Pages overlap by a record. While that is there, the next one has to be: nothing is trimmed behind it.
            page = self._journal().entries(ref, max(0, after - 1), ENTRIES_PER_READ)
            before = after if page and page[0][0] == after else 0
            for seq, entry in _decoded(definition, ref, page[1:] if before else page):
                if before and seq != before + 1:
                    raise gap(ref, before, seq)
                before = seq
                yield _record(seq, entry)
            if len(page) < ENTRIES_PER_READ:
                return
            after = page[-1][0]

    def histories(self, workflow: Any, keys: Iterable[str | int]) -> Iterator[tuple[str, list[Record[Any]]]]:
        """Return whole histories, many to a round trip."""
        keys = iter(keys)
        while found := [self._find(workflow, key) for key in islice(keys, INSTANCES_PER_READ)]:
            definition = found[0][0]
            for opened in self._journal().read([ref for _, ref in found], snapshots=False):
                tail = opened.tail
                if tail and tail[-1][0] - tail[0][0] + 1 != len(tail):
                    # Either records are gone, or they were trimmed while a long log was read.
                    yield opened.ref.key, self.history(workflow, opened.ref.key, 0, None)
                else:
                    records = [_record(*one) for one in _decoded(definition, opened.ref, tail)]
                    yield opened.ref.key, records

    def wait(self, workflow: Any, key: str | int, until: Callable[[Any], bool], timeout: float) -> Any:
        """Look, and then wait on the log until the state is as wished."""
        deadline = monotonic() + timeout
        actor = self.look(workflow, key)
        while not_deleted(actor) and not (actor.seq and until(actor.state)):
            left = deadline - monotonic()
            if left <= 0:
                raise ReplyTimeout(not_in_time(actor, timeout))
            self.follow(actor, min(left, WAIT_STEP_S))
        return actor.state

    def look(self, workflow: Any, key: str | int, at: int | datetime | None = None) -> Actor:
        """Return the actor as it is now, or as it was after a record or at a time; its `seq` is 0 if it was not yet."""
        definition, ref = self._find(workflow, key)
        if at is None:
            return self._folded(definition, ref)
        actor = start(definition, ref, None)
        for record_seq, entry in self._entries(definition, ref, 0):
            later = entry.at_ms > _moment(at) if isinstance(at, datetime) else record_seq > at
            if later and actor.seq == 0 and record_seq > 1:
                message = (
                    f"records 1 to {record_seq - 1} of {ref} were deleted: what it was then cannot be told"
                )
                raise HistoryError(message)
            if later:
                break
            actor.absorb(record_seq, entry)
        return actor

    def base(self, workflow: Any, key: str | int) -> Actor:
        """Return the actor that the log is folded onto: at its snapshot where records before that were deleted.

        Raises:
            HistoryError: They were deleted, and the code of today cannot use the snapshot.
        """
        definition, ref = self._find(workflow, key)
        opened = self._journal().read([ref])[0]
        first = next(iter(self._journal().entries(ref, 0, 1)), None)
        if opened.snapshot is None or (first is not None and first[0] == 1):
            return start(definition, ref, None)
        try:
            return start(definition, ref, opened.snapshot)
        except UnusableSnapshot as error:
            message = f"records of {ref} were deleted, and its snapshot is of other code"
            raise HistoryError(message) from error

    def follow(self, actor: Actor, timeout_s: float) -> None:
        """Wait until the log has more than was folded, and fold it."""
        page = self._journal().follow(actor.ref, actor.seq, ENTRIES_PER_READ, timeout_s)
        self.catch_up(actor, page or None)

    def catch_up(self, actor: Actor, page: Sequence[tuple[int, bytes]] | None = None) -> None:
        """Fold what the log has more; all of it, where the log is no longer the one that was folded.

        A server that lost its end has another record under our last number, or none.

        Args:
            actor: Whose log.
            page: What was read of it, from its last number on; None to read that.
        """
        found = self._entries(actor.definition, actor.ref, max(0, actor.seq - 1), page)
        first = next(found, None)
        if first is not None and (first[0] > actor.seq or first[1].command_id == actor.head):
            for seq, entry in chain([first], found):
                if seq > actor.seq:
                    actor.absorb(seq, entry)
        elif first is not None or actor.seq:
            fresh = self._folded(actor.definition, actor.ref)
            for field in fields(actor):
                setattr(actor, field.name, getattr(fresh, field.name))

    def _folded(self, definition: Definition, ref: Ref) -> Actor:
        return fold_with_fallback(self._journal(), definition, self._journal().read([ref])[0])

    def _entries(
        self, definition: Definition, ref: Ref, after: int, page: Sequence[tuple[int, bytes]] | None = None
    ) -> Iterator[tuple[int, Any]]:
        while True:
            found = self._journal().entries(ref, after, ENTRIES_PER_READ) if page is None else page
            yield from _decoded(definition, ref, found)
            if len(found) < ENTRIES_PER_READ:
                return
            after, page = found[-1][0], None


def _decoded(
    definition: Definition, ref: Ref, entries: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[int, Any]]:
    for seq, data in entries:
        yield seq, definition.entries.decode(data, "record", seq, "of", ref)


def _record(seq: int, entry: Any) -> Record[Any]:
    return Record(
        seq,
        entry.command_id,
        entry.command,
        from_ms(entry.at_ms),
        entry.token,
        entry.events,
        entry.cause,
        entry.trace,
        entry.control,
        entry.asked,
        entry.attempts,
    )


def not_deleted(actor: Actor) -> bool:
    """Return True.

    Raises:
        DataDeleted: Nothing of the state is left to be shown.
    """
    if actor.erased:
        message = (
            f"the data of {actor.ref} was deleted with record {actor.seq}; its history says when and why"
        )
        raise DataDeleted(message)
    return True


def _moment(at: datetime) -> int:
    if at.tzinfo is None:
        message = "`at` needs a time zone, such as datetime.now(UTC)"
        raise UsageError(message)
    return to_ms(at)


def not_in_time(actor: Actor, timeout: float) -> str:
    """Return the sentence of a wait that was in vain."""
    where = f"is at record {actor.seq}" if actor.seq else "does not exist"
    return f"{actor.ref} did not come to what was waited for within {timeout:g} s; it {where}"
