"""
The turn: a unique key is held by one unfinished instance, and whoever would be the second is told who that is.
"""

from datetime import datetime
from typing import Never

import pytest

from holdfast.runtime.app import App
from holdfast.runtime.codec import encode
from holdfast.runtime.control import Cancel
from holdfast.runtime.decision import Decision, accept
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.message import Command, Event
from holdfast.runtime.outcome import Answer
from holdfast.runtime.ports import Delivery
from holdfast.runtime.uniques import Claim
from holdfast.runtime.workflow import Workflow
from tests import controls
from tests.unit.desk import Desk, ids, replies, sent


class Rename(Command, frozen=True):
    """
    Takes a name; an empty one gives the name up, and "end" ends it all.
    """

    id: str
    name: str


class Renamed(Event, frozen=True):
    """
    It has this name now.
    """

    name: str


class Person(Workflow[str, Rename, Renamed, Never]):
    """
    Of whom there is one of each name.
    """

    type = "person"
    key = "id"

    def initial(self) -> str:
        return ""

    def evolve(self, state: str, event: Renamed) -> str:
        return event.name

    def decide(self, now: datetime, state: str, command: Rename) -> Decision[Renamed, Never]:
        return accept(Renamed(command.name))

    def is_terminal(self, state: str) -> bool:
        return state == "end"

    def unique_key(self, state: str) -> str | None:
        return state or None


@pytest.fixture
def desk() -> Desk:
    """
    A desk for persons.
    """
    return Desk(App(workflows=[Person]))


def who(key: str) -> Ref:
    return Ref(partition_of("person", key, controls.PARTITIONS), "person", key)


def rename(key: str, name: str, command_id: str) -> Delivery:
    return sent(Rename(key, name), command_id, workflow="person", key=key, reply_to=f"me/{command_id}")


def answers(desk: Desk, *deliveries: Delivery) -> dict[str, Answer]:
    found = replies(desk.run(*deliveries))
    return {address.removeprefix("me/"): answer for address, answer in found.items()}


def kinds(desk: Desk, *deliveries: Delivery) -> str:
    found = answers(desk, *deliveries)
    return " ".join(found[str(delivery.tag)].kind for delivery in deliveries)


def holder(desk: Desk, name: str) -> str | None:
    return desk.turn._uniques.find("person", name)  # type: ignore[union-attr]  # a desk has them


@pytest.mark.parametrize("together", [True, False])
def test_the_second_is_refused_and_told_who(desk: Desk, together: bool) -> None:
    """
    In one batch or in two; nothing of the second is recorded.
    """
    first, second = rename("p-1", "ann", "c-1"), rename("p-2", "ann", "c-2")
    found = answers(desk, first, second) if together else answers(desk, first) | answers(desk, second)

    assert ("accepted", "rejected") == (found["c-1"].kind, found["c-2"].kind)
    assert "the unique key 'ann' is held by person/p-1" == found["c-2"].reason
    assert encode({"unique_key": "ann", "holder": "p-1"}) == found["c-2"].details
    assert [] == desk.commands(who("p-2"))
    assert "p-1" == holder(desk, "ann")


def test_a_key_moves_with_the_state(desk: Desk) -> None:
    """
    Changed, the old one is free; an instance may go on with the one it has, and take one back.
    """
    assert "accepted accepted" == kinds(desk, rename("p-1", "ann", "a"), rename("p-1", "ann", "b"))
    assert "accepted" == kinds(desk, rename("p-1", "eve", "c"))
    assert ("p-1", None) == (holder(desk, "eve"), holder(desk, "ann"))
    assert "accepted rejected" == kinds(desk, rename("p-2", "ann", "d"), rename("p-1", "ann", "e"))
    assert "accepted" == kinds(desk, rename("p-2", "", "f"))
    assert "accepted" == kinds(desk, rename("p-1", "ann", "g"))


def test_keys_on_the_way_are_claimed_and_given_up(desk: Desk) -> None:
    """
    Several in one batch: each decision must be possible by itself, and only the last key stays.
    """
    kinds(desk, rename("p-0", "taken", "z"))

    found = kinds(
        desk,
        rename("p-1", "a", "1"),
        rename("p-1", "taken", "2"),
        rename("p-1", "b", "3"),
        rename("p-1", "c", "4"),
    )

    assert "accepted rejected accepted accepted" == found
    assert [None, None, "p-1"] == [holder(desk, name) for name in "abc"]
    assert [] == [one for one in desk.server.uniques if one[1] in "ab"]


def test_the_end_frees_the_key(desk: Desk) -> None:
    """
    Whether the workflow says so, or somebody cancels it.
    """
    kinds(desk, rename("p-1", "ann", "a"), rename("p-2", "eve", "b"))
    kinds(desk, rename("p-1", "end", "c"))
    kinds(desk, sent(Cancel(), "d", workflow="person", key="p-2", reply_to="me/d"))

    assert "accepted accepted" == kinds(desk, rename("p-3", "ann", "e"), rename("p-4", "eve", "f"))
    assert ("", "") == (desk.opened(who("p-1")).unique, desk.opened(who("p-2")).unique)


def test_a_contested_key_puts_the_command_off(desk: Desk) -> None:
    """
    Somebody else is about to have it, or not: whoever comes waits, and is decided when that is known.
    """
    uniques = desk.turn._uniques
    assert uniques is not None
    uniques.claim([Claim("ann", who("elsewhere"), 1)])

    result = desk.run(rename("p-1", "ann", "a"), rename("p-2", "eve", "b"))
    assert (["a"], ["b"]) == (ids(result.deferred), ids(result.done))
    uniques.give_up([Claim("ann", who("elsewhere"), 2)])

    assert "accepted" == kinds(desk, *result.deferred)
