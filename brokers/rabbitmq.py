"""RabbitMQ as the transport of commands."""

from __future__ import annotations

from holdfast.brokers.rabbitmq_consumer import RabbitConsumer
from holdfast.brokers.rabbitmq_publisher import RabbitPublisher
from holdfast.brokers.rabbitmq_topology import Topology, declare, depths
from holdfast.runtime.config import Settings

#: The partition numbers under which the consumers of the two special queues know them.
INGRESS = 0
DEAD = 1


class RabbitTransport:
    """Carries commands over RabbitMQ.

    Raises:
        SetupError: The server refuses us, or has queues of our names that cannot be used.
        Unavailable: It cannot be reached.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topology = Topology(settings.namespace, settings.partitions)
        self.differences = declare(settings)

    def publisher(self) -> RabbitPublisher:
        """Return a publisher with a connection and a thread of its own."""
        return RabbitPublisher(self._settings)

    def consumer(self, owner: str = "") -> RabbitConsumer:  # noqa: ARG002 - the broker itself keeps others out
        """Return a consumer with a connection and a thread of its own."""
        return RabbitConsumer(
            self._settings, self._topology.queue, lambda partitions: declare(self._settings, partitions)
        )

    def doorman(self) -> RabbitConsumer:
        """Return a consumer of the ingress queue and of the broker's own dead letters."""
        queues = {INGRESS: self._topology.ingress, DEAD: self._topology.dead}
        return RabbitConsumer(
            self._settings, queues.__getitem__, lambda _: declare(self._settings, ()), "ingress"
        )

    def depth(self, partition: int) -> int:
        """Return how many messages wait; of those that are being worked on the broker tells nothing over AMQP."""
        name = self._topology.queue(partition)
        return depths(self._settings, [name])[name] or 0

    def depths(self) -> list[int]:
        """Return how many messages wait in each partition, over one connection."""
        names = [self._topology.queue(partition) for partition in range(self._settings.partitions)]
        return [count or 0 for count in depths(self._settings, names).values()]
