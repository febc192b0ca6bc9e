"""The batch consumer: what several queues deliver over one channel, taken in batches and acknowledged with `multiple`.

Order and care, in three rules:

1. A queue is subscribed to only once it has no other consumer: messages that a former one returned then come first.
2. A subscription begins with one message at a time if the queue is not empty. A message that was handed out before
   may have killed its worker; what is delivered together dies together, and counts against the delivery limit
   together. So the prefetch is 1 while messages come that were handed out twice, 16 for once, and full for fresh ones.
   It only ever grows: the broker puts what it could not deliver to a cancelled subscription behind all else that was
   returned. With the only message of a prefetch of 1 kept back nothing is on its way; and when a fresh message comes
   nothing is left of what was returned.
3. Cancelling a subscription returns nothing: what was delivered stays ours, and must be acknowledged before the
   partition is given away.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import pika

from holdfast.brokers.rabbitmq_loop import RabbitLoop
from holdfast.runtime.config import Settings
from holdfast.runtime.ports import Delivery

#: How often it is looked whether a queue's former consumer is gone.
SUBSCRIBE_RETRY_S = 0.1
#: The prefetch for messages that were handed out once before, and for those that were oftener.
CAREFUL = 16
ALONE = 1
#: After a batch of at least so many the next one is given a moment to gather: under load a round trip for hundreds
#: beats many for a few, and when there is no load nobody waits.
GATHER_FROM = 8
GATHER_S = 0.002


class RabbitConsumer:
    """Takes from the queues of the partitions that it is given."""

    def __init__(self, settings: Settings, queue_of: Callable[[int], str], purpose: str = "consume") -> None:
        self._queue_of = queue_of
        self._prefetch = settings.prefetch
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._buffer: deque[Delivery] = deque()
        self._assigned: set[int] = set()
        #: Subscriptions by partition: the consumer tag and its prefetch. On the connection's thread only.
        self._subscribed: dict[int, tuple[str, int]] = {}
        self._cancelling: set[int] = set()
        #: Delivery tags that are not acknowledged, ascending, with their partition.
        self._unacked: dict[int, int] = {}
        self._counts: Counter[int] = Counter()
        #: Distinguishes the channels that came after one another: a tag means nothing on the next.
        self._generation = 0
        self._tags = itertools.count(1)
        self._last_taken = 0
        self._channel: Any = None
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
            self._cancelling.add(partition)
        if not self._loop.call(lambda: self._cancel(partition)):
            with self._lock:
                self._cancelling.discard(partition)

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Return what has arrived."""
        buffer = self._buffer
        if not buffer:
            self._arrived.clear()
            if not buffer:
                self._arrived.wait(timeout_s)
        if self._last_taken >= GATHER_FROM and len(buffer) < limit:
            time.sleep(GATHER_S)
        with self._lock:
            taken = [buffer.popleft() for _ in range(min(limit, len(buffer)))]
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
            self._cancelling.clear()

    def _current(self, channel: Any) -> bool:
        return channel is self._channel and channel.is_open

    def _subscribe(self, partition: int) -> None:
        channel = self._channel
        if channel is None or partition not in self._assigned or partition in self._subscribed:
            return

        def declared(frame: Any) -> None:
            if not self._current(channel) or partition not in self._assigned or partition in self._subscribed:
                return
            if frame.method.consumer_count:
                self._loop.later(SUBSCRIBE_RETRY_S, lambda: self._subscribe(partition))
                return
            self._consume(partition, ALONE if frame.method.message_count else self._prefetch)

        channel.queue_declare(self._queue_of(partition), passive=True, callback=declared)

    def _consume(self, partition: int, prefetch: int) -> None:
        channel, generation = self._channel, self._generation
        channel.basic_qos(prefetch_count=prefetch)

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
            if not self._grow(partition, prefetch, delivery):
                self._hand_on(delivery)

        # When the channel dies, a quorum queue takes back what its subscriptions hold one after the other in the order
        # of their tags; so a later subscription must have a later tag.
        tag = f"{partition}.{next(self._tags):012d}"
        channel.basic_consume(self._queue_of(partition), on_message, consumer_tag=tag)
        self._subscribed[partition] = (tag, prefetch)

    def _hand_on(self, delivery: Delivery) -> None:
        with self._lock:
            self._buffer.append(delivery)
        if not self._arrived.is_set():
            self._arrived.set()

    def _grow(self, partition: int, prefetch: int, delivery: Delivery) -> bool:
        """Subscribe anew where a larger prefetch fits what just came; return whether that is kept back until then."""
        if prefetch == self._prefetch:
            return False
        careful = {0: self._prefetch, 1: min(self._prefetch, CAREFUL)}
        wanted = careful.get(delivery.redeliveries, ALONE)
        tag, current = self._subscribed.get(partition, ("", wanted))
        if wanted <= max(prefetch, current) or partition not in self._assigned:
            return False
        channel = self._channel
        # Until the broker has confirmed, messages may come under the old subscription: it stands as the new one.
        self._subscribed[partition] = (tag, wanted)
        kept_back = prefetch == ALONE

        def cancelled(_frame: Any) -> None:
            if not self._current(channel):
                return
            if kept_back:
                self._hand_on(delivery)
            if partition in self._assigned and partition in self._subscribed:
                self._consume(partition, wanted)

        _cancel(channel, tag, cancelled)
        return kept_back

    def _cancel(self, partition: int) -> None:
        channel = self._channel
        subscription = self._subscribed.pop(partition, None)

        def done(_frame: Any = None) -> None:
            with self._lock:
                self._cancelling.discard(partition)

        if channel is None or subscription is None:
            done()
        else:
            _cancel(channel, subscription[0], done)

    def _on_cancelled(self, frame: Any) -> None:
        """Subscribe again after the broker ended a subscription, as when a queue's leader moves."""
        for partition, (tag, _) in list(self._subscribed.items()):
            if tag == frame.method.consumer_tag:
                del self._subscribed[partition]
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
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        with self._lock:
            tags = self._settled(deliveries)
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
