"""The batch consumer: what several queues deliver, each over a line of its own, taken and acknowledged in batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.brokers.care import batch_of
from holdfast.brokers.rabbitmq_line import SUBSCRIBE_RETRY_S, Line
from holdfast.brokers.rabbitmq_loop import RabbitLoop
from holdfast.runtime.config import Settings
from holdfast.runtime.ports import Delivery

#: How often it is looked whether a queue that was deleted is there again.
MISSING_RETRY_S = 1.0
#: After a batch of at least so many the next one is given a moment to gather: under load a round trip for hundreds
#: beats many for a few, and when there is no load nobody waits.
GATHER_FROM = 8
GATHER_S = 0.002


class RabbitConsumer:
    """Takes from the queues of the partitions that it is given."""

    def __init__(
        self,
        settings: Settings,
        queue_of: Callable[[int], str],
        declare: Callable[[Sequence[int]], object],
        purpose: str = "consume",
    ) -> None:
        self._queue_of = queue_of
        #: Declares the queues of partitions.
        self._declare = declare
        self._prefetch = settings.prefetch
        self._payload_bytes_max = settings.payload_bytes_max
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._buffer: deque[Delivery] = deque()
        self._assigned: set[int] = set()
        self._lines: dict[int, Line] = {}
        self._last_taken = 0
        #: Whether the next `take` is not to wait.
        self._woken = False
        #: On the connection's thread only; None while there is no connection.
        self._connection: Any = None
        self._loop = RabbitLoop(settings, self, purpose, self._declare_again)
        self._loop.wait_open()

    def assign(self, partition: int) -> None:
        """Begin to take from a partition, once its former consumer is gone."""
        with self._lock:
            self._assigned.add(partition)
        self._loop.call(lambda: self._begin(partition))

    def _declare_again(self) -> None:
        """Declare the queues that are taken from: a broker that is killed may forget those that were made just before."""
        with self._lock:
            partitions = sorted(self._assigned)
        self._declare(partitions)

    def revoke(self, partition: int) -> None:
        """Take nothing more from a partition; what was taken stays ours until it is acknowledged or given back."""
        with self._lock:
            self._assigned.discard(partition)
            line = self._lines.get(partition)
            if line is None or line.leaving:
                return
            line.leaving = True
            kept: deque[Delivery] = deque()
            for delivery in self._buffer:
                if delivery.tag[0] is line:
                    line.given_back.add(delivery.tag[1])
                else:
                    kept.append(delivery)
            self._buffer = kept
        self._loop.call(lambda: self._see_whether_drained(line))

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Return what has arrived; what was handed out before comes in small batches, at last alone."""
        if not self._buffer:
            self._arrived.clear()
            if not self._buffer and not self._woken:
                self._arrived.wait(timeout_s)
        self._woken = False
        # Half of what may be handed out at once: the other half arrives while this one is worked on.
        limit = min(limit, max(GATHER_FROM, self._prefetch * len(self._assigned) // 2))
        if self._last_taken >= GATHER_FROM and len(self._buffer) < limit:
            time.sleep(GATHER_S)
        with self._lock:
            taken = batch_of(self._buffer, limit)
        self._last_taken = len(taken)
        return taken

    def wake(self) -> None:
        """Have a `take` that waits return; one that begins just now returns at once."""
        self._woken = True
        if not self._arrived.is_set():
            self._arrived.set()

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages, for each partition in one frame where all before the last of them are done."""
        if deliveries:
            self._loop.call(lambda: self._ack(deliveries))

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Have the broker take back messages of partitions that were revoked; it puts them in front, in order."""
        if deliveries:
            self._loop.call(lambda: self._give_back(deliveries))

    def outstanding(self, partition: int) -> int:
        """Return how many messages of a partition are in our hands; 1 more while it is being handed over."""
        with self._lock:
            line = self._lines.get(partition)
            return len(line.unacked) - len(line.given_back) + line.leaving if line is not None else 0

    def close(self) -> None:
        """Close the connection: the broker takes back what is not acknowledged."""
        with self._lock:
            self._assigned.clear()
            self._buffer.clear()
        self._loop.call(self._close_lines)
        self._loop.close()

    # -- on the connection's thread

    def opened(self, channel: Any) -> None:
        """Use a fresh connection: begin with everything that is ours."""
        with self._lock:
            self._connection = channel.connection
            assigned = sorted(self._assigned)
        for partition in assigned:
            self._begin(partition)

    def lost(self) -> None:
        """Forget what was delivered: the broker has it back and will deliver it again."""
        with self._lock:
            self._connection = None
            self._buffer.clear()
            self._lines = {}

    def arrived(self, line: Line, deliveries: Sequence[Delivery]) -> None:
        """Hand on what came over a line; over one that is being handed over, leave it to the next owner."""
        with self._lock:
            if self._lines.get(line.partition) is not line:
                return
            tags = sorted(delivery.tag[1] for delivery in deliveries)
            line.unacked.update(dict.fromkeys(tags))
            if line.leaving:
                line.given_back.update(tags)
                return
            self._buffer.extend(deliveries)
        if not self._arrived.is_set():
            self._arrived.set()

    def ended(self, line: Line, *, missing: bool) -> None:
        """Forget a line whose channel is closed, and begin anew where the partition is still ours."""
        with self._lock:
            if self._lines.get(line.partition) is not line:
                return
            del self._lines[line.partition]
            self._buffer = deque(delivery for delivery in self._buffer if delivery.tag[0] is not line)
        self._loop.later(
            MISSING_RETRY_S if missing else SUBSCRIBE_RETRY_S if not line.leaving else 0.0,
            lambda: self._begin(line.partition),
        )

    def _close_lines(self) -> None:
        """Close all lines our way, which keeps the order, before the connection closes them in its own."""
        with self._lock:
            lines = list(self._lines.values())
        for line in lines:
            line.close()

    def _begin(self, partition: int) -> None:
        with self._lock:
            if self._connection is None or partition not in self._assigned or partition in self._lines:
                return
            line = Line(
                partition,
                self._queue_of(partition),
                self._loop,
                self,
                prefetch=self._prefetch,
                payload_bytes_max=self._payload_bytes_max,
            )
            self._lines[partition] = line
        if self._connection.is_open:
            line.open(self._connection)

    def _see_whether_drained(self, line: Line) -> None:
        """Hand a partition over once nothing that was taken of it is in our hands."""
        with self._lock:
            drained = line.leaving and len(line.unacked) == len(line.given_back)
        if drained:
            line.close()

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        lines = set()
        with self._lock:
            for line, tag in (delivery.tag for delivery in deliveries):
                if tag in line.unacked:
                    line.given_back.add(tag)
                    lines.add(line)
        for line in lines:
            self._see_whether_drained(line)

    def _ack(self, deliveries: Sequence[Delivery]) -> None:
        tags: dict[Line, list[int]] = {}
        for line, tag in (delivery.tag for delivery in deliveries):
            tags.setdefault(line, []).append(tag)
        for line, found in tags.items():
            with self._lock:
                settled = sorted(tag for tag in set(found) if tag in line.unacked)
                for tag in settled:
                    del line.unacked[tag]
                    line.given_back.discard(tag)
                first_left = next(iter(line.unacked), None)
            if settled:
                line.ack(settled, first_left)
                self._see_whether_drained(line)
