"""The timer pool: moves what is due, publishes it as commands, and forgets it.

    fire (one script per partition) -> barrier -> publish, with confirms -> remove

A crash between any two of these steps repeats what follows it: what was moved waits where the next owner finds it, and
a command that is published twice has one id. What is due is the server's to say, so clocks of machines do not matter.
The pool sleeps until the next timer is due, and is woken when one is set that is due before that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from tenacity import Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential
from tenacity.nap import sleep_using_event

from holdfast.actors.commands import RETRY_MAX_S, RETRY_MIN_S
from holdfast.actors.ticks import Message, Ticks
from holdfast.runtime import faults
from holdfast.runtime.clock import monotonic
from holdfast.runtime.errors import HoldfastError
from holdfast.runtime.faults import Point
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Journal, Publisher
from holdfast.runtime.timers import Due, Fired, Timers

log = logging.getLogger(__name__)

#: Timers of one partition that are moved at a time: the script must stay around two milliseconds.
MOVE_MAX = 512
#: How long the pool sleeps at most: what it was not told of is late by that much.
SLEEP_MAX_S = 0.25


@dataclass(slots=True)
class TimerBatch:
    """Timers on their way through the lane."""

    waiting: list[Due]
    sent: list[Due] = field(default_factory=list)


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
        self, name: str, owner: str, publisher: Publisher, ports: TimerPorts, ticks: Ticks | None = None
    ) -> None:
        self.name = name
        self._ticks = ticks
        #: What is still to be published before anything else.
        self._beginnings = ticks.beginnings() if ticks is not None else []
        self.counts = TimerCounts()
        self._owner = owner
        self._publisher = publisher
        self._ports = ports
        self._lock = threading.Lock()
        self._serving: set[int] = set()
        #: Partitions of which something is in our hands.
        self._busy: set[int] = set()
        #: By partition, when to look at it again, on the monotonic clock.
        self._look_at: dict[int, float] = {}
        self._stopping = threading.Event()

    # -- what dramatiq's threads do

    def take(self, timeout_s: float) -> TimerBatch | None:
        """Return what is due; sleep until something is, or the timeout."""
        deadline = monotonic() + timeout_s
        try:
            while not self._stopping.is_set():
                self._begin()
                due = self._fire()
                if due:
                    faults.reach(Point.TIMER_MOVED)
                    return TimerBatch(due)
                left = deadline - monotonic()
                if left <= 0:
                    break
                self._sleep(min(left, SLEEP_MAX_S))
        except HoldfastError as error:
            log.warning("timers could not be read", extra={"lane": self.name, "error": str(error)})
            self._not_busy()
            self._stopping.wait(min(timeout_s, RETRY_MAX_S))
        return None

    def _begin(self) -> None:
        """Have the schedules made what the code says."""
        if self._beginnings:
            sending = [self._publisher.publish(*message) for message in self._beginnings]
            for future in sending:
                future.result()
            self._beginnings = []

    def _fire(self) -> list[Due]:
        now = monotonic()
        with self._lock:
            ready = sorted(p for p in self._serving if self._look_at.get(p, 0.0) <= now)
            self._busy = set(ready)
        if not ready:
            return []
        found = self._ports.timers.fire(ready, self._owner, MOVE_MAX)
        due = [one for fired in found for one in fired.due]
        with self._lock:
            for fired in found:
                self._look_at[fired.partition] = now + _pause_s(fired)
                self.counts.moved += fired.moved
            self._busy = {one.partition for one in due}
        return due

    def _sleep(self, seconds: float) -> None:
        with self._lock:
            serving = sorted(self._serving)
            first = min((self._look_at.get(p, 0.0) for p in serving), default=None)
        if first is None:
            self._stopping.wait(seconds)
            return
        for partition in self._ports.timers.wait(serving, max(0.0, min(seconds, first - monotonic()))):
            self._look_at[partition] = 0.0

    def work(self, batch: TimerBatch) -> None:
        """Publish a batch, however long a server is away."""
        again = Retrying(
            retry=retry_if_exception_type(HoldfastError),
            wait=wait_exponential(RETRY_MIN_S, max=RETRY_MAX_S),
            stop=stop_when_event_set(self._stopping),
            sleep=sleep_using_event(self._stopping),
            reraise=True,
        )
        try:
            again(self._run, batch)
        except HoldfastError as error:
            # We are stopping: whoever serves the partition next finds what was not sent.
            log.warning("timers were not sent", extra={"lane": self.name, "error": str(error)})
        except Exception:
            self._stopping.wait(RETRY_MAX_S)
            raise

    def _run(self, batch: TimerBatch) -> None:
        self._ports.journal.barrier()
        sending: list[tuple[Due, list[Future[None]]]] = []
        failure: HoldfastError | None = None
        try:
            for one in batch.waiting:
                sending.append((one, [self._publisher.publish(*message) for message in self._messages(one)]))  # noqa: PERF401 - what was begun counts when the next one fails
        except HoldfastError as error:
            failure = error
        confirmed = set()
        for one, futures in sending:
            try:
                for future in futures:
                    future.result()
                batch.sent.append(one)
                confirmed.add((one.partition, one.id))
            except HoldfastError as error:
                failure = error
        batch.waiting = [one for one in batch.waiting if (one.partition, one.id) not in confirmed]
        if failure is not None:
            raise failure
        faults.reach(Point.TIMER_PUBLISHED)

    def _messages(self, one: Due) -> Sequence[Message]:
        return ((one.partition, one.body),) if self._ticks is None else self._ticks.messages(one)

    def settle(self, batch: TimerBatch) -> None:
        """Forget what was sent; when that fails it is sent again, which its command's id makes harmless."""
        try:
            self._ports.timers.remove(batch.sent)
            self.counts.sent += len(batch.sent)
            self.counts.batches += 1
        except HoldfastError as error:
            log.warning("sent timers were not removed", extra={"lane": self.name, "error": str(error)})
        finally:
            self._not_busy()

    def _not_busy(self) -> None:
        with self._lock:
            self._busy = set()

    # -- what the steward does

    def assign(self, partition: int) -> None:
        """Begin to fire a partition's timers."""
        with self._lock:
            self._serving.add(partition)
            self._look_at[partition] = 0.0

    def revoke(self, partition: int) -> None:
        """Fire nothing more of a partition; what was moved is sent first."""
        with self._lock:
            self._serving.discard(partition)

    def drained(self, partition: int) -> bool:
        """Return whether nothing of a partition is in our hands."""
        with self._lock:
            return partition not in self._busy

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
