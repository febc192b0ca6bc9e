"""
What makes room: logs are trimmed behind their snapshots, and instances are measured.
"""

import pytest
import redis

from holdfast.runtime.ports import Journal
from tests import controls
from tests.contract.worlds import RedisWorld, World, log_of, opened, write

REF = controls.ref()


def seqs(journal: Journal) -> list[int]:
    return [seq for seq, _ in log_of(journal, REF)]


def long_log(journal: Journal, count: int = 10, snapshot: int = 8) -> None:
    """
    Have an instance with some records, and a snapshot before its last ones.
    """
    view = write(journal, REF, *(f"c-{number}" for number in range(1, snapshot + 1)))
    journal.snapshot([(REF, controls.snapshot(snapshot, f"c-{snapshot}"))])
    write(journal, view, *(f"c-{number}" for number in range(snapshot + 1, count + 1)))


@pytest.mark.parametrize(
    ("upto", "deleted", "left"),
    [(0, 0, 1), (3, 3, 4), (8, 8, 9), (100, 8, 9)],
)
def test_what_a_snapshot_has_may_go(world: World, upto: int, deleted: int, left: int) -> None:
    """
    Never more than that; numbers stay as they are, and opening works as before.
    """
    journal = world.journal()
    long_log(journal)
    before = opened(world.journal().open([REF], "a")[0])

    assert [deleted, 0] == [journal.trim(REF, upto) for _ in range(2)]

    assert list(range(left, 11)) == seqs(journal)
    after = opened(world.journal().open([REF], "a")[0])
    assert (before.seq, before.snapshot, before.tail) == (after.seq, after.snapshot, after.tail)
    assert [left] == [seq for seq, _ in journal.entries(REF, 0, 1)]
    assert [None] == journal.entry([(REF, left - 1)])
    write(journal, after, "next")
    assert 11 == seqs(journal)[-1]


def test_without_a_snapshot_nothing_goes(world: World) -> None:
    """
    The log is all that there is of the state; of an instance that is not there, there is nothing to go.
    """
    journal = world.journal()
    write(journal, REF, "c-1", "c-2")

    assert (0, 0) == (journal.trim(REF, 2), journal.trim(controls.ref("never"), 2))
    assert [1, 2] == seqs(journal)


def test_while_somebody_reads_the_feed_nothing_goes(redis_world: RedisWorld) -> None:
    """
    A projection may still need the log.
    """
    journal = redis_world.journal()
    long_log(journal)
    redis_world.client.hset(redis_world.keys.readers(REF.partition), "totals", "0-0")

    assert 0 == journal.trim(REF, 8)
    assert list(range(1, 11)) == seqs(journal)


def test_sizes_are_reckoned_from_a_sample(world: World) -> None:
    """
    The count is exact; the bytes are those of the sample, for all; the largest come first.
    """
    journal = world.journal()
    refs = controls.refs(30)
    for number, ref in enumerate(refs):
        write(journal, ref, *(f"c-{index}" for index in range(200 if number == 7 else 1)))

    orders, counters = world.sizes().sizes(["order", "counter"], 1_000)
    (few,) = world.sizes().sizes(["order"], 5)

    assert ("counter", 0, 0, 0, []) == counters
    assert ("order", 30, 30) == (orders.workflow, orders.instances, orders.sampled)
    assert refs[7].key == orders.largest[0][0]
    assert orders.largest[0][1] > 20 * orders.largest[1][1] / 10
    assert 10 == len(orders.largest)
    assert orders.bytes >= sum(count for _, count in orders.largest)
    assert 30 == few.instances
    assert few.sampled < 30


def test_the_bytes_are_the_servers(redis_world: RedisWorld) -> None:
    """
    What MEMORY USAGE says of everything that the instance has.
    """
    long_log(redis_world.journal())
    client: redis.Redis = redis_world.client
    own = redis_world.keys
    expected = sum(client.memory_usage(key(REF)) or 0 for key in (own.actor, own.log, own.snap))

    (size,) = redis_world.sizes().sizes(["order"], 10)

    assert (expected, [(REF.key, expected)]) == (size.bytes, size.largest)
