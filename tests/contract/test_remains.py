"""
What instances that are over have left elsewhere: theirs goes, and nothing of anybody else.
"""

import pytest

from holdfast.runtime.instance import RunState
from holdfast.runtime.observation import Observation
from tests import controls
from tests.contract.worlds import World

REF = controls.ref()
#: One in the same partition whose key begins like the other's.
OTHER = next(
    ref
    for ref in (controls.ref(f"{REF.key}{number}") for number in range(1_000))
    if ref.partition == REF.partition
)


def leave_something(world: World, run_state: RunState) -> None:
    """
    Have two instances with effects, timers and dead letters; one of them is in a run state of the test's choice.
    """
    commits = [
        controls.commit(
            ref,
            "c-1",
            run_state=run_state if ref == REF else RunState.RUNNING,
            effects=[controls.effect(f"c-1:{number}", of=ref) for number in range(3)],
            timers=[controls.timer(f"{ref.scope}/a"), controls.timer(f"{ref.scope}:c-1:t0")],
        )
        for ref in (REF, OTHER)
    ]
    world.journal().commit(commits, "a")
    world.dead_letters().add(
        [controls.dead_letter(f"{REF.partition}.{ref.key}", key=ref.key) for ref in (REF, OTHER)]
    )
    came = Observation("c-1", "PlaceOrder", b"x", controls.NOW_MS, "accepted")
    world.observations().observe([(ref, came) for ref in (REF, OTHER)])


def seen(world: World) -> list[int]:
    """
    How much is kept of what came to each of the two.
    """
    return [len(world.observations().observations(ref, 10)) for ref in (REF, OTHER)]


def left(world: World) -> tuple[list[str], list[str], list[str]]:
    """
    Whose effects, timers and dead letters there are.
    """
    journal = world.journal()
    return (
        [one.key for one in journal.effects(REF.partition, 100)],
        sorted(timer.name for _, timer in journal.timers(REF.partition, 100)),
        [letter.key for letter in world.dead_letters().list()],
    )


def test_a_cancelled_instance_has_nothing_to_wait_for(world: World) -> None:
    """
    Its timers and effects go; a dead letter is for a person, and stays. Others keep what they have.
    """
    leave_something(world, RunState.CANCELLED)

    assert 5 == world.remains().withdraw(REF)
    assert 0 == world.remains().withdraw(REF)

    effects, timers, dead = left(world)
    assert [OTHER.key] * 3 == effects
    assert [f"{OTHER.scope}/a", f"{OTHER.scope}:c-1:t0"] == timers
    assert {REF.key, OTHER.key} == set(dead)
    assert [1, 1] == seen(world)


def test_deleted_data_is_deleted_there_too(world: World) -> None:
    """
    Dead letters and observations hold a command's bytes: they go as well.
    """
    leave_something(world, RunState.DATA_DELETED)

    assert 7 == world.remains().scrub(REF)
    assert 0 == world.remains().scrub(REF)
    assert [0, 1] == seen(world)

    effects, timers, dead = left(world)
    assert ([OTHER.key] * 3, 2, [OTHER.key]) == (effects, len(timers), dead)


@pytest.mark.parametrize("run_state", [RunState.RUNNING, RunState.PAUSED, RunState.COMPLETED])
def test_an_instance_that_is_not_over_keeps_everything(world: World, run_state: RunState) -> None:
    """
    Whoever asks by mistake removes nothing.
    """
    leave_something(world, run_state)
    before = left(world)

    assert 0 == world.remains().scrub(REF)
    assert before == left(world)
    assert [1, 1] == seen(world)


def test_a_long_outbox_is_looked_through(world: World) -> None:
    """
    Page by page, to its end.
    """
    effects = [
        controls.effect(f"c-1:{number}", of=REF if number % 100 == 0 else OTHER) for number in range(1_700)
    ]
    timers = [controls.timer(f"{OTHER.scope}:c-1:t{number}") for number in range(1_200)]
    mine = [controls.timer(f"{REF.scope}:c-1:t{number}") for number in range(3)]
    journal = world.journal()
    journal.commit([controls.commit(REF, "c-1", effects=effects, timers=[*timers, *mine])], "a")
    view = journal.read([REF])[0]
    journal.commit([controls.commit(view, "x", was=RunState.RUNNING, run_state=RunState.CANCELLED)], "a")

    assert 17 + 3 == world.remains().withdraw(REF)

    assert 1_683 == len(journal.effects(REF.partition, 10_000))
    assert 1_200 == len(journal.timers(REF.partition, 10_000))
