"""The timer pool: moves what is due, publishes it as commands, and forgets it.

    fire (one script per partition) -> barrier -> publish, until confirmed or decided here -> remove

What was published of a partition is a flight: it lands when all of it was confirmed or decided, and until then nothing
more of the partition is moved. Other partitions take their turns meanwhile, a bounded number of timers at a time, so
that timers are moved while those before them are decided.

A crash between any two of these steps repeats what follows it: what was moved waits where the next owner finds it, and
a command that is published twice has one id. What is due is the server's to say, so clocks of machines do not matter.
The pool sleeps until the next timer is due, and is woken when one is set that is due before that.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby

from holdfast.actors.commands import RETRY_MAX_S, RETRY_MIN_S
from holdfast.actors.pace import MACHINE, Pace
from holdfast.actors.ticks import Message, Ticks
from holdfast.runtime import faults
from holdfast.runtime.errors import HoldfastError
from holdfast.runtime.faults import Point
from holdfast.runtime.keys import Ref
from holdfast.runtime.loopback import LoopbackPublisher
from holdfast.runtime.ports import Journal
from holdfast.runtime.timers import Due, Fired, Timers

log = logging.getLogger(__name__)

#: Timers of one partition that are moved at a time: the script must stay around two milliseconds.
MOVE_MAX = 128
#: Timers that may be in flight before more are moved.
FLYING_MAX = 1_024
#: How long the pool sleeps at most: what it was not told of is late by that much.
SLEEP_MAX_S = 0.25
#: How long it does not listen for new timers while it waits for a flight.
FLIGHT_STEP_S = 0.02


@dataclass(slots=True)
class TimerBatch:
    """Timers that were moved, in their order within each partition."""

    due: list[Due]


class _Flight:
    """Timers of one partition on their way."""

    __slots__ = ("_counted", "_landed", "_total", "error", "partition", "sending")

    def __init__(self, partition: int, landed: Callable[[_Flight], None]) -> None:
        self.partition = partition
        self.sending: list[tuple[Due, list[Future[None]]]] = []
        #: Why something of it could not even be handed over.
        self.error: BaseException | None = None
        self._landed = landed
        self._counted = itertools.count(1)
        self._total = 0

    def begin(self) -> None:
        """Have it said when all of it has come to an end, in whatever thread that is."""
        futures = [future for _, found in self.sending for future in found]
        for future in futures:
            future.add_done_callback(self._one_ended)
        # And one for this call: whoever comes last sees the total.
        self._total = len(futures) + 1
        self._one_ended()

    def _one_ended(self, _future: Future[None] | None = None) -> None:
        if next(self._counted) == self._total:
            self._landed(self)

    def sent(self) -> list[Due]:
        """Return the timers all of whose messages arrived; note why others did not."""
        arrived = []
        for due, futures in self.sending:
            errors = [error for future in futures if (error := future.exception()) is not None]
            if errors:
                self.error = errors[0]
            else:
                arrived.append(due)
        return arrived


@dataclass(slots=True)
class TimerCounts:
    """What a lane has done since it began."""

    moved: int = 0
    sent: int = 0
    batches: int = 0


@dataclass(slots=True)
class TimerPorts:
    """What a lane works with: ports of one connection, to be used by one thread at a time."""

    timers: Timers
    journal: Journal
    close: Callable[[], None]


class TimerLane:
    """The lane of the timer pool."""

    def __init__(
        self,
        name: str,
        owner: str,
        publisher: LoopbackPublisher,
        ports: TimerPorts,
        ticks: Ticks | None = None,
        pace: Pace = MACHINE,
    ) -> None:
        self.name = name
        self._ticks = ticks
        #: What is still to be published before anything else.
        self._beginnings = ticks.beginnings() if ticks is not None else []
        #: Partitions that the server had forgotten, with the schedules in them.
        self._renewed: set[int] = set()
        self.counts = TimerCounts()
        self._owner = owner
        self._publisher = publisher
        self._ports = ports
        self._lock = threading.Lock()
        self._serving: set[int] = set()
        #: Partitions of which something was moved that is not yet in flight.
        self._taken: set[int] = set()
        self._flights: dict[int, _Flight] = {}
        self._landing: deque[_Flight] = deque()
        self._landed = pace.event()
        #: By partition, when to look at it again, on the monotonic clock.
        self._look_at: dict[int, float] = {}
        #: By partition, how often in a row something of it could not be sent.
        self._failures: Counter[int] = Counter()
        #: Partitions in which nothing was found that had been moved before: nobody has died of what is due there.
        self._clean: set[int] = set()
        self._stopping = pace.event()
        self._monotonic = pace.clock.monotonic

    # -- what dramatiq's threads do

    def take(self, timeout_s: float) -> TimerBatch | None:
        """Return what is due; sleep until something is, or the timeout."""
        deadline = self._monotonic() + timeout_s
        try:
            while not self._stopping.is_set():
                self._land()
                self._begin()
                due = self._fire()
                if due:
                    faults.reach(Point.TIMER_MOVED)
                    return TimerBatch(due)
                left = deadline - self._monotonic()
                if left <= 0:
                    break
                self._sleep(min(left, SLEEP_MAX_S))
        except HoldfastError as error:
            log.warning("timers could not be read", extra={"lane": self.name, "error": str(error)})
            self._not_taken()
            self._stopping.wait(min(timeout_s, RETRY_MAX_S))
        return None

    def _begin(self) -> None:
        """Have the schedules made what the code says."""
        with self._lock:
            renewed, self._renewed = self._renewed, set()
        if renewed and self._ticks is not None:
            self._beginnings += [message for message in self._ticks.beginnings() if message[0] in renewed]
        if self._beginnings:
            sending = [self._publisher.publish(*message) for message in self._beginnings]
            for future in sending:
                future.result()
            self._beginnings = []
            faults.reach(Point.SCHEDULES_BEGUN)

    def _fire(self) -> list[Due]:
        now = self._monotonic()
        with self._lock:
            flying = sum(len(flight.sending) for flight in self._flights.values())
            most = max(not flying, (FLYING_MAX - flying) // MOVE_MAX)
            ready = [p for p in self._serving if self._look_at.get(p, 0.0) <= now and p not in self._flights]
            # Whoever has waited the longest is the next.
            ready = sorted(ready, key=lambda p: (self._look_at.get(p, 0.0), p))[:most]
            self._taken = set(ready)
        if not ready:
            return []
        found = self._ports.timers.fire(ready, self._owner, MOVE_MAX)
        due = [one for fired in found for one in fired.due]
        with self._lock:
            for fired in found:
                self._look_at[fired.partition] = now + _pause_s(fired)
                self.counts.moved += fired.moved
                if not fired.due and not fired.fenced:
                    self._clean.add(fired.partition)
            self._taken = {one.partition for one in due}
        return due

    def _sleep(self, seconds: float) -> None:
        with self._lock:
            serving = sorted(self._serving)
            first = min((self._look_at.get(p, 0.0) for p in serving if p not in self._flights), default=None)
            flying = bool(self._flights)
        left = seconds if first is None else max(0.0, min(seconds, first - self._monotonic()))
        if flying:
            self._landed.wait(min(left, FLIGHT_STEP_S))
            self._landed.clear()
            left = 0.0
        elif first is None:
            self._stopping.wait(seconds)
        if serving:
            for partition in self._ports.timers.wait(serving, left):
                if not self._failures[partition]:
                    self._look_at[partition] = 0.0

    def work(self, batch: TimerBatch) -> None:
        """Publish a batch. What cannot be sent stays where it is, and is found there a little later."""
        flights: list[_Flight] = []
        try:
            self._ports.journal.barrier()
            faults.reach(Point.TIMER_DURABLE)
            for partition, due in groupby(batch.due, key=lambda one: one.partition):
                flight = _Flight(partition, self._ended)
                flights.append(flight)
                with self._lock:
                    self._flights[partition] = flight
                for one in due:
                    flight.sending.append((one, self._published(one)))
        except HoldfastError as error:
            if flights:
                flights[-1].error = error
            self._put_off(
                {one.partition for one in batch.due} - {flight.partition for flight in flights}, error
            )
        except Exception:
            self._stopping.wait(RETRY_MAX_S)
            raise
        finally:
            for flight in flights:
                flight.begin()
            self._not_taken()

    def _published(self, one: Due) -> list[Future[None]]:
        messages = self._messages(one)
        # Several have an order, and what may have killed a worker is for the queue to count.
        short = len(messages) == 1 and one.partition in self._clean
        send = self._publisher.hand_on if short else self._publisher.publish
        sending: list[Future[None]] = []
        for message in messages:
            if sending:
                faults.reach(Point.TICK_HALF_SENT)
            sending.append(send(*message))
        return sending

    def _messages(self, one: Due) -> Sequence[Message]:
        return ((one.partition, one.body),) if self._ticks is None else self._ticks.messages(one)

    def settle(self, batch: TimerBatch) -> None:  # noqa: ARG002 - its timers are in flight, or have landed
        """Forget what has arrived by now."""
        self.counts.batches += 1
        try:
            self._land()
        except HoldfastError as error:
            log.warning("sent timers were not removed", extra={"lane": self.name, "error": str(error)})

    def linger(self) -> None:
        """Return nothing: what comes next is waited for by whoever takes."""

    # -- what is on its way

    def _ended(self, flight: _Flight) -> None:
        self._landing.append(flight)
        if not self._landed.is_set():
            self._landed.set()

    def _land(self) -> None:
        """Forget what was sent; when that fails it is sent again, which its command's id makes harmless."""
        flights = [self._landing.popleft() for _ in range(len(self._landing))]
        if not flights:
            return
        sent = [one for flight in flights for one in flight.sent()]
        removed = False
        try:
            if sent:
                faults.reach(Point.TIMER_PUBLISHED)
                self._ports.timers.remove(sent)
                faults.reach(Point.TIMER_REMOVED)
            removed = True
            self.counts.sent += len(sent)
        finally:
            for flight in flights:
                partition = flight.partition
                with self._lock:
                    del self._flights[partition]
                    if not removed or flight.error is not None:
                        self._clean.discard(partition)
                    elif len(flight.sending) < MOVE_MAX and partition in self._serving:
                        self._clean.add(partition)
                if flight.error is not None:
                    self._put_off({partition}, flight.error)
                else:
                    self._failures.pop(partition, None)

    def _put_off(self, partitions: set[int], error: BaseException) -> None:
        """Look at partitions again in a while: something of theirs could not be sent."""
        if not partitions:
            return
        log.warning(
            "timers were not sent",
            extra={"lane": self.name, "partitions": sorted(partitions), "error": str(error)},
        )
        now = self._monotonic()
        with self._lock:
            self._clean -= partitions
            for partition in partitions:
                self._failures[partition] += 1
                wait_s = RETRY_MIN_S * 2 ** min(self._failures[partition] - 1, 16)
                self._look_at[partition] = now + min(wait_s, RETRY_MAX_S)

    def _not_taken(self) -> None:
        with self._lock:
            self._taken = set()

    # -- what the steward does

    def assign(self, partition: int) -> None:
        """Begin to fire a partition's timers."""
        with self._lock:
            self._serving.add(partition)
            self._clean.discard(partition)
            self._look_at[partition] = 0.0

    def renew(self, partition: int) -> None:
        """Have a partition's schedules made again."""
        with self._lock:
            self._renewed.add(partition)

    def revoke(self, partition: int) -> None:
        """Fire nothing more of a partition; what was moved is sent first."""
        with self._lock:
            self._serving.discard(partition)

    def drained(self, partition: int) -> bool:
        """Return whether nothing of a partition is in our hands."""
        with self._lock:
            return partition not in self._taken and partition not in self._flights

    def forget(self, partition: int) -> list[tuple[Ref, int]]:
        """Drop what is remembered of a partition; timers need no leases."""
        with self._lock:
            self._look_at.pop(partition, None)
        return []

    def stop(self) -> None:
        """End all waiting."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of everything: what was not sent is found by the next owner."""
        self.stop()
        self._publisher.close()
        self._ports.close()


def _pause_s(fired: Fired) -> float:
    """Return how long a partition may be left alone."""
    if fired.due:
        return 0.0
    return SLEEP_MAX_S if fired.next_ms is None else min(SLEEP_MAX_S, fired.next_ms / 1000)
