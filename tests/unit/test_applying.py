"""
Applying: whatever the feed brings, twice, late or with gaps, each event is applied once and in order.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.brokers.memory import MemoryJournal, MemoryServer
from holdfast.brokers.memory_feed import MemoryCheckpoints, MemoryFeed
from holdfast.runtime.app import App
from holdfast.runtime.applying import Applied, Applier, Work
from holdfast.runtime.clock import ManualClock, to_ms
from holdfast.runtime.codec import encode
from holdfast.runtime.errors import Ending, Unavailable
from holdfast.runtime.feed import FeedEntry, ParkedKey, Reader
from holdfast.runtime.keys import Ref
from holdfast.runtime.loss import Known
from holdfast.runtime.projection import Projection, ProjectionContext
from holdfast.runtime.record import Entry, Moved
from holdfast.runtime.retry import Retry
from tests import controls
from tests.controls import Added, Counter
from tests.unit.trouble import Unspeakable


class Seen(Projection):
    """
    Notes what it is given; fails at the numbers it is told.
    """

    name = "seen"
    source = Counter
    retry = Retry(attempts=2, first=1, jitter=0, unless=(BrokenPipeError,))

    def __init__(self) -> None:
        self.events: list[tuple[str, str, int]] = []
        self.bad: set[int] = set()
        self.rude: dict[int, BaseException] = {}
        self.bad_batch = False
        self.calls = 0
        self.contexts: list[ProjectionContext] = []
        self.deletions: list[tuple[str, int]] = []

    async def apply(self, event: Added, ctx: ProjectionContext) -> None:
        self.calls += 1
        if event.by in self.bad:
            raise LookupError(event.by) if event.by > 0 else BrokenPipeError(event.by)
        if event.by in self.rude:
            raise self.rude[event.by]
        self.contexts.append(ctx)
        self.events.append((ctx.key, ctx.event_id, event.by))

    def deleted(self, ctx: ProjectionContext) -> None:
        self.deletions.append((ctx.key, ctx.seq))

    @contextmanager
    def batch(self, tx: Any) -> Iterator[None]:
        before = len(self.events)
        try:
            yield
            if self.bad_batch and len(self.events) - before > 1:
                raise OSError("too much at once")
        except BaseException:
            del self.events[before:]
            raise


class Bench:
    """
    A server in memory with counters in it, and a projection that is applied to them.
    """

    def __init__(self) -> None:
        self.server = MemoryServer(controls.PARTITIONS)
        self.journal = MemoryJournal(self.server)
        self.seen = Seen()
        app = App(workflows=[Counter], projections=[self.seen])
        self.barriers: list[int] = []
        self.model = MemoryCheckpoints(self.server, "seen")
        self.applier = Applier(
            app.projections[0],
            Reader("seen", 1),
            MemoryFeed(self.server),
            self.model,
            barrier=lambda: self.barriers.append(self.seen.calls),
            call=asyncio.run,
            clock=ManualClock(controls.NOW),
        )

    def record(self, key: str, *numbers: int, together: bool = False) -> Ref:
        """
        Write records to a counter, each of one number, or all of them in one.
        """
        ref = controls.ref(key, "counter")
        batches = [numbers] if together else [(number,) for number in numbers]
        for batch in batches:
            view = self.journal.read([ref])[0]
            entry = controls.entry(f"c-{view.seq + 1}", *(Added(number) for number in batch))
            commit = controls.commit(view, f"c-{view.seq + 1}", entries=[entry])
            self.journal.commit([commit], "a")
        return ref

    def work(self, ref: Ref, *seqs: int, **others: Any) -> Work:
        """
        Return what the feed has of these records.
        """
        log = dict(self.journal.entries(ref, 0, 1_000))
        return Work(ref, [FeedEntry(f"{seq}-0", ref, seq, log[seq]) for seq in seqs], **others)

    def apply(self, *works: Work) -> Applied:
        return self.applier.apply(works, {})

    def numbers(self, key: str) -> list[int]:
        return [number for one, _, number in self.seen.events if one == key]

    def parked(self, *works: Work) -> ParkedKey:
        (found,) = self.apply(*works).parked
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
    st.lists(st.lists(st.integers(1, 8), max_size=4, unique=True), max_size=8),
)
def test_any_feed_leads_to_the_same(writes: list[int], reads: list[list[int]]) -> None:
    """
    Entries that come again, come late or never come: what is applied is always the beginning of the log, in order and
    once, up to whatever was shown last at least.
    """
    bench = Bench()
    ref = bench.record("k", *range(len(writes) + 1))
    shown = 0
    for read in reads:
        seqs = sorted(seq for seq in read if seq <= len(writes) + 1)
        if seqs:
            bench.apply(bench.work(ref, *seqs))
            shown = max(shown, *seqs)

        assert bench.numbers("k") == list(range(len(bench.seen.events)))
        assert len(bench.seen.events) >= shown


def test_an_event_comes_with_its_context(bench: Bench) -> None:
    """
    Where it is from, when it was decided, and an id that is always the same.
    """
    ref = bench.record("k", 1, 2)
    bench.apply(bench.work(ref, 1))
    bench.apply(Work(ref))
    first, second = bench.seen.contexts

    assert ("counter", "k", 1, "c-1", controls.NOW) == (
        first.workflow,
        first.key,
        first.seq,
        first.command_id,
        first.at,
    )
    assert ("counter/k/1.0", f"{ref.partition}/1-0") == (first.event_id, first.position)
    assert ("counter/k/2.0", "") == (second.event_id, second.position)
    assert (False, 1, None) == (first.rebuilding, first.generation, first.tx)


def test_the_barrier_comes_before_the_handlers(bench: Bench) -> None:
    """
    A record is visible before it is durable, in the feed and in the log; what is not may yet be undone.
    """
    ref = bench.record("k", *range(600))
    bench.apply(bench.work(ref, 1))
    bench.apply(Work(ref))

    assert [0, 1, 1, 501] == bench.barriers
    assert list(range(600)) == bench.numbers("k")


def test_one_bad_instance_is_parked_alone(bench: Bench) -> None:
    """
    Whatever there is of it before the bad event is applied, and all others are; without calling each of them as often.
    """
    refs = [bench.record(f"k-{number}", 1, 2, 3) for number in range(64)]
    bad = bench.record("bad", 10, 11, 66, 12)
    bench.seen.bad = {66}
    works = [bench.work(ref, 1, 2, 3) for ref in refs]
    parked = bench.parked(*works[:40], bench.work(bad, 1, 2, 3, 4), *works[40:])

    assert (bad, 3, 0, "Added", "handler", 1, "LookupError: 66") == (
        parked.ref,
        parked.seq,
        parked.index,
        parked.event,
        parked.kind,
        parked.attempts,
        parked.error,
    )
    assert to_ms(controls.NOW) + 1_000 == parked.due_ms
    assert [10, 11] == bench.numbers("bad")
    for ref in refs:
        assert [1, 2, 3] == bench.numbers(ref.key)
    assert bench.seen.calls < 196 * 3


def test_tries_come_to_an_end(bench: Bench) -> None:
    """
    The next one counts up; after the last a person has to look.
    """
    ref = bench.record("bad", 66)
    bench.seen.bad = {66}
    first = bench.parked(bench.work(ref, 1))
    second = bench.parked(Work(ref, parked=first))

    assert [(1, False), (2, True)] == [(one.attempts, one.given_up) for one in (first, second)]
    bench.seen.bad = set()
    assert 1 == bench.apply(Work(ref, parked=second)).events


def test_what_trying_again_would_not_help_is_parked_at_once(bench: Bench) -> None:
    """
    The policy names the errors.
    """
    ref = bench.record("k", -66)
    bench.seen.bad = {-66}

    assert bench.parked(bench.work(ref, 1)).given_up


def test_a_skip_leaves_out_one_event(bench: Bench) -> None:
    """
    The others of its record are applied; when another of them fails, the skip is remembered.
    """
    ref = bench.record("bad", 1, 66, 2, 77, 3, together=True)
    bench.record("bad", 4)
    bench.seen.bad = {66, 77}
    first = bench.parked(bench.work(ref, 1, 2))
    second = bench.parked(Work(ref, parked=first, skip=True))
    bench.seen.events.clear()
    done = bench.apply(Work(ref, parked=second, skip=True))

    assert (1, (), 3, (1,)) == (first.index, first.skipped, second.index, second.skipped)
    assert [] == done.parked
    assert [1, 2, 3, 4] == bench.numbers("bad")


def test_a_record_that_cannot_be_read_is_parked(bench: Bench) -> None:
    """
    Newer code may read it; until then its instance waits, and no tries are wasted. A skip leaves the record out.
    """
    ref = bench.record("old", 1)
    view = bench.journal.read([ref])[0]
    bench.journal.commit([controls.commit(view, "c-2", entries=[b"\xc1 nonsense"])], "a")
    bench.record("old", 3)
    parked = bench.parked(Work(ref))

    assert (2, -1, "unreadable", True) == (parked.seq, parked.index, parked.kind, parked.given_up)
    bench.apply(Work(ref, parked=parked, skip=True))
    assert [1, 3] == bench.numbers("old")


def test_records_that_are_gone_are_told(bench: Bench) -> None:
    """
    Never passed over in silence: which they are is said, and a person may go on behind them.
    """
    ref = bench.record("short", 1, 2, 3, 4)
    entries = bench.work(ref, 4).entries
    log = bench.server.instances[ref].log
    records = [(3, log[2]), (4, log[3])]
    feed = MemoryFeed(bench.server)
    feed.records = lambda wanted, limit: [  # type: ignore[method-assign]  # a log that was trimmed
        [one for one in records if one[0] > seq] for _, seq in wanted
    ]
    bench.applier._feed = feed
    parked = bench.parked(Work(ref, entries))

    assert (1, "gone", "HistoryError: records 1 to 2 of counter/short are no longer in its log") == (
        parked.seq,
        parked.kind,
        parked.error,
    )
    assert [] == bench.numbers("short")
    bench.apply(Work(ref, parked=parked, skip=True))
    assert [3, 4] == bench.numbers("short")


@pytest.mark.parametrize(
    ("left", "kind", "error", "applied"),
    [
        ([1, 2, 4], "gone", "records 3 to 3 of counter/holed are no longer in its log", [1, 2, 4]),
        ([1, 2, 3, 4, 9], "unreadable", "record 9 of counter/holed is none", [1, 2, 3, 4]),
    ],
)
def test_what_does_not_follow_is_told_wherever_it_is(
    bench: Bench, left: list[int], kind: str, error: str, applied: list[int]
) -> None:
    """
    A record that is gone from the middle of a log, or an entry that is none: whoever reads the log whole learns of it,
    and not when the next record comes.
    """
    ref = bench.record("holed", 1, 2, 3, 4)
    log = bench.server.instances[ref].log
    records = [(seq, log[seq - 1] if seq <= len(log) else b"") for seq in left]
    feed = MemoryFeed(bench.server)
    feed.records = lambda wanted, limit: [  # type: ignore[method-assign]  # a log that was damaged
        [one for one in records if one[0] > seq] for _, seq in wanted
    ]
    bench.applier._feed = feed
    parked = bench.parked(Work(ref))

    assert (kind, True) == (parked.kind, error in parked.error)
    assert applied[: parked.seq - 1] == bench.numbers("holed")
    if kind == "gone":
        bench.apply(Work(ref, parked=parked, skip=True))
        assert applied == bench.numbers("holed")


def test_deleted_data_is_deleted_here_too(bench: Bench) -> None:
    """
    The hook is told, whether the events before were applied or are gone; what is gone that way is no gap.
    """
    deletion = encode(Entry("d-1", "DeleteData", to_ms(controls.NOW), 0, (), control=Moved("delete-data")))
    known, unknown = bench.record("known", 1, 2), bench.record("unknown", 1, 2, 3)
    bench.apply(bench.work(known, 1, 2))
    feed = MemoryFeed(bench.server)
    feed.records = lambda wanted, limit: [[(4, deletion)] for _ in wanted]  # type: ignore[method-assign]  # an emptied log
    bench.applier._feed = feed

    applied = bench.apply(
        Work(known, [FeedEntry("9-0", known, 3, deletion)]),
        Work(unknown, [FeedEntry("10-0", unknown, 4, deletion)]),
    )

    assert [] == applied.parked
    assert [("known", 3), ("unknown", 4)] == bench.seen.deletions
    assert [] == bench.numbers("unknown")


def test_a_walk_in_doubt_finds_what_the_log_lost(bench: Bench) -> None:
    """
    A walk that is told to doubt the logs parks an instance of which the read model has more; any other goes on.
    """
    ref, whole = bench.record("k", 1, 2, 3), bench.record("l", 1, 2)
    bench.apply(bench.work(ref, 1, 2, 3), bench.work(whole, 1))
    instance = bench.server.instances[ref]
    del instance.log[1:]
    instance.seq, instance.head = 1, "c-1"
    assert [] == bench.apply(Work(ref)).parked

    parked = bench.parked(Work(ref, doubted=True), Work(whole, doubted=True))

    assert (ref, 4, "ahead", True) == (parked.ref, parked.seq, parked.kind, parked.given_up)
    assert [1, 2] == bench.numbers("l")


def test_the_last_record_that_was_applied_is_remembered(bench: Bench) -> None:
    """
    With the command that made it: a record that has only the same number is another.
    """
    ref = bench.record("k", 1, 2)
    bench.apply(bench.work(ref, 1, 2))
    known = Known(ref, 2, "c-2")
    parked = bench.applier.ahead(known)

    assert [known] == list(bench.applier.recent.values())
    assert (3, "ahead", True) == (parked.seq, parked.kind, parked.given_up)


def test_a_log_that_lost_its_end_is_told(bench: Bench) -> None:
    """
    New records under the numbers of lost ones are not taken for old ones: the instance is parked until a rebuild.
    """
    ref = bench.record("k", 1, 2, 3)
    bench.apply(bench.work(ref, 1, 2, 3))
    instance = bench.server.instances[ref]
    del instance.log[1:]
    instance.seq, instance.head = 1, "c-1"
    bench.record("k", 20)
    parked = bench.parked(bench.work(ref, 2))

    assert (4, "ahead", True) == (parked.seq, parked.kind, parked.given_up)
    assert "the read model has 3 records of counter/k, more than its log" in parked.error
    bench.record("k", 30, 40)
    assert "ahead" == bench.parked(Work(ref, parked=parked)).kind
    assert [] == bench.apply(Work(ref, parked=parked, skip=True)).parked
    assert [1, 2, 3, 40] == bench.numbers("k")


def test_a_batch_that_fails_as_a_whole_is_halved(bench: Bench) -> None:
    """
    What a batch adds up to may be refused without an event at fault: then it comes in smaller parts.
    """
    refs = [bench.record(f"k-{number}", number) for number in range(8)]
    bench.seen.bad_batch = True

    assert 8 == bench.apply(*(bench.work(ref, 1) for ref in refs)).events
    assert list(range(8)) == sorted(number for _, _, number in bench.seen.events)

    pair = bench.record("pair", 1, 2)
    parked = bench.parked(bench.work(pair, 1, 2))
    assert (1, -1, "OSError: too much at once") == (parked.seq, parked.index, parked.error)


def test_a_store_that_is_away_is_nobodys_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When the store does not answer after an event failed, nothing is parked: the batch waits.
    """
    ref = bench.record("k", 66)
    bench.seen.bad = {66}
    monkeypatch.setattr(bench.model, "reachable", lambda: False)

    with pytest.raises(Unavailable, match="the store of projection 'seen' does not answer: 66"):
        bench.apply(bench.work(ref, 1))


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (Unspeakable(), "Unspeakable: its message cannot be told: LookupError"),
    ],
)
def test_whatever_a_handler_raises_parks_its_instance(
    bench: Bench, raised: BaseException, error: str
) -> None:
    """
    Also what is no Exception, and what cannot even be told: it is an error of this one instance, and all others go on.
    """
    good, bad = bench.record("good", 1), bench.record("bad", 13)
    bench.seen.rude[13] = raised

    parked = bench.parked(bench.work(good, 1), bench.work(bad, 1))

    assert ("bad", error) == (parked.key, parked.error)
    assert [1] == bench.numbers("good")


def test_a_process_that_ends_amid_a_handler_parks_nothing(bench: Bench) -> None:
    """
    The handler has not failed: whoever goes on applies the event.
    """
    ref = bench.record("k", 13)
    bench.seen.rude[13] = Ending()

    with pytest.raises(Ending):
        bench.apply(bench.work(ref, 1))
