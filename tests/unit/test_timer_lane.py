"""
The lane of the timer pool, with ports in memory and a publisher that fails when it is told to.
"""

import threading
from concurrent.futures import Future
from datetime import timedelta

import pytest

from holdfast.actors.timers import TimerBatch, TimerLane, TimerPorts
from holdfast.brokers.memory import MemoryJournal, MemoryServer
from holdfast.brokers.memory_timers import MemoryTimers
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import NotDurable, PublishFailed, Unavailable
from holdfast.runtime.loopback import Loopback
from holdfast.runtime.timers import Due
from tests import controls

REF = controls.ref()
PARTITION = REF.partition


class Wire:
    """
    Notes what is published; fails so many times first.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.failures = 0
        self.closed = False
        self.crowded = False

    def publish(self, partition: int, body: bytes) -> Future[None]:
        future: Future[None] = Future()
        if self.failures:
            self.failures -= 1
            future.set_exception(PublishFailed("not now"))
        else:
            self.sent.append(body)
            future.set_result(None)
        return future

    def close(self) -> None:
        self.closed = True


class Bench:
    """
    A lane that serves the partition of the orders' first.
    """

    def __init__(self) -> None:
        self.clock = ManualClock(controls.NOW)
        self.server = MemoryServer(controls.PARTITIONS, self.clock)
        self.journal = MemoryJournal(self.server)
        self.timers = MemoryTimers(self.server)
        self.wire = Wire()
        self.lane = TimerLane(
            "timer.0",
            "w-1",
            Loopback().publisher(self.wire),
            TimerPorts(self.timers, self.journal, lambda: None),
        )
        self.lane.assign(PARTITION)

    def set(self, *delays_ms: int) -> list[bytes]:
        """
        Set a timer for each delay, and return what they will send.
        """
        timers = [controls.timer(f"t-{number}", delay_ms=delay) for number, delay in enumerate(delays_ms)]
        self.journal.commit([controls.commit(REF, "c-1", timers=timers)], "w-1")
        return [timer.envelope for timer in timers]

    def taken(self) -> TimerBatch:
        """
        Return a batch that must be there.
        """
        batch = self.lane.take(5)
        assert batch is not None
        return batch

    def send(self) -> None:
        """
        Send what is taken.
        """
        batch = self.taken()
        self.lane.work(batch)
        self.lane.settle(batch)


@pytest.fixture
def bench() -> Bench:
    """
    A bench.
    """
    return Bench()


def test_timers_go_by_the_servers_clock(bench: Bench) -> None:
    """
    Nothing is taken before its time, however long that is; then it is sent once and forgotten.
    """
    soon, late = bench.set(60_000, 3_600_000)

    assert bench.lane.take(0.05) is None

    bench.clock.advance(timedelta(minutes=1))
    bench.send()

    assert [soon] == bench.wire.sent
    assert bench.lane.take(0.05) is None

    bench.clock.advance(timedelta(hours=1))
    bench.send()

    assert [soon, late] == bench.wire.sent
    assert (2, 2, 2) == (bench.lane.counts.moved, bench.lane.counts.sent, bench.lane.counts.batches)


def test_a_sleeping_lane_is_woken(bench: Bench) -> None:
    """
    A timer that is set while the lane sleeps is taken without waiting for the end of the sleep.
    """
    found: list[TimerBatch | None] = []
    sleeper = threading.Thread(target=lambda: found.append(bench.lane.take(120)))
    sleeper.start()
    (body,) = bench.set(0)
    sleeper.join(60)

    assert found[0] is not None
    assert [body] == [one.body for one in found[0].due]


def test_what_was_not_confirmed_is_sent_again(bench: Bench) -> None:
    """
    Only that: what was confirmed the first time is not.
    """
    bodies = bench.set(0, 0, 0)
    bench.wire.failures = 2
    bench.send()
    assert bodies[2:] == bench.wire.sent
    bench.send()

    assert sorted(bodies) == sorted(bench.wire.sent)
    assert {} == bench.server.due[PARTITION]


def test_what_was_not_sent_waits_for_the_next_owner(bench: Bench) -> None:
    """
    A lane that is stopped while the broker is away leaves what it did not send, and forgets what it did.
    """
    bench.set(0, 0, 0)
    bench.wire.failures = 1_000
    batch = bench.taken()
    bench.lane.stop()
    bench.lane.work(batch)
    bench.lane.settle(batch)

    assert [] == bench.wire.sent
    assert 3 == len(bench.timers.fire([PARTITION], "w-1", 10)[0].due)


def test_nothing_is_sent_before_it_is_durable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Until the barrier has passed, nothing leaves the house.
    """
    tries = []

    def barrier() -> None:
        tries.append(len(bench.wire.sent))
        if len(tries) < 3:
            raise NotDurable

    monkeypatch.setattr(bench.journal, "barrier", barrier)
    bench.set(0)
    for _ in range(3):
        bench.send()

    assert [0, 0, 0] == tries
    assert 1 == len(bench.wire.sent)


def test_what_cannot_be_removed_is_sent_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The command is the same, so its receiver knows it.
    """
    with monkeypatch.context() as patch:

        def remove(_sent: list[Due]) -> None:
            raise Unavailable

        patch.setattr(bench.timers, "remove", remove)
        (body,) = bench.set(0)
        bench.send()
    bench.send()

    assert [body, body] == bench.wire.sent
    assert {} == bench.server.due[PARTITION]


def test_a_partition_is_drained_when_its_batch_is_settled(bench: Bench) -> None:
    """
    A partition that was revoked with timers on their way is given up once they are sent, and nothing more is taken.
    """
    bench.set(0, 3_000)
    batch = bench.taken()
    bench.lane.revoke(PARTITION)

    assert not bench.lane.drained(PARTITION)
    assert bench.lane.drained(PARTITION + 1)

    bench.lane.work(batch)
    bench.lane.settle(batch)

    assert bench.lane.drained(PARTITION)
    assert [] == bench.lane.forget(PARTITION)

    bench.clock.advance(timedelta(minutes=1))

    assert bench.lane.take(0.05) is None


def test_a_fenced_lane_sends_nothing(bench: Bench) -> None:
    """
    While somebody else serves the partition, this lane leaves its timers alone; when it is ours again, they come.
    """
    bench.set(0)
    bench.server.owners["timer", PARTITION] = "w-2"

    assert bench.lane.take(0.05) is None

    bench.server.owners["timer", PARTITION] = "w-1"

    assert 1 == len(bench.taken().due)


def test_a_server_that_is_away_ends_no_lane(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A failed look yields nothing, holds nothing, and the next one goes on.
    """
    with monkeypatch.context() as patch:

        def fire(*_args: object) -> None:
            raise Unavailable

        patch.setattr(bench.timers, "fire", fire)
        bench.set(0)

        assert bench.lane.take(0.01) is None
        assert bench.lane.drained(PARTITION)

    assert 1 == len(bench.taken().due)


def test_closing_lets_go(bench: Bench) -> None:
    """
    A closed lane takes nothing more and has closed its publisher.
    """
    bench.set(0)
    bench.lane.close()

    assert bench.wire.closed
    assert bench.lane.take(5) is None


def test_a_flight_holds_up_its_own_partition_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    While what was published of a partition is unconfirmed nothing more of it is moved, and others take their turn.
    """
    open_: list[Future[None]] = []

    def publish(_partition: int, body: bytes) -> Future[None]:
        bench.wire.sent.append(body)
        open_.append(Future())
        return open_[-1]

    other = next(ref for ref in map(controls.ref, "abcdefgh") if ref.partition != PARTITION)
    monkeypatch.setattr(bench.wire, "publish", publish)
    first, second = bench.set(0, 60_000)
    bench.send()
    assert bench.wire.sent == [first]
    bench.clock.advance(timedelta(minutes=1))
    bench.lane.assign(other.partition)
    assert bench.lane.take(0.05) is None

    elsewhere = controls.timer("t-9", delay_ms=0)
    bench.journal.commit([controls.commit(other, "c-2", timers=[elsewhere])], "w-1")
    bench.send()
    assert bench.wire.sent == [first, elsewhere.envelope]
    bench.lane.revoke(PARTITION)
    assert not bench.lane.drained(PARTITION)

    open_[0].set_result(None)
    assert bench.lane.take(0.05) is None
    assert bench.lane.drained(PARTITION)
    assert not bench.lane.drained(other.partition)
    bench.lane.assign(PARTITION)
    bench.send()
    assert bench.wire.sent == [first, elsewhere.envelope, second]


def test_a_landing_wakes_a_lane_that_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What is due behind a flight is moved as soon as that has landed.
    """
    flying: Future[None] = Future()
    monkeypatch.setattr(bench.wire, "publish", lambda _partition, _body: flying)
    _, second = bench.set(0, 60_000)
    bench.send()
    bench.clock.advance(timedelta(minutes=1))
    found: list[TimerBatch | None] = []
    sleeper = threading.Thread(target=lambda: found.append(bench.lane.take(120)))
    sleeper.start()
    flying.set_result(None)
    sleeper.join(60)

    assert found[0] is not None
    assert [second] == [one.body for one in found[0].due]
