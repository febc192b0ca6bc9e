"""A Redis Cluster as one client: a connection to each primary, and every call goes to where its key is.

redis-py has a client for clusters. It repeats calls by itself when a connection breaks, and whether a broken call was
carried out is for our callers to find out; it also asks every server for all its commands at each connect. So this one
only finds the way: a call is made again where a server refused it for being the wrong one, and never otherwise.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import redis
from redis.commands import CoreCommands
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from holdfast.brokers.redis_client import Call, Client, Pipeline
from holdfast.runtime.errors import SetupError

#: A host and a port.
Address = tuple[str, int]

SLOTS = 16_384
#: How often one call follows the word that its slot is elsewhere.
REDIRECTS_MAX = 5

#: Calls whose key is not their second word: (position of the key).
_KEY_AT = {
    "EVAL": 3,
    "EVALSHA": 3,
    "XINFO": 2,
    "XGROUP": 2,
    "MEMORY": 2,
    "OBJECT": 2,
}
#: Calls without a key: they go to where the namespace's own keys are.
_KEYLESS = frozenset(
    (
        "ACL",
        "CLIENT",
        "CLUSTER",
        "COMMAND",
        "CONFIG",
        "DBSIZE",
        "ECHO",
        "INFO",
        "PING",
        "SCRIPT",
        "TIME",
        "WAIT",
    )
)
#: Calls that write nothing and show nothing that somebody acts on: no barrier needs to wait for their server. HGET is
#: none of them: by it refusals are recalled, which are answered, and data keys read, which are encrypted with.
_LOOKS = _KEYLESS | {
    "EXISTS",
    "GET",
    "HEXISTS",
    "HGETALL",
    "HMGET",
    "HSCAN",
    "MEMORY",
    "PUBLISH",
    "XINFO",
    "XLEN",
    "XPENDING",
    "XRANGE",
    "XREAD",
    "XREVRANGE",
    "ZCARD",
    "ZCOUNT",
    "ZMSCORE",
    "ZRANDMEMBER",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZREVRANGEBYSCORE",
    "ZSCAN",
}
_TAG = re.compile(rb"\{[^}]+\}")


class ClusterClient(CoreCommands):
    """The calls of redis-py's client, on a cluster. For one thread at a time."""

    #: redis-py's own, for caches that nobody here has.
    _event_dispatcher: Any = None

    def __init__(
        self,
        seeds: Sequence[Address],
        connect: Callable[[Address], Client],
        home: str,
        on_change: Callable[[], None],
    ) -> None:
        self._seeds = list(seeds)
        self._connect = connect
        self._home = key_slot(home.encode())
        self._on_change = on_change
        self._nodes: dict[Address, Client] = {}
        #: The primary of every slot; empty before the first look, and None where nobody has one.
        self._owners: list[Address | None] = []
        #: Whether the map may be out of date.
        self._stale = True
        #: The servers that were written to since the last barrier, each with a hash tag that it has.
        self.written: dict[Address, str] = {}

    # -- the way

    def node(self, address: Address) -> Client:
        """Return the client of one server."""
        found = self._nodes.get(address)
        if found is None:
            found = self._nodes[address] = self._connect(address)
        return found

    def primaries(self) -> list[Address]:
        """Return all primaries, in the order of their first slots."""
        self._know()
        return list(dict.fromkeys(owner for owner in self._owners if owner is not None))

    def address_of(self, key: str | bytes) -> Address:
        """Return where a key is."""
        return self._owner(key_slot(key if isinstance(key, bytes) else key.encode()))

    def at(self, key: str | bytes) -> Client:
        """Return the client of the server that has a key: what is asked of it is not led elsewhere."""
        return self.node(self.address_of(key))

    def mark(self, key: str) -> None:
        """Note that something is written where a key is, by whoever does not ask us to."""
        self._note(self.address_of(key), key.encode())

    def _note(self, address: Address, key: bytes) -> None:
        if address not in self.written:
            tag = _TAG.search(key)
            self.written[address] = (tag[0] if tag else key).decode()

    def doubt(self) -> None:
        """Have the map looked up anew before the next call."""
        self._stale = True

    def _know(self) -> None:
        if not self._stale:
            return
        failure: Exception | None = None
        known = list(self._nodes)
        random.shuffle(known)
        for address in [*known, *(one for one in self._seeds if one not in self._nodes)]:
            try:
                self._learn(address, self.node(address).execute_command("CLUSTER SLOTS"))
            except ResponseError as error:
                if "cluster support disabled" in str(error):
                    message = f"Redis at {address[0]}:{address[1]} is no cluster: name it as redis:// in HOLDFAST_REDIS_URL"
                    raise SetupError(message) from error
                raise
            except (RedisError, OSError) as error:
                failure = error
                continue
            return
        raise failure or redis.exceptions.ConnectionError("no server of the cluster is known")

    def _learn(self, asked: Address, found: Sequence[Any]) -> None:
        owners: list[Address | None] = [None] * SLOTS
        for first, last, primary, *_ in found:
            owner = _address(primary[0], int(primary[1]), asked)
            owners[first : last + 1] = [owner] * (last + 1 - first)
        before, self._owners, self._stale = self._owners, owners, False
        for gone in self._nodes.keys() - {*owners, *self._seeds}:
            node = self._nodes.pop(gone)
            node.close()
            node.connection_pool.disconnect()
        if any(was is not None and was != now for was, now in zip(before, owners, strict=False)):
            self._on_change()

    def _owner(self, slot: int) -> Address:
        self._know()
        owner = self._owners[slot]
        if owner is None:
            self._stale = True
            message = f"nobody serves slot {slot}"
            raise ClusterDownError(message)
        return owner

    def _slot_of(self, args: Sequence[Any]) -> int:
        key = _key_of(args)
        return self._home if key is None else key_slot(key)

    def _to(self, args: Sequence[Any]) -> Address:
        address = self._owner(self._slot_of(args))
        if _word(args) not in _LOOKS:
            self._note(address, _key_of(args) or b"")
        return address

    def _moved(self, error: MovedError, asked: Address) -> None:
        """Ask the server that a slot is said to be with for the whole map."""
        address = _address(error.host, int(error.port), asked)
        self._learn(address, self.node(address).execute_command("CLUSTER SLOTS"))

    # -- calls

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Make a call where its key is."""
        address = self._to(args)
        for _ in range(REDIRECTS_MAX):
            try:
                return self.node(address).execute_command(*args, **options)
            except MovedError as error:
                # To redis-py this is an AskError too, so it has to come first.
                self._stale = True
                self._moved(error, address)
                address = self._to(args)
            except AskError as error:
                return self._ask(error, address, args, options)
            except (
                redis.exceptions.ConnectionError,
                redis.exceptions.TimeoutError,
                ClusterDownError,
                TryAgainError,
                OSError,
            ):
                self._stale = True
                raise
        self._stale = True
        message = f"the servers of the cluster do not agree on who has {_key_of(args)!r}"
        raise ClusterDownError(message)

    def _ask(self, error: AskError, asked: Address, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Make a call where one key of a slot is that is on its way."""
        address = _address(error.host, int(error.port), asked)
        if _word(args) not in _LOOKS:
            self.written.setdefault(address, self.written.get(asked, ""))
        replies = self._exchange({address: [(("ASKING",), {}), (args, options)]})[address]
        if isinstance(replies[1], Exception):
            raise replies[1]
        return replies[1]

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Make many calls, all servers at once, and return replies and refusals in their order."""
        if not calls:
            return []
        places: dict[Address, list[int]] = {}
        for index, (args, _) in enumerate(calls):
            places.setdefault(self._to(args), []).append(index)
        found = self._exchange({address: [calls[i] for i in those] for address, those in places.items()})
        replies: list[Any] = [None] * len(calls)
        for address, indexes in places.items():
            for index, reply in zip(indexes, found[address], strict=True):
                replies[index] = reply
        for index, reply in enumerate(replies):
            if isinstance(reply, MovedError | AskError):
                # Refused, so it was not carried out: made again, in order, where it belongs.
                args, options = calls[index]
                self._stale = self._stale or isinstance(reply, MovedError)
                try:
                    replies[index] = self.execute_command(*args, **options)
                except ResponseError as error:
                    replies[index] = error
            elif isinstance(reply, ClusterDownError | TryAgainError):
                self._stale = True
        return replies

    def _exchange(self, calls: Mapping[Address, Sequence[Call]]) -> dict[Address, list[Any]]:
        """Send all that goes to each server, and then read what each says: none waits for another.

        Raises:
            ConnectionError, TimeoutError: A line broke. What the others said is lost to the caller, as it is when a
                line to a single server breaks.
        """
        lines: list[tuple[Client, Any, Address]] = []
        found: dict[Address, list[Any]] = {}
        failure: Exception | None = None
        try:
            for address, those in calls.items():
                node = self.node(address)
                try:
                    lines.append((node, node.lend(), address))
                    connection = lines[-1][1]
                    connection.send_packed_command(connection.pack_commands([args for args, _ in those]))
                except (RedisError, OSError) as error:
                    failure = error
            for node, connection, address in lines:
                try:
                    if connection.is_connected:
                        found[address] = [node.reply(connection, call) for call in calls[address]]
                except (RedisError, OSError) as error:
                    failure = error
        except BaseException:
            for _, connection, _ in lines:
                connection.disconnect()
            raise
        finally:
            for node, connection, address in lines:
                if address not in found:
                    connection.disconnect()
                node.take_back(connection)
        if failure is not None:
            self._stale = True
            raise failure
        return found

    def everywhere(self, *calls: Sequence[Any]) -> dict[Address, list[Any]]:
        """Make the same calls on every primary."""
        return self._exchange(
            {address: [(tuple(call), {}) for call in calls] for address in self.primaries()}
        )

    def settle(self, command: Sequence[str | int], token: int) -> dict[Address, Any]:
        """Write something without meaning to every server that was written to, make a call there, and return replies.

        It is not led elsewhere: whoever took the writes must answer for them.
        """
        written, self.written = self.written, {}
        calls: dict[Address, list[Call]] = {
            address: [(("SET", f"{tag}:barrier", token), {}), (tuple(command), {})]
            for address, tag in written.items()
        }
        replies = self._exchange(calls)
        for address, answers in replies.items():
            for answer in answers:
                if isinstance(answer, Exception):
                    self._stale = True
                    message = f"{address[0]}:{address[1]}: {answer}"
                    raise redis.exceptions.ConnectionError(message) from answer
        return {address: answers[1] for address, answers in replies.items()}

    def pipeline(self, transaction: bool = False) -> Pipeline:
        """Return a pipeline; transactions are of one server, see `at`."""
        if transaction:
            message = "a transaction has to be on the server of its keys"
            raise ValueError(message)
        return Pipeline(self)

    def scan_iter(
        self, match: Any = None, count: int | None = None, _type: str | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Yield the keys of all primaries."""
        for address in self.primaries():
            yield from self.node(address).scan_iter(match, count, _type, **kwargs)

    def unlink(self, *names: Any) -> Any:
        """Delete keys, each where it is."""
        replies = self.run([(("UNLINK", name), {}) for name in names])
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return sum(replies)

    def pubsub(self, **options: Any) -> Any:
        """Return a subscription on any server that answers: what is published on one is heard on all."""
        failure: Exception | None = None
        addresses = self.primaries()
        random.shuffle(addresses)
        for address in addresses:
            try:
                self.node(address).ping()
            except (RedisError, OSError) as error:
                failure = error
                continue
            return self.node(address).pubsub(**options)
        self._stale = True
        raise failure or redis.exceptions.ConnectionError("no server of the cluster answers")

    def close(self) -> None:
        """Close all connections."""
        for node in self._nodes.values():
            node.close()
            node.connection_pool.disconnect()


def _address(host: Any, port: int, asked: Address) -> Address:
    """Return an address as it was told; a server that does not know its own name leaves that out."""
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    return (text if text not in ("", "?") else asked[0]), port


def _word(args: Sequence[Any]) -> str:
    return str(args[0]).partition(" ")[0].upper()


def _key_of(args: Sequence[Any]) -> bytes | None:
    """Return the key that says where a call goes; None for one without."""
    word = _word(args)
    if word in _KEYLESS:
        return None
    if word in ("XREAD", "XREADGROUP"):
        words = [one.upper() if isinstance(one, str | bytes) else one for one in args]
        at = (words.index("STREAMS") if "STREAMS" in words else words.index(b"STREAMS")) + 1
    elif " " in str(args[0]):
        at = 1  # redis-py gives two words in one
    else:
        at = _KEY_AT.get(word, 1)
    key = args[at]
    return key if isinstance(key, bytes) else str(key).encode()
