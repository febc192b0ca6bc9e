"""The batch consumer: what several queues deliver, each over a line of its own, taken and acknowledged in batches."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from holdfast.brokers.care import batch_of
from holdfast.brokers.rabbitmq_line import SUBSCRIBE_RETRY_S, Line
from holdfast.brokers.rabbitmq_loop import NOT_FOUND, RabbitLoop
from holdfast.runtime.config import Settings
from holdfast.runtime.ports import Delivery

log = logging.getLogger(__name__)

#: How often a queue is tried that cannot be used, and how often queues that are missing are declared, at the most.
REFUSED_RETRY_S = 1.0
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
        #: Partitions whose queues are missing; whether somebody is declaring such; and when that was done last.
        self._missing: set[int] = set()
        self._mending = False
        self._mended_at = -REFUSED_RETRY_S
        self._closed = threading.Event()
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
        self._closed.set()
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

    def ended(self, line: Line, *, refusal: int) -> None:
        """Forget a line whose channel is closed, and begin anew where the partition is still ours."""
        with self._lock:
            if self._lines.get(line.partition) is not line:
                return
            del self._lines[line.partition]
            self._buffer = deque(delivery for delivery in self._buffer if delivery.tag[0] is not line)
        if refusal == NOT_FOUND and not line.leaving:
            self._mend(line.partition)
            return
        self._loop.later(
            REFUSED_RETRY_S if refusal else SUBSCRIBE_RETRY_S if not line.leaving else 0.0,
            lambda: self._begin(line.partition),
        )

    def _mend(self, partition: int) -> None:
        """Have a queue that somebody deleted declared again. Not on this thread, which has heartbeats to answer."""
        with self._lock:
            self._missing.add(partition)
            begin, self._mending = not self._mending, True
        if begin:
            threading.Thread(
                target=self._declare_missing, name="holdfast-rabbitmq-declare", daemon=True
            ).start()

    def _declare_missing(self) -> None:
        """Declare queues until none is missing, and begin with each anew; on a thread of its own."""
        while not self._closed.wait(max(0.0, self._mended_at + REFUSED_RETRY_S - time.monotonic())):
            with self._lock:
                missing, self._missing = sorted(self._missing), set()
                partitions = [partition for partition in missing if partition in self._assigned]
                if not missing:
                    self._mending = False
                    return
            self._mended_at = time.monotonic()
            if partitions:
                self._declare_and_begin(partitions)

    def _declare_and_begin(self, partitions: list[int]) -> None:
        queues = [self._queue_of(partition) for partition in partitions]
        try:
            self._declare(partitions)
        except Exception as error:  # noqa: BLE001 - pika lets errors of every kind through, and nothing may end the thread
            log.warning("queues cannot be declared again", extra={"queues": queues, "error": str(error)})
        else:
            log.warning("queues were gone and are declared again", extra={"queues": queues})
        for partition in partitions:
            self._loop.call(partial(self._begin, partition))

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
