"""
The life cycle: the table is walked, and everything else is refused.
"""

import inspect
import re
from itertools import product

import pytest

from holdfast.runtime import instance
from holdfast.runtime.errors import UsageError
from holdfast.runtime.instance import MOVES, RunState, move

FINISHED = {RunState.COMPLETED, RunState.CANCELLED, RunState.DATA_DELETED}


@pytest.mark.parametrize(("source", "target"), list(product(RunState, RunState)))
def test_the_table_is_the_law(source: RunState, target: RunState) -> None:
    """
    A move that the table has leads there; any other is refused with both names and the legal ones, and one that leads
    nowhere is told so.
    """
    if target in MOVES[source]:
        assert target is move(source, target)
    elif target is source:
        with pytest.raises(UsageError, match=f"the instance is {source} already"):
            move(source, target)
    else:
        with pytest.raises(UsageError) as caught:
            move(source, target)
        assert f"an instance that is {source} cannot become {target}; it may become " in str(caught.value)
        assert all(legal in str(caught.value) for legal in MOVES[source])


def test_every_run_state_is_in_the_table() -> None:
    """
    A run state without a row would have no way out.
    """
    assert set(RunState) == set(MOVES)


def test_every_run_state_can_be_reached() -> None:
    """
    From the beginning of an instance there is a way to each.
    """
    reached, frontier = {RunState.INITIATED}, [RunState.INITIATED]
    while frontier:
        new = MOVES[frontier.pop()] - reached
        reached |= new
        frontier += new

    assert set(RunState) == reached


def test_what_is_finished_stays_finished() -> None:
    """
    No move leads from a finished run state back to work, and every unfinished one has a way to an end.
    """
    assert {state for state in RunState if state.finished} == FINISHED
    assert all(MOVES[state] <= FINISHED for state in FINISHED)
    assert all(MOVES[state] for state in RunState if state is not RunState.DATA_DELETED)


def test_only_a_finished_instance_loses_its_data() -> None:
    """
    Data is deleted after the end, and that is the last that happens.
    """
    assert {state for state in RunState if RunState.DATA_DELETED in MOVES[state]} == FINISHED - {
        RunState.DATA_DELETED
    }
    assert not MOVES[RunState.DATA_DELETED]


def test_run_states_are_stored_under_their_names() -> None:
    """
    They are keys of the directory: a name that changes loses what is listed under it.
    """
    assert ["initiated", "running", "paused", "completed", "cancelled", "data-deleted"] == list(RunState)


def test_the_drawing_shows_every_run_state() -> None:
    """
    The diagram at the top of the file names what the table names.
    """
    drawing = inspect.getdoc(instance) or ""

    assert all(re.search(rf"\b{state.replace('-', ' ')}\b", drawing) for state in RunState)
