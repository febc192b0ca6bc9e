"""Commands over Redis Streams: the transport of the embedded default.

One stream and one group per partition. The one who serves a partition first takes over what its predecessor left
pending, in order, and then reads new entries. What is acknowledged is deleted.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import redis

from holdfast.brokers.durability import Barrier
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import HoldfastError, PublishFailed
from holdfast.runtime.ports import Delivery

GROUP = "holdfast"
#: Messages that one round trip publishes.
PUBLISH_MAX = 500
#: Messages that wait in this process to be published before `publish` makes its caller wait.
PUBLISH_QUEUE_MAX = 10_000
#: How long one blocking read lasts at most: a new assignment is seen after it.
READ_STEP_S = 0.25
#: Pending entries taken over at a time.
TAKEOVER_MAX = 100


class RedisTransport:
    """Carries commands over the journal's own Redis."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def publisher(self) -> RedisPublisher:
        """Return a publisher with a connection and a thread of its own."""
        return RedisPublisher(self._settings)

    def consumer(self) -> RedisConsumer:
        """Return a consumer with connections of its own."""
        return RedisConsumer(self._settings)

    def depth(self, partition: int) -> int:
        """Return how many messages are not yet acknowledged."""
        with RedisLink(self._settings) as link, unavailable(link):
            return int(link.client.xlen(Keys(self._settings.namespace).commands(partition)))


class RedisPublisher:
    """Hands messages to one thread, which publishes whatever has gathered in one round trip."""

    def __init__(self, settings: Settings) -> None:
        self._link = RedisLink(settings)
        self._keys = Keys(settings.namespace)
        self._barrier = Barrier(settings, self._link, waitaof=False) if settings.durability.replicas else None
        self._waiting: queue.Queue[tuple[int, bytes, Future[None]] | None] = queue.Queue(PUBLISH_QUEUE_MAX)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="holdfast-publish", daemon=True)
        self._thread.start()

    def publish(self, partition: int, body: bytes) -> Future[None]:
        """Send a message; it is confirmed when Redis has it (and, where so configured, its replicas)."""
        if self._closed:
            message = "the publisher is closed"
            raise PublishFailed(message)
        future: Future[None] = Future()
        self._waiting.put((partition, body, future))
        return future

    def close(self) -> None:
        """Publish what has gathered, and stop."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._thread.join()
            self._link.close()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < PUBLISH_MAX and batch[-1] is not None:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            messages = [one for one in batch if one is not None]
            if messages:
                self._publish(messages)
            if batch[-1] is None:
                return

    def _publish(self, messages: Sequence[tuple[int, bytes, Future[None]]]) -> None:
        try:
            with unavailable(self._link):
                pipe = self._link.client.pipeline(transaction=False)
                for partition, body, _ in messages:
                    pipe.xadd(self._keys.commands(partition), {"m": body})
                replies = pipe.execute(raise_on_error=False)
            if self._barrier is not None:
                self._barrier.take()
        except HoldfastError as error:
            replies = [error] * len(messages)
        for (_, _, future), reply in zip(messages, replies, strict=True):
            if isinstance(reply, Exception):
                future.set_exception(PublishFailed(f"Redis did not take the command: {reply}"))
            else:
                future.set_result(None)


class RedisConsumer:
    """Reads the partitions that it is given. `take` belongs to one thread; the rest may be called from others."""

    def __init__(self, settings: Settings) -> None:
        self._read_link = RedisLink(settings)
        self._ack_link = RedisLink(settings)
        self._keys = Keys(settings.namespace)
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._ack_lock = threading.Lock()
        self._assigned: set[int] = set()
        #: Partitions whose predecessor's pending entries are not yet all taken over, and up to where they are.
        self._takeovers: dict[int, bytes] = {}
        self._outstanding: dict[int, set[bytes]] = {}

    def assign(self, partition: int) -> None:
        """Begin to take from a partition: first what its former reader left pending."""
        with self._ack_lock, unavailable(self._ack_link):
            try:
                self._ack_link.client.xgroup_create(self._keys.commands(partition), GROUP, "0", mkstream=True)
            except redis.exceptions.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
        with self._lock:
            self._assigned.add(partition)
            self._takeovers[partition] = b"0"
            self._outstanding[partition] = set()
        self._changed.set()

    def revoke(self, partition: int) -> None:
        """Stop reading a partition."""
        with self._lock:
            self._assigned.discard(partition)
            self._takeovers.pop(partition, None)

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Return what has arrived; what a predecessor left comes before what is new."""
        with self._lock:
            takeovers = dict(self._takeovers)
            ready = sorted(self._assigned - takeovers.keys())
        taken: list[Delivery] = []
        for partition, start in takeovers.items():
            taken += self._take_over(partition, start, min(limit - len(taken), TAKEOVER_MAX))
            if len(taken) >= limit:
                return taken
        if taken:
            return taken
        if takeovers or not ready:
            # Either nothing is ours, or what is left over waits for the one before it to be acknowledged.
            self._changed.wait(min(timeout_s, READ_STEP_S) if not ready else 0)
            self._changed.clear()
        if not ready:
            return []
        step_ms = max(1, int(min(timeout_s, READ_STEP_S) * 1000))
        with unavailable(self._read_link):
            streams: Any = {self._keys.commands(partition): ">" for partition in ready}
            share = max(1, limit // len(ready))
            found: Any = self._read_link.client.xreadgroup(GROUP, GROUP, streams, count=share, block=step_ms)
        by_key = {self._keys.commands(partition).encode(): partition for partition in ready}
        for key, entries in found or ():
            taken += [self._delivery(by_key[key], id_, fields, 0) for id_, fields in entries]
        return taken

    def _take_over(self, partition: int, start: bytes, limit: int) -> list[Delivery]:
        """Return pending entries with the count of their hand-outs; small batches, alone at last."""
        key = self._keys.commands(partition)
        with unavailable(self._read_link):
            client = self._read_link.client
            pending: Any = client.xpending_range(
                key, GROUP, "(" + start.decode() if start != b"0" else "-", "+", limit
            )
            if not pending:
                with self._lock:
                    self._takeovers.pop(partition, None)
                return []
            worst = max(int(entry["times_delivered"]) for entry in pending)
            if worst > 1 and self._outstanding.get(partition):
                return []
            pending = pending[: 1 if worst > 2 else 16 if worst > 1 else limit]
            ids = [entry["message_id"] for entry in pending]
            claimed: Any = client.xclaim(key, GROUP, GROUP, 0, ids)
        counts = {entry["message_id"]: int(entry["times_delivered"]) for entry in pending}
        with self._lock:
            if partition in self._takeovers:
                self._takeovers[partition] = ids[-1]
        return [self._delivery(partition, id_, fields, counts[id_]) for id_, fields in claimed if fields]

    def _delivery(
        self, partition: int, id_: bytes, fields: dict[bytes, bytes], redeliveries: int
    ) -> Delivery:
        with self._lock:
            self._outstanding.setdefault(partition, set()).add(id_)
        return Delivery(partition, fields.get(b"m", b""), redeliveries, id_)

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge and delete."""
        by_partition: dict[int, list[bytes]] = {}
        for delivery in deliveries:
            by_partition.setdefault(delivery.partition, []).append(delivery.tag)
        with self._ack_lock, unavailable(self._ack_link):
            pipe = self._ack_link.client.pipeline(transaction=False)
            for partition, ids in by_partition.items():
                pipe.xack(self._keys.commands(partition), GROUP, *ids)
                pipe.xdel(self._keys.commands(partition), *ids)
            pipe.execute()
        with self._lock:
            for partition, ids in by_partition.items():
                self._outstanding.get(partition, set()).difference_update(ids)
        self._changed.set()

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Leave messages pending: the next reader takes them over."""
        with self._lock:
            for delivery in deliveries:
                self._outstanding.get(delivery.partition, set()).discard(delivery.tag)

    def outstanding(self, partition: int) -> int:
        """Return how many entries are taken and not acknowledged."""
        with self._lock:
            return len(self._outstanding.get(partition, ()))

    def close(self) -> None:
        """Stop; what is not acknowledged stays pending for the next reader."""
        with self._lock:
            self._assigned.clear()
            self._takeovers.clear()
        self._read_link.close()
        with self._ack_lock:
            self._ack_link.close()
