"""Loopback: a command that a process sends to itself does not travel.

What an effect or a timer leads to is mostly decided by the process that ran it. Its sender keeps what it stands for (the
effect in its outbox, the timer among those that are due) until the future of `hand_on` ends; so nothing is lost when the
command is nowhere but in memory, as long as that future ends no sooner than the command is decided, durably:

    sender --hand_on--> inbox --take--> turn, commit, barrier --ack--> future ends --> sender forgets
       |                  |                |
       |                  |                +-- put off: a copy goes into the queue, whose confirm ends the future
       |                  +-- the partition is revoked: as above
       +-- nobody here takes from the partition: into the queue

Only what needs no order goes this way, and nothing that may have killed a worker before: the queue counts that.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Protocol

from holdfast.runtime.errors import HoldfastError, PublishFailed
from holdfast.runtime.ports import Consumer, Delivery, Publisher

#: Commands that may wait in one inbox; more go into the queue.
INBOX_MAX = 10_000


class WakefulConsumer(Consumer, Protocol):
    """A consumer whose `take` need not wait for its own messages only."""

    def wake(self) -> None:
        """Have a `take` that waits return; one that begins just now returns at once."""
        ...


class Parcel:
    """A command on its way within the process."""

    __slots__ = ("body", "copied", "future", "partition", "publisher")

    def __init__(self, publisher: Publisher, partition: int, body: bytes, future: Future[None]) -> None:
        self.publisher = publisher
        self.partition = partition
        self.body = body
        self.future = future
        #: Whether the queue has it as well.
        self.copied = False

    def copy(self) -> None:
        """Put it into the queue; the future ends with the confirm, if not before."""
        self.copied = True
        try:
            self.publisher.publish(self.partition, self.body).add_done_callback(self._confirmed)
        except HoldfastError as error:
            self.end(error)

    def _confirmed(self, sent: Future[None]) -> None:
        self.end(sent.exception())

    def end(self, error: BaseException | None = None) -> None:
        """End the future, if that was not done."""
        # Two threads may come here at a time, and a future ends once.
        with suppress(InvalidStateError):
            if error is None:
                self.future.set_result(None)
            else:
                self.future.set_exception(error)


class Loopback:
    """Where the publishers and the consumers of one process meet."""

    def __init__(self, future: Callable[[], Future[None]] = Future) -> None:
        self.lock = threading.Lock()
        #: Who takes from a partition here.
        self.takers: dict[int, LoopbackConsumer] = {}
        self.future = future

    def publisher(self, inner: Publisher) -> LoopbackPublisher:
        """Return a publisher that knows the short way."""
        return LoopbackPublisher(inner, self)

    def consumer(self, inner: WakefulConsumer) -> LoopbackConsumer:
        """Return a consumer that takes what comes the short way as well."""
        return LoopbackConsumer(inner, self)


class LoopbackPublisher:
    """A publisher that hands what needs no order to the consumer of this process, where that is its own."""

    def __init__(self, inner: Publisher, loopback: Loopback) -> None:
        self._inner = inner
        self._loopback = loopback

    @property
    def crowded(self) -> bool:
        """Whether `publish` would make its caller wait."""
        return self._inner.crowded

    def publish(self, partition: int, body: bytes) -> Future[None]:
        """Send a message through the queue, behind all that was sent through it before.

        Raises:
            Overloaded, PublishFailed: As the transport's own.
        """
        return self._inner.publish(partition, body)

    def hand_on(self, partition: int, body: bytes) -> Future[None]:
        """Send a message that needs no order; the future ends when the queue has it, or when it was decided here.

        Raises:
            Overloaded, PublishFailed: As for `publish`.
        """
        loopback = self._loopback
        with loopback.lock:
            taker = loopback.takers.get(partition)
            if taker is not None and taker.has_room:
                parcel = Parcel(self._inner, partition, body, loopback.future())
                taker.put(parcel)
            else:
                taker = None
        if taker is None:
            return self._inner.publish(partition, body)
        taker.wake()
        return parcel.future

    def close(self) -> None:
        """Wait a short while for what is on its way, and stop."""
        self._inner.close()


class LoopbackConsumer:
    """A consumer with an inbox beside its queues. What it hands out from there has never been handed out before."""

    def __init__(self, inner: WakefulConsumer, loopback: Loopback) -> None:
        self._inner = inner
        self._loopback = loopback
        self._lock = loopback.lock
        self._inbox: deque[Parcel] = deque()
        #: What was taken and is not done with, by partition, in order.
        self._taken: dict[int, dict[Parcel, None]] = {}

    @property
    def has_room(self) -> bool:
        """Whether the inbox takes one more; to be asked under the lock."""
        return len(self._inbox) < INBOX_MAX

    def put(self, parcel: Parcel) -> None:
        """Put a parcel into the inbox; to be called under the lock."""
        self._inbox.append(parcel)

    def wake(self) -> None:
        """Have a `take` that waits return."""
        self._inner.wake()

    def assign(self, partition: int) -> None:
        """Begin to take from a partition, and from this process what is for it."""
        self._inner.assign(partition)
        with self._lock:
            self._loopback.takers[partition] = self

    def revoke(self, partition: int) -> None:
        """Take nothing more of a partition: what waits here goes into the queue, behind copies of what is worked on."""
        with self._lock:
            if self._loopback.takers.get(partition) is self:
                del self._loopback.takers[partition]
            leaving = [parcel for parcel in self._taken.get(partition, ()) if not parcel.copied]
            leaving += [parcel for parcel in self._inbox if parcel.partition == partition]
            self._inbox = deque(parcel for parcel in self._inbox if parcel.partition != partition)
        _copy(leaving)
        self._inner.revoke(partition)

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Return what has arrived, from this process first: what was begun is ended before more is begun."""
        self._copy_what_was_put_off()
        taken = self._from_inbox(limit)
        if len(taken) < limit:
            try:
                taken += self._inner.take(limit - len(taken), 0 if taken else timeout_s)
            except Exception:
                # What was taken out of the inbox is in nobody's hands but the caller's: it must come to him.
                if not taken:
                    raise
        return taken or self._from_inbox(limit)

    def _from_inbox(self, limit: int) -> list[Delivery]:
        if not self._inbox:
            return []
        found: list[Delivery] = []
        with self._lock:
            while self._inbox and len(found) < limit:
                parcel = self._inbox.popleft()
                self._taken.setdefault(parcel.partition, {})[parcel] = None
                found.append(Delivery(parcel.partition, parcel.body, 0, parcel))
        return found

    def _copy_what_was_put_off(self) -> None:
        """Copy what is still ours when the next batch is taken: who sent it need not wait until it can be decided."""
        with self._lock:
            put_off = [parcel for held in self._taken.values() for parcel in held if not parcel.copied]
        _copy(put_off)

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages; what came from this process is done with as well."""
        parcels, others = self._split(deliveries)
        if others:
            self._inner.ack(others)
        for parcel in parcels:
            parcel.end()

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return messages, for the next consumer."""
        parcels, others = self._split(deliveries)
        _copy(parcel for parcel in parcels if not parcel.copied)
        if others:
            self._inner.give_back(others)

    def _split(self, deliveries: Sequence[Delivery]) -> tuple[list[Parcel], list[Delivery]]:
        """Let go of what came from this process, and return it and the rest."""
        parcels: list[Parcel] = []
        others: list[Delivery] = []
        for delivery in deliveries:
            if isinstance(delivery.tag, Parcel):
                parcels.append(delivery.tag)
            else:
                others.append(delivery)
        if parcels:
            with self._lock:
                for parcel in parcels:
                    # It may be closed by now, and what it had taken forgotten.
                    self._taken.get(parcel.partition, {}).pop(parcel, None)
        return parcels, others

    def outstanding(self, partition: int) -> int:
        """Return how many messages of a partition are in our hands."""
        return self._inner.outstanding(partition) + len(self._taken.get(partition, ()))

    def close(self) -> None:
        """Return everything that is not acknowledged, and stop."""
        with self._lock:
            for partition in [p for p, taker in self._loopback.takers.items() if taker is self]:
                del self._loopback.takers[partition]
            left = [*(parcel for held in self._taken.values() for parcel in held), *self._inbox]
            self._inbox.clear()
            self._taken.clear()
        for parcel in left:
            if not parcel.copied:
                parcel.end(PublishFailed("the worker stopped before the command was decided"))
        self._inner.close()


def _copy(parcels: Iterable[Parcel]) -> None:
    for parcel in parcels:
        parcel.copy()
