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
#: How many queues are named that differ in the same way.
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
    names = ", ".join(queues[:NAMES_MAX])
    more = f" and {len(queues) - NAMES_MAX} more" if len(queues) > NAMES_MAX else ""
    return f"{names}{more}: {name} is {'classic' if (name, value) == ('x-queue-type', 'none') else value}"


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
