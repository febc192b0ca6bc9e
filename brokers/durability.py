"""Durability levels on Redis: what the server must be set to, checked at start, and the barrier of each."""

from __future__ import annotations

import time
from typing import Any

import redis

from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, info, unavailable
from holdfast.runtime.config import Durability, Settings
from holdfast.runtime.errors import DurabilityUnavailable, NotDurable

#: How long one barrier may take before the batch is tried again.
BARRIER_TIMEOUT_MS = 5_000


class Barrier:
    """Waits until everything that its link's thread wrote is as durable as configured: once per batch."""

    def __init__(self, settings: Settings, link: RedisLink, *, waitaof: bool) -> None:
        self._durability = settings.durability
        self._link = link
        self._key = Keys(settings.namespace).barrier()
        self._waitaof = waitaof

    def take(self) -> None:
        """Wait for the barrier.

        A write of no meaning goes first, on the same connection: after a reconnection WAIT would otherwise know of
        nothing to wait for. Replication and AOF are in order, so what covers the last write covers all before it.

        Raises:
            NotDurable: It was not reached in time.
        """
        if self._durability.replicas:
            reached = self._wait("WAIT", self._durability.replicas, BARRIER_TIMEOUT_MS)
            if reached < self._durability.replicas:
                message = f"only {reached} of {self._durability.replicas} replicas have the writes"
                raise NotDurable(message)
        elif self._waitaof:
            reached = self._wait("WAITAOF", 1, 0, BARRIER_TIMEOUT_MS)[0]
            if reached < 1:
                message = f"Redis did not write its AOF to disk within {BARRIER_TIMEOUT_MS / 1000:g} s"
                raise NotDurable(message)

    def _wait(self, *command: str | int) -> Any:
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            pipe.set(self._key, time.monotonic_ns())
            pipe.execute_command(*command)
            return pipe.execute()[1]


def barrier(settings: Settings, link: RedisLink) -> Barrier:
    """Return the barrier of the configured level, after checking that the server can give it.

    Raises:
        DurabilityUnavailable: It cannot; the message says what to change.
    """
    problem = shortfall(settings.durability, link)
    if problem:
        raise DurabilityUnavailable(problem)
    waitaof = settings.durability.level == "fsync" and _configured(link, "appendfsync") != "always"
    return Barrier(settings, link, waitaof=waitaof)


def shortfall(durability: Durability, link: RedisLink) -> str | None:
    """Return why the server cannot give a durability level and what to change, or None if it can."""
    if durability.level == "memory":
        return None
    if durability.replicas:
        have = int(info(link, "replication").get("connected_slaves", 0))
        if have >= durability.replicas:
            return None
        return (
            f"durability {durability} needs {durability.replicas} connected replicas; Redis at {link.where} has {have}. "
            "Connect them, or set HOLDFAST_DURABILITY to a level that this server gives"
        )
    appendonly, appendfsync = _configured(link, "appendonly"), _configured(link, "appendfsync")
    if appendonly is None:
        # A managed server that hides its configuration still says whether it writes an AOF; how often, it does not.
        enabled = str(info(link, "persistence").get("aof_enabled", "0")) == "1"
        appendonly, appendfsync = ("yes" if enabled else "no"), "everysec"
    if appendonly != "yes":
        return (
            f"durability {durability} needs the append-only file; Redis at {link.where} has appendonly no. "
            "Run CONFIG SET appendonly yes and put it into redis.conf, or set HOLDFAST_DURABILITY=memory "
            "if losing everything at a restart is all right"
        )
    if durability.level == "everysec" and appendfsync == "no":
        return (
            f"durability everysec needs appendfsync everysec or always; Redis at {link.where} has appendfsync no. "
            "Run CONFIG SET appendfsync everysec and put it into redis.conf"
        )
    if durability.level == "fsync" and appendfsync != "always" and not has_waitaof(link):
        return (
            f"durability fsync needs appendfsync always, or Redis 7.2 with WAITAOF; Redis at {link.where} has "
            f"appendfsync {appendfsync}. Run CONFIG SET appendfsync always and put it into redis.conf"
        )
    return None


def has_waitaof(link: RedisLink) -> bool:
    """Return whether the server knows WAITAOF (Redis 7.2 and later)."""
    with unavailable(link):
        try:
            # As one word: redis-py trips over what COMMAND answers for a command that is not there.
            found: Any = link.client.execute_command("COMMAND INFO", "WAITAOF")
        except redis.exceptions.NoPermissionError:
            return False
    return bool(found) and found[0] is not None


def _configured(link: RedisLink, name: str) -> str | None:
    """Return a server setting, or None where the server does not tell."""
    with unavailable(link):
        try:
            found: Any = link.client.config_get(name)
        except redis.exceptions.ResponseError:
            return None
    value: str | None = found.get(name)
    return value
