"""
Transports: one namespace on each technology that carries commands, and what suites do with it.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from holdfast.brokers.memory import MemoryServer, MemoryTransport
from holdfast.brokers.rabbitmq import RabbitTransport
from holdfast.brokers.redis_transport import RedisTransport
from holdfast.runtime.config import Settings
from holdfast.runtime.ports import Consumer, Delivery, Publisher, Transport
from tests import controls
from tests.contract.proxy import Lines, Proxy
from tests.support.processes import eventually

#: Long enough for whatever a test waits for; a test that gets what it wants never waits so long.
SECONDS_MAX = 60.0
#: How long it must be quiet before nothing more is expected.
QUIET_S = 0.3


@dataclass(frozen=True)
class Features:
    """
    What a transport does not promise beyond its port, or does.
    """

    #: A consumer gets nothing of a partition as long as another consumes it.
    exclusive: bool = True
    #: The depth counts messages that are being worked on.
    counts_taken: bool = True
    #: Messages are fetched before they are asked for, and count as outstanding from then on.
    fetches_ahead: bool = False
    #: Connections can be cut.
    remote: bool = True


class Carrier:
    """One namespace on one technology; every publisher and consumer that it gave is closed with it."""

    def __init__(
        self,
        transport: Transport,
        features: Features,
        settings: Settings,
        proxy: Proxy | Lines | None = None,
    ) -> None:
        self.transport = transport
        self.features = features
        self.settings = settings
        self.proxy = proxy
        self._closers: list[Callable[[], None]] = []

    def publisher(self) -> Publisher:
        """
        Return a new publisher.
        """
        publisher = self.transport.publisher()
        self._closers.append(publisher.close)
        return publisher

    def consumer(self, *partitions: int) -> Consumer:
        """
        Return a new consumer to which partitions are assigned.
        """
        consumer = self.transport.consumer()
        self._closers.append(consumer.close)
        for partition in partitions:
            consumer.assign(partition)
        return consumer

    def send(self, partition: int, bodies: Iterable[bytes]) -> None:
        """
        Publish messages in order, and wait until all are confirmed.
        """
        publisher = self.transport.publisher()
        confirmed([publisher.publish(partition, body) for body in bodies])
        publisher.close()

    def close(self) -> None:
        """
        Close everything.
        """
        if self.proxy is not None:
            self.proxy.up()
        for close in reversed(self._closers):
            close()


def memory_carrier() -> Carrier:
    """
    Commands within the process.
    """
    settings = controls.settings()
    features = Features(remote=False)
    return Carrier(MemoryTransport(MemoryServer(settings.partitions)), features, settings)


def redis_carrier(url: str, namespace: str | None = None, **changes: Any) -> Carrier:
    """
    Commands over Redis Streams, through a line that can be cut.
    """
    proxy = line_to(url)
    settings = controls.settings(redis_url=through(proxy, url), namespace=namespace or _name(), **changes)
    return Carrier(RedisTransport(settings), Features(exclusive=False), settings, proxy)


def cluster_carrier(url: str, lines: Lines) -> Carrier:
    """
    Commands over the streams of a cluster, through lines that can be cut.
    """
    settings = controls.settings(redis_url=url, namespace=_name())
    return Carrier(RedisTransport(settings), Features(exclusive=False), settings, lines)


def rabbit_carrier(url: str, namespace: str | None = None, **changes: Any) -> Carrier:
    """
    Commands over RabbitMQ, through a line that can be cut.
    """
    proxy = line_to(url)
    settings = rabbit_settings(through(proxy, url), namespace=namespace or _name(), **changes)
    return Carrier(
        RabbitTransport(settings), Features(counts_taken=False, fetches_ahead=True), settings, proxy
    )


def rabbit_settings(url: str, **changes: Any) -> Settings:
    """
    Settings for a RabbitMQ; the Redis that they name is not used.
    """
    return controls.settings(redis_url="redis://unused:1/0", amqp_url=url, **changes)


def through(proxy: Proxy, url: str) -> str:
    """
    Return a URL that leads through a line.
    """
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{proxy.port}"))


def line_to(url: str) -> Proxy:
    """
    Return a line to the server of a URL.
    """
    parts = urlsplit(url)
    return Proxy(parts.port or {"redis": 6379, "amqp": 5672}[parts.scheme], parts.hostname or "127.0.0.1")


def _name() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def numbers(*span: int) -> list[bytes]:
    """
    Messages that say their number, as `range` counts.
    """
    return [b"%d" % number for number in range(*span)]


def confirmed(futures: Sequence["Future[None]"]) -> None:
    """
    Wait until every message is confirmed.
    """
    for future in futures:
        assert future.result(SECONDS_MAX) is None


def collect(consumer: Consumer, count: int, *, ack: bool = True, limit: int = 1_000) -> list[Delivery]:
    """
    Take so many messages, acknowledging each batch before the next if asked to; fail when they do not come.
    """
    found: list[Delivery] = []
    until = time.monotonic() + SECONDS_MAX
    while len(found) < count:
        taken = consumer.take(min(limit, count - len(found)), 0.5)
        if ack and taken:
            consumer.ack(taken)
        found += taken
        assert taken or time.monotonic() < until, f"{len(found)} of {count} messages came"
    return found


def drain(consumer: Consumer, partition: int) -> list[Delivery]:
    """
    Revoke a partition, finish what was taken of it, and return what still came.
    """
    consumer.revoke(partition)
    found: list[Delivery] = []

    def finished() -> bool:
        taken = consumer.take(1_000, 0)
        consumer.ack(taken)
        found.extend(taken)
        return consumer.outstanding(partition) == 0

    eventually(finished)
    return found


def bodies(deliveries: Iterable[Delivery], partition: int | None = None) -> list[bytes]:
    """
    Return what deliveries carry, of all partitions or of one.
    """
    return [one.body for one in deliveries if partition in (None, one.partition)]
