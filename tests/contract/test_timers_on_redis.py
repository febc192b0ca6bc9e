"""
Timers on Redis: what only a server can get wrong.
"""

import threading
import time
from collections.abc import Sequence
from itertools import islice
from urllib.parse import urlsplit

import pytest

from holdfast.runtime.errors import Unavailable
from holdfast.runtime.instance import RunState
from holdfast.runtime.record import TimerEntry
from tests import controls
from tests.contract.worlds import RedisWorld, committed, write
from tests.support.processes import eventually
from tests.support.servers import RedisServer

REF = controls.ref()
PARTITION = REF.partition
#: So many timers are pending in one partition, and so many commits are timed with and without them.
PENDING, COMMITS = 120_000, 60
#: What a look through many would be made of.
READING = [f"cmdstat_{name}" for name in ("hscan", "zscan", "zrange", "hmget", "zmscore", "xrange")]
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
    for server in redis_world.servers():
        server.execute_command("ACL", "SETUSER", name, "on", ">secret", "~*", "+@all", "resetchannels")
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
        for server in redis_world.servers():
            server.execute_command("ACL", "DELUSER", name)

    assert ["t"] == [timer.name for _, timer in redis_world.journal().timers(PARTITION, 10)]


def test_a_lost_subscription_is_made_again(redis_world: RedisWorld) -> None:
    """
    When the connection that listens is cut, the next wait listens anew, and says so by hearing of everything.
    """
    timers = redis_world.timers()
    timers.wait([0, 1], 0.01)
    assert set() == timers.wait([0, 1], 0.01)
    for server in redis_world.servers():
        for one in server.client_list(_type="pubsub"):
            if one["name"] == f"holdfast-{redis_world.settings.namespace}":
                server.client_kill_filter(_id=one["id"])
    with pytest.raises(Unavailable):
        timers.wait([0, 1], 5)

    assert {0, 1} == timers.wait([0, 1], 0.01)

    commit = controls.commit(REF, "c-1", timers=[controls.timer("t", delay_ms=1)])
    redis_world.journal().commit([commit], "a")
    timers.wait([PARTITION], 0.01)

    eventually(lambda: timers.fire([PARTITION], "", 10)[0].moved == 1)


def test_a_server_that_stands_still_is_listened_to_later(redis_server: RedisServer) -> None:
    """
    Who begins to wait just then is told when it goes on, as with everything else that is asked of it.
    """
    world = RedisWorld(redis_server.url, "own")
    timers = world.timers()
    timers.fire([PARTITION], "", 10)
    redis_server.pause()
    going_on = threading.Timer(2.5, redis_server.cont)
    going_on.start()

    assert {PARTITION} == timers.wait([PARTITION], 0.01)
    going_on.join()
    world.close()


def test_those_of_one_instance_are_found_without_looking_at_others(redis_world: RedisWorld) -> None:
    """
    To list and to withdraw an instance's timers costs as many commands beside thousands of others as beside none.
    """
    counts = []
    for others in (0, 5_000):
        journal, ref = redis_world.journal(), controls.refs(2, partition=others and 1)[0]
        timers = [TimerEntry(f"{ref.scope}/{number}", b"x", 60_000) for number in range(3)]
        other = controls.refs(2, partition=ref.partition)[1]
        crowd = [TimerEntry(f"{other.scope}/{number}", b"x", 60_000) for number in range(others)]
        made = journal.commit(
            [
                controls.commit(ref, "c-1", run_state=RunState.CANCELLED, timers=timers),
                controls.commit(other, "c-1", timers=crowd),
            ],
            "a",
        )
        assert all(map(committed, made))
        redis_world.client.config_resetstat()
        assert 3 == len(redis_world.timers().pending(workflow=ref.workflow, key=ref.key))
        assert 3 == redis_world.remains().withdraw(ref)
        stats = redis_world.client.info("commandstats")
        counts.append({name: stats[name]["calls"] for name in READING if name in stats})
    assert counts[0] == counts[1]


def test_timers_of_workers_that_knew_no_names_are_found(redis_world: RedisWorld) -> None:
    """
    A worker of an earlier release writes no names and removes none: what it has left is found, listed and withdrawn.
    """
    journal, keys, client = redis_world.journal(), redis_world.keys, redis_world.client
    names = [f"{REF.scope}/{number}" for number in range(700)]
    timers = [TimerEntry(name, b"x", 60_000) for name in names]
    journal.commit([controls.commit(REF, "c-1", run_state=RunState.CANCELLED, timers=timers)], "a")
    client.delete(keys.timer_names(PARTITION))
    client.zadd(keys.timer_names(PARTITION), dict.fromkeys([f"{REF.scope}/gone", "nobody/3/abc/gone"], 0))

    pending = redis_world.timers().pending(workflow=REF.workflow, key=REF.key, limit=1_000)
    assert len(names) == len(pending)
    assert 0 == client.zscore(keys.timer_names(PARTITION), names[0])
    assert len(names) == client.zcard(keys.timer_names(PARTITION))
    assert len(names) == redis_world.remains().withdraw(REF)
    assert 0 == client.exists(keys.timer_names(PARTITION), keys.timers(PARTITION), keys.schedule(PARTITION))
