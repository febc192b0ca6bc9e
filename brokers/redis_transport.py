"""Commands over Redis Streams: the transport of the embedded default.

One stream and one group per partition. The one who serves a partition first takes over what its predecessor left
pending, in order, and then reads new entries. What is acknowledged is deleted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import redis

from holdfast.brokers import scripts
from holdfast.brokers.care import BATCH_BYTES, company, received
from holdfast.brokers.durability import AnotherServer, barrier
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, full_sentence, is_full, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import HoldfastError, Overloaded, PublishFailed, Unavailable
from holdfast.runtime.ports import Delivery

log = logging.getLogger(__name__)

GROUP = "holdfast"
#: The pool whose members read commands.
POOL = "command"
#: Messages that one round trip publishes.
PUBLISH_MAX = 500
#: The bytes after which a round trip takes no more.
PUBLISH_BYTES = 4 * 1024 * 1024
#: Messages that wait in this process to be published before `publish` makes its caller wait, and their bytes.
PUBLISH_QUEUE_MAX = 10_000
PUBLISH_QUEUE_BYTES_MAX = 64 * 1024 * 1024
#: How often a server that was out of memory is tried.
FULL_STEP_S = 0.2
#: How long one blocking read lasts at most: a new assignment is seen after it.
READ_STEP_S = 0.25
#: Pending entries that are looked at at a time.
TAKEOVER_MAX = 100
#: How long a blocking read lasts at most while there is something to take over.
TAKEOVER_STEP_S = 0.02
#: Before every entry.
START = b"0"


class RedisTransport:
    """Carries commands over the journal's own Redis."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def publisher(self) -> RedisPublisher:
        """Return a publisher with a connection and a thread of its own."""
        return RedisPublisher(self._settings)

    def consumer(self, owner: str = "") -> RedisConsumer:
        """Return a consumer with connections of its own; it reads nothing new that others than `owner` serve."""
        return RedisConsumer(self._settings, owner)

    def depth(self, partition: int) -> int:
        """Return how many messages are not yet acknowledged."""
        with RedisLink(self._settings) as link, unavailable(link):
            return int(link.client.xlen(Keys(self._settings.namespace).commands(partition)))

    def depths(self) -> list[int]:
        """Return how many messages of each partition are not yet acknowledged, in one round trip."""
        keys = Keys(self._settings.namespace)
        with RedisLink(self._settings) as link, unavailable(link):
            pipe = link.client.pipeline(transaction=False)
            for partition in range(self._settings.partitions):
                pipe.xlen(keys.commands(partition))
            return [int(found) for found in pipe.execute()]


class _Outgoing:
    """A message on its way."""

    __slots__ = ("body", "future", "partition", "patience")

    def __init__(self, partition: int, body: bytes, wait_s: float) -> None:
        self.partition = partition
        self.body = body
        self.future: Future[None] = Future()
        # From now on it cannot be cancelled: the message is on its way.
        self.future.set_running_or_notify_cancel()
        #: Until when it is tried where Redis has no memory for it.
        self.patience = time.monotonic() + wait_s


class RedisPublisher:
    """Hands messages to one thread, which publishes whatever has gathered in one round trip.

    While Redis is out of memory they wait here, in order, for as long as their senders want to (`send_wait_s`); and
    where too many wait, `publish` makes its caller wait.
    """

    def __init__(self, settings: Settings) -> None:
        self._link = RedisLink(settings)
        self._keys = Keys(settings.namespace)
        # What is confirmed must be as safe as what is committed; the levels below give that without a wait.
        waits = settings.durability.level in ("fsync", "replicated")
        try:
            self._barrier = barrier(settings, self._link) if waits else None
        except HoldfastError:
            self._link.close()
            raise
        self._wait_s = settings.send_wait_s
        self._room = threading.Condition()
        self._waiting: deque[_Outgoing] = deque()
        self._waiting_bytes = 0
        self._closed = False
        #: Why nothing is taken at the moment; empty while something is.
        self._full = ""
        #: Why nothing more is sent: the server was away while the publisher was closing.
        self._given_up: HoldfastError | None = None
        self._thread = threading.Thread(target=self._run, name="holdfast-publish", daemon=True)
        self._thread.start()

    @property
    def crowded(self) -> bool:
        """Whether `publish` would make its caller wait."""
        return len(self._waiting) >= PUBLISH_QUEUE_MAX or self._waiting_bytes >= PUBLISH_QUEUE_BYTES_MAX

    def publish(self, partition: int, body: bytes) -> Future[None]:
        """Send a message; it is confirmed when Redis has it (and, where so configured, its disk or replicas).

        Raises:
            Overloaded: There was no room for too long; or, for those who never wait, Redis takes nothing now.
            PublishFailed: The publisher is closed.
        """
        with self._room:
            if self.crowded and not self._closed:
                self._room.wait_for(lambda: not self.crowded or self._closed, self._wait_s)
            if self._closed:
                message = "the publisher is closed"
                raise PublishFailed(message)
            if self.crowded:
                why = self._full or "Redis takes messages too slowly"
                message = (
                    f"{why}; {len(self._waiting):,} commands wait in this process: this one was not sent"
                )
                raise Overloaded(f"{message}. Send it again later")
            outgoing = _Outgoing(partition, body, self._wait_s)
            self._waiting.append(outgoing)
            self._waiting_bytes += len(body)
            self._room.notify_all()
        return outgoing.future

    def close(self) -> None:
        """Publish what has gathered, and stop. Where the server does not answer the rest fails with the first."""
        with self._room:
            if self._closed:
                return
            self._closed = True
            self._room.notify_all()
        self._thread.join()
        self._link.close()

    def _run(self) -> None:
        while batch := self._gathered():
            left = self._publish(batch)
            if not left:
                continue
            with self._room:
                self._waiting.extendleft(reversed(left))
                self._waiting_bytes += sum(len(one.body) for one in left)
                if self._closed:
                    self._given_up = self._given_up or Unavailable(self._full)
            self._stopping_or(FULL_STEP_S)

    def _stopping_or(self, seconds: float) -> None:
        with self._room:
            self._room.wait_for(lambda: self._closed, seconds)

    def _gathered(self) -> list[_Outgoing]:
        """Return what has gathered, once there is something; nothing when all is sent and no more will come."""
        with self._room:
            self._room.wait_for(lambda: self._waiting or self._closed)
            batch: list[_Outgoing] = []
            size = 0
            # Of those that there was no memory for only the first is tried: none shall be taken before it.
            most = 1 if self._full else PUBLISH_MAX
            while self._waiting and len(batch) < most and size < PUBLISH_BYTES:
                batch.append(self._waiting.popleft())
                size += len(batch[-1].body)
            self._waiting_bytes -= size
            self._room.notify_all()
        return batch

    def _publish(self, messages: Sequence[_Outgoing]) -> list[_Outgoing]:
        """Publish messages; return those that there was no memory for and that may wait."""
        replies: list[Any]
        try:
            if self._given_up is not None:
                raise self._given_up
            try:
                replies = self._write(messages)
            except AnotherServer:
                # Nobody knows who has them: the one who answers now gets them all. Ids tell copies.
                replies = self._write(messages)
        except HoldfastError as error:
            if self._closed:
                self._given_up = error
            replies = [error] * len(messages)
        now = time.monotonic()
        left: list[_Outgoing] = []
        full = ""
        for one, reply in zip(messages, replies, strict=True):
            if isinstance(reply, Exception) and is_full(reply):
                full = full_sentence(self._link)
                if one.patience > now and not self._closed:
                    left.append(one)
                else:
                    text = f"{full}: the command was not taken. Send it again later, with the same id"
                    one.future.set_exception(Overloaded(text))
            elif isinstance(reply, Exception):
                one.future.set_exception(PublishFailed(f"Redis did not take the command: {reply}"))
            else:
                one.future.set_result(None)
        if full and not self._full:
            log.warning("redis is out of memory", extra={"waiting": len(left)})
        self._full = full
        return left

    def _write(self, messages: Sequence[_Outgoing]) -> list[Any]:
        """Append messages and wait until they are safe; return what came of each."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for one in messages:
                pipe.xadd(self._keys.commands(one.partition), {"m": one.body})
            replies: list[Any] = pipe.execute(raise_on_error=False)
        if self._barrier is not None:
            self._barrier.take()
        return replies


class RedisConsumer:
    """Reads the partitions that it is given. `take` belongs to one thread; the rest may be called from others.

    What was handed out and not acknowledged is pending in the group. A partition is taken over before anything new is
    read of it: when it was just assigned, and when the answer to a read was lost, since what was in it is pending too.
    """

    def __init__(self, settings: Settings, owner: str = "") -> None:
        self._owner = owner
        self._read_link = RedisLink(settings)
        self._ack_link = RedisLink(settings)
        self._keys = Keys(settings.namespace)
        #: As many as this may be taken of a partition and not be done with; then no more is read of it.
        self._prefetch = max(settings.prefetch, settings.batch_max)
        self._payload_bytes_max = settings.payload_bytes_max
        #: How large the messages of the last read were, on average: as many are read as make a batch.
        self._mean_bytes = 0
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._ack_lock = threading.Lock()
        #: What is done with and could not be acknowledged yet.
        self._done: list[Delivery] = []
        self._closed = False
        self._assigned: set[int] = set()
        #: Partitions whose pending entries are not yet all taken over, and up to where they are.
        self._takeovers: dict[int, bytes] = {}
        self._outstanding: dict[int, set[bytes]] = {}
        #: What was read beyond the limit of a call, for the next one.
        self._kept: list[Delivery] = []
        #: Partitions that are being read from: what comes of it is ours, even if they are revoked meanwhile.
        self._reading: frozenset[int] = frozenset()
        #: Partitions that somebody else was found to serve: they are as good as revoked.
        self._fenced: set[int] = set()
        #: Up to where partitions were read, and those that had nothing more when they were last asked.
        self._read_to: dict[int, bytes] = {}
        self._quiet: set[int] = set()
        #: How often another server had come in the place of one when we last looked.
        self._changes = 0

    def assign(self, partition: int) -> None:
        """Begin to take from a partition: first what its former reader left pending."""
        with self._ack_lock, unavailable(self._ack_link):
            self._make_group(self._ack_link, partition)
        with self._lock:
            self._assigned.add(partition)
            self._takeovers[partition] = START
            self._fenced.discard(partition)
            self._read_to.pop(partition, None)
            self._quiet.discard(partition)
            self._outstanding.setdefault(partition, set())
        self._changed.set()

    def _make_group(self, link: RedisLink, partition: int) -> None:
        try:
            link.client.xgroup_create(self._keys.commands(partition), GROUP, "0", mkstream=True)
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def revoke(self, partition: int) -> None:
        """Stop reading a partition."""
        with self._lock:
            self._assigned.discard(partition)
            self._takeovers.pop(partition, None)

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Return what has arrived; what a predecessor left comes before what is new."""
        deadline = time.monotonic() + timeout_s
        while True:
            taken = self._step(limit, max(0.0, deadline - time.monotonic()))
            if taken or time.monotonic() >= deadline:
                return taken

    def _step(self, limit: int, left_s: float) -> list[Delivery]:
        if self._done:
            with self._ack_lock:
                self._settle()
        with self._lock:
            if self._kept:
                taken, self._kept = self._kept[:limit], self._kept[limit:]
                return taken
            self._reading = frozenset(self._assigned)
            takeovers = dict(self._takeovers)
            full = {p for p, ids in self._outstanding.items() if len(ids) >= self._prefetch}
            ready = sorted(self._reading - takeovers.keys() - full - self._fenced)
        try:
            if self._read_link.changes != self._changes:
                self._changes = self._read_link.changes
                self._doubt()
            with unavailable(self._read_link):
                return self._taken_over(takeovers, limit) or self._read(ready, limit, left_s, bool(takeovers))
        except HoldfastError:
            self._doubt()
            raise
        finally:
            with self._lock:
                self._reading = frozenset()

    def _doubt(self) -> None:
        """Take every partition over anew: what was in an answer that did not come is pending, and in nobody's hands."""
        with self._lock:
            self._takeovers = {p: self._takeovers.get(p, START) for p in self._assigned}
            # A server that lost its end, or another one with another clock, may give ids that are lower than these.
            self._read_to.clear()
            self._quiet.clear()

    def _taken_over(self, takeovers: dict[int, bytes], limit: int) -> list[Delivery]:
        """Return what is pending and in nobody's hands, in small batches, at last alone."""
        taken: list[Delivery] = []
        for partition, start in takeovers.items():
            found = self._pending(partition, start, min(limit, TAKEOVER_MAX))
            with self._lock:
                ours = set(self._outstanding.get(partition, ()))
                if not found:
                    self._takeovers.pop(partition, None)
                    continue
            wanted: list[tuple[bytes, int]] = []
            reached = start
            for id_, times in found:
                if id_ not in ours:
                    limit = company(times, limit)
                    if len(taken) + len(wanted) >= limit:
                        break
                    wanted.append((id_, times))
                reached = id_
            taken += self._claimed(partition, reached, wanted)
            if len(taken) >= limit:
                break
        return taken

    def _pending(self, partition: int, start: bytes, count: int) -> list[tuple[bytes, int]]:
        """Return the next pending entries, and how often each was handed out."""
        low = "-" if start == START else f"({start.decode()}"
        key = self._keys.commands(partition)
        try:
            found: Any = self._read_link.client.xpending_range(key, GROUP, low, "+", count)
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._make_group(self._read_link, partition)  # the server came back without its data
            return []
        return [(entry["message_id"], int(entry["times_delivered"])) for entry in found]

    def _claimed(self, partition: int, reached: bytes, wanted: list[tuple[bytes, int]]) -> list[Delivery]:
        claimed: Any = ()
        if wanted:
            ids: list[Any] = [id_ for id_, _ in wanted]
            claimed = self._read_link.client.xclaim(self._keys.commands(partition), GROUP, GROUP, 0, ids)
        times = dict(wanted)
        with self._lock:
            if partition in self._takeovers:
                self._takeovers[partition] = reached
            # An entry that is pending but was deleted comes back empty, or not at all.
            return [self._delivery(partition, id_, fields, times[id_]) for id_, fields in claimed if fields]

    def _read(self, ready: list[int], limit: int, left_s: float, waiting: bool) -> list[Delivery]:
        """Return new entries, or wait until there are some."""
        step_s = min(left_s, TAKEOVER_STEP_S if waiting else READ_STEP_S)
        if not ready:
            self._changed.wait(step_s)
            self._changed.clear()
            return []
        taken = self._new([partition for partition in ready if partition not in self._quiet], limit)
        if not taken and step_s > 0:
            self._sleep(ready, max(1, int(step_s * 1000)))
        return taken

    def _new(self, partitions: list[int], limit: int) -> list[Delivery]:
        """Return new entries; see read.lua."""
        if self._mean_bytes:
            limit = min(limit, max(1, BATCH_BYTES // self._mean_bytes))
        share = max(1, limit // max(1, len(partitions)))
        calls = [
            Call(
                Script.READ,
                (self._keys.commands(partition), self._keys.serving(partition)),
                (GROUP, POOL, self._owner, share),
            )
            for partition in partitions
        ]
        replies = scripts.run(self._read_link, calls) if calls else []
        taken: list[Delivery] = []
        with self._lock:
            for partition, found in zip(partitions, replies, strict=True):
                if found == b"nogroup":
                    if partition in self._assigned:
                        self._takeovers[partition] = START  # the server came back without its data
                elif found == b"fenced":
                    log.warning("partition is served by another", extra={"partition": partition})
                    self._fenced.add(partition)
                elif not found:
                    self._quiet.add(partition)
                else:
                    self._read_to[partition] = found[-1][0]
                    taken += [
                        self._delivery(partition, id_, dict(zip(fields[::2], fields[1::2], strict=True)), 0)
                        for id_, fields in found
                    ]
            if taken:
                self._quiet.clear()
                self._mean_bytes = sum(one.whole or len(one.body) for one in taken) // len(taken)
            self._kept = taken[limit:]
        return taken[:limit]

    def _sleep(self, partitions: list[int], block_ms: int) -> None:
        """Wait until there is something new; nothing is read, so that nobody has to wait for it in a handover."""
        client = self._read_link.client
        with self._lock:
            self._reading = frozenset()
            ends: dict[str, Any] = {self._keys.commands(p): self._read_to.get(p) for p in partitions}
        for key in [key for key, end in ends.items() if end is None]:
            groups: Any = client.xinfo_groups(key)
            ends[key] = next((g["last-delivered-id"] for g in groups if g["name"] == GROUP.encode()), START)
        news = {key.decode() for key, _ in self._read_link.read_streams(ends, 1, block_ms)}
        with self._lock:
            for partition in partitions:
                key = self._keys.commands(partition)
                if key in news:
                    self._quiet.discard(partition)
                    # Should there be nothing new after all, since others read it, the group will say where it is.
                    self._read_to.pop(partition, None)
                elif partition in self._assigned:
                    self._read_to[partition] = ends[key]

    def _delivery(
        self, partition: int, id_: bytes, fields: dict[bytes, bytes], redeliveries: int
    ) -> Delivery:
        self._outstanding.setdefault(partition, set()).add(id_)
        return received(partition, fields.get(b"m", b""), redeliveries, id_, self._payload_bytes_max)

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Delete and acknowledge. What cannot be acknowledged now, since the server is away, is so when it is back."""
        with self._ack_lock:
            if not self._closed:
                self._done += deliveries
                self._settle()

    def _settle(self) -> None:
        """Acknowledge what is done with; to be called under the lock for it.

        It is deleted first: what is deleted and still pending, since the server died in between, is seen to be deleted.
        """
        by_partition: dict[int, list[bytes]] = {}
        for delivery in self._done:
            by_partition.setdefault(delivery.partition, []).append(delivery.tag)
        try:
            with unavailable(self._ack_link):
                pipe = self._ack_link.client.pipeline(transaction=False)
                for partition, ids in by_partition.items():
                    pipe.xdel(self._keys.commands(partition), *ids)
                    pipe.xack(self._keys.commands(partition), GROUP, *ids)
                pipe.execute()
        except Unavailable as error:
            log.warning("acknowledgements put off", extra={"count": len(self._done), "error": str(error)})
            return
        done, self._done = self._done, []
        self._let_go(done)

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Leave messages pending: the next reader takes them over."""
        self._let_go(deliveries)

    def _let_go(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            for delivery in deliveries:
                self._outstanding.get(delivery.partition, set()).discard(delivery.tag)
        self._changed.set()

    def outstanding(self, partition: int) -> int:
        """Return how many entries are taken and not acknowledged; 1 more while the partition is being read from."""
        with self._lock:
            return len(self._outstanding.get(partition, ())) + (partition in self._reading)

    def close(self) -> None:
        """Stop; what is not acknowledged stays pending for the next reader."""
        with self._lock:
            self._assigned.clear()
            self._takeovers.clear()
            self._kept.clear()
        self._changed.set()
        self._read_link.close()
        with self._ack_lock:
            self._closed = True
            self._ack_link.close()
