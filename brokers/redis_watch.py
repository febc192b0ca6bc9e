"""A watch over streams of a cluster: one waiting connection for each, and one wait over all of them.

A blocking read may only name streams of one slot, and a connection that blocks can ask for nothing else. The reads stay
where they are between two waits, so a wait costs no call while nothing happens.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError, ResponseError

from holdfast.brokers.redis_cluster import Address, ClusterClient

#: Streams that one watch has connections for; where there are more it comes back soon, and all are looked at.
LINES_MAX = 128
POLL_S = 0.02
#: How long one read blocks, and how much longer its answer may take before the server is taken for dead.
BLOCK_MS = 5_000
GRACE_S = 5.0


@dataclass(slots=True)
class _Line:
    """A connection that waits for one stream."""

    connection: Any
    address: Address
    #: When it was last told to wait; 0 while it does not.
    since: float = 0.0


class StreamWatch:
    """Waits until one of many streams has something behind a position. For one thread at a time."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._lines: dict[str, _Line] = {}

    def wait(self, after: Mapping[str, str], timeout_s: float) -> None:
        """Return once a stream may have something new, or after the timeout.

        Raises:
            ConnectionError, TimeoutError: A server went away.
        """
        for name in self._lines.keys() - after.keys():
            self._drop(name)
        watched = dict(list(after.items())[:LINES_MAX])
        if len(watched) < len(after):
            timeout_s = min(timeout_s, POLL_S)
        try:
            self._wait(watched, time.monotonic() + timeout_s)
        except (RedisError, OSError):
            self._client.doubt()
            raise

    def _wait(self, after: Mapping[str, str], deadline: float) -> None:
        for name, position in after.items():
            self._arm(name, position)
        # Not select(), which knows no file beyond the 1,024th of a process.
        watch = select.poll()
        by_file = {self._lines[name].connection._sock.fileno(): name for name in after}
        for file in by_file:
            watch.register(file, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            ready = [by_file[file] for file, _ in watch.poll(math.ceil(left * 1000))]
            heard = [self._heard(name) for name in ready]
            if not ready or any(heard):
                return
            for name in ready:
                self._arm(name, after[name])

    def _arm(self, name: str, position: str) -> None:
        """Have a line wait, at the server that has its stream now."""
        address = self._client.address_of(name)
        line = self._lines.get(name)
        if line is not None and line.address != address:
            self._drop(name)
            line = None
        if line is None:
            pool = self._client.node(address).connection_pool
            line = self._lines[name] = _Line(pool.connection_class(**pool.connection_kwargs), address)
            line.connection.connect()
        if not line.since:
            words = ("XREAD", "COUNT", 1, "BLOCK", BLOCK_MS, "STREAMS", name, position)
            line.connection.send_command(*words)
            line.since = time.monotonic()
        elif time.monotonic() - line.since > BLOCK_MS / 1000 + GRACE_S:
            self._drop(name)
            message = f"{address[0]}:{address[1]} said nothing for too long"
            raise redis.exceptions.TimeoutError(message)

    def _heard(self, name: str) -> bool:
        """Return whether a line had something to say but that nothing came."""
        line = self._lines[name]
        try:
            reply = line.connection.read_response()
        except ResponseError as error:
            # The stream is elsewhere now, or its server has become a replica.
            self._drop(name)
            message = f"a wait was ended: {error}"
            raise redis.exceptions.ConnectionError(message) from error
        except (RedisError, OSError):
            self._drop(name)
            raise
        line.since = 0.0
        return reply is not None

    def _drop(self, name: str) -> None:
        self._lines.pop(name).connection.disconnect()

    def close(self) -> None:
        """Close all connections."""
        for name in list(self._lines):
            self._drop(name)
