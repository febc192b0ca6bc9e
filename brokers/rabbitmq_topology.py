"""The exchanges and queues of a namespace.

<ns>.commands  direct exchange   routing key = partition -> quorum queue <ns>.commands.<p>, single active consumer
<ns>.ingress   fanout exchange   -> quorum queue <ns>.ingress: what other programs send; Holdfast finds the partition and
                                 sends it on. A user who may write to this exchange alone reaches no other queue.
<ns>.dead      fanout exchange   -> quorum queue <ns>.dead: what the broker itself gave up on
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any, Self

import pika
import pika.exceptions

from holdfast.brokers.rabbitmq_loop import CONNECTION_ERRORS, explain, parameters
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import SetupError

log = logging.getLogger(__name__)

#: How often the broker hands out one message before it gives it up. Holdfast gives up long before, with more to say.
DELIVERY_LIMIT = 100

_MISMATCH = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for (?P<kind>\w+) '(?P<queue>[^']+)'.*?: (?P<facts>.*)"
)


class Topology:
    """The names and arguments of a namespace's exchanges and queues."""

    def __init__(self, namespace: str, partitions: int) -> None:
        self.exchange = f"{namespace}.commands"
        self.ingress = f"{namespace}.ingress"
        self.dead = f"{namespace}.dead"
        self.partitions = partitions

    def queue(self, partition: int) -> str:
        """Return the queue of a partition."""
        return f"{self.exchange}.{partition}"

    def arguments(self, *, dead_letters: bool = True) -> dict[str, Any]:
        """Return the arguments that the queues are declared with."""
        found: dict[str, Any] = {
            "x-queue-type": "quorum",
            "x-single-active-consumer": True,
            "x-overflow": "reject-publish",
        }
        if dead_letters:
            found |= {
                "x-delivery-limit": DELIVERY_LIMIT,
                "x-dead-letter-exchange": self.dead,
                "x-dead-letter-strategy": "at-least-once",
            }
        return found


def declare(settings: Settings, partitions: Iterable[int] | None = None) -> list[str]:
    """Declare what is missing, adopt what is there, and return what about it is not as we would have it.

    Args:
        settings: The namespace.
        partitions: Those whose queues are looked at; all of them without.

    Raises:
        SetupError: A queue that is there cannot be used.
        Unavailable: The server cannot be reached.
    """
    topology = Topology(settings.namespace, settings.partitions)
    with _Declarer(settings) as declarer:
        declarer.exchange(topology.dead, "fanout")
        declarer.queue(topology.dead, topology.arguments(dead_letters=False))
        declarer.bind(topology.dead, topology.dead, "")
        declarer.exchange(topology.exchange, "direct")
        declarer.exchange(topology.ingress, "fanout")
        declarer.queue(topology.ingress, topology.arguments())
        declarer.bind(topology.ingress, topology.ingress, "")
        for partition in range(topology.partitions) if partitions is None else partitions:
            declarer.queue(topology.queue(partition), topology.arguments())
            declarer.bind(topology.queue(partition), topology.exchange, str(partition))
        return declarer.differences


def remove(settings: Settings) -> None:
    """Delete the namespace's exchanges and queues, and everything in them."""
    topology = Topology(settings.namespace, settings.partitions)
    with _Declarer(settings) as declarer:
        for name in (
            topology.dead,
            topology.ingress,
            *(topology.queue(p) for p in range(topology.partitions)),
        ):
            declarer.channel().queue_delete(name)
        for name in (topology.exchange, topology.ingress, topology.dead):
            declarer.channel().exchange_delete(name)


def depths(settings: Settings, names: list[str]) -> dict[str, int | None]:
    """Return how many messages wait in each queue; None for one that does not exist."""
    found: dict[str, int | None] = {}
    with _Declarer(settings) as declarer:
        for name in names:
            try:
                found[name] = declarer.channel().queue_declare(name, passive=True).method.message_count
            except pika.exceptions.ChannelClosedByBroker:
                found[name] = None
    return found


class _Declarer:
    """A blocking connection whose channel is made anew when the broker closes it for a refusal."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Any = None
        self._channel: Any = None
        self.differences: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._connection = pika.BlockingConnection(parameters(self._settings, "topology"))
        except CONNECTION_ERRORS as error:
            raise explain(self._settings, error) from error
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            if self._connection.is_open:
                self._connection.close()
        except CONNECTION_ERRORS:
            pass  # it broke just now, which is as good
        if isinstance(error, CONNECTION_ERRORS):
            raise explain(self._settings, error) from error

    def channel(self) -> Any:
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
        return self._channel

    def exchange(self, name: str, kind: str) -> None:
        self._declare(
            name,
            lambda passive: self.channel().exchange_declare(
                name, exchange_type=kind, durable=True, passive=passive
            ),
        )

    def queue(self, name: str, arguments: dict[str, Any]) -> None:
        self._declare(
            name,
            lambda passive: self.channel().queue_declare(
                name, durable=True, passive=passive, arguments=None if passive else arguments
            ),
        )

    def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        try:
            self.channel().queue_bind(queue, exchange, routing_key)
        except pika.exceptions.ChannelClosedByBroker as error:
            # A client that may only send may not bind; whoever set the queues up has.
            log.info("queue not bound", extra={"queue": queue, "error": error.reply_text})

    def _declare(self, name: str, declare_: Any) -> None:
        try:
            declare_(False)
        except pika.exceptions.ChannelClosedByBroker as refusal:
            self._adopt(name, declare_, refusal)

    def _adopt(self, name: str, declare_: Any, refusal: Any) -> None:
        """Use what is already there under this name, unless messages in it would not survive."""
        found = _MISMATCH.search(refusal.reply_text)
        if found and found["name"] in ("durable", "auto_delete", "exclusive", "type"):
            message = (
                f"RabbitMQ already has {found['kind']} {name!r} with another {found['name']} ({found['facts']}), which "
                f"Holdfast cannot use: remove it, or use another HOLDFAST_NAMESPACE than {self._settings.namespace!r}"
            )
            raise SetupError(message) from refusal
        try:
            declare_(True)
        except pika.exceptions.ChannelClosedByBroker as error:
            message = (
                f"RabbitMQ has no {name!r} and does not let this user declare it ({refusal.reply_text}): "
                "let a user who may do so run `holdfast doctor` or a worker once"
            )
            raise SetupError(message) from error
        if found:
            difference = f"{name}: {found['name']}: {found['facts']}"
            self.differences.append(difference)
            log.warning("queue adopted with other arguments", extra={"queue": name, "difference": difference})
