"""The windowed-confirm publisher: any thread hands it messages and gets futures, which end with the confirms.

Many messages are on their way at once. When the connection breaks, what was not confirmed is sent again, in order,
over the next one: its receivers know every command by its id, so a second copy does no harm.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Any

import pika

from holdfast.brokers.rabbitmq_frames import Frames
from holdfast.brokers.rabbitmq_loop import RabbitLoop
from holdfast.brokers.rabbitmq_topology import Topology
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import PublishFailed

#: Messages on their way without a confirm; more only fills buffers.
WINDOW = 4_096
#: Messages that wait in this process to be sent before `publish` makes its caller wait.
WAITING_MAX = 10_000
#: How long a message may go without a confirm before its future fails.
CONFIRM_TIMEOUT_S = 30.0
#: How often that is looked at.
EXPIRY_STEP_S = 1.0

_PROPERTIES = pika.BasicProperties(delivery_mode=2)


class _Outgoing:
    """A message on its way."""

    __slots__ = ("body", "deadline", "future", "partition")

    def __init__(self, partition: int, body: bytes) -> None:
        self.partition = partition
        self.body = body
        self.future: Future[None] = Future()
        # From now on it cannot be cancelled: the message is on its way.
        self.future.set_running_or_notify_cancel()
        self.deadline = time.monotonic() + CONFIRM_TIMEOUT_S


class RabbitPublisher:
    """Publishes commands to the partitions' queues, with confirms."""

    def __init__(self, settings: Settings) -> None:
        self._topology = Topology(settings.namespace, settings.partitions)
        self._routes = [str(partition) for partition in range(settings.partitions)]
        self._room = threading.Condition()
        self._waiting: deque[_Outgoing] = deque()
        self._unconfirmed: dict[int, _Outgoing] = {}
        self._next_tag = 1
        self._channel: Any = None
        self._frames: Any = None
        self._woken = False
        self._closed = False
        self._loop = RabbitLoop(settings, self, "publish")
        self._loop.wait_open()

    def publish(self, partition: int, body: bytes) -> Future[None]:
        """Send a message. Waits while too many wait already: that is how a slow broker slows its senders.

        Raises:
            PublishFailed: There was no room for too long, or the publisher is closed.
        """
        outgoing = _Outgoing(partition, body)
        with self._room:
            if len(self._waiting) >= WAITING_MAX and not self._room.wait_for(
                lambda: len(self._waiting) < WAITING_MAX or self._closed, CONFIRM_TIMEOUT_S
            ):
                message = f"RabbitMQ takes no messages: {WAITING_MAX:,} have been waiting for {CONFIRM_TIMEOUT_S:g} s"
                raise PublishFailed(message)
            if self._closed:
                message = "the publisher is closed"
                raise PublishFailed(message)
            self._waiting.append(outgoing)
            wake = not self._woken
            self._woken = True
        if wake:
            self._loop.call(self._send)
        return outgoing.future

    def close(self) -> None:
        """Wait for the confirms of what is on its way, and stop."""
        with self._room:
            pending = [*self._unconfirmed.values(), *self._waiting]
        deadline = time.monotonic() + CONFIRM_TIMEOUT_S
        for outgoing in pending:
            try:
                outgoing.future.exception(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                break
        with self._room:
            self._closed = True
            self._room.notify_all()
        self._loop.close()
        self._fail_all(PublishFailed("the publisher was closed before the confirm"))

    # -- on the connection's thread

    def opened(self, channel: Any) -> None:
        """Use a fresh channel: confirms on, and first of all what was not confirmed on the last one."""
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=lambda _frame: self._ready(channel))

    def _ready(self, channel: Any) -> None:
        """Begin to send. Not before the broker has said that it confirms: what goes out earlier has no tag."""
        if channel.is_open:
            self._frames = Frames(channel, self._topology.exchange, self._routes, _PROPERTIES)
            self._channel = channel
            self._next_tag = 1
            self._send()
            self._loop.later(EXPIRY_STEP_S, self._expire)

    def lost(self) -> None:
        """Put back what was not confirmed."""
        self._channel = None
        with self._room:
            again = [one for one in self._unconfirmed.values() if not one.future.done()]
            self._waiting.extendleft(reversed(again))
            self._unconfirmed = {}
        self._expire_waiting()

    def _send(self) -> None:
        channel = self._channel
        with self._room:
            self._woken = False
            count = min(len(self._waiting), WINDOW - len(self._unconfirmed))
            if channel is None or not channel.is_open or count <= 0:
                return
            sending = [self._waiting.popleft() for _ in range(count)]
            self._room.notify_all()
            for outgoing in sending:
                self._unconfirmed[self._next_tag] = outgoing
                self._next_tag += 1
        self._frames.publish((outgoing.partition, outgoing.body) for outgoing in sending)

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        with self._room:
            if method.multiple:
                tags = []
                for tag in self._unconfirmed:
                    if tag > method.delivery_tag:
                        break
                    tags.append(tag)
            else:
                tags = [method.delivery_tag]
            done = [found for tag in tags if (found := self._unconfirmed.pop(tag, None)) is not None]
            more = bool(self._waiting)
        refused = isinstance(method, pika.spec.Basic.Nack)
        for outgoing in done:
            if outgoing.future.done():
                continue
            if refused:
                message = (
                    f"RabbitMQ refused a command for partition {outgoing.partition}: its queue is full or cannot be "
                    "written. Send it again later, with the same id"
                )
                outgoing.future.set_exception(PublishFailed(message))
            else:
                outgoing.future.set_result(None)
        if more:
            self._send()

    def _on_return(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        """Fail a message that no queue took: the broker returns it, and then confirms it all the same."""
        with self._room:
            outgoing = next(
                (
                    one
                    for one in self._unconfirmed.values()
                    if self._routes[one.partition] == method.routing_key
                    and one.body == body
                    and not one.future.done()
                ),
                None,
            )
        if outgoing is not None:
            queue = self._topology.queue(outgoing.partition)
            message = (
                f"no queue took the command ({method.reply_text}): {queue!r} or its binding is gone. "
                "Start a worker or run `holdfast doctor`, which declare it, and send the command again"
            )
            outgoing.future.set_exception(PublishFailed(message))

    def _expire(self) -> None:
        self._expire_waiting()
        self._loop.later(EXPIRY_STEP_S, self._expire)

    def _expire_waiting(self) -> None:
        """Fail what has waited too long. What was sent keeps its place, so that its confirm is not mistaken."""
        now = time.monotonic()
        with self._room:
            late = [one for one in self._unconfirmed.values() if one.deadline < now and not one.future.done()]
            while self._waiting and self._waiting[0].deadline < now:
                late.append(self._waiting.popleft())
            if late:
                self._room.notify_all()
        for outgoing in late:
            message = (
                f"no confirm from RabbitMQ within {CONFIRM_TIMEOUT_S:g} s; send it again with the same id"
            )
            outgoing.future.set_exception(PublishFailed(message))

    def _fail_all(self, error: PublishFailed) -> None:
        with self._room:
            left = [*self._unconfirmed.values(), *self._waiting]
            self._unconfirmed = {}
            self._waiting.clear()
        for outgoing in left:
            if not outgoing.future.done():
                outgoing.future.set_exception(error)
