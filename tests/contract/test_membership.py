"""
Membership: who lives, and who serves what.
"""

import msgspec

from holdfast.brokers import redis_namespace
from holdfast.brokers.redis_membership import RedisMembership
from holdfast.runtime.ports import POOLS
from tests import controls
from tests.contract.threads import together
from tests.contract.worlds import RedisWorld, World
from tests.support.processes import eventually

TTL_MS = 60_000


def test_those_who_beat_live(world: World) -> None:
    """
    A member is among the living as soon as it says so, for everybody, with all that it said of itself.
    """
    first, second = controls.member("m-1"), controls.member("m-2", ("command", "effect"))

    assert [] == world.membership().living()
    assert [first] == world.membership().beat(first, TTL_MS).living
    assert [first, second] == world.membership().beat(second, TTL_MS).living
    assert [first, second] == world.membership().beat(first, TTL_MS).living
    assert [first, second] == world.membership().living()


def test_who_is_silent_is_dead(world: World) -> None:
    """
    By the server's time a member that does not beat is no longer believed; the others are.
    """
    membership = world.membership()
    loud, silent = controls.member("loud"), controls.member("silent")
    membership.beat(silent, TTL_MS)
    membership.beat(loud, TTL_MS)

    assert [loud, silent] == membership.living()

    membership.beat(silent, 200)
    eventually(lambda: membership.living() == [loud])

    assert [loud] == membership.beat(loud, TTL_MS).living


def test_who_beats_goes_on_living(world: World) -> None:
    """
    A beat counts from itself, longer or shorter than the one before.
    """
    membership = world.membership()
    member = controls.member()
    membership.beat(member, 1)
    membership.beat(member, TTL_MS)

    assert [member] == membership.living()

    membership.beat(member, 1)
    eventually(lambda: membership.living() == [])


def test_who_was_thought_dead_can_come_back(world: World) -> None:
    """
    A member that was silent for too long beats again and lives.
    """
    membership = world.membership()
    member, witness = controls.member(), controls.member("witness")
    membership.beat(member, 1)
    eventually(lambda: membership.beat(witness, TTL_MS).living == [witness])

    assert [member, witness] == membership.beat(member, TTL_MS).living


def test_a_member_says_what_is_true_now(world: World) -> None:
    """
    A beat replaces what the member said before.
    """
    membership = world.membership()
    membership.beat(controls.member("m-1"), TTL_MS)
    changed = controls.member("m-1", ("timer",))

    assert [changed] == membership.beat(changed, TTL_MS).living


def test_who_leaves_is_gone_at_once(world: World) -> None:
    """
    Nobody waits for a member that said good-bye, nor for what it served, in any pool; others keep theirs.
    """
    membership = world.membership()
    for name in ("m-1", "m-2"):
        membership.beat(controls.member(name), TTL_MS)
    for pool in POOLS:
        membership.claim(0, pool, "m-1", ["m-1", "m-2"])
        membership.claim(1, pool, "m-2", ["m-1", "m-2"])
    membership.leave("m-1")

    assert [controls.member("m-2")] == membership.living()
    assert [[None, "m-2", None, None]] * len(POOLS) == [membership.owners(pool) for pool in POOLS]

    membership.leave("m-1")
    membership.leave("never")

    assert [controls.member("m-2")] == membership.living()


def test_one_serves_a_partition(world: World) -> None:
    """
    A partition that a living member serves is refused to others, and confirmed to itself.
    """
    membership, living = world.membership(), ["m-1", "m-2"]

    assert membership.claim(2, "command", "m-1", living) is True
    assert world.membership().claim(2, "command", "m-2", living) is False
    assert membership.claim(2, "command", "m-1", living) is True
    assert [None, None, "m-1", None] == membership.owners("command")


def test_the_dead_serve_nothing(world: World) -> None:
    """
    Who claims a partition from one that is not among the living gets it, and the former server does not get it back.
    """
    membership = world.membership()
    membership.claim(2, "command", "m-1", ["m-1"])

    assert membership.claim(2, "command", "m-2", ["m-2", "m-3"]) is True
    assert membership.claim(2, "command", "m-1", ["m-1", "m-2"]) is False
    assert [None, None, "m-2", None] == membership.owners("command")


def test_the_living_are_not_replaced_by_hearsay(world: World) -> None:
    """
    Who came to life after the claimer looked keeps what it serves: that it is dead is found out, not assumed.
    """
    membership = world.membership()
    membership.beat(controls.member("m-1"), TTL_MS)
    membership.claim(2, "command", "m-1", ["m-1"])

    assert membership.claim(2, "command", "m-2", ["m-2"]) is False
    assert [None, None, "m-1", None] == membership.owners("command")

    membership.leave("m-1")

    assert membership.claim(2, "command", "m-2", ["m-2"]) is True


def test_pools_are_served_apart(world: World) -> None:
    """
    Each pool of a partition may have another server.
    """
    membership, living = world.membership(), list(POOLS)

    assert [True] * len(POOLS) == [membership.claim(1, pool, pool, living) for pool in POOLS]
    assert [[None, pool, None, None] for pool in POOLS] == [membership.owners(pool) for pool in POOLS]


def test_a_partition_can_be_given_back(world: World) -> None:
    """
    What its server yields is free for all; what another serves cannot be yielded.
    """
    membership, living = world.membership(), ["m-1", "m-2"]
    membership.claim(0, "command", "m-1", living)
    membership.claim(0, "effect", "m-1", living)
    membership.yield_(0, "command", "m-2")

    assert ["m-1", None, None, None] == membership.owners("command")

    membership.yield_(0, "command", "m-1")
    membership.yield_(3, "command", "m-1")

    assert ([None] * 4, ["m-1", None, None, None]) == (
        membership.owners("command"),
        membership.owners("effect"),
    )
    assert membership.claim(0, "command", "m-2", living) is True


def test_of_many_that_claim_one_serves(world: World) -> None:
    """
    Members that reach for the same partitions at the same moment share them out without an overlap.
    """
    memberships = [world.membership() for _ in range(6)]
    living = [f"m-{number}" for number in range(6)]
    found = together(
        6,
        lambda number: [
            memberships[number].claim(one, "command", living[number], living) for one in range(4)
        ],
    )
    winners = [next(living[number] for number in range(6) if found[number][one]) for one in range(4)]

    assert [1] * 4 == [sum(column) for column in zip(*found, strict=True)]
    assert winners == memberships[0].owners("command")


def test_a_beat_tells_what_is_not_claimed_any_more(world: World) -> None:
    """
    Of what a member serves it hears which is another's by now, or nobody's: what it claimed itself is not told.
    """
    membership, both = world.membership(), ["m-1", "m-2"]
    served = {("command", 0), ("effect", 0), ("command", 1), ("timer", 3)}
    membership.claim(0, "command", "m-1", both)
    membership.claim(0, "effect", "m-2", both)
    membership.claim(1, "command", "m-1", both)

    roll = membership.beat(controls.member("m-1"), TTL_MS, served)

    assert ([controls.member("m-1")], {("effect", 0), ("timer", 3)}) == (roll.living, roll.lost)
    assert set() == membership.beat(controls.member("m-1"), TTL_MS).lost


def test_members_say_which_workflows_they_know(world: World) -> None:
    """
    Whoever lives and has said so is listed with them, as it said last and until it is gone.
    """
    membership = world.membership()
    membership.beat(controls.member("m-1"), TTL_MS, knows=("loan", "order"))
    membership.beat(controls.member("m-2"), TTL_MS)
    membership.beat(controls.member("m-3"), 1, knows=("order",))
    eventually(lambda: "m-3" not in membership.known())

    assert {"m-1": {"loan", "order"}} == membership.known()

    membership.beat(controls.member("m-1"), TTL_MS, knows=("loan", "order"))
    membership.leave("m-1")

    assert {} == membership.known()


def test_a_beat_says_again_what_was_fixed_at_first_use(redis_world: RedisWorld) -> None:
    """
    Of a namespace that was emptied under its workers the number of partitions is kept again, and never changed.
    """
    membership, settings = redis_world.membership(), redis_world.settings
    membership.living()

    assert redis_namespace.stored_partitions(settings, redis_world.link()) is None

    membership.beat(controls.member(), TTL_MS)
    other = RedisMembership(msgspec.structs.replace(settings, partitions=7), redis_world.link())
    other.beat(controls.member("m-2"), TTL_MS)

    assert settings.partitions == redis_namespace.stored_partitions(settings, redis_world.link())
