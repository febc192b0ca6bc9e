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
            "timer.0", "w-1", self.wire, TimerPorts(self.timers, self.journal, lambda: None)
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
    batch = bench.taken()
    bench.lane.work(batch)
    bench.lane.settle(batch)

    assert [soon] == bench.wire.sent
    assert bench.lane.take(0.05) is None

    bench.clock.advance(timedelta(hours=1))
    batch = bench.taken()
    bench.lane.work(batch)
    bench.lane.settle(batch)

    assert [soon, late] == bench.wire.sent
    assert (2, 2, 2) == (bench.lane.counts.moved, bench.lane.counts.sent, bench.lane.counts.batches)


def test_a_sleeping_lane_is_woken(bench: Bench) -> None:
    """
    A timer that is set while the lane sleeps is taken without waiting for the end of the sleep.
    """
    found: list[TimerBatch | None] = []
    sleeper = threading.Thread(target=lambda: found.append(bench.lane.take(20)))
    sleeper.start()
    (body,) = bench.set(0)
    sleeper.join(15)

    assert found[0] is not None
    assert [body] == [one.body for one in found[0].waiting]


def test_what_was_not_confirmed_is_sent_again(bench: Bench) -> None:
    """
    Only that: what was confirmed the first time is not.
    """
    bodies = bench.set(0, 0, 0)
    bench.wire.failures = 2
    batch = bench.taken()
    bench.lane.work(batch)
    bench.lane.settle(batch)

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
    batch = bench.taken()
    bench.lane.work(batch)

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
        batch = bench.taken()
        bench.lane.work(batch)
        bench.lane.settle(batch)
    batch = bench.taken()
    bench.lane.work(batch)
    bench.lane.settle(batch)

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

    assert 1 == len(bench.taken().waiting)


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

    assert 1 == len(bench.taken().waiting)


def test_closing_lets_go(bench: Bench) -> None:
    """
    A closed lane takes nothing more and has closed its publisher.
    """
    bench.set(0)
    bench.lane.close()

    assert bench.wire.closed
    assert bench.lane.take(5) is None
