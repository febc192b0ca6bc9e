"""The batch consumer: what several queues deliver over one channel, taken in batches and acknowledged with `multiple`.

Order, in three rules:

1. A queue is subscribed to only once it has no other consumer: messages that a former one returned then come first.
2. They come first, but not in their order: what a dead consumer held is put behind what is left of the messages that
   others returned before it. So all of them are kept back until the last one is here, and then sorted by how often they
   were handed out, the oftenest first. That is their order, since whoever stands in front was handed out at least as
   often as those behind him: by induction over deaths, a stable sort restores it however many there were. (Taking
   only some of them at a time, for fear that one kills its worker, would need another death to lose the order.)
3. Cancelling a subscription returns nothing: what was delivered stays ours, and must be acknowledged or given back
   before the partition is given away.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import pika

from holdfast.brokers.care import company
from holdfast.brokers.rabbitmq_loop import RabbitLoop
from holdfast.runtime.config import Settings
from holdfast.runtime.ports import Delivery

log = logging.getLogger(__name__)

#: How often it is looked whether a queue's former consumer is gone.
SUBSCRIBE_RETRY_S = 0.1
#: How often it is looked whether a queue that was deleted is there again.
MISSING_RETRY_S = 1.0
#: How long it must be quiet before what was returned is handed on without a sign that it is complete.
QUIET_S = 1.0
#: After a batch of at least so many the next one is given a moment to gather: under load a round trip for hundreds
#: beats many for a few, and when there is no load nobody waits.
GATHER_FROM = 8
GATHER_S = 0.002


class _Returned:
    """The first messages of a subscription, kept back until all that was returned is among them."""

    __slots__ = ("complete", "messages", "waiting")

    def __init__(self, waiting: int) -> None:
        self.messages: list[Delivery] = []
        self.complete = False
        #: How many there are at most; 0 where nothing was said to wait.
        self.waiting = waiting


class RabbitConsumer:
    """Takes from the queues of the partitions that it is given."""

    def __init__(self, settings: Settings, queue_of: Callable[[int], str], purpose: str = "consume") -> None:
        self._queue_of = queue_of
        self._prefetch = settings.prefetch
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._buffer: deque[Delivery] = deque()
        self._assigned: set[int] = set()
        #: Consumer tags by partition, and what is kept back until all that was returned is here. Both belong to the
        #: connection's thread.
        self._subscribed: dict[int, str] = {}
        self._returned: dict[int, _Returned] = {}
        #: What was given back and is not yet returned to the broker. On the connection's thread only.
        self._given_back: dict[int, set[int]] = {}
        self._cancelling: set[int] = set()
        #: Delivery tags that are not acknowledged, ascending, with their partition.
        self._unacked: dict[int, int] = {}
        self._counts: Counter[int] = Counter()
        #: Distinguishes the channels that came after one another: a tag means nothing on the next.
        self._generation = 0
        self._tags = itertools.count(1)
        self._last_taken = 0
        self._channel: Any = None
        #: Partitions to be asked about, and the channel for that. Both belong to the connection's thread.
        self._questions: deque[int] = deque()
        self._prober: Any = None
        self._loop = RabbitLoop(settings, self, purpose)
        self._loop.wait_open()

    def assign(self, partition: int) -> None:
        """Begin to take from a partition, once its former consumer is gone."""
        with self._lock:
            self._assigned.add(partition)
        self._loop.call(lambda: self._subscribe(partition))

    def revoke(self, partition: int) -> None:
        """Cancel the subscription; what was delivered stays ours."""
        with self._lock:
            self._assigned.discard(partition)
            if partition in self._cancelling:
                return
            self._cancelling.add(partition)
        if not self._loop.call(lambda: self._cancel(partition)):
            with self._lock:
                self._cancelling.discard(partition)

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Return what has arrived; what was handed out before comes in small batches, at last alone."""
        buffer = self._buffer
        if not buffer:
            self._arrived.clear()
            if not buffer:
                self._arrived.wait(timeout_s)
        # Half of what may be handed out at once: the other half arrives while this one is worked on.
        limit = min(limit, max(GATHER_FROM, self._prefetch * len(self._assigned) // 2))
        if self._last_taken >= GATHER_FROM and len(buffer) < limit:
            time.sleep(GATHER_S)
        with self._lock:
            taken: list[Delivery] = []
            while buffer and len(taken) < (limit := company(buffer[0].redeliveries, limit)):
                taken.append(buffer.popleft())
        self._last_taken = len(taken)
        return taken

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages, in one frame where all before the last of them are done."""
        if deliveries:
            self._loop.call(lambda: self._ack(deliveries))

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Have the broker take back messages of partitions that were revoked; it puts them in front, in order."""
        if deliveries:
            self._loop.call(lambda: self._give_back(deliveries))

    def outstanding(self, partition: int) -> int:
        """Return how many messages of a partition are not acknowledged; 1 more while its subscription ends."""
        with self._lock:
            return self._counts[partition] + (partition in self._cancelling)

    def close(self) -> None:
        """Close the connection: the broker takes back what is not acknowledged."""
        with self._lock:
            self._assigned.clear()
            self._buffer.clear()
        self._loop.close()

    # -- on the connection's thread

    def opened(self, channel: Any) -> None:
        """Use a fresh channel: subscribe to everything that is ours."""
        with self._lock:
            self._generation += 1
            self._channel = channel
            assigned = sorted(self._assigned)
        channel.add_on_cancel_callback(self._on_cancelled)
        for partition in assigned:
            self._subscribe(partition)

    def lost(self) -> None:
        """Forget what was delivered: the broker has it back and will deliver it again."""
        with self._lock:
            self._channel = None
            self._generation += 1
            self._buffer.clear()
            self._unacked = {}
            self._counts.clear()
            self._subscribed = {}
            self._returned = {}
            self._given_back = {}
            self._cancelling.clear()
            self._questions.clear()
            self._prober = None

    def _subscribe(self, partition: int) -> None:
        """Ask whether a queue has a consumer, to subscribe to it if it has none; questions are asked one by one."""
        if self._channel is None or partition not in self._assigned or partition in self._subscribed:
            return
        if partition not in self._questions:
            self._questions.append(partition)
            if len(self._questions) == 1:
                self._ask()

    def _ask(self) -> None:
        """Ask the next question on a channel of its own: the broker closes it where there is no such queue."""
        channel, prober = self._channel, self._prober
        if not self._questions or channel is None or not channel.connection.is_open:
            return
        if prober is None:
            channel.connection.channel(on_open_callback=self._on_prober)
            return
        partition = self._questions[0]
        prober.queue_declare(
            self._queue_of(partition),
            passive=True,
            callback=lambda frame: self._answered(prober, partition, frame.method),
        )

    def _on_prober(self, prober: Any) -> None:
        if self._channel is not None and prober.connection is self._channel.connection:
            self._prober = prober
            prober.add_on_close_callback(self._on_prober_closed)
            self._ask()

    def _answered(self, prober: Any, partition: int, queue: Any) -> None:
        if prober is not self._prober:
            return
        self._questions.popleft()
        if partition in self._assigned and partition not in self._subscribed:
            if queue.consumer_count:
                self._loop.later(SUBSCRIBE_RETRY_S, lambda: self._subscribe(partition))
            else:
                self._consume(partition, queue.message_count)
        self._ask()

    def _on_prober_closed(self, prober: Any, reason: BaseException) -> None:
        """Put off the question that closed the channel: the other partitions are served meanwhile."""
        if prober is not self._prober or self._channel is None:
            return
        self._prober = None
        if self._questions:
            partition = self._questions.popleft()
            log.warning(
                "queue cannot be used", extra={"queue": self._queue_of(partition), "error": str(reason)}
            )
            self._loop.later(MISSING_RETRY_S, lambda: self._subscribe(partition))
        self._ask()

    def _consume(self, partition: int, waiting: int) -> None:
        channel, generation = self._channel, self._generation
        returned = self._returned[partition] = _Returned(min(waiting, self._prefetch))

        def on_message(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            headers = properties.headers
            redeliveries = int(headers.get("x-delivery-count", 0)) if headers else 0
            if method.redelivered and not redeliveries:
                redeliveries = 1
            delivery = Delivery(partition, body, redeliveries, (generation, method.delivery_tag))
            if headers or properties.content_type or properties.message_id or properties.type:
                delivery.attributes = _attributes(properties, headers)
            with self._lock:
                self._unacked[method.delivery_tag] = partition
                self._counts[partition] += 1
                if not returned.complete:
                    returned.messages.append(delivery)
                else:
                    self._buffer.append(delivery)
            if not returned.complete:
                self._see_whether_complete(partition, returned)
            elif not self._arrived.is_set():
                self._arrived.set()

        # When the channel dies, a quorum queue takes back what its subscriptions hold one after the other in the order
        # of their tags; so a later subscription must have a later tag.
        self._subscribed[partition] = tag = f"{partition}.{next(self._tags):012d}"
        channel.basic_qos(prefetch_count=self._prefetch)
        channel.basic_consume(self._queue_of(partition), on_message, consumer_tag=tag)

    def _see_whether_complete(self, partition: int, returned: _Returned) -> None:
        """Hand on what was kept back, once a fresh message or their number says that nothing more was returned."""
        count = len(returned.messages)
        if not returned.messages[-1].redeliveries or count in (returned.waiting, self._prefetch):
            self._hand_on(partition, returned)
        else:
            self._loop.later(QUIET_S, lambda: self._hand_on(partition, returned, count))

    def _hand_on(self, partition: int, returned: _Returned, count: int | None = None) -> None:
        """Hand on what was kept back, in its order; with a `count`, only if there is still no more than that."""
        if self._returned.get(partition) is returned and count in (None, len(returned.messages)):
            del self._returned[partition]
            with self._lock:
                returned.complete = True
                returned.messages.sort(key=lambda delivery: -delivery.redeliveries)
                self._buffer.extend(returned.messages)
            self._arrived.set()

    def _cancel(self, partition: int) -> None:
        channel = self._channel
        tag = self._subscribed.pop(partition, None)

        def done(_frame: Any = None) -> None:
            returned = self._returned.pop(partition, None)
            if returned is not None:
                self._give_back(returned.messages)  # nothing was begun: the next owner gets them all
            with self._lock:
                self._cancelling.discard(partition)
            self._return(partition)

        if channel is None or tag is None:
            done()
        else:
            _cancel(channel, tag, done)

    def _on_cancelled(self, frame: Any) -> None:
        """Subscribe again after the broker ended a subscription, as when a queue's leader moves."""
        for partition, tag in list(self._subscribed.items()):
            if tag == frame.method.consumer_tag:
                del self._subscribed[partition]
                if partition in self._returned:
                    self._hand_on(partition, self._returned[partition])
                self._loop.later(SUBSCRIBE_RETRY_S, lambda lost=partition: self._subscribe(lost))  # type: ignore[misc]  # mypy cannot type a default in a lambda

    def _settled(self, deliveries: Sequence[Delivery]) -> list[int]:
        """Forget deliveries of this channel and return their tags, ascending; to be called under the lock."""
        tags = sorted(
            tag
            for generation, tag in (delivery.tag for delivery in deliveries)
            if generation == self._generation and tag in self._unacked
        )
        for tag in tags:
            self._counts[self._unacked.pop(tag)] -= 1
        return tags

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            partitions = set()
            for generation, tag in (delivery.tag for delivery in deliveries):
                if generation == self._generation and tag in self._unacked:
                    partition = self._unacked[tag]
                    self._given_back.setdefault(partition, set()).add(tag)
                    partitions.add(partition)
        for partition in partitions:
            self._return(partition)

    def _return(self, partition: int) -> None:
        """Return what was given back of a partition once it is all that we have of it, so that its order is kept."""
        channel, tags = self._channel, sorted(self._given_back.get(partition, ()))
        with self._lock:
            if not tags or partition in self._cancelling or self._counts[partition] > len(tags):
                return
            del self._given_back[partition], self._counts[partition]
            for tag in tags:
                del self._unacked[tag]
        if channel is not None and channel.is_open:
            for tag in tags:
                channel.basic_nack(tag, requeue=True)

    def _ack(self, deliveries: Sequence[Delivery]) -> None:
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        with self._lock:
            tags = self._settled(deliveries)
            first_left = next(iter(self._unacked), None)
        if not tags:
            return
        together = [tag for tag in tags if first_left is None or tag < first_left]
        if together:
            channel.basic_ack(together[-1], multiple=True)
        for tag in tags[len(together) :]:
            channel.basic_ack(tag)
        for partition in list(self._given_back):
            self._return(partition)


def _cancel(channel: Any, tag: str, then: Callable[[Any], None]) -> None:
    """Cancel a subscription, and go on taking what is delivered until the broker has confirmed that (rule 3).

    pika's `basic_cancel` would reject it instead, which shuffles the queue; and it would call back for whichever
    subscription's cancelling is confirmed first.
    """

    def confirmed(frame: Any) -> None:
        channel._cleanup_consumer_ref(tag)
        then(frame)

    replies = [(pika.spec.Basic.CancelOk, {"consumer_tag": tag})]
    channel._rpc(pika.spec.Basic.Cancel(consumer_tag=tag), confirmed, replies)


def _attributes(properties: Any, headers: dict[str, Any] | None) -> dict[str, str]:
    """Return what a foreign sender said beside the body, and what the broker says of a message that it gave up."""
    found = {
        name: str(value)
        for name in ("content_type", "message_id", "type")
        if (value := getattr(properties, name)) is not None
    }
    for name in ("traceparent", "x-first-death-queue", "x-first-death-reason"):
        if headers and isinstance(headers.get(name), str):
            found[name] = headers[name]
    return found
