"""
What the journal keeps beside the log: commands of paused instances, reasons, and the tombstones of deleted data.
"""

from typing import Any

import pytest

from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Committed, Conflict, Fenced, Journal, Opened, Park
from tests import controls
from tests.contract.worlds import World, log_of, moved, opened, write

REF = controls.ref()


def parks(*ids: str, first: bool = False) -> list[Park]:
    return [Park(id_, f"body of {id_}".encode(), first) for id_ in ids]


def kept(journal: Journal, ref: Ref = REF, limit: int = 100) -> list[str]:
    """
    Which commands are kept, in order; each with its own bytes.
    """
    found = journal.parked([ref], limit)[0]
    assert all(body == f"body of {id_}".encode() for id_, body in found)
    return [id_ for id_, _ in found]


def paused(journal: Journal) -> Opened:
    """
    The view of an instance that was just paused.
    """
    commit = controls.commit(REF, "c-1", run_state=RunState.PAUSED, reason="lunch")
    return moved(commit, journal.commit([commit], "a")[0])


def test_commands_are_kept_in_order_and_let_go(world: World) -> None:
    """
    The answer and the next opening say how many there are; keeping alone writes no record.
    """
    journal = world.journal()
    view = paused(journal)

    first = journal.commit([controls.commit(view, parks=parks("a", "b", "c"))], "a")[0]
    again = journal.commit([controls.commit(view, parks=parks("b", "d"))], "a")[0]
    assert (3, 4) == (first.parked, again.parked)  # type: ignore[union-attr]  # both are committed
    assert ["a", "b", "c", "d"] == kept(journal)
    assert ["a", "b"] == kept(journal, limit=2)
    assert [(1, 4, "lunch")] == [(one.seq, one.parked, one.reason) for one in journal.read([REF])]

    commit = controls.commit(view, "r", unparks=["a", "b"], run_state=RunState.RUNNING, reason="")
    assert 2 == journal.commit([commit], "a")[0].parked  # type: ignore[union-attr]  # it is committed
    assert ["c", "d"] == kept(journal)
    found = opened(world.journal().open([REF], "a")[0])
    assert (2, 2, "", RunState.RUNNING) == (found.seq, found.parked, found.reason, found.run_state)


def test_one_goes_before_the_others(world: World) -> None:
    """
    The command that the others wait for goes first.
    """
    journal = world.journal()
    view = paused(journal)
    journal.commit([controls.commit(view, parks=parks("b", "c"))], "a")
    journal.commit([controls.commit(view, parks=parks("a", first=True))], "a")

    assert ["a", "b", "c"] == kept(journal)


def test_what_was_let_go_can_be_kept_again(world: World) -> None:
    """
    It then comes last, also when none was left in between.
    """
    journal = world.journal()
    view = paused(journal)
    journal.commit([controls.commit(view, parks=parks("a", "b"))], "a")
    journal.commit([controls.commit(view, unparks=["a", "b"], parks=parks("b", "a"))], "a")

    assert ["b", "a"] == kept(journal)


def test_others_are_not_touched(world: World) -> None:
    """
    Many instances in one batch, and one asks for nothing of this: each has its own.
    """
    journal = world.journal()
    others = [ref for ref in controls.refs(4, partition=REF.partition) if ref != REF][:3]
    commits = [controls.commit(ref, f"c-{ref.key}", parks=parks(ref.key)) for ref in others]
    commits.insert(1, controls.commit(REF, "c-1"))

    results = journal.commit(commits, "a")

    assert [1, None, 1, 1] == [one.parked for one in results if isinstance(one, Committed)]
    assert [[ref.key] for ref in others] == [kept(journal, ref) for ref in others]
    assert [] == kept(journal)


@pytest.mark.parametrize("how", ["conflict", "fenced"])
def test_nothing_is_kept_on_a_view_that_no_longer_holds(world: World, how: str) -> None:
    """
    Whoever does not know that the instance was resumed keeps nothing behind its back.
    """
    journal = world.journal()
    view = paused(journal)
    if how == "fenced":
        journal.release([(REF, view.token)], "a")
        world.journal().open([REF], "b")
    else:
        write(journal, view, "r")
    before = world.everything()
    letter = controls.dead_letter(f"{REF.partition}.d")

    result = journal.commit([controls.commit(view, parks=parks("a"), dead=[letter])], "a")[0]

    assert isinstance(result, Conflict if how == "conflict" else Fenced)
    assert before == world.everything()
    assert 0 == world.dead_letters().count()


def test_dead_letters_are_written_with_the_commit(world: World) -> None:
    """
    As those of the index are.
    """
    letter = controls.dead_letter(f"{REF.partition}.d")
    world.journal().commit([controls.commit(REF, "c-1", dead=[letter])], "a")

    assert [letter] == world.dead_letters().list()


def test_a_claim_that_has_run_out_is_a_conflict(world: World) -> None:
    """
    The journal's clock says so, when the commit comes to it.
    """
    journal = world.journal()
    late = controls.commit(REF, "c-1", unique="u", unique_until_ms=1)

    assert Conflict(0) == journal.commit([late], "a")[0]
    assert [] == log_of(journal, REF)

    in_time = controls.commit(REF, "c-1", unique="u", unique_until_ms=1 << 50)
    assert isinstance(journal.commit([in_time], "a")[0], Committed)
    assert "u" == journal.read([REF])[0].unique


def test_deleted_data_is_gone_and_its_number_is_not(world: World) -> None:
    """
    One entry is left, under its number, and the snapshot that was given; the next record is the one after it.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1", "c-2")
    journal.snapshot([(REF, controls.snapshot(2, "c-2"))])
    journal.commit([controls.commit(view, parks=parks("a"))], "a")
    tombstone = controls.snapshot(3, "d")

    commit = controls.commit(view, "d", run_state=RunState.DATA_DELETED, wipe=tombstone, reason="gone")
    view = moved(commit, journal.commit([commit], "a")[0])

    assert [3] == [seq for seq, _ in log_of(journal, REF)]
    assert [3] == [seq for seq, _ in journal.entries(REF, 0, 10)]
    assert [] == journal.entries(REF, 3, 10)
    assert [None, None] == journal.entry([(REF, 1), (REF, 2)])
    assert [commit.entries[0]] == journal.entry([(REF, 3)])
    assert [] == kept(journal)
    found = opened(world.journal().open([REF], "a")[0])
    assert (3, "d", tombstone, [], 0, "gone") == (
        found.seq,
        found.head,
        found.snapshot,
        list(found.tail),
        found.parked,
        found.reason,
    )
    write(journal, found, "c-4")
    assert [3, 4] == [seq for seq, _ in log_of(journal, REF)]


def test_so_many_are_kept_and_no_more(world: World) -> None:
    """
    Those that find no room are named; everything else of the commit is written. What is kept already needs no room, and
    what is let go makes some.
    """
    journal = world.journal()
    view = paused(journal)

    def keep(*ids: str, **more: Any) -> tuple[int | None, tuple[str, ...]]:
        result = journal.commit([controls.commit(view, parks=parks(*ids), parks_max=3, **more)], "a")[0]
        assert isinstance(result, Committed)
        return result.parked, result.crowded_out

    assert (2, ()) == keep("a", "b")
    assert (3, ("d", "e")) == keep("c", "d", "e")
    assert (3, ("d",)) == keep("b", "d")
    assert (3, ("e",)) == keep("d", "e", unparks=["a"])
    assert ["b", "c", "d"] == kept(journal)
    assert (3, ()) == keep("d")
