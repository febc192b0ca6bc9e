"""The transport of a simulation: messages that come late, twice, or whose confirms and acknowledgements are lost.

A sender's messages to a queue stay in order, as they do on RabbitMQ: after a lost connection everything that was not
confirmed is sent again in order, and what was not acknowledged is handed out again in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.actors.simulation.pace import SimulatedFuture
from holdfast.brokers.memory import MemoryConsumer, MemoryPublisher, MemoryTransport
from holdfast.runtime.errors import PublishFailed
from holdfast.runtime.ports import Delivery

if TYPE_CHECKING:
    from holdfast.actors.simulation.machine import Machine
    from holdfast.actors.simulation.world import World

#: How long a message may be on its way.
LATE_S = 1.5


@dataclass(slots=True)
class _Message:
    partition: int
    body: bytes
    future: SimulatedFuture
    sent: bool = False


class SimulatedPublisher:
    """A line to the queues that may be slow and may break."""

    def __init__(self, world: World, machine: Machine) -> None:
        self._world = world
        self._machine = machine
        self._queues = MemoryPublisher(world.server)
        #: What is not confirmed, in order.
        self._line: list[_Message] = []
        self._held = False
        world.publishers.append(self)

    @property
    def waiting(self) -> bool:
        """Whether something is on its way."""
        return bool(self._line) and not self._machine.dead

    @property
    def crowded(self) -> bool:
        """Never: there is always room."""
        return False

    def publish(self, partition: int, body: bytes) -> Future[None]:
        """Send a message, sooner or later."""
        world, machine = self._world, self._machine
        world.before(machine, "publisher.publish", PublishFailed)
        message = _Message(partition, body, SimulatedFuture(world.scheduler))
        self._line.append(message)
        if not world.calm and world.chance() < world.faults.lost_confirms:
            self._hold()
        elif not self._held:
            self._flush()
        return message.future

    def _hold(self) -> None:
        """Have the line be slow for a while, and then perhaps broken."""
        if not self._held:
            self._held = True
            if self._world.chance() < 0.5:
                # The messages have arrived, but not their confirms.
                self._send()
            at = self._world.scheduler.now + self._world.chance() * LATE_S
            self._world.scheduler.call_at(at, self._resume)

    def _resume(self) -> None:
        if self._machine.dead:
            return
        self._held = False
        chance = self._world.chance()
        if chance < 0.4:
            self._world.tell(self._machine.name, f"sends {len(self._line)} unconfirmed messages again")
            for message in self._line:
                message.sent = False
        elif chance < 0.6:
            lost, self._line = self._line, []
            self._world.tell(self._machine.name, f"gets no confirms for {len(lost)} messages")
            for message in lost:
                message.future.set_exception(PublishFailed())
        self._flush()

    def _send(self) -> None:
        for message in self._line:
            if not message.sent:
                message.sent = True
                self._world.witness.published(self._machine, message.partition, message.body)
                self._queues.publish(message.partition, message.body).result()
        self._world.signal("queue")

    def _flush(self) -> None:
        self._send()
        line, self._line = self._line, []
        for message in line:
            self._world.witness.confirmed(message.body)
            message.future.set_result(None)

    def close(self) -> None:
        """Wait a while for what is on its way."""
        for message in list(self._line):
            message.future.exception()


class SimulatedConsumer:
    """A consumer whose connection may be lost, and whose acknowledgements may not arrive."""

    def __init__(self, world: World, machine: Machine) -> None:
        self._world = world
        self._machine = machine
        self._queues = MemoryConsumer(world.server)
        self._woken = False
        world.consumers.append(self)

    def assign(self, partition: int) -> None:
        """Take from a partition."""
        self._queues.assign(partition)
        self._world.signal("queue")

    def revoke(self, partition: int) -> None:
        """Take no more from it."""
        self._queues.revoke(partition)

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Return what has arrived."""
        world, scheduler = self._world, self._world.scheduler
        deadline = scheduler.now + timeout_s
        world.before(self._machine, "consumer.take")
        while not (taken := self._queues.take(limit, 0)) and not self._woken and scheduler.now < deadline:
            world.wait_for("queue", deadline - scheduler.now)
            if self._machine.dead:
                world.before(self._machine, "consumer.take")
        self._woken = False
        if taken:
            world.witness.delivered(self._machine, taken)
        world.after(self._machine, "consumer.take", None)
        return taken

    def wake(self) -> None:
        """Have a `take` that waits return; one that begins just now returns at once."""
        self._woken = True
        self._world.signal("queue")

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Say that messages are done with; nobody says whether that arrived."""
        world = self._world
        world.before(self._machine, "consumer.ack", None)
        world.witness.acked(self._machine, deliveries)
        if deliveries and not world.calm and world.chance() < world.faults.lost_acks:
            self.lose()
        else:
            self._queues.ack(deliveries)
            world.signal("queue")
        world.after(self._machine, "consumer.ack", None)

    def lose(self) -> None:
        """Lose the connection: what was taken and not acknowledged goes back, and is delivered again."""
        count = sum(map(len, self._queues._taken.values()))
        if count and not self.gone:
            self._world.tell(self._machine.name, f"loses its connection with {count} unacknowledged messages")
            self._world.counts["connections lost"] += 1
        with self._world.server.changed:
            for partition, taken in list(self._queues._taken.items()):
                self._queues._put_back(taken)
                self._queues._taken[partition] = []
            for partition, one in list(self._world.server.consumers.items()):
                if one is self._queues:  # whoever asks first is the next
                    del self._world.server.consumers[partition]
        self._world.signal("queue")

    def of(self, machine: Machine) -> bool:
        """Return whether a process has this consumer."""
        return self._machine is machine

    @property
    def gone(self) -> bool:
        """Whether its process is dead."""
        return self._machine.dead

    @property
    def waiting(self) -> bool:
        """Whether something was taken and is not done with."""
        return any(self._queues._taken.values())

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return messages."""
        # Only what is still ours: the connection may have been lost.
        for partition in {one.partition for one in deliveries}:
            ours = {id(one) for one in self._queues._taken.get(partition, ())}
            self._queues.give_back(
                [one for one in deliveries if one.partition == partition and id(one) in ours]
            )
        self._world.signal("queue")

    def outstanding(self, partition: int) -> int:
        """Return how many messages are taken and not done."""
        return self._queues.outstanding(partition)

    def close(self) -> None:
        """Return everything that is not acknowledged."""
        self._queues.close()
        self._world.signal("queue")


class SimulatedTransport:
    """The transport as one process reaches it."""

    def __init__(self, world: World, machine: Machine) -> None:
        self._world = world
        self._machine = machine
        self._queues = MemoryTransport(world.server)

    def publisher(self) -> SimulatedPublisher:
        """Return a publisher."""
        return SimulatedPublisher(self._world, self._machine)

    def consumer(self, owner: str = "") -> SimulatedConsumer:  # noqa: ARG002 - the port's signature
        """Return a consumer."""
        return SimulatedConsumer(self._world, self._machine)

    def depth(self, partition: int) -> int:
        """Return how many messages wait or are taken."""
        return self._queues.depth(partition)

    def depths(self) -> list[int]:
        """Return the depth of every partition."""
        return self._queues.depths()
