"""The windowed-confirm publisher: any thread hands it messages and gets futures, which end with the confirms.

Many messages are on their way at once. When the connection breaks, what was not confirmed is sent again, in order,
over the next one: its receivers know every command by its id, so a second copy does no harm.

Where RabbitMQ takes nothing, its senders are made to wait, or are told so: they choose (`send_wait_s`).

    blocked   an alarm: RabbitMQ is low on memory or disk. Nothing is sent until it says that it goes on.
    rejected  the queue of a partition is full. What it refused is kept, with all that comes after it for that
              partition, and only the first of it is sent, now and then, until that is taken: so the order stays.
    crowded   too much waits in this process: `publish` makes its caller wait.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pika
import pika.exceptions

from holdfast.brokers.rabbitmq_frames import Frames
from holdfast.brokers.rabbitmq_loop import ACCESS_REFUSED, CONNECT_TIMEOUT_S, RIGHTS, RabbitLoop
from holdfast.brokers.rabbitmq_topology import Topology
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import Overloaded, PublishFailed

log = logging.getLogger(__name__)

#: Messages on their way without a confirm, and how many bytes these may have; more only fills buffers.
WINDOW = 4_096
WINDOW_BYTES = 16 * 1024 * 1024
#: Messages that wait in this process to be sent before `publish` makes its caller wait, and their bytes.
WAITING_MAX = 10_000
WAITING_BYTES_MAX = 64 * 1024 * 1024
#: How long a message that was sent may go without a confirm before its future fails; longer where senders wait longer.
CONFIRM_TIMEOUT_S = 30.0
#: How often that is looked at, at the least.
EXPIRY_STEP_S = 1.0
#: How often a queue that was full is tried.
FULL_STEP_S = 0.2

_PROPERTIES = pika.BasicProperties(delivery_mode=2)


class _Outgoing:
    """A message on its way."""

    __slots__ = ("body", "deadline", "future", "number", "partition", "patience", "unsure")

    def __init__(self, number: int, partition: int, body: bytes, wait_s: float) -> None:
        self.number = number
        self.partition = partition
        self.body = body
        self.future: Future[None] = Future()
        # From now on it cannot be cancelled: the message is on its way.
        self.future.set_running_or_notify_cancel()
        now = time.monotonic()
        #: Until when it may be kept here unsent, and until when it may go unconfirmed.
        self.patience = now + wait_s
        self.deadline = now + max(wait_s, CONFIRM_TIMEOUT_S)
        #: Whether a copy of it may have been taken by a connection that broke.
        self.unsure = False


class RabbitPublisher:
    """Publishes commands to the partitions' queues, with confirms."""

    def __init__(self, settings: Settings) -> None:
        self._topology = Topology(settings.namespace, settings.partitions)
        self._routes = [str(partition) for partition in range(settings.partitions)]
        self._wait_s = settings.send_wait_s
        self._step_s = min(EXPIRY_STEP_S, max(0.05, self._wait_s / 4))
        self._room = threading.Condition()
        self._waiting: deque[_Outgoing] = deque()
        self._unconfirmed: dict[int, _Outgoing] = {}
        #: By partition whose queue is full, what it refused and what came after that, in order.
        self._held: dict[int, list[_Outgoing]] = {}
        #: Of those, the one that is sent to find out whether there is room again.
        self._probes: dict[int, _Outgoing] = {}
        self._numbers = 0
        #: How many messages, and of how many bytes, wait or are held; and the bytes of what is unconfirmed.
        self._kept = self._kept_bytes = self._flying_bytes = 0
        #: Why RabbitMQ takes nothing of this connection; empty while it does.
        self._blocked = ""
        self._next_tag = 1
        self._channel: Any = None
        self._frames: Any = None
        self._woken = False
        self._closed = False
        #: Set when the broker has said for the first time that it confirms.
        self._confirming = threading.Event()
        self._loop = RabbitLoop(settings, self, "publish")
        self._loop.wait_open()
        self._confirming.wait(CONNECT_TIMEOUT_S)

    @property
    def crowded(self) -> bool:
        """Whether `publish` would make its caller wait."""
        return self._kept >= WAITING_MAX or self._kept_bytes >= WAITING_BYTES_MAX

    def publish(self, partition: int, body: bytes) -> Future[None]:
        """Send a message. Waits while too many wait already: that is how a slow broker slows its senders.

        Raises:
            Overloaded: There was no room for too long; or, for those who never wait, RabbitMQ takes nothing now.
            PublishFailed: The publisher is closed.
        """
        with self._room:
            if self.crowded and not self._closed:
                self._room.wait_for(lambda: not self.crowded or self._closed, self._wait_s)
            if self._closed:
                message = "the publisher is closed"
                raise PublishFailed(message)
            if self.crowded:
                message = f"{self._why(partition)}, and {self._kept:,} commands wait in this process already"
                raise Overloaded(f"{message}: the command was not sent. Send it again later")
            if self._wait_s == 0 and (self._blocked or partition in self._held or self._channel is None):
                raise Overloaded(f"{self._why(partition)}: the command was not sent. Send it again later")
            self._numbers += 1
            outgoing = _Outgoing(self._numbers, partition, body, self._wait_s)
            self._keep(outgoing)
            self._waiting.append(outgoing)
            wake = not self._woken
            self._woken = True
        if wake:
            self._loop.call(self._send)
        return outgoing.future

    def _keep(self, outgoing: _Outgoing) -> None:
        self._kept += 1
        self._kept_bytes += len(outgoing.body)

    def _let_go(self, outgoing: _Outgoing) -> None:
        self._kept -= 1
        self._kept_bytes -= len(outgoing.body)

    def _why(self, partition: int) -> str:
        """Return why nothing is taken for a partition now."""
        if self._blocked:
            return f"RabbitMQ takes no messages ({self._blocked}: it is out of memory or disk space)"
        if partition in self._held:
            return f"the queue {self._topology.queue(partition)!r} of RabbitMQ is full"
        if self._channel is None:
            return "RabbitMQ cannot be reached"
        return "RabbitMQ takes messages too slowly"

    def close(self) -> None:
        """Wait for the confirms of what is on its way, and stop."""
        with self._room:
            pending = [*self._unconfirmed.values(), *self._all_kept()]
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

    def _all_kept(self) -> list[_Outgoing]:
        return [*(one for held in self._held.values() for one in held), *self._waiting]

    # -- on the connection's thread

    def opened(self, channel: Any) -> None:
        """Use a fresh channel: confirms on, and first of all what was not confirmed on the last one."""
        channel.add_on_return_callback(self._on_return)
        channel.add_on_close_callback(self._on_channel_closed)
        channel.connection.add_on_connection_blocked_callback(self._on_blocked)
        channel.connection.add_on_connection_unblocked_callback(self._on_unblocked)
        channel.confirm_delivery(self._on_confirm, callback=lambda _frame: self._ready(channel))

    def _ready(self, channel: Any) -> None:
        """Begin to send. Not before the broker has said that it confirms: what goes out earlier has no tag."""
        if channel.is_open:
            self._frames = Frames(channel, self._topology.exchange, self._routes, _PROPERTIES)
            with self._room:
                self._channel = channel
                self._next_tag = 1
            self._confirming.set()
            self._send()
            self._loop.later(self._step_s, self._expire)

    def lost(self) -> None:
        """Put back what was not confirmed, in front of what was never sent."""
        with self._room:
            self._channel = None
            self._blocked = ""
            again = [one for one in self._unconfirmed.values() if not one.future.done()]
            for one in again:
                one.unsure = True
                self._keep(one)
            again += [one for held in self._held.values() for one in held]
            again.sort(key=_number)
            self._waiting.extendleft(reversed(again))
            self._unconfirmed, self._held, self._probes = {}, {}, {}
            self._flying_bytes = 0
        self._expire_waiting()

    def _on_channel_closed(self, _channel: Any, reason: BaseException) -> None:
        """Fail everything where this user may not send: another connection would be told the same."""
        if isinstance(reason, pika.exceptions.ChannelClosedByBroker) and reason.reply_code == ACCESS_REFUSED:
            message = (
                f"RabbitMQ does not allow this user to write to exchange {self._topology.exchange!r} "
                f"({reason.reply_text}): see {RIGHTS}"
            )
            self._fail_all(PublishFailed(message))

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        """Send nothing more: RabbitMQ would not read it."""
        reason = str(frame.method.reason)
        log.warning("rabbitmq has blocked its publishers", extra={"reason": reason})
        with self._room:
            self._blocked = reason or "an alarm"
        self._expire_waiting()

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        log.warning("rabbitmq takes messages again")
        with self._room:
            self._blocked = ""
        self._send()

    def _send(self) -> None:
        channel = self._channel
        sending: list[_Outgoing] = []
        with self._room:
            self._woken = False
            if channel is None or not channel.is_open or self._blocked:
                return
            while self._waiting and self._may_fly():
                outgoing = self._waiting.popleft()
                if outgoing.partition in self._held:
                    self._held[outgoing.partition].append(outgoing)
                else:
                    self._fly(outgoing, sending)
            if sending:
                self._room.notify_all()
        if sending:
            self._frames.publish((outgoing.partition, outgoing.body) for outgoing in sending)

    def _may_fly(self) -> bool:
        return not self._unconfirmed or (
            len(self._unconfirmed) < WINDOW and self._flying_bytes < WINDOW_BYTES
        )

    def _fly(self, outgoing: _Outgoing, sending: list[_Outgoing]) -> None:
        self._let_go(outgoing)
        self._flying_bytes += len(outgoing.body)
        self._unconfirmed[self._next_tag] = outgoing
        self._next_tag += 1
        sending.append(outgoing)

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        refused = isinstance(method, pika.spec.Basic.Nack)
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
            self._flying_bytes -= sum(len(one.body) for one in done)
            done = [one for one in done if not one.future.done()]
            if refused:
                done = self._hold(done)
            elif self._probes:
                for one in done:
                    if self._probes.get(one.partition) is one:
                        self._release(one.partition)
            more = bool(self._waiting)
        for outgoing in done:
            if refused:
                outgoing.future.set_exception(self._rejected(outgoing))
            else:
                outgoing.future.set_result(None)
        if more:
            self._send()

    # -- queues that are full

    def _hold(self, refused: list[_Outgoing]) -> list[_Outgoing]:
        """Keep what a queue refused, to be sent again; return those that have waited for long enough."""
        now = time.monotonic()
        late = [one for one in refused if one.patience <= now]
        for one in refused:
            partition = one.partition
            if self._probes.get(partition) is one:
                del self._probes[partition]
                self._try_later(partition)
            if one.patience <= now:
                continue
            if partition not in self._held:
                log.warning("queue is full", extra={"queue": self._topology.queue(partition)})
                self._held[partition] = []
                self._try_later(partition)
            insort(self._held[partition], one, key=_number)
            self._keep(one)
        return late

    def _try_later(self, partition: int) -> None:
        channel = self._channel
        self._loop.later(FULL_STEP_S, lambda: self._try(partition, channel))

    def _try(self, partition: int, channel: Any) -> None:
        """Send the first message for a queue that was full, once all that was on its way to it has come back."""
        sending: list[_Outgoing] = []
        with self._room:
            if self._channel is not channel or channel is None or partition not in self._held:
                return
            if not self._held[partition]:
                self._release(partition)
            elif self._blocked or any(one.partition == partition for one in self._unconfirmed.values()):
                self._try_later(partition)
            else:
                self._probes[partition] = self._held[partition].pop(0)
                self._fly(self._probes[partition], sending)
        if sending:
            self._frames.publish((outgoing.partition, outgoing.body) for outgoing in sending)
        else:
            self._send()

    def _release(self, partition: int) -> None:
        """Have what was held sent, before all that waits; to be called under the lock."""
        self._probes.pop(partition, None)
        self._waiting.extendleft(reversed(self._held.pop(partition, [])))

    # -- what is not taken

    def _rejected(self, outgoing: _Outgoing) -> PublishFailed:
        message = (
            f"RabbitMQ refused a command for partition {outgoing.partition}: its queue is full or cannot be "
            "written. Send it again later, with the same id"
        )
        return PublishFailed(message) if outgoing.unsure else Overloaded(message)

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
        self._loop.later(self._step_s, self._expire)

    def _expire_waiting(self) -> None:
        """Fail what has waited too long. What was sent keeps its place, so that its confirm is not mistaken."""
        now = time.monotonic()
        with self._room:
            failed = [
                (one, self._unheard(one))
                for one in self._unconfirmed.values()
                if (one.patience if self._blocked else one.deadline) < now and not one.future.done()
            ]
            stuck = self._blocked or self._channel is None
            late = self._late(self._waiting, now) if stuck or self._crawls(now) else []
            for held in self._held.values():
                late += self._late(held, now)
            for one in late:
                failed.append((one, self._untaken(one)))
                self._let_go(one)
            if failed:
                self._room.notify_all()
        for outgoing, error in failed:
            if not outgoing.future.done():
                outgoing.future.set_exception(error)

    def _crawls(self, now: float) -> bool:
        """Return whether what waits has waited for so long that a confirm would be late."""
        return bool(self._waiting) and self._waiting[0].deadline < now

    def _late(self, kept: deque[_Outgoing] | list[_Outgoing], now: float) -> list[_Outgoing]:
        """Take out what may not be kept any longer; it stands in front."""
        late: list[_Outgoing] = []
        pop: Callable[[], _Outgoing] = kept.popleft if isinstance(kept, deque) else lambda: kept.pop(0)
        while kept and kept[0].patience < now:
            late.append(pop())
        return late

    def _unheard(self, outgoing: _Outgoing) -> PublishFailed:
        if self._blocked:
            why = self._why(outgoing.partition)
            return PublishFailed(
                f"{why}: it may take the command when it goes on. Send it again with the same id"
            )
        wait_s = max(self._wait_s, CONFIRM_TIMEOUT_S)
        return PublishFailed(f"no confirm from RabbitMQ within {wait_s:g} s; send it again with the same id")

    def _untaken(self, outgoing: _Outgoing) -> PublishFailed:
        why = self._why(outgoing.partition)
        if outgoing.unsure:
            return PublishFailed(
                f"{why}: no confirm within {self._wait_s:g} s. Send it again with the same id"
            )
        text = f"{why}: the command was not taken within {self._wait_s:g} s. Send it again later, with the same id"
        return Overloaded(text)

    def _fail_all(self, error: PublishFailed) -> None:
        with self._room:
            left = [*self._unconfirmed.values(), *self._all_kept()]
            self._unconfirmed, self._held, self._probes = {}, {}, {}
            self._waiting.clear()
            self._kept = self._kept_bytes = self._flying_bytes = 0
            self._room.notify_all()
        for outgoing in left:
            if not outgoing.future.done():
                outgoing.future.set_exception(error)


def _number(outgoing: _Outgoing) -> int:
    return outgoing.number
