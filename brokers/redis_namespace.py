"""A namespace in Redis: what was fixed when it was first used, and its removal."""

from __future__ import annotations

import secrets
from typing import Any

from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import PartitionsMismatch

#: Keys that one step of a removal takes.
ERASE_STEP = 1_000


def settle(settings: Settings, link: RedisLink) -> None:
    """Fix the number of partitions at first use, and check it at every other.

    What is there already is only read: a server that takes no writes, being full, must still let in who looks at it,
    or who sends through RabbitMQ.

    Raises:
        PartitionsMismatch: The namespace has another number of partitions.
    """
    key = Keys(settings.namespace).meta()
    with unavailable(link):
        found: Any = link.client.hmget(key, ["partitions", "incarnation"])
        if None in found:
            pipe = link.at(key).pipeline(transaction=True)
            pipe.hsetnx(key, "partitions", settings.partitions)
            pipe.hsetnx(key, "incarnation", secrets.token_hex(8))
            pipe.hget(key, "partitions")
            found = pipe.execute()[2:]
        stored = int(found[0])
    if stored != settings.partitions:
        message = (
            f"namespace {settings.namespace!r} was created with {stored} partitions, but HOLDFAST_PARTITIONS is "
            f"{settings.partitions}. Keys would be looked for in the wrong place: set HOLDFAST_PARTITIONS={stored}, "
            "or use another HOLDFAST_NAMESPACE"
        )
        raise PartitionsMismatch(message)


def stored_partitions(settings: Settings, link: RedisLink) -> int | None:
    """Return the number of partitions that the namespace was created with; None if it is new."""
    with unavailable(link):
        found: Any = link.client.hget(Keys(settings.namespace).meta(), "partitions")
    return None if found is None else int(found)


def erase(settings: Settings, link: RedisLink) -> int:
    """Delete every key of the namespace, step by step, and return how many there were."""
    count = 0
    with unavailable(link):
        for pattern in Keys(settings.namespace).patterns():
            step: list[Any] = []
            for key in link.client.scan_iter(match=pattern, count=ERASE_STEP):
                step.append(key)
                if len(step) == ERASE_STEP:
                    count += int(link.client.unlink(*step))
                    step.clear()
            if step:
                count += int(link.client.unlink(*step))
    return count
