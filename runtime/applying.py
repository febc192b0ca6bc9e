"""Applying: what is done to a read model with a batch of instances, exactly or at least once, each in order.

    transaction: how far is each? -> barrier -> handlers, record by record -> how far each is now -> commit

The read model knows for each instance up to which record it is applied. The next one is applied, older ones are passed
over, and where there is a gap the log is read: so no entry of the feed can be doubled or missed, whatever became of it.

When an event fails, nothing of its transaction is stored; the batch is halved until the instance at fault is alone.
That one is parked, all others go on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from holdfast.runtime import faults
from holdfast.runtime.bearings import call_for
from holdfast.runtime.clock import Clock, from_ms, to_ms
from holdfast.runtime.dead_letter import sentence_of, traceback_of
from holdfast.runtime.errors import Ending, HistoryError, HoldfastError, Unavailable, message_of
from holdfast.runtime.faults import Point
from holdfast.runtime.feed import Feed, FeedEntry, ParkedKey, Reader, ReadModel
from holdfast.runtime.keys import Ref
from holdfast.runtime.loss import Known
from holdfast.runtime.message import describe
from holdfast.runtime.projection import ProjectionContext
from holdfast.runtime.projection_definition import ProjectionDefinition
from holdfast.runtime.record import Entry

#: Instances of which the last record is remembered.
RECENT_MAX = 10_000
#: Records of one log that are read at a time.
RECORDS_PER_READ = 500


@dataclass(slots=True)
class Work:
    """An instance with its entries in the feed; without any, its log is read to the end."""

    ref: Ref
    entries: list[FeedEntry] = field(default_factory=list)
    #: As what it was parked, if this is another try.
    parked: ParkedKey | None = None
    #: Whether what it was parked for is left out.
    skip: bool = False
    #: Whether the log may have lost its end: then the read model may have more than it.
    doubted: bool = False


@dataclass(slots=True)
class Applied:
    """What became of a batch."""

    events: int = 0
    parked: list[ParkedKey] = field(default_factory=list)


class EventFailed(Exception):
    """An event of an instance could not be applied."""

    def __init__(self, kind: str, seq: int, index: int, event: str, error: BaseException) -> None:
        super().__init__(message_of(error))
        self.kind = kind
        self.seq = seq
        self.index = index
        self.event = event
        self.error = error


class Applier:
    """Applies batches to one generation of a projection."""

    def __init__(
        self,
        definition: ProjectionDefinition,
        reader: Reader,
        feed: Feed,
        model: ReadModel,
        *,
        barrier: Callable[[], None],
        call: Callable[[Any], Any],
        clock: Clock,
    ) -> None:
        self._definition = definition
        self._reader = reader
        self._feed = feed
        self._model = model
        self._barrier = barrier
        #: What ends a coroutine that a handler returned.
        self._call = call
        self._clock = clock
        #: Whether nobody sees this generation yet.
        self.rebuilding = False
        #: The last record that was applied of each instance, for those that were written last.
        self.recent: OrderedDict[Ref, Known] = OrderedDict()

    def apply(self, works: Sequence[Work], positions: Mapping[int, str]) -> Applied:
        """Apply a batch; what could not be applied is to be parked.

        Raises:
            Unavailable: The store or the feed is away; the batch may be applied again.
        """
        result = Applied()
        if works:
            self._apply(works, positions, result)
        return result

    def _apply(self, works: Sequence[Work], positions: Mapping[int, str], result: Applied) -> None:
        try:
            result.events += self._attempt(works, positions)
        except HoldfastError:
            raise
        except Exception as error:
            if not self._model.reachable():
                message = (
                    f"the store of projection {self._definition.name!r} does not answer: {message_of(error)}"
                )
                raise Unavailable(message) from error
            if len(works) > 1:
                middle = len(works) // 2
                self._apply(works[:middle], positions, result)
                self._apply(works[middle:], positions, result)
            else:
                self._fail(works[0], positions, error, result)

    def _fail(self, work: Work, positions: Mapping[int, str], error: Exception, result: Applied) -> None:
        """Apply what comes before the event that failed, and have the instance parked at it."""
        if not isinstance(error, EventFailed):
            # The store refused what the batch added up to: no event of it can be named.
            failed = EventFailed("handler", self._seq(work.ref) + 1, -1, "", error)
        else:
            failed = error
            try:
                result.events += self._attempt([work], positions, until=failed.seq)
            except EventFailed as other:
                failed = other  # the handler does not fail each time at the same place
        result.parked.append(self._parked(work, failed))

    def _seq(self, ref: Ref) -> int:
        with self._model.transaction(self._reader.generation, [ref.partition]) as writing:
            return writing.seqs([ref])[0]

    def _parked(self, work: Work, failed: EventFailed) -> ParkedKey:
        before, now_ms = work.parked, to_ms(self._clock.now())
        again = before is not None and before.seq == failed.seq
        skipped = _left_out(work)[1] if again else ()
        attempts = before.attempts + 1 if before and again and before.index == failed.index else 1
        retry = self._definition.retry
        hopeless = failed.kind != "handler" or isinstance(failed.error, retry.unless)
        wait_s = None if hopeless else retry.wait_s(attempts)
        return ParkedKey(
            partition=work.ref.partition,
            workflow=work.ref.workflow,
            key=work.ref.key,
            seq=failed.seq,
            index=failed.index,
            event=failed.event,
            error=sentence_of(failed.error),
            traceback=traceback_of(failed.error),
            kind=failed.kind,
            attempts=attempts,
            at_ms=now_ms,
            due_ms=0 if wait_s is None else now_ms + max(1, round(wait_s * 1000)),
            skipped=tuple(skipped),
        )

    def _attempt(
        self, works: Sequence[Work], positions: Mapping[int, str], *, until: int | None = None
    ) -> int:
        """Apply everything in one transaction, up to before the record `until`; return how many events."""
        partitions = sorted({work.ref.partition for work in works})
        refs = [work.ref for work in works]
        with self._model.transaction(self._reader.generation, partitions) as writing:
            before = dict(zip(refs, writing.seqs(refs), strict=True))
            turn = _Turn(self._definition, self._reader.generation, self.rebuilding, self._call, writing.tx)
            turn.seqs, turn.until = dict(before), until
            with self._definition.projection.batch(writing.tx):
                self._follow(turn, works)
            faults.reach(Point.PROJECTION_WRITTEN)
            changed = [(ref, seq) for ref, seq in turn.seqs.items() if seq != before[ref]]
            writing.keep(changed, {p: positions[p] for p in partitions if p in positions})
            faults.reach(Point.POSITION_WRITTEN)
        faults.reach(Point.POSITION_STORED)
        for ref, seq in changed:
            self.recent.pop(ref, None)
            if ref in turn.heads:
                self.recent[ref] = Known(ref, seq, turn.heads[ref])
        while len(self.recent) > RECENT_MAX:
            self.recent.popitem(last=False)
        return turn.events

    def _follow(self, turn: _Turn, works: Sequence[Work]) -> None:
        """Apply what the feed has, and from the logs what it has not."""
        # What was read is visible, but perhaps not yet durable.
        self._barrier()
        self._compare(turn, works)
        behind = []
        for work in works:
            fresh = [entry for entry in work.entries if entry.seq > turn.seqs[work.ref]]
            if fresh and fresh[0].seq == turn.seqs[work.ref] + 1:
                for entry in fresh:
                    turn.record(work, entry.seq, entry.data, f"{entry.ref.partition}/{entry.id}")
            shown = fresh[-1].seq if fresh else 0
            if not work.entries or (turn.seqs[work.ref] < shown and not turn.ended(work.ref)):
                behind.append(work)
        while behind:
            wanted = [(work.ref, turn.seqs[work.ref]) for work in behind]
            found = self._feed.records(wanted, RECORDS_PER_READ)
            self._barrier()
            following = []
            for work, records in zip(behind, found, strict=True):
                if records:
                    turn.gap(work, *records[0])
                elif work.entries:
                    turn.gap(work, work.entries[-1].seq, work.entries[-1].data)
                for seq, data in records:
                    turn.record(work, seq, data, "")
                # Of what was read some may not follow what was applied: then that is the next to be looked at.
                short = bool(records) and turn.seqs[work.ref] < records[-1][0]
                if (short or len(records) == RECORDS_PER_READ) and not turn.ended(work.ref):
                    following.append(work)
            behind = following

    def _compare(self, turn: _Turn, works: Sequence[Work]) -> None:
        """See that the log has what the read model has, for instances of which the feed shows something old.

        Most often that was shown again after a crash. But where the log lost its end to a power failure, and the read
        model did not, new records come under old numbers: to pass over them would be to miss them.

        Raises:
            EventFailed: The read model is ahead of the log.
        """
        doubted = [
            work
            for work in works
            if not work.skip
            and (
                (work.entries and work.entries[0].seq <= turn.seqs[work.ref])
                or (work.parked is not None and work.parked.kind == "ahead")
                or (work.doubted and turn.seqs[work.ref])
            )
        ]
        if not doubted:
            return
        found = self._feed.records([(work.ref, turn.seqs[work.ref] - 1) for work in doubted], 1)
        for work, records in zip(doubted, found, strict=True):
            seq = turn.seqs[work.ref]
            again = work.parked is not None and work.parked.kind == "ahead"
            if again or (not records and not (work.entries and work.entries[-1].seq >= seq)):
                raise EventFailed("ahead", seq + 1, -1, "", HistoryError(_ahead(work.ref, seq)))

    def ahead(self, known: Known) -> ParkedKey:
        """Return an instance as it is parked when the log does not have what was applied of it."""
        error = HistoryError(_ahead(known.ref, known.seq))
        return self._parked(Work(known.ref), EventFailed("ahead", known.seq + 1, -1, "", error))


def _ahead(ref: Ref, seq: int) -> str:
    return (
        f"the read model has {seq} records of {ref}, more than its log: the log lost the last ones, "
        "and what came since has their numbers. Rebuild the projection"
    )


@dataclass(slots=True)
class _Turn:
    """One attempt at a batch: how far each instance has come in it."""

    definition: ProjectionDefinition
    generation: int
    rebuilding: bool
    call: Callable[[Any], Any]
    tx: Any
    seqs: dict[Ref, int] = field(default_factory=dict)
    until: int | None = None
    events: int = 0
    #: Whose commands made the last records that were applied.
    heads: dict[Ref, str] = field(default_factory=dict)

    def ended(self, ref: Ref) -> bool:
        """Return whether nothing more of an instance is to be applied."""
        return self.until is not None and self.seqs[ref] + 1 >= self.until

    def gap(self, work: Work, first: int, data: bytes) -> None:
        """Fail if a log no longer has what comes next, unless that was deleted or a person said to go on behind it.

        Raises:
            EventFailed: Records are gone, or the first one that is left cannot be read.
        """
        due = self.seqs[work.ref] + 1
        if first <= due or self.ended(work.ref):
            return
        # What comes before it is applied, whatever that entry is.
        control = self._entry(work.ref, first, data, due).control
        erased = control is not None and control.erases
        if erased or (work.skip and work.parked is not None and work.parked.kind == "gone"):
            self.seqs[work.ref] = first - 1
            return
        text = f"records {due} to {first - 1} of {work.ref} are no longer in its log"
        raise EventFailed("gone", due, -1, "", HistoryError(text))

    def record(self, work: Work, seq: int, data: bytes, position: str) -> None:
        """Apply one record, if it is the next.

        Raises:
            EventFailed: It cannot be read, or a handler raised.
        """
        ref = work.ref
        if seq != self.seqs[ref] + 1 or (self.until is not None and seq >= self.until):
            return
        parked_seq, left_out = _left_out(work)
        if seq != parked_seq:
            left_out = ()
        self.heads.pop(ref, None)
        if -1 not in left_out:
            self._events(ref, seq, data, position, left_out)
        self.seqs[ref] = seq

    def _entry(self, ref: Ref, seq: int, data: bytes, due: int | None = None) -> Entry[Any]:
        try:
            return self.definition.sources[ref.workflow].entries.decode(data, "record", seq, "of", ref)
        except HistoryError as error:
            raise EventFailed("unreadable", due or seq, -1, "", error) from error

    def _events(self, ref: Ref, seq: int, data: bytes, position: str, left_out: Sequence[int]) -> None:
        entry = self._entry(ref, seq, data)
        self.heads[ref] = entry.command_id
        calls: list[tuple[str, Callable[[ProjectionContext], Any] | None]] = [
            (describe(event), self._handler(event)) for event in entry.events
        ]
        if entry.control is not None and entry.control.erases:
            calls.append((entry.control.verb, self.definition.projection.deleted))
        for index, (name, handler) in enumerate(calls):
            if handler is None or index in left_out:
                continue
            context = ProjectionContext(
                ref.workflow,
                ref.key,
                seq,
                entry.command_id,
                from_ms(entry.at_ms),
                f"{ref.workflow}/{ref.key}/{seq}.{index}",
                position,
                self.rebuilding,
                self.generation,
                self.tx,
            )
            try:
                result = call_for(context, handler, context)
                if result is not None:
                    call_for(context, self.call, result)
            except Ending:
                raise
            except BaseException as error:
                # What is no Exception as well: a handler that exits or was cancelled must not stop all others.
                raise EventFailed("handler", seq, index, name, error) from error
            self.events += 1

    def _handler(self, event: Any) -> Callable[[ProjectionContext], Any] | None:
        method = self.definition.handler(type(event))
        return None if method is None else partial(method, event)


def _left_out(work: Work) -> tuple[int, tuple[int, ...]]:
    """Return which events of which record are left out; -1 for all of them."""
    if work.parked is None or work.parked.kind in ("gone", "ahead"):
        return 0, ()
    here = (work.parked.index,) if work.skip else ()
    return work.parked.seq, (*work.parked.skipped, *here)
