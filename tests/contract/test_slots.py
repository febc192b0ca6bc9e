"""
The places of limits and the turns of rates: never more than there are, and none is lost with its holder.
"""

import time
from collections.abc import Iterator

from holdfast.runtime.limit import Want
from tests.contract.threads import together
from tests.contract.worlds import World
from tests.support.processes import eventually

LONG = 60_000


def places(count: int, limit: str = "ChargeCard:", places: int = 2) -> Iterator[Want]:
    """
    Yield wants of so many effects for one limit.
    """
    return (Want(f"e-{number}", limit, places) for number in range(count))


def turns(count: int, starts: int = 2, per_ms: int = LONG, rate: str = "ChargeCard:") -> list[Want]:
    """
    Return wants of so many effects for one rate.
    """
    return [Want(f"e-{number}", rate=rate, starts=starts, per_ms=per_ms) for number in range(count)]


def test_no_more_places_than_there_are(world: World) -> None:
    """
    Who finds a limit full is told that nobody knows when.
    """
    assert [0, 0, -1, -1] == world.slots().acquire(list(places(4)), LONG)


def test_a_place_given_back_is_free(world: World) -> None:
    """
    And only that one; giving back what one has not changes nothing.
    """
    slots, wants = world.slots(), list(places(5))
    slots.acquire(wants[:2], LONG)
    slots.give_back([wants[0], wants[4]])

    assert [0, -1] == slots.acquire(wants[2:4], LONG)


def test_a_place_is_had_once(world: World) -> None:
    """
    Who asks again has the place that he has.
    """
    slots, wants = world.slots(), list(places(3))

    assert [0, 0] == slots.acquire([wants[0], wants[0]], LONG)
    assert [0, -1] == world.slots().acquire(wants[1:], LONG)


def test_a_place_comes_free_with_its_holder(world: World) -> None:
    """
    What nobody renews is free after its time; what is renewed stays.
    """
    slots = world.slots()
    # The longer ones are for a machine that stood still until what was to be renewed was gone.
    for lease_s in (0.2, 2.0, 20.0):
        wants = list(places(4, f"ChargeCard:{lease_s}"))
        until = time.monotonic() + lease_s
        slots.acquire(wants[:1], int(lease_s * 1_000))
        slots.acquire(wants[1:2], 50)
        slots.renew(wants[:1], LONG)
        if time.monotonic() < until:
            break

    eventually(lambda: time.monotonic() > until)
    eventually(lambda: slots.acquire(wants[2:3], LONG) == [0])
    assert [-1] == slots.acquire(wants[3:], LONG)


def test_renewing_gives_no_place(world: World) -> None:
    """
    Who lost a place, or never had one, does not get it by renewing.
    """
    slots, wants = world.slots(), list(places(3))
    slots.renew(wants[:1], LONG)

    assert [0, 0] == slots.acquire(wants[1:], LONG)


def test_limits_do_not_meet(world: World) -> None:
    """
    A full limit leaves others alone.
    """
    slots = world.slots()
    slots.acquire(list(places(3, "ChargeCard:a")), LONG)

    assert [0, 0, -1] == slots.acquire(list(places(3, "ChargeCard:b")), LONG)
    assert [0] == slots.acquire([Want("e-1")], LONG)


def test_no_more_places_under_a_race(world: World) -> None:
    """
    Several processes at once get as many places as there are.
    """
    slots = [world.slots() for _ in range(3)]

    def race(index: int) -> list[int]:
        wants = (Want(f"{index}-{number}", "ChargeCard:", 7) for number in range(30))
        return [wait for want in wants for wait in slots[index].acquire([want], LONG)]

    assert 7 == sum(found.count(0) for found in together(3, race))


def test_no_more_starts_than_the_rate(world: World) -> None:
    """
    The others are told when their turn is, each after the one before.
    """
    waits = world.slots().acquire(turns(6), LONG)

    assert [0, 0] == waits[:2]
    assert all(LONG / 2 < wait <= LONG for wait in waits[2:4])
    assert all(1.5 * LONG < wait <= 2 * LONG for wait in waits[4:])


def test_a_turn_is_kept(world: World) -> None:
    """
    Who asks again before his turn has the same turn, and does not put others back.
    """
    slots, wants = world.slots(), turns(5)
    slots.acquire(wants[:4], LONG)
    again = slots.acquire(wants[2:3] * 3, LONG)

    assert all(0 < wait <= LONG for wait in again)
    assert LONG < slots.acquire(wants[4:], LONG)[0] <= 2 * LONG


def test_a_turn_comes(world: World) -> None:
    """
    After the wait it may begin; the next attempt of the same effect needs another turn.
    """
    slots, wants = world.slots(), turns(3, per_ms=150)
    slots.acquire(wants, LONG)

    eventually(lambda: slots.acquire(wants[2:], LONG) == [0])
    assert 0 < slots.acquire(wants[2:] + turns(2, per_ms=150), LONG)[-1]


def test_who_comes_late_to_his_turn_puts_others_back(world: World) -> None:
    """
    It counts when something begins, not when it might have: the next one is a whole length of the rate behind it.
    """
    slots = world.slots()
    # The longer ones are for a machine that stood still until the last one's turn had come as well.
    for per_s in (0.6, 6.0, 20.0):
        first, late, last = turns(3, starts=1, per_ms=int(per_s * 1_000), rate=f"ChargeCard:{per_s}")
        slots.acquire([first, late, last], LONG)
        waits = [LONG]

        def nearly(last: Want = last, waits: list[int] = waits, near_ms: float = per_s * 250) -> bool:
            waits.extend(slots.acquire([last], LONG))
            return waits[-1] < near_ms

        eventually(nearly)
        if waits[-1] > 0:
            break

    assert waits[-1] > 0
    began = time.monotonic()
    assert [0] == slots.acquire([late], LONG)
    eventually(lambda: slots.acquire([last], LONG) == [0])
    # A little less, for the way there.
    assert time.monotonic() - began > 0.8 * per_s


def test_those_whose_turns_have_passed_begin_all_the_same(world: World) -> None:
    """
    Turns that were put back are had in the end: nobody puts the others back for ever.
    """
    slots, wants = world.slots(), turns(12, starts=3, per_ms=100)
    slots.acquire(wants, LONG)
    #: When each began at the earliest and at the latest, since nobody knows how long an answer was on its way.
    began: list[tuple[float, float, Want]] = []

    def all_began() -> bool:
        left = [want for want in wants if all(want is not one for _, _, one in began)]
        asked = time.monotonic()
        found = slots.acquire(left[::-1], LONG)
        told = time.monotonic()
        began.extend((asked, told, want) for want, wait in zip(left[::-1], found, strict=True) if wait == 0)
        return len(began) == len(wants)

    eventually(all_began)
    assert all(told - asked > 0.05 for (asked, _, _), (_, told, _) in zip(began, began[3:], strict=False))


def test_a_turn_is_not_used_up_by_a_full_limit(world: World) -> None:
    """
    Both a place and a turn are taken, or neither.
    """
    slots = world.slots()
    both = [Want(f"e-{number}", "ChargeCard:", 1, "ChargeCard:", 2, LONG) for number in range(3)]

    assert [0, -1, -1] == slots.acquire(both, LONG)
    slots.give_back(both[:1])
    assert [0] == slots.acquire(both[1:2], LONG)
