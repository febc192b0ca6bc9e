"""
The backlog: what waits, where, and since when; looking changes nothing.
"""

from holdfast.runtime.backlog import BEHIND_MAX, Load, Scheduled, read_name
from holdfast.runtime.instance import RunState
from holdfast.runtime.ports import Committed
from tests import controls
from tests.contract.worlds import World, write
from tests.support.processes import eventually

REF = controls.ref()
PARTITION = REF.partition
ALL = list(RunState)


def load(world: World, partition: int = PARTITION) -> Load:
    """
    What waits in a partition.
    """
    return world.backlog().loads()[partition]


def await_the_next_millisecond(world: World) -> None:
    """
    Wait until what comes next is later than what was before.
    """
    before = load(world).now_ms
    eventually(lambda: load(world).now_ms > before)


def test_nothing_waits_where_nothing_is(world: World) -> None:
    """
    Every partition is told of, with the server's time and otherwise nothing.
    """
    loads = world.backlog().loads()

    assert list(range(controls.PARTITIONS)) == [one.partition for one in loads]
    assert all(one[2:] == (0, 0, 0, 0, 0, 0, ()) for one in loads)
    assert all(one.now_ms > controls.NOW_MS for one in loads)


def test_what_waits_is_counted_where_it_waits(world: World) -> None:
    """
    Effects, pending timers and those that are due, in their partition and no other, and since when the first waits.
    """
    effects = [controls.effect("c-1:0"), controls.effect("c-1:1")]
    timers = [
        controls.timer("past", due_ms=5_000),
        controls.timer("future"),
        controls.timer("older", due_ms=2_000),
    ]
    world.journal().commit([controls.commit(REF, "c-1", effects=effects, timers=timers)], "a")
    found = load(world)

    assert (2, 3, 2, 2_000) == (found.effects, found.scheduled, found.due, found.due_since_ms)
    assert 0 < found.effects_since_ms <= found.now_ms
    assert all(
        one[2:] == (0, 0, 0, 0, 0, 0, ()) for one in world.backlog().loads() if one.partition != PARTITION
    )


def test_the_time_goes_on(world: World) -> None:
    """
    What becomes due is counted as such without anybody's doing.
    """
    world.journal().commit([controls.commit(REF, "c-1", timers=[controls.timer("soon", delay_ms=50)])], "a")

    eventually(lambda: load(world).due == 1)


def test_how_far_readers_are_behind(world: World) -> None:
    """
    For each projection the records that it has not read, and since when the oldest of them is there.
    """
    world.let_read(PARTITION, start="0-0")
    journal = world.journal()
    results = journal.commit([controls.commit(REF, "c-1")], "a")
    assert isinstance(results[0], Committed)
    at = results[0].feed_id
    journal.commit([controls.commit(controls.ref("other"), "c-1")], "a")
    view = journal.read([REF])[0]
    write(journal, view, "c-2", "c-3")
    world.let_read(PARTITION, start="0-0", middle=at)
    found = load(world)
    by_name = {one.projection: one for one in found.readings}

    assert (found.feed, found.feed - 1) == (by_name["start"].behind, by_name["middle"].behind)
    assert 0 < by_name["start"].since_ms <= by_name["middle"].since_ms


def test_who_has_read_all_is_not_behind(world: World) -> None:
    """
    A projection at the end of the feed waits for nothing.
    """
    world.let_read(PARTITION, end="0-0")
    result = world.journal().commit([controls.commit(REF, "c-1")], "a")[0]
    assert isinstance(result, Committed)
    world.let_read(PARTITION, end=result.feed_id)

    assert [("end", 0, 0)] == list(load(world).readings)


def test_the_feed_is_counted_up_to_a_limit(world: World) -> None:
    """
    Who is far behind is told to be so, without all being read to say how far.
    """
    world.let_read(PARTITION, far="0-0")
    ids = [f"c-{number}" for number in range(BEHIND_MAX + 10)]
    world.journal().commit([controls.commit(REF, *ids)], "a")
    found = load(world)

    assert (BEHIND_MAX + 10, BEHIND_MAX) == (found.feed, found.readings[0].behind)


def test_the_longest_idle_come_first(world: World) -> None:
    """
    Over all partitions, in the run states that are asked for, not changed since a time, and no more than the limit.
    """
    journal = world.journal()
    keys = [f"o-{number}" for number in range(8)]
    for key in keys:
        journal.commit([controls.commit(controls.ref(key), "c-1")], "a")
        await_the_next_millisecond(world)
    journal.commit([controls.commit(controls.ref("paused"), "c-1", run_state=RunState.PAUSED)], "a")
    journal.commit([controls.commit(controls.ref("x", "other"), "c-1")], "a")
    backlog = world.backlog()
    now_ms = load(world).now_ms
    found = backlog.idle("order", [RunState.RUNNING], now_ms, 100)

    assert keys == [one.ref.key for one in found]
    assert [controls.ref(key) for key in keys] == [one.ref for one in found]
    assert found[:3] == backlog.idle("order", [RunState.RUNNING], now_ms, 3)
    assert found[:5] == backlog.idle("order", [RunState.RUNNING], found[4].updated_ms, 100)
    assert [] == backlog.idle("order", [RunState.COMPLETED], now_ms, 100)
    assert ["paused"] == [one.ref.key for one in backlog.idle("order", [RunState.PAUSED], now_ms, 100)]
    assert 9 == len(backlog.idle("order", ALL, now_ms, 100))


def test_unfinished_effects_are_shown(world: World) -> None:
    """
    The oldest of each partition, whole, up to the limit.
    """
    journal = world.journal()
    refs = controls.refs(3, partition=1)
    for number, ref in enumerate(refs):
        journal.commit([controls.commit(ref, "c-1", effects=[controls.effect(f"e-{number}", of=ref)])], "a")
    other = controls.refs(1, partition=2)[0]
    journal.commit([controls.commit(other, "c-1", effects=[controls.effect("x", of=other)])], "a")
    found = world.backlog().effects(2)

    assert [(1, "e-0"), (1, "e-1"), (2, "x")] == [(one.partition, one.entry.id) for one in found]
    assert journal.effects(1, 2) == [one.entry for one in found[:2]]
    assert all(0 < one.since_ms for one in found)


def test_what_is_scheduled_is_shown(world: World) -> None:
    """
    Names by due time, of every partition or of some, and on demand what they stand for.
    """
    timers = [controls.timer(f"t-{number}", due_ms=9_000 - number * 1_000) for number in range(4)]
    other = controls.refs(1, partition=(PARTITION + 1) % controls.PARTITIONS)[0]
    journal = world.journal()
    journal.commit([controls.commit(REF, "c-1", timers=timers)], "a")
    journal.commit([controls.commit(other, "c-1", timers=[controls.timer("u", due_ms=1)])], "a")
    backlog = world.backlog()
    first = Scheduled(PARTITION, "t-3", 6_000)

    assert ["t-3", "t-2", "t-1", "t-0"] == [one.name for one in backlog.scheduled(10, [PARTITION])]
    assert {first, Scheduled(other.partition, "u", 1)} == set(backlog.scheduled(1))
    assert [timers[3].envelope, None] == backlog.payloads([first, first._replace(name="gone")])
    assert [] == backlog.payloads([])


def test_looking_changes_nothing(world: World) -> None:
    """
    No verb of the backlog writes anything.
    """
    world.let_read(PARTITION, reader="0-0")
    effects, timers = [controls.effect()], [controls.timer(due_ms=1)]
    world.journal().commit([controls.commit(REF, "c-1", effects=effects, timers=timers)], "a")
    before = world.everything()
    backlog = world.backlog()
    backlog.loads()
    backlog.idle("order", ALL, 2**50, 10)
    backlog.effects(10)
    backlog.payloads(backlog.scheduled(10))

    assert before == world.everything()


def test_names_of_timers_are_read() -> None:
    """
    Whatever is in the keys, the name of a timer says whose it is; what is named otherwise is not misread.
    """
    for key in controls.KEYS:
        ref = controls.ref(key)
        for timer in ("expiry", "a/b:c", ""):
            assert ("order", key, timer) == read_name(f"{ref.scope}/{timer}")
        assert ("order", key, "c-1:t0") == read_name(f"{ref.scope}:c-1:t0")

    for name in (
        "",
        "order",
        "order/3",
        "order/x/abc/t",
        "order/9/abc/t",
        "order/3/abcx",
        "~e:order/o-1:c-1:0",
    ):
        assert read_name(name) is None
