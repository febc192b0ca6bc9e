"""
Timers: what is due is moved once, stays until it is sent, and is nobody's but the one who serves the partition.
"""

import threading
from datetime import UTC, datetime

import pytest

from holdfast.runtime.clock import from_ms, to_ms
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Journal
from holdfast.runtime.record import TimerEntry
from holdfast.runtime.timers import Due, Fired, PendingTimer
from tests import controls
from tests.contract.worlds import World, moved, opened, write
from tests.support.processes import SECONDS_MAX

REF = controls.ref()
PARTITION = REF.partition
#: Due since long ago, and not in the life of a test.
PAST_MS, FUTURE_MS = 1_000, to_ms(datetime(2999, 1, 1, tzinfo=UTC))


def set_(journal: Journal, *timers: TimerEntry, ref: Ref = REF) -> None:
    """
    Commit a decision that asks for timers.
    """
    view = opened(journal.open([ref], "a")[0])
    commit = controls.commit(view, f"c-{view.seq + 1}", timers=list(timers))
    moved(commit, journal.commit([commit], "a")[0])


def bodies(fired: Fired) -> list[bytes]:
    """
    Return what waits to be sent.
    """
    return [one.body for one in fired.due]


# -- moving


def test_only_what_is_due_is_moved(world: World) -> None:
    """
    A timer whose time has come waits to be sent, oldest first; one whose time has not come stays, and says how long.
    """
    late, later, future = (
        controls.timer(name, due_ms=due) for name, due in (("a", 20), ("b", 10), ("c", FUTURE_MS))
    )
    set_(world.journal(), late, later, future)
    (fired,) = world.timers().fire([PARTITION], "a", 100)

    assert (2, [later.envelope, late.envelope], [10, 20]) == (
        fired.moved,
        bodies(fired),
        [one.due_ms for one in fired.due],
    )
    assert fired.next_ms is not None
    assert 0 < fired.next_ms < FUTURE_MS
    assert [(FUTURE_MS, "c")] == [(due, timer.name) for due, timer in world.journal().timers(PARTITION, 10)]


def test_a_timer_of_now_is_due(world: World) -> None:
    """
    A timer without a delay is due at once, and one with a delay is not.
    """
    set_(world.journal(), controls.timer("now", delay_ms=0), controls.timer("later", delay_ms=3_600_000))
    (fired,) = world.timers().fire([PARTITION], "a", 100)

    assert [controls.timer("now").envelope] == bodies(fired)
    assert fired.next_ms is not None
    assert 3_500_000 < fired.next_ms <= 3_600_000


def test_nothing_is_pending(world: World) -> None:
    """
    A partition without timers says so, and so does one whose last timer was moved.
    """
    timers = world.timers()

    assert [Fired(p, 0, None) for p in range(4)] == timers.fire(range(4), "a", 100)
    assert [] == timers.fire([], "a", 100)

    set_(world.journal(), controls.timer("t", due_ms=PAST_MS))

    assert timers.fire([PARTITION], "a", 100)[0].next_ms is None


def test_what_was_moved_waits_until_it_is_removed(world: World) -> None:
    """
    Whoever moved it may die: the next one finds it, until it is forgotten; it is moved once.
    """
    set_(world.journal(), controls.timer("t", due_ms=PAST_MS))
    first = world.timers().fire([PARTITION], "a", 100)[0]
    second = world.timers().fire([PARTITION], "b", 100)[0]

    assert (1, 0) == (first.moved, second.moved)
    assert first.due == second.due

    world.timers().remove(first.due)
    world.timers().remove(first.due)
    world.timers().remove([])

    assert [Fired(PARTITION, 0, None)] == world.timers().fire([PARTITION], "a", 100)


def test_a_limit_is_kept(world: World) -> None:
    """
    No more is moved than asked for, nor returned; what is left is due at once.
    """
    names = [f"t-{number:03}" for number in range(25)]
    set_(world.journal(), *(controls.timer(name, due_ms=PAST_MS) for name in names))
    timers = world.timers()
    seen: list[Due] = []
    for moved_, next_ms in ((10, 0), (10, 0), (5, None)):
        (fired,) = timers.fire([PARTITION], "a", 10)
        assert (moved_, next_ms, moved_) == (fired.moved, fired.next_ms, len(fired.due))
        seen += fired.due
        timers.remove(fired.due)

    assert [controls.timer(name).envelope for name in names] == [one.body for one in seen]


def test_many_partitions_are_one_call(world: World) -> None:
    """
    Each partition has timers of its own, and answers for itself.
    """
    refs = [controls.refs(1, partition=partition)[0] for partition in range(3)]
    for number, ref in enumerate(refs):
        set_(world.journal(), *(controls.timer(f"{number}-{n}", due_ms=1) for n in range(number)), ref=ref)
    found = world.timers().fire([2, 0, 1], "a", 100)

    assert [(2, 2), (0, 0), (1, 1)] == [(fired.partition, fired.moved) for fired in found]
    assert all(one.partition == fired.partition for fired in found for one in fired.due)


def test_only_the_server_of_a_partition_moves(world: World) -> None:
    """
    A member that is not the one who serves the partition in the timer pool moves nothing and is handed nothing.
    """
    set_(world.journal(), controls.timer("t", due_ms=PAST_MS))
    membership = world.membership()
    membership.claim(PARTITION, "command", "c", ["c"])
    membership.claim(PARTITION, "timer", "a", ["a"])
    before = world.everything()

    assert [Fired(PARTITION, 0, None, fenced=True)] == world.timers().fire([PARTITION], "b", 100)
    assert before == world.everything()
    assert 1 == world.timers().fire([PARTITION], "a", 100)[0].moved
    assert world.timers().fire([PARTITION], "b", 100)[0].fenced


def test_racing_owners_move_each_timer_once(world: World) -> None:
    """
    Two who take themselves for the owner move each timer once between them.
    """
    set_(world.journal(), *(controls.timer(f"t-{number}", due_ms=PAST_MS) for number in range(200)))
    ports = [world.timers() for _ in range(3)]
    counts = [0, 0, 0]
    start = threading.Barrier(3)

    def fire(number: int) -> None:
        start.wait()
        while (fired := ports[number].fire([PARTITION], "", 7)[0]).moved:
            counts[number] += fired.moved

    threads = [threading.Thread(target=fire, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 200 == sum(counts)
    assert 200 == len({one.id for one in world.timers().fire([PARTITION], "", 1_000)[0].due})


def test_effects_go_back_to_the_effects(world: World) -> None:
    """
    An effect that waited for another try is again where effects are taken from, and is no timer to anybody.
    """
    effect = controls.effect("c-9:0")
    name = "~e:order/o-1:c-9:0"
    set_(world.journal(), TimerEntry(name, encode(effect), 0, PAST_MS), controls.timer("t", due_ms=2_000))

    assert [from_ms(2_000)] == [timer.due for timer in world.timers().pending()]

    (fired,) = world.timers().fire([PARTITION], "a", 100)

    assert (2, [controls.timer("t").envelope]) == (fired.moved, bodies(fired))
    assert [effect] == world.journal().effects(PARTITION, 10)


# -- replacing and cancelling


def test_a_moved_timer_is_no_longer_replaced(world: World) -> None:
    """
    What was moved will be sent; setting its name again makes a second timer, and cancelling it takes back neither.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1")
    first = controls.commit(view, "c-2", timers=[controls.timer("t", due_ms=PAST_MS)])
    view = moved(first, journal.commit([first], "a")[0])
    world.timers().fire([PARTITION], "a", 100)
    second = controls.commit(view, "c-3", timers=[controls.timer("t", due_ms=FUTURE_MS)])
    view = moved(second, journal.commit([second], "a")[0])

    assert 1 == len(world.timers().fire([PARTITION], "a", 100)[0].due)
    assert 1 == len(journal.timers(PARTITION, 10))

    journal.commit([controls.commit(view, "c-4", cancels=["t"])], "a")

    assert 1 == len(world.timers().fire([PARTITION], "a", 100)[0].due)
    assert [] == journal.timers(PARTITION, 10)


def test_a_cancelled_timer_does_not_fire(world: World) -> None:
    """
    A timer that is cancelled or replaced before it is moved does not fire, however long it has been due.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1")
    first = controls.commit(
        view,
        "c-2",
        timers=[controls.timer("gone", due_ms=PAST_MS), controls.timer("moved", due_ms=PAST_MS)],
    )
    view = moved(first, journal.commit([first], "a")[0])
    second = controls.commit(
        view, "c-3", cancels=["gone"], timers=[controls.timer("moved", due_ms=FUTURE_MS)]
    )
    journal.commit([second], "a")

    assert 0 == world.timers().fire([PARTITION], "a", 100)[0].moved


# -- waiting


def test_a_wait_ends_with_a_sooner_timer(world: World) -> None:
    """
    Who waits is told at once of a timer that is due before all others of its partition.
    """
    timers, journal = world.timers(), world.journal()
    set_(journal, controls.timer("future", due_ms=FUTURE_MS))
    timers.fire(range(controls.PARTITIONS), "a", 100)
    timers.wait(range(controls.PARTITIONS), 0.01)
    timers.fire(range(controls.PARTITIONS), "a", 100)
    heard: list[set[int]] = []

    def wait() -> None:
        while not heard:
            if found := timers.wait(range(controls.PARTITIONS), 120):
                heard.append(found)

    waiter = threading.Thread(target=wait)
    waiter.start()
    set_(world.journal(), controls.timer("soon", delay_ms=50))
    waiter.join(SECONDS_MAX)

    assert [{PARTITION}] == heard


def test_a_wait_comes_to_an_end(world: World) -> None:
    """
    Nothing is heard where nothing happens, and the wait is over after its time.
    """
    timers = world.timers()
    timers.wait([0, 1], 0.01)

    assert set() == timers.wait([0, 1], 0.01)


# -- listing


def test_timers_are_listed(world: World) -> None:
    """
    By due time: all, those of a workflow, or those of an instance; with the key that they were set under, and what
    they will send. What was moved and not sent is listed too.
    """
    journal = world.journal()
    keyed = TimerEntry(f"{REF.scope}/expiry", _expire("o-1", "c-1:t0"), 0, FUTURE_MS)
    plain = TimerEntry(f"{REF.scope}:c-1:t1", _expire("o-1", "c-1:t1"), 0, PAST_MS)
    other = controls.ref("o-12")
    foreign = TimerEntry(f"{other.scope}/expiry", _expire("o-12", "c-2:t0"), 0, 5_000)
    set_(journal, keyed, plain)
    set_(journal, foreign, ref=other)
    first = PendingTimer("order", "o-1", None, from_ms(PAST_MS), "ExpireOrder", "c-1:t1")
    second = PendingTimer("order", "o-12", "expiry", from_ms(5_000), "ExpireOrder", "c-2:t0")
    third = PendingTimer("order", "o-1", "expiry", from_ms(FUTURE_MS), "ExpireOrder", "c-1:t0")
    timers = world.timers()
    for _ in range(2):
        assert [first, second, third] == timers.pending()
        assert [first, second] == timers.pending(limit=2)
        assert [first, second, third] == timers.pending(workflow="order")
        assert [] == timers.pending(workflow="orde")
        assert [first, third] == timers.pending(workflow="order", key="o-1")
        assert [first] == timers.pending(workflow="order", key="o-1", limit=1)
        assert [second] == timers.pending(workflow="order", key="o-12")
        assert [] == timers.pending(workflow="order", key="o")

        timers.fire(range(controls.PARTITIONS), "", 100)


@pytest.mark.parametrize("key", controls.KEYS)
def test_timers_of_any_key_are_found(world: World, key: str) -> None:
    """
    Keys with stars, brackets and other alphabets are keys like any other.
    """
    for number, one in enumerate(("*", "o?", "[a]", "\\", key)):
        ref = controls.ref(one)
        set_(
            world.journal(), TimerEntry(f"{ref.scope}/t", _expire(one, f"c-{number}"), 0, FUTURE_MS), ref=ref
        )
        assert [one] == [timer.key for timer in world.timers().pending(workflow="order", key=one)]


def test_what_cannot_be_read_is_listed_all_the_same(world: World) -> None:
    """
    A timer with bytes that are no envelope shows its name and time.
    """
    set_(world.journal(), TimerEntry("odd", b"\xc1", 0, 7_000))

    assert [PendingTimer("", "", "odd", from_ms(7_000), "", "")] == world.timers().pending()


def _expire(key: str, command_id: str) -> bytes:
    return encode_envelope(controls.envelope(controls.ExpireOrder(key), command_id=command_id))
