"""
The outbox: what decisions ask for is there with them, or not at all.
"""

import pytest

from holdfast.runtime.clock import from_ms, to_ms
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Committed, Conflict, Fenced, Opened
from holdfast.runtime.record import TimerEntry
from tests import controls
from tests.contract.worlds import World, moved, opened, write

REF = controls.ref()
PARTITION = REF.partition


def _names(world: World) -> list[str]:
    return [timer.name for _, timer in world.journal().timers(PARTITION, 100)]


# -- all or nothing


def test_everything_of_a_decision_is_written(world: World) -> None:
    """
    Entries, effects, timers and the line in the directory are there together once a commit went through.
    """
    effects = [controls.effect("c-1:0"), controls.effect("c-1:1")]
    commit = controls.commit(
        REF, "c-1", effects=effects, timers=[controls.timer("t")], run_state=RunState.PAUSED
    )
    journal = world.journal()
    journal.commit([commit], "a")
    found = journal.read([REF])[0]

    assert (1, "c-1", RunState.PAUSED) == (found.seq, found.head, found.run_state)
    assert effects == journal.effects(PARTITION, 10)
    assert ["t"] == _names(world)
    assert [("o-1", RunState.PAUSED, 1)] == [
        (line.key, line.run_state, line.seq) for line in world.directory().instances("order").instances
    ]


@pytest.mark.parametrize("how", ["conflict", "fenced"])
def test_nothing_of_a_refused_decision_is_written(world: World, how: str) -> None:
    """
    A decision on a view that no longer holds leaves no entry, effect, timer, cancel or move behind, nor renews a lease.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1")
    if how == "fenced":
        journal.release([(REF, view.token)], "a")
        token = opened(world.journal().open([REF], "b")[0]).token
    else:
        write(journal, view, "c-2")
    journal.commit([controls.commit(controls.ref("other"), "c-1", timers=[controls.timer("pending")])], "a")
    before = world.everything()
    refused = controls.commit(
        view,
        "c-3",
        effects=[controls.effect("c-3:0")],
        timers=[controls.timer("new"), controls.timer("pending", due_ms=1)],
        cancels=["pending"],
        run_state=RunState.COMPLETED,
    )

    assert [Fenced(token) if how == "fenced" else Conflict(2)] == journal.commit([refused], "a")
    assert before == world.everything()


def test_a_batch_of_records_is_one_commit(world: World) -> None:
    """
    Many decisions of one instance go through together, with everything that they ask for.
    """
    ids = [f"c-{number}" for number in range(300)]
    effects = [controls.effect(f"{one}:0") for one in ids]
    timers = [controls.timer(one, due_ms=number + 1) for number, one in enumerate(ids)]
    journal = world.journal()
    results = journal.commit([controls.commit(REF, *ids, effects=effects, timers=timers)], "a")

    assert [Committed(1)] == results
    assert ids == [controls.command_id(data) for _, data in journal.read([REF])[0].tail]
    assert effects == journal.effects(PARTITION, 1_000)
    assert ids == [timer.name for _, timer in journal.timers(PARTITION, 1_000)]


# -- effects


def test_effects_wait_in_the_order_of_the_commits(world: World) -> None:
    """
    The oldest effects come first, up to the limit, each partition by itself.
    """
    journal = world.journal()
    refs = controls.refs(10, partition=1)
    for number, ref in enumerate(refs):
        journal.commit([controls.commit(ref, "c-1", effects=[controls.effect(f"e-{number}", of=ref)])], "a")

    assert [f"e-{number}" for number in range(10)] == [one.id for one in journal.effects(1, 100)]
    assert ["e-0", "e-1", "e-2"] == [one.id for one in journal.effects(1, 3)]
    assert [] == journal.effects(2, 100)


# -- timers


def test_a_delay_counts_from_the_commit(world: World) -> None:
    """
    A timer with a delay is due that long after the journal's own time of the commit, not after the sender's.
    """
    journal = world.journal()
    journal.commit([controls.commit(REF, "c-1", timers=[controls.timer("t", delay_ms=5_000)])], "a")
    due_ms = journal.timers(PARTITION, 10)[0][0]

    assert world.directory().instances("order").instances[0].updated == from_ms(due_ms - 5_000)


def test_a_due_time_is_exact(world: World) -> None:
    """
    A timer with a time is due then, to the millisecond, and is returned as it will be sent.
    """
    due_ms = to_ms(controls.NOW) + 123
    timer = controls.timer("t", delay_ms=99, due_ms=due_ms)
    journal = world.journal()
    journal.commit([controls.commit(REF, "c-1", timers=[timer])], "a")

    assert [(due_ms, TimerEntry("t", timer.envelope, 0, due_ms))] == journal.timers(PARTITION, 10)


def test_timers_come_by_due_time(world: World) -> None:
    """
    The next timer comes first, whoever set it when, up to the limit, each partition by itself.
    """
    journal = world.journal()
    first, second = controls.refs(2, partition=1)
    late, soon, middle = (
        controls.timer(name, due_ms=due) for name, due in (("l", 300), ("s", 100), ("m", 200))
    )
    journal.commit(
        [controls.commit(first, "c-1", timers=[late, soon]), controls.commit(second, "c-1", timers=[middle])],
        "a",
    )

    assert [(100, "s"), (200, "m"), (300, "l")] == [(due, timer.name) for due, timer in journal.timers(1, 10)]
    assert ["s", "m"] == [timer.name for _, timer in journal.timers(1, 2)]
    assert [] == journal.timers(2, 10)


def test_a_timer_replaces_the_one_of_its_name(world: World) -> None:
    """
    Setting a pending timer again moves it and changes what it sends; there is never a second one.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1")
    first, second, third = (TimerEntry("t", b"%d" % due, 0, due) for due in (300, 100, 200))
    commit = controls.commit(view, "c-2", timers=[first])
    view = moved(commit, journal.commit([commit], "a")[0])
    journal.commit([controls.commit(view, "c-3", timers=[second, third])], "a")

    assert [(200, third)] == journal.timers(PARTITION, 10)


def test_cancels_come_before_timers(world: World) -> None:
    """
    A decision that cancels a timer and sets it again leaves it set.
    """
    journal = world.journal()
    commit = controls.commit(
        REF, "c-1", timers=[controls.timer("kept", due_ms=1), controls.timer("gone", due_ms=2)]
    )
    view = moved(commit, journal.commit([commit], "a")[0])
    journal.commit(
        [controls.commit(view, "c-2", cancels=["kept", "gone"], timers=[controls.timer("kept", due_ms=3)])],
        "a",
    )

    assert [(3, "kept")] == [(due, timer.name) for due, timer in journal.timers(PARTITION, 10)]


def test_cancelling_what_is_not_pending_is_no_error(world: World) -> None:
    """
    A timer that was never set, or has gone, can be cancelled.
    """
    journal = world.journal()

    assert [Committed(1)] == journal.commit([controls.commit(REF, "c-1", cancels=["never", "never"])], "a")
    assert [] == _names(world)


def test_timers_have_any_names(world: World) -> None:
    """
    Names with braces, colons and other alphabets are names like any other.
    """
    journal = world.journal()
    timers = [controls.timer(f"order/{len(key)}/{key}/x", due_ms=1) for key in controls.KEYS]
    commit = controls.commit(REF, "c-1", timers=timers)
    view = moved(commit, journal.commit([commit], "a")[0])

    assert sorted(timer.name for timer in timers) == sorted(_names(world))

    journal.commit([controls.commit(view, "c-2", cancels=[timer.name for timer in timers])], "a")

    assert [] == _names(world)


# -- the directory


def test_a_move_leaves_one_line(world: World) -> None:
    """
    An instance is listed under its run state of now, and under no other.
    """
    journal, directory = world.journal(), world.directory()
    moves = [RunState.RUNNING, RunState.PAUSED, RunState.RUNNING, RunState.COMPLETED, RunState.DATA_DELETED]
    view: Opened | Ref = REF
    was = RunState.RUNNING
    for number, state in enumerate(moves):
        commit = controls.commit(view, f"c-{number}", was=was, run_state=state)
        view, was = moved(commit, journal.commit([commit], "a")[0]), state

        assert {state: 1} == {
            one: directory.count("order", one) for one in RunState if directory.count("order", one)
        }
        assert state is journal.read([REF])[0].run_state
