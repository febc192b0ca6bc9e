"""
The directory: instances by run state and by time of last change.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from holdfast.runtime.errors import UsageError
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Directory, Listed, Page
from tests import controls
from tests.contract.worlds import World, opened, write
from tests.support.processes import eventually

PAUSED, RUNNING, COMPLETED = RunState.PAUSED, RunState.RUNNING, RunState.COMPLETED


def _pages(directory: Directory, limit: int, run_state: RunState | None = None) -> list[list[Listed]]:
    """
    Return a whole listing, page by page.
    """
    pages: list[list[Listed]] = []
    page = Page([], None)
    while not pages or page.cursor is not None:
        page = directory.instances("order", run_state=run_state, limit=limit, cursor=page.cursor)
        pages.append(page.instances)
    return pages


def _spread(world: World, keys: Sequence[str]) -> list[Listed]:
    """
    Write to instances one after another, each at a later time, and return all lines, the latest first.
    """
    journal, directory = world.journal(), world.directory()
    for key in keys:
        ref = controls.ref(key)
        before = directory.instances("order", limit=1).instances

        def later(ref: Ref = ref, before: list[Listed] = before) -> bool:
            view = opened(journal.open([ref], "a")[0])
            write(journal, view, f"c-{view.seq + 1}")
            after = directory.instances("order", limit=1).instances
            return not before or (after[0].key == ref.key and after[0].updated > before[0].updated)

        eventually(later)
    return directory.instances("order", limit=1_000).instances


def test_the_latest_changed_come_first(world: World) -> None:
    """
    Instances of all partitions are listed together by time of last change, and one that changes moves to the front.
    """
    keys = [f"o-{number}" for number in range(6)]
    lines = _spread(world, keys)

    assert keys[::-1] == [line.key for line in lines]
    assert sorted({line.updated for line in lines}, reverse=True) == [line.updated for line in lines]

    _spread(world, ["o-2"])

    assert ["o-2", "o-5", "o-4"] == [
        line.key for line in world.directory().instances("order", limit=3).instances
    ]


def test_a_line_says_what_there_is_to_know(world: World) -> None:
    """
    It has the key, the run state and the sequence number of now, when the instance began and when it last changed.
    """
    journal, directory = world.journal(), world.directory()
    view = write(journal, controls.ref(), "c-1", "c-2")
    first = directory.instances("order").instances[0]

    def changed() -> bool:
        nonlocal view
        view = write(journal, view, f"c-{view.seq + 1}")
        return directory.instances("order").instances[0].updated > first.updated

    eventually(changed)
    second = directory.instances("order").instances[0]

    assert Listed("order", "o-1", RUNNING, 2, first.updated, first.updated) == first
    assert Listed("order", "o-1", RUNNING, view.seq, first.created, second.updated) == second
    assert abs(datetime.now(first.created.tzinfo) - first.created) < timedelta(minutes=1)


@pytest.mark.parametrize("limit", [1, 2, 7, 49, 50, 51])
def test_pages_show_every_instance_once(world: World, limit: int) -> None:
    """
    Page after page shows all instances, also where many changed at one moment, and the last page gives no cursor.
    """
    refs = controls.refs(50)
    commits = [
        controls.commit(ref, "c-1", run_state=PAUSED if number % 3 else RUNNING)
        for number, ref in enumerate(refs)
    ]
    world.journal().commit(commits, "a")
    directory = world.directory()
    pages = _pages(directory, limit)
    paused = [line.key for page in _pages(directory, limit, PAUSED) for line in page]
    listed = [line for page in pages for line in page]

    assert sorted(ref.key for ref in refs) == sorted(line.key for line in listed)
    assert sorted(listed, key=lambda line: (line.updated, line.key.encode()), reverse=True) == listed
    assert [limit] * (len(pages) - 1) == [len(page) for page in pages[:-1]]
    assert -(-50 // limit) == len(pages)
    assert [line.key for line in listed if line.run_state is PAUSED] == paused


def test_long_listings_are_whole(world: World) -> None:
    """
    More instances than are read at a time are listed all the same.
    """
    refs = controls.refs(700)
    world.journal().commit([controls.commit(ref, "c-1") for ref in refs], "a")

    assert {ref.key for ref in refs} == {
        line.key for line in world.directory().instances("order", limit=1_000).instances
    }
    assert {ref.key for ref in refs} == {line.key for page in _pages(world.directory(), 300) for line in page}


def test_instances_are_listed_by_run_state(world: World) -> None:
    """
    A run state selects, and the counts agree with the lists; another workflow's instances are never among them.
    """
    journal, directory = world.journal(), world.directory()
    states = {"a": RUNNING, "b": PAUSED, "c": COMPLETED, "d": PAUSED}
    journal.commit(
        [controls.commit(controls.ref(key), "c-1", run_state=state) for key, state in states.items()], "a"
    )
    journal.commit([controls.commit(controls.ref(key, "order2"), "c-1") for key in "xyz"], "a")

    assert sorted(states) == sorted(line.key for line in directory.instances("order").instances)
    for state in RunState:
        expected = sorted(key for key, one in states.items() if one is state)
        found = directory.instances("order", run_state=state).instances
        assert expected == sorted(line.key for line in found)
        assert {state} >= {line.run_state for line in found}
        assert len(expected) == directory.count("order", state)
    assert (3, 0) == (directory.count("order2", RUNNING), directory.count("never", RUNNING))
    assert Page([], None) == directory.instances("never")


def test_instances_are_listed_by_time(world: World) -> None:
    """
    `since` and `until` include their own moment, and go with pages.
    """
    lines = _spread(world, [f"o-{number}" for number in range(5)])
    directory = world.directory()
    since, until = lines[3].updated, lines[1].updated
    page = directory.instances("order", since=since, until=until, limit=2)
    rest = directory.instances("order", since=since, until=until, limit=2, cursor=page.cursor)

    assert lines[1:4] == directory.instances("order", since=since, until=until).instances
    assert lines[:4] == directory.instances("order", since=since).instances
    assert lines[1:] == directory.instances("order", until=until).instances
    assert (lines[1:3], lines[3:4], None) == (page.instances, rest.instances, rest.cursor)
    assert [] == directory.instances("order", since=lines[0].updated + timedelta(milliseconds=1)).instances
    assert [] == directory.instances("order", since=until, until=since).instances


def test_pages_go_on_while_instances_change(world: World) -> None:
    """
    An instance that changes between two pages moves to the front: those that stay where they are are each listed once.
    """
    journal, directory = world.journal(), world.directory()
    _spread(world, [f"o-{number}" for number in range(6)])
    first = directory.instances("order", limit=2)
    write(journal, opened(journal.open([controls.ref("o-2")], "a")[0]), "c-99")
    second = directory.instances("order", limit=10, cursor=first.cursor)

    assert ["o-5", "o-4"] == [line.key for line in first.instances]
    assert ["o-3", "o-1", "o-0"] == [line.key for line in second.instances]


def test_every_key_is_listed_as_it_is(world: World) -> None:
    """
    Any key comes back as it was given, and cursors carry it.
    """
    world.journal().commit([controls.commit(controls.ref(key), "c-1") for key in controls.KEYS], "a")
    pages = _pages(world.directory(), 1)

    assert sorted(controls.KEYS) == sorted(line.key for page in pages for line in page)


@pytest.mark.parametrize("cursor", ["", "x", "日本", "e30=", "MTIz", "!!!", "OjE="])
def test_a_wrong_cursor_is_the_callers_mistake(world: World, cursor: str) -> None:
    """
    Text that is no cursor is refused with a sentence, not with a listing from somewhere.
    """
    with pytest.raises(UsageError, match="is no cursor"):
        world.directory().instances("order", cursor=cursor)
