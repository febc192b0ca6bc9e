"""
Shares: every process works out alone who serves which partition, evenly, and few move.
"""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.runtime.shares import shares

MEMBERS = st.lists(st.text(max_size=8), min_size=1, max_size=12, unique=True)
PARTITIONS = st.sampled_from([1, 2, 4, 7, 16, 64])


def names(count: int, seed: int) -> list[str]:
    """
    Members with names such as processes have.
    """
    numbers = random.Random(seed)
    return [f"host-{numbers.randrange(10**9)}.{n}" for n in range(count)]


@given(MEMBERS, PARTITIONS)
def test_every_partition_has_one_member(members: list[str], partitions: int) -> None:
    """
    None is left out, and nobody serves who does not live.
    """
    found = shares(members, partitions)

    assert list(range(partitions)) == sorted(found)
    assert set(found.values()) <= set(members)


@given(MEMBERS, PARTITIONS)
def test_shares_are_even(members: list[str], partitions: int) -> None:
    """
    No member has two partitions more than another, so none is idle while another has several.
    """
    loads = Counter(dict.fromkeys(members, 0)) + Counter(shares(members, partitions).values())

    every = [loads[member] for member in members]
    assert max(every) - min(every) <= 1


@given(MEMBERS, PARTITIONS, st.randoms())
def test_everyone_computes_the_same(members: list[str], partitions: int, order: random.Random) -> None:
    """
    The order in which a process hears of the living is no matter.
    """
    shuffled = list(members)
    order.shuffle(shuffled)

    assert shares(members, partitions) == shares(shuffled, partitions)


def test_nobody_serves_nothing() -> None:
    """
    Without members there are no shares.
    """
    assert {} == shares([], 16)


def test_shares_stay_where_they_are() -> None:
    """
    Processes of different versions agree.
    """
    expected = {0: "b", 1: "b", 2: "b", 3: "c", 4: "a", 5: "a", 6: "a", 7: "c"}

    assert expected == shares(["a", "b", "c"], 8)


@pytest.mark.parametrize("count", range(1, 13))
def test_few_partitions_move_when_a_member_joins_or_leaves(count: int) -> None:
    """
    Over many sets of members, what moves is on average under two and a half times what must.
    """
    partitions, trials, moved = 64, 50, 0
    for seed in range(trials):
        members = names(count + 1, seed)
        few, many = shares(members[:-1], partitions), shares(members, partitions)
        moved += sum(few[partition] != many[partition] for partition in range(partitions))

    must_move = trials * partitions / (count + 1)
    assert must_move * 0.8 <= moved <= 2.5 * must_move


def test_a_second_member_takes_half_and_nothing_else_moves() -> None:
    """
    Growing from one process to two moves exactly the half that must.
    """
    alone, both = shares(["a"], 16), shares(["a", "b"], 16)

    assert 8 == sum(alone[partition] != both[partition] for partition in range(16))
