"""The short way of a command within a simulated process, which the witness sees as it sees the queues."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from holdfast.actors.simulation.pace import SimulatedFuture
from holdfast.runtime.loopback import Loopback, LoopbackConsumer, LoopbackPublisher, Parcel, WakefulConsumer
from holdfast.runtime.ports import Delivery, Publisher

if TYPE_CHECKING:
    from holdfast.actors.simulation.machine import Machine
    from holdfast.actors.simulation.world import World


class SimulatedLoopback(Loopback):
    """Where the publishers and the consumers of one simulated process meet."""

    def __init__(self, world: World, machine: Machine) -> None:
        super().__init__(lambda: SimulatedFuture(world.scheduler))
        self.world = world
        self.machine = machine

    def publisher(self, inner: Publisher) -> LoopbackPublisher:
        """Return a publisher that knows the short way."""
        return _Publisher(inner, self)

    def consumer(self, inner: WakefulConsumer) -> LoopbackConsumer:
        """Return a consumer that takes what comes the short way as well."""
        return _Consumer(inner, self)


class _Publisher(LoopbackPublisher):
    def __init__(self, inner: Publisher, loopback: SimulatedLoopback) -> None:
        super().__init__(inner, loopback)
        self._meeting = loopback

    def hand_on(self, partition: int, body: bytes) -> Future[None]:
        world, machine = self._meeting.world, self._meeting.machine
        if partition not in self._meeting.takers:
            return super().hand_on(partition, body)
        world.witness.published(machine, partition, body)
        future = super().hand_on(partition, body)

        def ended(future: Future[None]) -> None:
            if future.exception() is None:
                world.witness.confirmed(body)

        future.add_done_callback(ended)
        return future


class _Consumer(LoopbackConsumer):
    def __init__(self, inner: WakefulConsumer, loopback: SimulatedLoopback) -> None:
        super().__init__(inner, loopback)
        self._meeting = loopback

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        taken = super().take(limit, timeout_s)
        if own := [one for one in taken if isinstance(one.tag, Parcel)]:
            self._meeting.world.witness.delivered(self._meeting.machine, own)
        return taken

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        if own := [one for one in deliveries if isinstance(one.tag, Parcel)]:
            self._meeting.world.witness.acked(self._meeting.machine, own)
        super().ack(deliveries)
