"""
Parking: which instances a projection could not go on with, and what a person ordered for them.
"""

from typing import Any

import pytest

from holdfast.runtime.feed import Order, ParkedKey, Reader
from holdfast.runtime.keys import Ref
from tests import controls
from tests.contract.worlds import FeedAndParking, World

READER = Reader("books", 1)
OTHER = Reader("books", 2)
EVERYWHERE = range(controls.PARTITIONS)


def parked(ref: Ref, **changes: Any) -> ParkedKey:
    """
    Return an instance that was parked at its second record.
    """
    values: dict[str, Any] = {
        "seq": 2,
        "index": 0,
        "event": "OrderPaid",
        "error": "KeyError: no",
        "traceback": "Traceback ...",
        "kind": "handler",
        "attempts": 5,
        "at_ms": controls.NOW_MS,
        "due_ms": 0,
    }
    return ParkedKey(partition=ref.partition, workflow=ref.workflow, key=ref.key, **(values | changes))


def registered(world: World) -> FeedAndParking:
    feed = world.feed()
    for reader in (READER, OTHER):
        feed.register(reader, EVERYWHERE, "a")
    return feed


def test_parked_instances_are_kept_as_they_were(world: World) -> None:
    """
    Whatever their keys, the longest parked first, and counted.
    """
    feed = registered(world)
    ones = [parked(controls.ref(key), at_ms=controls.NOW_MS + n) for n, key in enumerate(controls.KEYS)]
    feed.park(READER, list(reversed(ones)))

    assert [(one, Order()) for one in ones] == world.feed().parked(READER, EVERYWHERE)
    assert [(one, Order()) for one in ones if one.partition == 1] == feed.parked(READER, [1])
    assert [] == feed.parked(OTHER, EVERYWHERE)
    assert len(ones) == sum(one.parked for one in feed.behind(READER))


def test_parking_again_replaces(world: World) -> None:
    """
    It is one instance as it is now, and what was ordered for it is done with.
    """
    feed, ref = registered(world), controls.ref()
    feed.park(READER, [parked(ref)])
    feed.order(READER, [ref], "retry")
    again = parked(ref, attempts=6, skipped=(0, 1))
    ((_, order),) = feed.parked(READER, EVERYWHERE)
    feed.park(READER, [again], {ref: order})

    assert [(again, Order())] == feed.parked(READER, EVERYWHERE)


@pytest.mark.parametrize("verb", ["retry", "skip"])
def test_what_is_ordered_meanwhile_stays_ordered(world: World, verb: str) -> None:
    """
    While one order is being carried out another comes, or the same again: it is another, and is carried out as well.
    """
    feed, ref = registered(world), controls.ref()
    feed.park(READER, [parked(ref)])
    feed.order(READER, [ref], "retry")
    ((_, first),) = feed.parked(READER, EVERYWHERE)
    assert [True] == world.feed().order(READER, [ref], verb)
    again = parked(ref, attempts=6)
    feed.park(READER, [again], {ref: first})

    ((found, second),) = feed.parked(READER, EVERYWHERE)
    assert (again, verb) == (found, second.verb)
    assert first != second
    feed.park(READER, [again])
    assert [(again, second)] == feed.parked(READER, EVERYWHERE)
    feed.park(READER, [again], {ref: second})
    assert [(again, Order())] == feed.parked(READER, EVERYWHERE)


def test_orders_are_for_what_is_parked(world: World) -> None:
    """
    Others are refused; the last order counts; each makes a number grow that workers look at.
    """
    feed, refs = registered(world), controls.refs(3)
    feed.park(READER, [parked(ref) for ref in refs[:2]])
    before = feed.generations("books")[1]

    assert [True, True, False] == world.feed().order(READER, refs, "retry")
    assert [True] == world.feed().order(READER, [refs[0]], "skip")
    assert {refs[0]: "skip", refs[1]: "retry"} == {
        one.ref: order.verb for one, order in feed.parked(READER, EVERYWHERE)
    }
    assert feed.generations("books")[1] > before


def test_what_is_let_go_is_gone(world: World) -> None:
    """
    With the order for it: parked once more it has none.
    """
    feed, refs = registered(world), controls.refs(2)
    feed.park(READER, [parked(ref) for ref in refs])
    feed.order(READER, refs, "skip")
    feed.unpark(READER, [refs[0], controls.ref("never")])

    assert [refs[1]] == [one.ref for one, _ in feed.parked(READER, EVERYWHERE)]
    feed.park(READER, [parked(refs[0], at_ms=0)])
    assert ["", "skip"] == [order.verb for _, order in feed.parked(READER, EVERYWHERE)]


def test_a_removed_reader_parks_nothing(world: World) -> None:
    """
    What it had parked goes with it, and a worker that does not know yet leaves nothing behind.
    """
    feed, ref = registered(world), controls.ref()
    feed.park(READER, [parked(ref)])
    feed.order(READER, [ref], "retry")
    feed.remove(READER, EVERYWHERE)
    feed.park(READER, [parked(ref)])

    assert [] == feed.parked(READER, EVERYWHERE)
    feed.register(READER, EVERYWHERE, "a")
    assert [] == feed.parked(READER, EVERYWHERE)
    assert [False] == feed.order(READER, [ref], "retry")
