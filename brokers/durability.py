"""Durability levels on Redis: what the server must be set to, checked at start, and the barrier of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis

from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, Spot, info, unavailable
from holdfast.runtime.config import Durability, Settings
from holdfast.runtime.errors import DurabilityUnavailable, NotDurable

#: How long one barrier may take before the batch is tried again.
BARRIER_TIMEOUT_MS = 5_000


class AnotherServer(NotDurable):
    """Since something was written, another server came in the place of the one that it was written to."""


class Barrier:
    """Waits until everything that its link's thread wrote is as durable as configured: once per batch."""

    def __init__(self, settings: Settings, link: RedisLink, *, waitaof: bool) -> None:
        self._durability = settings.durability
        self._link = link
        self._key = Keys(settings.namespace).barrier()
        self._waitaof = waitaof
        self._seen = link.changes

    def take(self) -> None:
        """Wait for the barrier.

        A write of no meaning goes first, on the same connection: after a reconnection WAIT would otherwise know of
        nothing to wait for. Replication and AOF are in order, so what covers the last write covers all before it, as
        long as it is the same server still: what a replica has that was promoted meanwhile says nothing about what its
        former primary was told. On a cluster each server that was written to is asked.

        Raises:
            NotDurable: It was not reached in time.
            AnotherServer: Another server came in the place of one that was written to, or that one was started again.
        """
        if self._durability.replicas:
            for where, reached in self._wait("WAIT", self._durability.replicas, BARRIER_TIMEOUT_MS):
                if reached < self._durability.replicas:
                    whose = f" of {where}" if self._link.cluster is not None else ""
                    message = f"only {reached} of {self._durability.replicas} replicas{whose} have the writes"
                    raise NotDurable(message)
        elif self._waitaof:
            for where, reached in self._wait("WAITAOF", 1, 0, BARRIER_TIMEOUT_MS):
                if reached[0] < 1:
                    message = f"Redis at {where} did not write its AOF to disk within {BARRIER_TIMEOUT_MS / 1000:g} s"
                    raise NotDurable(message)
        elif self._link.cluster is not None:
            self._link.cluster.written.clear()
        if self._link.changes != self._seen:
            self._seen = self._link.changes
            message = (
                f"another server answers for Redis at {self._link.where}: it may not have what was written"
            )
            raise AnotherServer(message)

    def _wait(self, *command: str | int) -> list[tuple[str, Any]]:
        with unavailable(self._link):
            if self._link.cluster is not None:
                found = self._link.cluster.settle(command, time.monotonic_ns())
                return [(f"{host}:{port}", reply) for (host, port), reply in found.items()]
            pipe = self._link.client.pipeline(transaction=False)
            pipe.set(self._key, time.monotonic_ns())
            pipe.execute_command(*command)
            return [(self._link.where, pipe.execute()[1])]


def barrier(settings: Settings, link: RedisLink) -> Barrier:
    """Return the barrier of the configured level, after checking that the server can give it.

    Raises:
        DurabilityUnavailable: It cannot; the message says what to change.
    """
    problem = shortfall(settings.durability, link)
    if problem:
        raise DurabilityUnavailable(problem)
    with unavailable(link):
        spots = link.spots()
    waitaof = settings.durability.level == "fsync" and any(
        _configured(spot, "appendfsync") != "always" for spot in spots
    )
    return Barrier(settings, link, waitaof=waitaof)


def lasting(settings: Settings, link: RedisLink) -> Callable[[], bool]:
    """Return what waits until all that a link wrote and read is as durable as configured, and connects only then.

    It returns False where another server has come since: that may not have it.

    Raises:
        NotDurable: By what is returned: it was not reached in time.
    """
    level = settings.durability.level
    if level not in ("fsync", "replicated"):
        return lambda: True
    kept = [Barrier(settings, link, waitaof=False)] if level == "replicated" else []

    def take() -> bool:
        if not kept:
            kept.append(barrier(settings, link))
        try:
            kept[0].take()
        except AnotherServer:
            return False
        return True

    return take


def shortfall(durability: Durability, link: RedisLink) -> str | None:
    """Return why a server cannot give a durability level and what to change, or None if all can."""
    if durability.level == "memory":
        return None
    with unavailable(link):
        spots = link.spots()
    return next(filter(None, (shortfall_of(durability, spot) for spot in spots)), None)


def shortfall_of(durability: Durability, link: Spot) -> str | None:
    """Return why one server cannot give a level."""
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


def has_waitaof(link: Spot) -> bool:
    """Return whether the server knows WAITAOF (Redis 7.2 and later)."""
    with unavailable(link):
        try:
            # As one word: redis-py trips over what COMMAND answers for a command that is not there.
            found: Any = link.client.execute_command("COMMAND INFO", "WAITAOF")
        except redis.exceptions.NoPermissionError:
            return False
    return bool(found) and found[0] is not None


def _configured(link: Spot, name: str) -> str | None:
    """Return a server setting, or None where the server does not tell."""
    with unavailable(link):
        try:
            found: Any = link.client.config_get(name)
        except redis.exceptions.ResponseError:
            return None
    value: str | None = found.get(name)
    return value
