"""
Observations: what came to an instance is kept with what became of it, the latest of it.
"""

from holdfast.runtime.instance import RunState
from holdfast.runtime.observation import Observation
from tests import controls
from tests.contract.worlds import World, write

REF = controls.ref()


def seen(number: int, outcome: str = "accepted") -> Observation:
    return Observation(
        f"c-{number}", "PlaceOrder", b"\xff\x00", controls.NOW_MS + number, outcome, "Zoë", number
    )


def test_the_newest_come_first(world: World) -> None:
    """
    Each instance has its own, and they come back as they were.
    """
    world.observations().observe([(REF, seen(1)), (controls.ref("other"), seen(9)), (REF, seen(2, "dead"))])
    world.observations().observe([(REF, seen(1, "duplicate"))])

    found = world.observations().observations(REF, 10)
    assert [seen(1, "duplicate"), seen(2, "dead"), seen(1)] == found
    assert found[:2] == world.observations().observations(REF, 2)
    assert [] == world.observations().observations(controls.ref("never"), 10)


def test_only_so_many_are_kept(world: World) -> None:
    """
    The latest.
    """
    observations = world.observations(kept_max=5)
    observations.observe([(REF, seen(number)) for number in range(12)])

    assert [seen(number) for number in (11, 10, 9, 8, 7)] == observations.observations(REF, 100)


def test_they_go_with_the_data(world: World) -> None:
    """
    They hold the commands' bytes.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1")
    world.observations().observe([(REF, seen(1))])
    commit = controls.commit(view, "d", run_state=RunState.DATA_DELETED, wipe=controls.snapshot(2, "d"))
    journal.commit([commit], "a")

    assert [] == world.observations().observations(REF, 10)
