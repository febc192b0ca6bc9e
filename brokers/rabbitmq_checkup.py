"""Whether RabbitMQ is as the promises need it.

AMQP cannot read the arguments of a queue, but a broker that refuses a declaration names the first argument that
differs, and its value. So a queue is declared again and again, each time with one argument as it really is, until
the broker agrees: then all of them are known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pika
import pika.exceptions

from holdfast.brokers.finding import Finding, error, numbers, ok, warning
from holdfast.brokers.rabbitmq_loop import (
    ACCESS_REFUSED,
    CONNECTION_ERRORS,
    RIGHTS,
    explain,
    parameters,
)
from holdfast.brokers.rabbitmq_topology import DELIVERY_LIMIT, Topology, declare, depths
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import HoldfastError, SetupError
from holdfast.runtime.redaction import hide_password

#: The oldest RabbitMQ whose quorum queues dead-letter at least once.
OLDEST = (3, 10)

#: Which check an argument belongs to; all others belong to "queues".
_CHECKS = {
    "x-queue-type": "queue-types",
    "x-delivery-limit": "delivery-limit",
    "x-dead-letter-exchange": "dead-lettering",
    "x-dead-letter-strategy": "dead-lettering",
    "x-overflow": "dead-lettering",
}
_REFUSAL = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' .* but current is (?:none|(?:the value )?'(?P<value>.*?)'(?: of type '\w+')?)$"
)
#: More arguments than there are.
ARGUMENTS_MAX = 20
#: How many queues are named that differ in the same way, or for which the same right is missing.
NAMES_MAX = 3


def examine_server(settings: Settings) -> Finding:
    """Return whether the server can be reached, and its version."""
    try:
        with _connected(settings) as connection:
            version = str((connection._impl.server_properties or {}).get("version", "unknown"))
    except SetupError as refusal:
        return error("rabbitmq", str(refusal), "correct HOLDFAST_AMQP_URL")
    except HoldfastError as absence:
        return error("rabbitmq", str(absence), "start RabbitMQ, or correct HOLDFAST_AMQP_URL")
    where = hide_password(settings.amqp_url)
    if numbers(version) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        found = f"RabbitMQ {version} at {where} is older than {needed}: its queues may lose dead letters"
        return warning("rabbitmq", found, f"upgrade to RabbitMQ {needed} or newer")
    return ok("rabbitmq", f"RabbitMQ {version} at {where}")


def examine_queues(settings: Settings) -> Iterator[Finding]:
    """Yield what is to be said of the queues, once those that are missing are declared."""
    try:
        adopted = dict.fromkeys(difference.partition(": ")[0] for difference in declare(settings))
        differing = _differing(settings, list(adopted))
    except HoldfastError as failure:
        yield error("queues", str(failure), "remove what is in the way, or use another HOLDFAST_NAMESPACE")
        return
    well = {
        "queues": f"{settings.partitions + 2} declared, durable, one active consumer each",
        "queue-types": "quorum",
        "delivery-limit": f"{DELIVERY_LIMIT}",
        "dead-lettering": f"at least once, to {Topology(settings.namespace, settings.partitions).dead}",
    }
    for check, found in well.items():
        if differing[check]:
            remedy = "stop the workers, let these queues run empty, delete them, and start a worker: it declares them anew"
            yield warning(check, "; ".join(map(_told, differing[check].items())), remedy)
        else:
            yield ok(check, found)


def examine_rights(settings: Settings) -> Finding:
    """Return whether the user may do what clients and workers do, once everything is declared.

    RabbitMQ looks at rights before it looks at what is asked. So what only needs rights is asked in a form that it
    cannot take, which touches no message: 403 is a right that is missing, and any other refusal means that it is there.
    What is declared is declared once more as it is.
    """
    topology = Topology(settings.namespace, settings.partitions)
    partitions = [(topology.queue(p), topology.exchange, str(p)) for p in range(settings.partitions)]
    bindings = [
        *partitions,
        (topology.ingress, topology.ingress, ""),
        (topology.dead, topology.dead, ""),
    ]
    try:
        with _connected(settings) as connection:
            user = str(connection._impl.params.credentials.username)
            asks = _Asks(connection)
            if not asks.may(lambda channel: _publish_nothing(channel, topology.exchange)):
                found = (
                    f"user {user!r} may not write to exchange {topology.exchange!r}: it can send no commands"
                )
                return error("queue-rights", found, f"give it the rights of {RIGHTS}")
            missing = list(_missing(asks, topology, bindings))
    except HoldfastError as failure:
        return error("queue-rights", str(failure), "put that right, and look again")
    if missing:
        rights = defaultdict(list)
        for verb, name in missing:
            rights[verb].append(name)
        told = "; ".join(f"{verb} {_few(names)}" for verb, names in rights.items())
        found = f"user {user!r} may send commands, but not serve them: it may not {told}"
        return warning(
            "queue-rights", found, f"that is enough for a client; give a worker the rights of {RIGHTS}"
        )
    return ok("queue-rights", f"user {user!r} may declare, write and read all that is needed")


def _missing(
    asks: _Asks, topology: Topology, bindings: list[tuple[str, str, str]]
) -> Iterator[tuple[str, str]]:
    """Yield what a worker needs and this user may not: to do what, with what."""
    for name, kind in (
        (topology.exchange, "direct"),
        (topology.ingress, "fanout"),
        (topology.dead, "fanout"),
    ):
        if not asks.may(partial(_declare_exchange, name=name, kind=kind)):
            yield "configure", f"exchange {name!r}"
    for queue, exchange, routing_key in bindings:
        arguments = topology.arguments(dead_letters=queue != topology.dead)
        if not asks.may(partial(_declare_queue, queue=queue, arguments=arguments)):
            yield "configure", f"queue {queue!r}"
        if not asks.may(partial(_bind, queue=queue, exchange=exchange, routing_key=routing_key)):
            # It takes the right to write to the queue, and to read the exchange.
            reading = "to exchange" in asks.said
            yield ("read", f"exchange {exchange!r}") if reading else ("write to", f"queue {queue!r}")
        if not asks.may(partial(_consume_nothing, queue=queue)):
            yield "read", f"queue {queue!r}"


class _Asks:
    """Asks a broker one thing after the other, each refusal of which costs a channel."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._channel: Any = None
        #: What the last refusal for want of a right said.
        self.said = ""

    def may(self, action: Callable[[Any], object]) -> bool:
        """Return whether the user has the right to do something, whatever else is against it."""
        try:
            if self._channel is None or not self._channel.is_open:
                self._channel = self._connection.channel()
                self._channel.confirm_delivery()
            action(self._channel)
        except pika.exceptions.ChannelClosedByBroker as refusal:
            self.said = refusal.reply_text
            return bool(refusal.reply_code != ACCESS_REFUSED)
        except pika.exceptions.UnroutableError:
            pass
        return True


def _publish_nothing(channel: Any, exchange: str) -> None:
    """Publish what no broker takes, for a time that is none; and were it taken, it would go nowhere."""
    channel.basic_publish(exchange, "nowhere", b"", pika.BasicProperties(expiration="never"), mandatory=True)


def _consume_nothing(channel: Any, queue: str) -> None:
    """Ask for messages in a way that no broker takes, with a priority that is no number."""
    channel.basic_consume(queue, lambda *_: None, arguments={"x-priority": "none"})


def _declare_exchange(channel: Any, name: str, kind: str) -> None:
    channel.exchange_declare(name, exchange_type=kind, durable=True)


def _declare_queue(channel: Any, queue: str, arguments: dict[str, Any]) -> None:
    channel.queue_declare(queue, durable=True, arguments=arguments)


def _bind(channel: Any, queue: str, exchange: str, routing_key: str) -> None:
    channel.queue_bind(queue, exchange, routing_key)


#: By check, by argument and what it is: the queues.
_Differing = dict[str, dict[tuple[str, str], list[str]]]


def _differing(settings: Settings, queues: list[str]) -> _Differing:
    topology = Topology(settings.namespace, settings.partitions)
    found: _Differing = defaultdict(lambda: defaultdict(list))
    for queue in queues:
        wanted = topology.arguments(dead_letters=queue != topology.dead)
        for name, value in _differences(settings, queue, wanted).items():
            found[_CHECKS.get(name, "queues")][name, value].append(queue)
    return found


def _differences(settings: Settings, queue: str, wanted: dict[str, Any]) -> dict[str, str]:
    """Return the arguments of a queue that are not as we would have them, and what they are."""
    arguments, found = dict(wanted), dict[str, str]()
    with _connected(settings) as connection:
        for _ in range(ARGUMENTS_MAX):
            try:
                connection.channel().queue_declare(queue, durable=True, arguments=arguments)
                break
            except pika.exceptions.ChannelClosedByBroker as refusal:
                difference = _REFUSAL.search(refusal.reply_text)
                if difference is None or difference["name"] in found:
                    break
                name, value = difference["name"], difference["value"]
                found[name] = "none" if value is None else value
                arguments.pop(name, None)
                if value is not None:
                    arguments[name] = _typed(value)
    if found.get("x-queue-type", "quorum") != "quorum":
        # A classic queue takes any of these, and heeds none.
        found |= {name: "none" for name in ("x-delivery-limit", "x-dead-letter-strategy") if name in wanted}
    return found


def _typed(value: str) -> str | int | bool:
    if value in ("true", "false"):
        return value == "true"
    return int(value) if value.isdecimal() else value


def _told(difference: tuple[tuple[str, str], list[str]]) -> str:
    (name, value), queues = difference
    return f"{_few(queues)}: {name} is {'classic' if (name, value) == ('x-queue-type', 'none') else value}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return f"{', '.join(names[:NAMES_MAX])}{more}"


@contextmanager
def _connected(settings: Settings) -> Iterator[Any]:
    """Open a connection.

    Raises:
        SetupError, Unavailable: It cannot be had.
    """
    try:
        connection: Any = pika.BlockingConnection(parameters(settings, "doctor"))
    except CONNECTION_ERRORS as failure:
        raise explain(settings, failure) from failure
    try:
        yield connection
    except CONNECTION_ERRORS as failure:
        raise explain(settings, failure) from failure
    finally:
        with suppress(*CONNECTION_ERRORS):  # where it breaks just now, that is as good
            if connection.is_open:
                connection.close()


def waiting(settings: Settings) -> dict[str, int]:
    """Return how many messages wait in each queue.

    Raises:
        Unavailable: The server cannot be reached.
    """
    topology = Topology(settings.namespace, settings.partitions)
    names = [
        *(topology.queue(partition) for partition in range(settings.partitions)),
        topology.ingress,
        topology.dead,
    ]
    return {name: count or 0 for name, count in depths(settings, names).items()}
