"""
Timers on Redis: what only a server can get wrong.
"""

import time
from statistics import median
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


def _cost_s(world: RedisWorld, prefix: str) -> float:
    """
    Return what a commit of sixteen instances with a timer each takes, at the median.
    """
    journal = world.journal()
    refs = controls.refs(16 * COMMITS, partition=PARTITION, workflow=prefix)
    times = []
    for start in range(0, len(refs), 16):
        commits = [
            controls.commit(ref, "c-1", timers=[TimerEntry(f"{ref.scope}/t", b"x", 60_000)])
            for ref in refs[start : start + 16]
        ]
        began = time.perf_counter()
        results = journal.commit(commits, "a")
        times.append(time.perf_counter() - began)
        assert all(committed(result) for result in results)
    return median(times)


def test_pending_timers_do_not_slow_a_commit(redis_world: RedisWorld) -> None:
    """
    With more than a hundred thousand timers pending in its partition, a commit costs about what it does without.
    """
    _cost_s(redis_world, "warm")
    alone = _cost_s(redis_world, "alone")
    keys, client = redis_world.keys, redis_world.client
    for start in range(0, PENDING, 10_000):
        names = [f"far/{number}" for number in range(start, start + 10_000)]
        client.zadd(keys.schedule(PARTITION), {name: FUTURE_MS + at for at, name in enumerate(names)})
        client.hset(keys.timers(PARTITION), mapping=dict.fromkeys(names, b"x" * 100))
    beside = _cost_s(redis_world, "beside")
    timers = redis_world.timers()
    began = time.perf_counter()
    for _ in range(COMMITS):
        timers.fire([PARTITION], "", 100)
    look = (time.perf_counter() - began) / COMMITS

    assert beside < 3 * alone
    assert look < 3 * alone


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
