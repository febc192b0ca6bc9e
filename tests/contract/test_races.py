"""
Races for one instance, with real threads, each on a connection of its own.
"""

from collections import Counter

import pytest

from holdfast.runtime.ports import Committed, Held, Opened
from tests import controls
from tests.contract.threads import together
from tests.contract.worlds import World, log_of, opened
from tests.support.processes import eventually

REF = controls.ref()
THREADS = 8


@pytest.mark.parametrize("leases", [True, False])
def test_one_first_commit_wins(world: World, leases: bool) -> None:
    """
    Of many that begin one instance at the same moment exactly one does, and its effects are the only ones.
    """
    journals = [world.journal(leases=leases) for _ in range(THREADS)]
    refs = controls.refs(10)

    def begin_all(number: int) -> list[bool]:
        commits = [
            controls.commit(ref, f"c-{number}", effects=[controls.effect(f"c-{number}:{ref.key}", of=ref)])
            for ref in refs
        ]
        return [isinstance(one, Committed) for one in journals[number].commit(commits, f"m-{number}")]

    wins = together(THREADS, begin_all)
    winners = [next(number for number in range(THREADS) if wins[number][index]) for index in range(len(refs))]
    effects = {
        one.id for partition in range(controls.PARTITIONS) for one in journals[0].effects(partition, 1_000)
    }

    assert [1] * len(refs) == [sum(column) for column in zip(*wins, strict=True)]
    assert [f"c-{number}" for number in winners] == [found.head for found in journals[0].read(refs)]
    assert {f"c-{number}:{ref.key}" for number, ref in zip(winners, refs, strict=True)} == effects


@pytest.mark.parametrize("leases", [True, False])
@pytest.mark.parametrize("lease_ms", [100, 60_000])
def test_every_increment_counts_once(world: World, leases: bool, lease_ms: int) -> None:
    """
    Many that open, decide and commit on one instance end at the exact count, with leases, expiring ones or none.
    """
    journals = [world.journal(leases=leases, lease_ms=lease_ms) for _ in range(THREADS)]
    each = 10

    def increment(number: int) -> None:
        journal, owner, done = journals[number], f"m-{number}", 0

        def once() -> bool:
            view = journal.open([REF], owner)[0]
            if isinstance(view, Held):
                return False
            result = journal.commit([controls.commit(view, f"{owner}.{done}")], owner)[0]
            if not isinstance(result, Committed):
                return False
            if lease_ms > 1_000 or done % 3 == 0:
                journal.release([(REF, result.token)], owner)
            return True

        while done < each:
            eventually(once)
            done += 1

    together(THREADS, increment)
    log = log_of(journals[0], REF)
    ids = [controls.command_id(data) for _, data in log]

    assert list(range(1, THREADS * each + 1)) == [seq for seq, _ in log]
    assert {f"m-{number}.{step}" for number in range(THREADS) for step in range(each)} == set(ids)
    for number in range(THREADS):
        assert [f"m-{number}.{step}" for step in range(each)] == [
            one for one in ids if one.startswith(f"m-{number}.")
        ]


def test_one_of_many_takes_a_free_lease(world: World) -> None:
    """
    Of many that open a free instance at the same moment one gets it, and the others learn who that is.
    """
    journals = [world.journal() for _ in range(THREADS)]
    ids = iter(range(1_000))
    journals[0].commit([controls.commit(REF, "c-1")], "before")
    for _ in range(10):
        held = opened(journals[0].open([REF], "before")[0])
        journals[0].release([(REF, held.token)], "before")
        found = together(THREADS, lambda number: journals[number].open([REF], f"m-{number}")[0])
        winners = [f"m-{number}" for number, one in enumerate(found) if isinstance(one, Opened)]
        rivals = {one.owner for one in found if isinstance(one, Held)}
        winner = next(one for one in found if isinstance(one, Opened))
        commit = controls.commit(winner, f"r-{next(ids)}")
        result = journals[0].commit([commit], winners[0])[0]

        assert (1, {winners[0]}) == (len(winners), rivals)
        assert isinstance(result, Committed)

        journals[0].release([(REF, result.token)], winners[0])


def test_takeovers_cannot_both_write(world: World) -> None:
    """
    While members take the partition from one another, whoever commits holds the newest token, and no seq is written twice.
    """
    journals = [world.journal() for _ in range(4)]
    memberships = [world.membership() for _ in range(4)]
    journals[0].commit([controls.commit(REF, "c-1")], "nobody")
    tokens: list[tuple[int, int]] = []

    def serve(number: int) -> None:
        owner = f"m-{number}"
        for step in range(25):
            memberships[number].claim(REF.partition, "command", owner, [owner])
            view = journals[number].open([REF], owner)[0]
            if isinstance(view, Opened):
                result = journals[number].commit([controls.commit(view, f"{owner}.{step}")], owner)[0]
                if isinstance(result, Committed):
                    tokens.append((view.seq + 1, result.token))

    together(4, serve)
    log = log_of(journals[0], REF)
    written = sorted(tokens)

    assert list(range(1, len(log) + 1)) == [seq for seq, _ in log]
    assert [seq for seq, _ in log][1:] == [seq for seq, _ in written]
    assert sorted(token for _, token in written) == [token for _, token in written]
    assert {1} == set(Counter(controls.command_id(data) for _, data in log).values())
