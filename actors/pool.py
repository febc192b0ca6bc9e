"""Pool: a dramatiq Broker whose consumers yield whole batches, the skeleton that every pool shares.

dramatiq is the worker framework: its master starts processes and passes signals on, its Worker runs a consumer thread
per queue and the worker threads, its middleware tells when things begin and end. A queue here is a `Lane`: one batch of
it is worked on at a time, as one dramatiq message, while the next one gathers.

dramatiq's own delays, retries, results and priorities are not used: their messages would not survive what ours must.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import dramatiq
from dramatiq import Broker, Consumer, Message, MessageProxy, Middleware
from dramatiq.errors import QueueNotFound

from holdfast.runtime.clock import monotonic

log = logging.getLogger(__name__)

_ACTOR = "holdfast.work"


#: How long batches are worked on in a row before dramatiq is asked what there is.
IN_A_ROW_S = 1.0


class Lane(Protocol):
    """One stream of batches. `take`, `work` and `settle` follow one another and never overlap."""

    name: str

    def take(self, timeout_s: float) -> Any | None:
        """Return the next batch, or None when nothing came in time."""
        ...

    def work(self, batch: Any) -> None:
        """Do what a batch asks for."""
        ...

    def settle(self, batch: Any) -> None:
        """Acknowledge what was done."""
        ...

    def linger(self) -> Any | None:
        """Return the next batch if it is there at once, or as good as; called where `take` would be.

        Whoever has just worked on a batch then goes on with the next: two changes of thread less.
        """
        ...

    def close(self) -> None:
        """Return what was not done, and let go of everything."""
        ...


class Service(Protocol):
    """Something that runs beside the lanes from the worker's start to its end."""

    def start(self) -> None:
        """Begin; called when the worker boots."""
        ...

    def stop(self) -> None:
        """Drain and end; called while the lanes still work."""
        ...


class Batch:
    """What travels through dramatiq: it shows nothing of the messages in it."""

    def __init__(self, lane: Lane, content: Any) -> None:
        self.lane = lane
        self.content = content

    def __repr__(self) -> str:
        return f"Batch({self.lane.name!r})"

    def settle(self) -> None:
        """Settle what was worked on and is not settled."""
        content, self.content = self.content, None
        if content is not None:
            self.lane.settle(content)


class _Services(Middleware):
    """Starts the services when dramatiq's worker boots, and drains them before it stops."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = services

    def after_worker_boot(self, _broker: Broker, _worker: dramatiq.Worker) -> None:
        for service in self._services:
            service.start()

    def before_worker_shutdown(self, _broker: Broker, _worker: dramatiq.Worker) -> None:
        for service in reversed(self._services):
            service.stop()


class PoolBroker(Broker):
    """A dramatiq broker over lanes."""

    def __init__(
        self, lanes: Sequence[Lane], services: Sequence[Service], closed: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(middleware=[_Services(services)])
        self._lanes = {lane.name: lane for lane in lanes}
        self._closed = closed
        self._consumers: dict[str, _LaneConsumer] = {}
        self.queues: dict[str, Lane] = {}
        for name in self._lanes:
            self.declare_queue(name)
        dramatiq.Actor(
            _work, broker=self, actor_name=_ACTOR, queue_name=lanes[0].name, priority=0, options={}
        )

    @property
    def threads(self) -> int:
        """How many worker threads keep every lane busy without making another wait."""
        return len(self._lanes)

    def declare_queue(self, queue_name: str) -> None:
        """Make a lane known to dramatiq; there are no others."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = self._lanes[queue_name]
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1000) -> Consumer:  # noqa: ARG002 - dramatiq's signature
        """Return the consumer of a lane: always the same, so that a restart of its thread overlaps nothing."""
        if queue_name not in self._lanes:
            raise QueueNotFound(queue_name)
        return self._consumers.setdefault(queue_name, _LaneConsumer(self._lanes[queue_name], timeout / 1000))

    def close(self) -> None:
        """Close the lanes, and then say so."""
        try:
            for lane in self._lanes.values():
                lane.close()
        finally:
            self._closed()


class _LaneConsumer(Consumer):
    """Yields one batch at a time: the next is handed on when the one before is settled."""

    def __init__(self, lane: Lane, timeout_s: float) -> None:
        self._lane = lane
        self._timeout_s = timeout_s
        self._idle = threading.Event()
        self._idle.set()

    def __next__(self) -> MessageProxy | None:
        if not self._idle.wait(self._timeout_s):
            return None
        content = self._lane.take(self._timeout_s)
        if content is None:
            return None
        self._idle.clear()
        message: Message[None] = Message(
            queue_name=self._lane.name,
            actor_name=_ACTOR,
            args=(Batch(self._lane, content),),
            kwargs={},
            options={},
        )
        return MessageProxy(message)

    def ack(self, message: MessageProxy) -> None:
        """Settle a batch, whether its work ended well or not: the lane knows what was done."""
        try:
            message.args[0].settle()
        finally:
            self._idle.set()

    nack = ack


def _work(batch: Batch) -> None:
    """Do the work of a batch, and of those that follow it at once; what dramatiq calls the actor."""
    lane, until = batch.lane, monotonic() + IN_A_ROW_S
    lane.work(batch.content)
    while monotonic() < until:
        batch.settle()
        batch.content = lane.linger()
        if batch.content is None:
            return
        lane.work(batch.content)
