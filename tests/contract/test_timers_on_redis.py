"""
Timers on Redis: what only a server can get wrong.
"""

import time
from collections.abc import Sequence
from itertools import islice
from urllib.parse import urlsplit

import pytest

from holdfast.runtime.errors import Unavailable
from holdfast.runtime.record import TimerEntry
from tests import controls
from tests.contract.worlds import RedisWorld, committed, write

REF = controls.ref()
PARTITION = REF.partition
#: So many timers are pending in one partition, and so many commits are timed with and without them.
PENDING, COMMITS = 120_000, 60
FUTURE_MS = 32_000_000_000_000


def _costs_s(world: RedisWorld, partitions: Sequence[int]) -> list[float]:
    """
    Return for each partition what a commit of sixteen instances with a timer each takes, when the machine is idle.

    They take turns, so that whatever else the machine does meets all of them.
    """
    journal = world.journal()
    refs = {partition: iter(controls.refs(16 * COMMITS, partition=partition)) for partition in partitions}
    times: dict[int, list[float]] = {partition: [] for partition in partitions}
    for _ in range(COMMITS):
        for partition in partitions:
            commits = [
                controls.commit(ref, "c-1", timers=[TimerEntry(f"{ref.scope}/t", b"x", 60_000)])
                for ref in islice(refs[partition], 16)
            ]
            began = time.perf_counter()
            results = journal.commit(commits, "a")
            times[partition].append(time.perf_counter() - began)
            assert all(committed(result) for result in results)
    return [sorted(times[partition])[COMMITS // 10] for partition in partitions]


def test_pending_timers_do_not_slow_a_commit(redis_world: RedisWorld) -> None:
    """
    With more than a hundred thousand timers pending in its partition, a commit costs about what it does without; and
    so does a look at what is due.
    """
    keys, client = redis_world.keys, redis_world.client
    full, empty = 0, 1
    for start in range(0, PENDING, 10_000):
        names = [f"far/{number}" for number in range(start, start + 10_000)]
        client.zadd(keys.schedule(full), {name: FUTURE_MS + at for at, name in enumerate(names)})
        client.hset(keys.timers(full), mapping=dict.fromkeys(names, b"x" * 100))
    beside, alone = _costs_s(redis_world, [full, empty])
    timers = redis_world.timers()
    looks = []
    for _ in range(COMMITS):
        began = time.perf_counter()
        timers.fire([full], "", 100)
        looks.append(time.perf_counter() - began)

    assert beside < 2 * alone
    assert sorted(looks)[COMMITS // 10] < 2 * alone


def test_the_script_may_be_unknown(redis_world: RedisWorld) -> None:
    """
    A server that was restarted is told the script again, and moves what is due.
    """
    write(redis_world.journal(), REF, "c-1")
    redis_world.client.zadd(redis_world.keys.schedule(PARTITION), {"t": 1})
    redis_world.client.hset(redis_world.keys.timers(PARTITION), "t", b"x")
    redis_world.forget_scripts()

    assert [b"x"] == [one.body for one in redis_world.timers().fire([PARTITION], "a", 10)[0].due]


def test_a_name_without_bytes_is_dropped(redis_world: RedisWorld) -> None:
    """
    A name that has lost what it would send does not stop the others.
    """
    redis_world.client.zadd(redis_world.keys.schedule(PARTITION), {"lost": 1, "t": 2})
    redis_world.client.hset(redis_world.keys.timers(PARTITION), "t", b"x")
    timers = redis_world.timers()

    assert [b"x"] == [one.body for one in timers.fire([PARTITION], "a", 10)[0].due]
    assert None is timers.fire([PARTITION], "a", 10)[0].next_ms


def test_a_commit_needs_no_channel(redis_world: RedisWorld) -> None:
    """
    Where the user may not publish, a commit with a timer goes through: the pool finds that a moment later.
    """
    name = f"quiet-{redis_world.settings.namespace}"
    redis_world.client.execute_command(
        "ACL", "SETUSER", name, "on", ">secret", "~*", "+@all", "resetchannels"
    )
    try:
        parts = urlsplit(redis_world.url)
        quiet = RedisWorld(
            parts._replace(netloc=f"{name}:secret@{parts.netloc.rpartition('@')[2]}").geturl(),
            redis_world.settings.namespace,
        )
        commit = controls.commit(REF, "c-1", timers=[controls.timer("t", delay_ms=1)])
        committed(quiet.journal().commit([commit], "a")[0])
        quiet.close()
    finally:
        redis_world.client.execute_command("ACL", "DELUSER", name)

    assert ["t"] == [timer.name for _, timer in redis_world.journal().timers(PARTITION, 10)]


def test_a_lost_subscription_is_made_again(redis_world: RedisWorld) -> None:
    """
    When the connection that listens is cut, the next wait listens anew, and says so by hearing of everything.
    """
    timers = redis_world.timers()
    timers.wait([0, 1], 0.01)
    assert set() == timers.wait([0, 1], 0.01)
    for one in redis_world.client.client_list(_type="pubsub"):
        if one["name"] == f"holdfast-{redis_world.settings.namespace}":
            redis_world.client.client_kill_filter(_id=one["id"])
    with pytest.raises(Unavailable):
        timers.wait([0, 1], 5)

    assert {0, 1} == timers.wait([0, 1], 0.01)

    commit = controls.commit(REF, "c-1", timers=[controls.timer("t", delay_ms=1)])
    redis_world.journal().commit([commit], "a")
    timers.wait([PARTITION], 0.01)

    assert 1 == timers.fire([PARTITION], "", 10)[0].moved
