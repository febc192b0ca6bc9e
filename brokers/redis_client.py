"""redis-py's client over one connection that it keeps, and pipelines over the same.

redis-py takes a connection out of a pool for each call, looks whether it is still good, and puts it back; that is more
than half of what a short call costs. Here it is kept, and looked at only when it was not used for a moment: one that
breaks between two calls that follow each other at once is no other than one that breaks during a call, which every
caller has to expect anyhow.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

import redis
from redis.commands import CoreCommands
from redis.exceptions import RedisError, ResponseError

#: Words and options of a call.
Call = tuple[tuple[Any, ...], dict[str, Any]]

#: A connection that was not used for longer is looked at first, in seconds: a server that ends takes longer to be back.
FRESH_S = 0.05


class Runs(Protocol):
    """What makes many calls together."""

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Make calls, and return replies and refusals in their order."""
        ...


class Pipeline(CoreCommands):
    """Calls that are made together, and no transaction."""

    #: redis-py's own, for caches that nobody here has.
    _event_dispatcher: Any = None

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._calls: list[Call] = []

    def execute_command(self, *args: Any, **options: Any) -> Pipeline:
        """Put a call behind the others."""
        self._calls.append((args, options))
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Make the calls, and return their replies in order."""
        calls, self._calls = self._calls, []
        replies = self._runs.run(calls)
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies


class Client(redis.Redis):
    """Calls of one server, over one connection. It repeats none.

    It is for one thread at a time. A call that comes while another one is made, as from a signal handler, goes over a
    connection from the pool.
    """

    #: redis-py's own, which have no types.
    parse_response: Any
    pubsub: Any

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._kept: Any = None
        self._pid = 0
        self._used = 0.0
        self._lent = threading.Lock()
        super().__init__(connection_pool=pool)

    def lend(self) -> Any:
        """Return a connection, for `take_back` to be told of. One that broke connects again when it is written to.

        Raises:
            redis.exceptions.RedisError, OSError: There was none yet, and the server does not answer.
        """
        if not self._lent.acquire(blocking=False):
            return self.connection_pool.get_connection()
        try:
            if self._kept is None or self._pid != os.getpid():
                self._kept, self._pid = self.connection_pool.get_connection(), os.getpid()
            elif time.monotonic() - self._used > FRESH_S and _is_stale(self._kept):
                self._kept.disconnect()
        except BaseException:
            self._lent.release()
            raise
        return self._kept

    def take_back(self, connection: Any) -> None:
        """Take back what was lent, with all its replies read, or disconnected."""
        if connection is self._kept:
            self._used = time.monotonic()
            self._lent.release()
        else:
            self.connection_pool.release(connection)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Make a call."""
        connection = self.lend()
        try:
            connection.send_command(*args)
            return self.parse_response(connection, args[0], **options)
        except ResponseError:
            raise
        except BaseException:
            # What was not read would be taken for the answer to the next call.
            connection.disconnect()
            raise
        finally:
            self.take_back(connection)

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Make many calls in one round trip, and return replies and refusals in their order."""
        if not calls:
            return []
        connection = self.lend()
        try:
            connection.send_packed_command(connection.pack_commands([args for args, _ in calls]))
            return [self.reply(connection, call) for call in calls]
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self.take_back(connection)

    def reply(self, connection: Any, call: Call) -> Any:
        """Read what was answered to a call, or how it was refused."""
        args, options = call
        try:
            return self.parse_response(connection, args[0], **options)
        except ResponseError as error:
            return error

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        """Return a pipeline; a transaction is redis-py's own, with a connection from the pool."""
        return super().pipeline(transaction, shard_hint) if transaction else Pipeline(self)

    def close(self) -> None:
        """Let go of the connection."""
        kept, self._kept = self._kept, None
        if kept is not None and self._pid == os.getpid():
            kept.disconnect()
            self.connection_pool.release(kept)
        super().close()


def _is_stale(connection: Any) -> bool:
    """Return whether a connection is closed, or has something to read that nobody asked for."""
    try:
        return bool(connection.can_read())
    except (RedisError, OSError):
        return True
