"""
The journal's logs: read whole, in pieces, from a snapshot on, and waited for.
"""

import time
from itertools import pairwise

import pytest

from holdfast.runtime.instance import RunState
from holdfast.runtime.ports import Opened
from tests import controls
from tests.contract.threads import begin
from tests.contract.worlds import World, log_of, opened, write
from tests.support.processes import SECONDS_MAX

REF = controls.ref()


def _grow(world: World, length: int) -> Opened:
    """
    Write a log of some length, and return the view of who wrote it.
    """
    view: Opened = world.journal().read([REF])[0]
    ids = [f"c-{seq}" for seq in range(view.seq + 1, length + 1)]
    return write(world.journal(leases=False), view, *ids)


# -- tails


@pytest.mark.parametrize("length", [1, 999, 1_000, 1_001, 2_000, 2_500])
def test_a_tail_is_whole_however_long(world: World, length: int) -> None:
    """
    Opening and reading return every entry of the log, also where that takes several calls.
    """
    _grow(world, length)
    journal = world.journal()
    expected = [(seq, f"c-{seq}") for seq in range(1, length + 1)]

    for found in (opened(journal.open([REF], "a")[0]), journal.read([REF])[0]):
        assert (length, f"c-{length}") == (found.seq, found.head)
        assert expected == [(seq, controls.command_id(data)) for seq, data in found.tail]


@pytest.mark.parametrize(("kept", "length"), [(1, 1), (1, 2), (999, 1_000), (1_000, 2_000), (500, 2_501)])
def test_a_tail_begins_behind_the_snapshot(world: World, kept: int, length: int) -> None:
    """
    What a snapshot holds is not returned again; all that came after it is.
    """
    _grow(world, kept)
    journal = world.journal(leases=False)
    snapshot = controls.snapshot(kept, f"c-{kept}")
    journal.snapshot([(REF, snapshot)])
    if length > kept:
        _grow(world, length)
    found = opened(journal.open([REF], "a")[0])

    assert (snapshot, length) == (found.snapshot, found.seq)
    assert list(range(kept + 1, length + 1)) == [seq for seq, _ in found.tail]
    assert found == journal.read([REF])[0]


def test_the_whole_log_can_be_read_past_a_snapshot(world: World) -> None:
    """
    A snapshot that is of no use hides nothing.
    """
    _grow(world, 1_500)
    journal = world.journal()
    journal.snapshot([(REF, controls.snapshot(1_500, "c-1500"))])
    found = journal.read([REF], snapshots=False)[0]

    assert (None, 1_500) == (found.snapshot, found.seq)
    assert list(range(1, 1_501)) == [seq for seq, _ in found.tail]


def test_a_view_ends_where_it_says(world: World) -> None:
    """
    Who reads a long log while another writes to it gets a view of one moment: its tail ends at its sequence number.
    """
    view = _grow(world, 2_100)
    done = begin(lambda: _write_on(world, view, 200))
    views: list[Opened] = []
    while not done.done() or len(views) < 2:
        views += world.journal().read([REF], snapshots=False)
    done.result()

    assert [found.seq for found in views] == [found.tail[-1][0] for found in views]
    assert [found.head for found in views] == [controls.command_id(found.tail[-1][1]) for found in views]


def _write_on(world: World, view: Opened, count: int) -> None:
    journal = world.journal(leases=False)
    for _ in range(count):
        view = write(journal, view, f"c-{view.seq + 1}")


def test_bytes_come_back_as_they_were(world: World) -> None:
    """
    Entries, effects and timers are kept byte for byte, whatever the bytes.
    """
    journal = world.journal()
    awkward = [bytes(range(256)), b"", b"\x00", b"\r\n$5\r\n", "日本".encode(), b"x" * 100_000]
    commit = controls.commit(REF, "c-1", entries=awkward, new_head="日本 \x00 {}")
    journal.commit([commit], "a")
    found = journal.read([REF])[0]

    assert (6, "日本 \x00 {}") == (found.seq, found.head)
    assert awkward == [data for _, data in found.tail]


# -- snapshots


def test_a_newer_snapshot_replaces_the_older(world: World) -> None:
    """
    The latest snapshot is the one to begin from.
    """
    journal = world.journal()
    for seq in (1, 2, 3):
        _grow(world, seq)
        journal.snapshot([(REF, controls.snapshot(seq, f"c-{seq}"))])

    assert controls.snapshot(3, "c-3") == journal.read([REF])[0].snapshot


@pytest.mark.parametrize(("seq", "head"), [(1, "c-1"), (3, "c-3"), (2, "fork"), (1, "c-2"), (2, "")])
def test_a_snapshot_that_is_not_at_the_head_is_not_kept(world: World, seq: int, head: str) -> None:
    """
    A snapshot that came too late, or was taken of a fork, changes nothing.
    """
    _grow(world, 2)
    journal = world.journal()
    before = world.everything()
    journal.snapshot([(REF, controls.snapshot(seq, head))])

    assert before == world.everything()


def test_snapshots_are_kept_one_by_one(world: World) -> None:
    """
    Of a batch of snapshots each counts for itself.
    """
    journal = world.journal()
    refs = controls.refs(20)
    journal.commit([controls.commit(ref, "c-1") for ref in refs], "a")
    journal.snapshot(
        [(ref, controls.snapshot(1, "c-1" if number % 2 else "c-0")) for number, ref in enumerate(refs)]
    )

    assert [number % 2 == 1 for number in range(20)] == [
        found.snapshot is not None for found in journal.read(refs)
    ]


# -- stretches


@pytest.mark.parametrize(
    ("after", "limit", "expected"),
    [
        (0, 3, [1, 2, 3]),
        (2, 2, [3, 4]),
        (8, 5, [9, 10]),
        (10, 5, []),
        (99, 5, []),
        (0, 100, list(range(1, 11))),
    ],
)
def test_a_stretch_of_the_log(world: World, after: int, limit: int, expected: list[int]) -> None:
    """
    Entries after a sequence number are returned in order, up to a limit.
    """
    _grow(world, 10)
    found = world.journal().entries(REF, after, limit)

    assert [(seq, f"c-{seq}") for seq in expected] == [
        (seq, controls.command_id(data)) for seq, data in found
    ]


def test_a_stretch_of_nothing(world: World) -> None:
    """
    An instance that does not exist has no entries.
    """
    assert world.journal().entries(REF, 0, 10) == []


def test_single_entries(world: World) -> None:
    """
    Entries of many instances are returned in the order of the question, None for what is not there.
    """
    _grow(world, 3)
    journal = world.journal()
    other = controls.ref("o-2")
    write(journal, other, "other")
    found = journal.entry([(REF, 2), (other, 1), (REF, 4), (controls.ref("absent"), 1), (REF, 0), (REF, 1)])

    assert ["c-2", "other", None, None, None, "c-1"] == [data and controls.command_id(data) for data in found]


# -- waiting


def test_waiting_ends_at_once_when_there_is_something(world: World) -> None:
    """
    Who waits for what happened already does not wait, even without any time to.
    """
    _grow(world, 3)
    journal = world.journal()

    found = [journal.follow(REF, 2, 10, 60), journal.follow(REF, 0, 2, 60), journal.follow(REF, 2, 10, 0)]
    assert [[2, 3], [1, 2], [2, 3]] == [[seq for seq, _ in entries] for entries in found]
    assert found[0] == journal.entries(REF, 1, 10)


@pytest.mark.parametrize("length", [0, 3])
def test_waiting_ends_when_another_commits(world: World, length: int) -> None:
    """
    A commit wakes whoever waits for the log to grow or to begin, long before the time is over.
    """
    if length:
        _grow(world, length)
    journal = world.journal()
    start = time.monotonic()
    waiting = begin(lambda: journal.follow(REF, length, 10, 120))
    shorter = begin(lambda: world.journal().follow(REF, length, 10, 0.1))

    assert shorter.result(SECONDS_MAX) == []
    assert not waiting.done()

    _grow(world, length + 1)

    assert waiting.result(SECONDS_MAX)[-1][0] == length + 1
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("timeout_s", [0, 0.2])
def test_waiting_ends_when_the_time_is_over(world: World, timeout_s: float) -> None:
    """
    Nothing came: that is the answer, and not before its time.
    """
    _grow(world, 3)
    start = time.monotonic()

    assert world.journal().follow(REF, 3, 10, timeout_s) == []
    assert time.monotonic() - start >= timeout_s


def test_waiting_is_not_ended_by_others(world: World) -> None:
    """
    Commits to other instances, and checks of this one, wake nobody.
    """
    view = _grow(world, 1)
    waiting = begin(lambda: world.journal().follow(REF, 1, 10, 0.5))
    journal = world.journal(leases=False)
    while not waiting.done():
        write(journal, controls.ref(f"x-{time.monotonic_ns()}"), "c-1")
        journal.commit([controls.commit(view)], "a")

    assert waiting.result(SECONDS_MAX) == []


def test_many_wait_for_one(world: World) -> None:
    """
    A commit wakes all that wait for it.
    """
    waiting = [begin(lambda: world.journal().follow(REF, 0, 10, 120)) for _ in range(5)]
    _grow(world, 1)

    assert [1] * 5 == [one.result(SECONDS_MAX)[0][0] for one in waiting]


def test_a_log_can_be_followed(world: World) -> None:
    """
    Who waits and reads in turn sees every entry once and in order.
    """
    journal = world.journal()
    writer = begin(lambda: _write_on(world, Opened(REF, 0, "", 0, RunState.RUNNING, None, ()), 100))
    seen: list[int] = []
    while len(seen) < 100 and (found := journal.follow(REF, len(seen), 7, SECONDS_MAX)):
        assert found[0][0] == max(1, len(seen))
        seen += [seq for seq, _ in found if seq > len(seen)]
    writer.result(SECONDS_MAX)

    assert [1] + [1] * 99 == [seen[0]] + [after - before for before, after in pairwise(seen)]
    assert seen == [seq for seq, _ in log_of(journal, REF)]
