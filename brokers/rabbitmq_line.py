"""Line: the channel over which one partition's queue is consumed, from the moment it is ours until it is handed over.

Order, in three rules:

1. A queue is subscribed to only once it has no other consumer: messages that a former one returned then come first.
2. They come first, but not in their order: what a dead consumer held is put behind what is left of the messages that
   others returned before it. So all of them are kept back until the last one is here, and then sorted by how often they
   were handed out, the oftenest first. That is their order, since whoever stands in front was handed out at least as
   often as those behind him: by induction over deaths, a stable sort restores it however many there were. (Taking
   only some of them at a time, for fear that one kills its worker, would need another death to lose the order.)
3. A partition is handed over by closing its channel: what was not acknowledged by then the queue takes back in one go,
   in the order in which it was delivered. Nothing else does that: a Cancel lets what is on its way come back before
   what is rejected later, and of more than 32 rejected at once RabbitMQ 3.10 loses the order.

Everything here runs on the connection's thread, under the consumer's lock where it is said.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from pika.exceptions import ChannelClosedByBroker

from holdfast.brokers.care import received
from holdfast.brokers.rabbitmq_connection import Plain
from holdfast.brokers.rabbitmq_loop import ACCESS_REFUSED, RIGHTS, RabbitLoop
from holdfast.runtime.ports import Delivery

log = logging.getLogger(__name__)

#: How often it is looked whether a queue's former consumer is gone.
SUBSCRIBE_RETRY_S = 0.1
#: How long it must be quiet before what was returned is handed on without a sign that it is complete.
QUIET_S = 1.0
#: The most that a count of hand-outs is believed to be.
COUNT_MAX = 1_000_000


class Keeper(Protocol):
    """Who keeps the lines: the consumer."""

    def arrived(self, line: Line, deliveries: Sequence[Delivery]) -> None:
        """Hand on what came, unless the line is being handed over."""
        ...

    def ended(self, line: Line, *, refusal: int) -> None:
        """Take notice that the channel is closed; with AMQP's number for the reason when the broker did it, else 0."""
        ...


class Line:
    """Consumes one queue over a channel of its own."""

    def __init__(
        self,
        partition: int,
        queue: str,
        loop: RabbitLoop,
        keeper: Keeper,
        *,
        prefetch: int,
        payload_bytes_max: int,
    ) -> None:
        self.partition = partition
        #: What was delivered and is not acknowledged, by delivery tag, ascending. Under the lock.
        self.unacked: dict[int, None] = {}
        #: What of that the broker gets back when the channel is closed. Under the lock.
        self.given_back: set[int] = set()
        #: Whether the partition is being handed over. Under the lock.
        self.leaving = False
        self._queue = queue
        self._prefetch = prefetch
        self._payload_bytes_max = payload_bytes_max
        self._loop = loop
        self._keeper = keeper
        self._channel: Any = None
        self._closing = False
        #: The first messages, kept back until all that was returned is among them; None from then on.
        self._returned: list[Delivery] | None = []
        #: How many those can be at most.
        self._waiting = 0

    def open(self, connection: Any) -> None:
        """Open the channel, and subscribe once the queue has no other consumer."""
        connection.channel(on_open_callback=self._on_open)

    def close(self) -> None:
        """Close the channel: the broker takes back what is not acknowledged."""
        self._closing = True
        if self._channel is not None and self._channel.is_open:
            self._channel.connection.takers.pop(self._channel.channel_number, None)
            # pika would cancel the subscription first, and so lose the order (rule 3), if it did not think that done.
            self._channel._cancelled.update(self._channel._consumers)
            self._channel.close()

    def ack(self, tags: list[int], first_left: int | None) -> None:
        """Acknowledge delivery tags, ascending; those before the first that is left go together."""
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        together = [tag for tag in tags if first_left is None or tag < first_left]
        if together:
            channel.basic_ack(together[-1], multiple=True)
        for tag in tags[len(together) :]:
            channel.basic_ack(tag)

    def _on_open(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_closed)
        channel.add_on_cancel_callback(self._on_cancelled)
        if self._closing:
            self.close()
        else:
            channel.basic_qos(prefetch_count=self._prefetch)
            self._ask()

    def _ask(self) -> None:
        """Ask whether the queue has a consumer; the broker closes the channel where there is no such queue."""
        if self._channel.is_open and not self._closing:
            self._channel.queue_declare(self._queue, passive=True, callback=self._answered)

    def _answered(self, frame: Any) -> None:
        if self._closing:
            return
        if frame.method.consumer_count:
            self._loop.later(SUBSCRIBE_RETRY_S, self._ask)
            return
        self._waiting = min(frame.method.message_count, self._prefetch)
        self._channel.connection.takers[self._channel.channel_number] = self._on_plain
        self._channel.basic_consume(self._queue, self._on_message, consumer_tag=str(self.partition))

    def _on_plain(self, messages: Sequence[Plain]) -> None:
        found = [
            received(self.partition, body, int(redelivered), (self, tag), self._payload_bytes_max)
            for tag, redelivered, body in messages
        ]
        for index, delivery in enumerate(found):
            if self._returned is None:
                self._keeper.arrived(self, found[index:])
                return
            self._returned.append(delivery)
            self._see_whether_complete(self._returned)

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        tag = (self, method.delivery_tag)
        delivery = delivered(
            self.partition, body, properties, tag, self._payload_bytes_max, redelivered=method.redelivered
        )
        if self._returned is None:
            self._keeper.arrived(self, (delivery,))
        else:
            self._returned.append(delivery)
            self._see_whether_complete(self._returned)

    def _see_whether_complete(self, returned: list[Delivery]) -> None:
        """Hand on what was kept back, once a fresh message or their number says that nothing more was returned."""
        count = len(returned)
        if not returned[-1].redeliveries or count in (self._waiting, self._prefetch):
            self._hand_on(count)
        else:
            # In two halves: a process that stood still meanwhile reads what has arrived between them.
            half_s = QUIET_S / 2
            self._loop.later(half_s, lambda: self._loop.later(half_s, lambda: self._hand_on(count)))

    def _hand_on(self, count: int) -> None:
        """Hand on what was kept back, in its order, if there is still no more than `count`."""
        returned = self._returned
        if returned is not None and len(returned) == count and not self._closing:
            self._returned = None
            returned.sort(key=lambda delivery: -delivery.redeliveries)
            self._keeper.arrived(self, returned)

    def _on_cancelled(self, _frame: Any) -> None:
        """Begin anew on another channel after the broker ended the subscription, as when a queue is deleted."""
        log.warning("subscription ended by the broker", extra={"queue": self._queue})
        self.close()

    def _on_closed(self, channel: Any, reason: BaseException) -> None:
        channel.connection.takers.pop(channel.channel_number, None)
        refusal = int(reason.reply_code) if isinstance(reason, ChannelClosedByBroker) else 0
        if isinstance(reason, ChannelClosedByBroker):
            error = reason.reply_text
            if refusal == ACCESS_REFUSED:
                error = (
                    f"RabbitMQ does not allow this user to read queue {self._queue!r} ({error}): see {RIGHTS}"
                )
            log.warning("queue cannot be used", extra={"queue": self._queue, "error": error})
        self._keeper.ended(self, refusal=refusal)


def delivered(
    partition: int, body: bytes, properties: Any, tag: Any, payload_bytes_max: int, *, redelivered: bool
) -> Delivery:
    """Return a message as a delivery. Its count is the broker's, who writes it only into what he hands out again."""
    headers = properties.headers
    count = headers.get("x-delivery-count") if headers and redelivered else None
    # pika's own whole numbers are of a class that no codec knows.
    redeliveries = min(max(int(count), 1), COUNT_MAX) if isinstance(count, int) else int(redelivered)
    delivery = received(partition, body, redeliveries, tag, payload_bytes_max)
    if headers or properties.content_type or properties.message_id or properties.type:
        delivery.attributes = _attributes(properties, headers)
    return delivery


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
