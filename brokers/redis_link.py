"""A link to Redis: one connection for one thread (to each primary of a cluster), made when it is first used and again when it breaks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Protocol, Self, cast
from urllib.parse import urlsplit

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from holdfast.brokers import tls
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_client import Client
from holdfast.brokers.redis_cluster import ClusterClient
from holdfast.brokers.redis_watch import StreamWatch
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import SettingsError, SetupError, Unavailable
from holdfast.runtime.redaction import hide_password, redact

#: Long enough for a server that rewrites its AOF, short enough that a dead one is noticed.
SOCKET_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
#: The one that is kept, and those for what may be open beside it: a subscription, a transaction.
CONNECTIONS_MAX = 4

#: What a server says of a user who may not do something within a script.
_NOT_ALLOWED = re.compile(r"NOPERM|ACL failure|can't (access|run)")


def tls_options(settings: Settings) -> dict[str, Any]:
    """Return what a connection over TLS is made with, as redis-py calls it; nothing for one without.

    What is said in the URL itself (`?ssl_ca_certs=...`) comes before it.

    Raises:
        SettingsError: A file is missing or is not what it should be.
    """
    if not settings.redis_url.startswith("rediss"):
        return {}
    tls.check_files(settings)
    options: dict[str, Any] = {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": settings.tls_check_hostname,
        "ssl_ca_certs": settings.tls_ca_file,
        "ssl_certfile": settings.tls_cert_file,
        "ssl_keyfile": settings.tls_key_file,
    }
    return {name: value for name, value in options.items() if value != ""}


def at(settings: Settings, url: str) -> Settings:
    """Return settings for another server; where that is reached without TLS, what is said of TLS is not for it."""
    if url.startswith("rediss://"):
        return msgspec.structs.replace(settings, redis_url=url)
    return msgspec.structs.replace(
        settings, redis_url=url, amqp_url="", tls_ca_file="", tls_cert_file="", tls_key_file=""
    )


#: Given to XRANGE, it has the answer handed on as it came: a dict for each entry is most of what a long read costs.
BARE = {"bare": True}

#: Made once: a connection that makes its own looks into the installed packages for it each time. Not every redis-py
#: has it.
_DRIVER = {"driver_info": redis.DriverInfo()} if hasattr(redis, "DriverInfo") else {}


class Spot(Protocol):
    """One server that can be asked."""

    @property
    def client(self) -> redis.Redis:
        """Return what asks it."""
        ...

    @property
    def where(self) -> str:
        """Return its address, for messages."""
        ...

    @property
    def settings(self) -> Settings:
        """Return what it was found by."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """One primary of a cluster."""

    client: redis.Redis
    where: str
    settings: Settings


def _client(pool: redis.ConnectionPool) -> Client:
    """Return a client that knows BARE."""
    client = Client(pool)
    parse: Any = client.response_callbacks["XRANGE"]

    def answer(response: Any, *, bare: bool = False, **options: Any) -> Any:
        return response if bare else parse(response, **options)

    client.set_response_callback("XRANGE", answer)
    return client


class RedisLink:
    """One connection to the server of the settings, or to each primary of a cluster. Not for two threads at once.

    It never repeats a call by itself: whether a broken call was carried out is for the caller to find out.
    """

    def __init__(self, settings: Settings, *, timeout_s: float | None = SOCKET_TIMEOUT_S) -> None:
        self.settings = settings
        self.where = hide_password(settings.redis_url)
        #: Whether the server has answered before: then it is not the wrong one.
        self.proven = False
        self._options: dict[str, Any] = {
            "max_connections": CONNECTIONS_MAX,
            "protocol": 2,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "health_check_interval": 0,
            "retry": Retry(NoBackoff(), 0),
            **_DRIVER,
            "client_name": f"holdfast-{settings.namespace}",
            "redis_connect_func": self._greet,
            **tls_options(settings),
        }
        #: How often it was found that another server, or one without its former data, answers in the place of one
        #: before. What was known of it before is to be doubted then.
        self.changes = 0
        #: By address, who answered there last.
        self._known: dict[tuple[str, int], str] = {}
        self._watch: StreamWatch | None = None
        #: The client of a cluster; None for a single server.
        self.cluster: ClusterClient | None = None
        try:
            if settings.clustered:
                self.cluster = self._to_cluster(settings)
                self.client: redis.Redis = cast("redis.Redis", self.cluster)
            else:
                self.client = _client(self._pool(settings.redis_url))
        except (ValueError, TypeError, redis.exceptions.RedisError) as error:
            text = redact(str(error), *settings.redis_seeds)
            message = f"HOLDFAST_REDIS_URL is {self.where}, which cannot be used: {text}"
            raise SettingsError(message) from None

    def _pool(self, url: str, *, checked: bool = False) -> redis.ConnectionPool:
        pool = redis.ConnectionPool.from_url(url, **self._options)
        if not checked:
            # Nothing is connected by this, but an argument in the URL that there is not is found.
            pool.connection_class(**pool.connection_kwargs)
        return pool

    def _to_cluster(self, settings: Settings) -> ClusterClient:
        urls = settings.redis_seeds
        seeds = []
        for index, url in enumerate(urls):
            given = self._pool(url, checked=index > 0).connection_kwargs
            seeds.append((str(given.get("host", "localhost")), int(given.get("port", 6379))))

        def connect(address: tuple[str, int]) -> Client:
            pool = self._pool(urls[0], checked=True)
            pool.connection_kwargs.update(host=address[0], port=address[1])
            return _client(pool)

        return ClusterClient(seeds, connect, Keys(settings.namespace).meta(), self._changed)

    # -- who answers

    def _greet(self, connection: Any) -> None:
        """Note who answers a new connection.

        A server that was promoted, or was started again, has another replication id. Whoever may not ask takes everyone
        for another.
        """
        connection.on_connect()
        try:
            connection.send_command("INFO", "replication")
            said = connection.read_response()
        except redis.exceptions.ResponseError:
            said = b""
        text = said.decode() if isinstance(said, bytes) else str(said)
        facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        who = f"{facts.get('role')}/{facts['master_replid']}" if "master_replid" in facts else token_hex(8)
        address = (str(getattr(connection, "host", "")), int(getattr(connection, "port", 0)))
        before = self._known.get(address)
        self._known[address] = who
        if before is not None and before != who:
            self._changed()

    def _changed(self) -> None:
        self.changes += 1

    def reconnect(self) -> None:
        """Let go of all connections: what is at the other end is no longer who takes writes."""
        if self.cluster is not None:
            self.cluster.doubt()
        else:
            self.client.connection_pool.disconnect()

    def touch(self) -> None:
        """See that connections are there, so that `changes` is of now."""
        if self.cluster is not None:
            self.cluster.everywhere(("PING",))
        else:
            self.client.ping()

    # -- what is different on a cluster

    def at(self, key: str) -> redis.Redis:
        """Return the client of the server that has a key, for transactions and for its clock."""
        if self.cluster is None:
            return self.client
        self.cluster.mark(key)
        return self.cluster.at(key)

    def spots(self) -> list[Spot]:
        """Return every server that takes writes."""
        if self.cluster is None:
            return [self]
        return [
            Node(self.cluster.node(address), f"{address[0]}:{address[1]}", self.settings)
            for address in self.cluster.primaries()
        ]

    def read_streams(self, after: Mapping[str, str], count: int, block_ms: int) -> list[Any]:
        """Return what streams have behind positions, as XREAD does; wait for it if there is nothing yet."""
        if self.cluster is None:
            wanted: Any = dict(after)
            found: Any = self.client.xread(wanted, count=count, block=block_ms)
            return list(found.items() if isinstance(found, dict) else found or ())
        if self._watch is None:
            self._watch = StreamWatch(self.cluster)
        read = self._read_each(after, count)
        if not read:
            self._watch.wait(after, block_ms / 1000)
            read = self._read_each(after, count)
        return read

    def _read_each(self, after: Mapping[str, str], count: int) -> list[Any]:
        pipe = self.client.pipeline(transaction=False)
        for name, position in after.items():
            pipe.xread({name: position}, count=count)
        return [
            one
            for found in pipe.execute()
            for one in (found.items() if isinstance(found, dict) else found or ())
        ]

    def close(self) -> None:
        """Close the connection."""
        if self._watch is not None:
            self._watch.close()
        self.client.close()
        if self.cluster is None:
            self.client.connection_pool.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def unavailable(link: Spot) -> Iterator[None]:
    """Turn what redis-py raises into what Holdfast raises.

    Raises:
        SetupError: The server refuses our credentials, our rights or our certificate, or we its; trying again would
            not help.
        Unavailable: Anything else that went wrong between us and the server.
    """
    try:
        yield
        if isinstance(link, RedisLink):
            link.proven = True
    except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise SetupError(_refused(link, error)) from error
    except redis.exceptions.NoPermissionError as error:
        message = f"Redis at {link.where} does not allow this user what Holdfast needs: {_said(link, error)}"
        raise SetupError(message) from error
    except redis.exceptions.MovedError as error:
        if isinstance(link, RedisLink) and link.cluster is None:
            message = (
                f"Redis at {link.where} is part of a cluster: write redis+cluster:// (or rediss+cluster://) in "
                "HOLDFAST_REDIS_URL"
            )
            raise SetupError(message) from error
        _let_go(link)
        message = f"Redis at {link.where} is not where that is any more: {_said(link, error)}"
        raise Unavailable(message) from error
    except redis.exceptions.ReadOnlyError as error:
        # It was a primary when we came. By its name or address a new one may be reached by now.
        _let_go(link)
        message = f"Redis at {link.where} refused: {_said(link, error)}"
        raise Unavailable(message) from error
    except redis.exceptions.ResponseError as error:
        if str(error).startswith(("NOAUTH", "WRONGPASS")) or "without any password" in str(error):
            raise SetupError(_refused(link, error)) from error
        if _NOT_ALLOWED.search(str(error)):
            message = (
                f"Redis at {link.where} does not allow this user what Holdfast needs: {_said(link, error)}"
            )
            raise SetupError(message) from error
        if is_full(error):
            raise Unavailable(full_sentence(link)) from error
        message = f"Redis at {link.where} refused: {_said(link, error)}"
        raise Unavailable(message) from error
    except (redis.exceptions.RedisError, OSError) as error:
        raise explain(link.settings, error, proven=not isinstance(link, RedisLink) or link.proven) from error


def explain(settings: Settings, error: BaseException, *, proven: bool = False) -> SetupError | Unavailable:
    """Return what a failed connection means for whoever runs Holdfast."""
    where = hide_password(settings.redis_url)
    server = f"Redis at {where}"
    found = tls.trouble(settings, error, server=server, plain="redis")
    if found is None and not proven:
        found = _wrong_port(settings, error, server)
    if found is not None:
        return SetupError(found)
    text = redact(str(error), *settings.redis_seeds)
    if not proven and any(isinstance(cause, redis.exceptions.InvalidResponse) for cause in tls.causes(error)):
        return Unavailable(f"{server} does not answer as one: {text.rstrip('.')}; is this a Redis?")
    return Unavailable(f"{server} does not answer: {text}")


def _wrong_port(settings: Settings, error: BaseException, server: str) -> str | None:
    """Return what is wrong where a server, or something else, did not want to talk to us at all."""
    parts = urlsplit(settings.redis_seeds[0])
    host, port = parts.hostname or "localhost", parts.port or 6379
    if parts.scheme == "redis" and tls.closed(error) and tls.speaks(host, port):
        return f"{server} speaks TLS on this port: begin HOLDFAST_REDIS_URL with rediss://"
    if parts.scheme != "rediss" or not (
        tls.closed(error) or isinstance(error, redis.exceptions.TimeoutError)
    ):
        return None
    if tls.answers_plainly(host, port, b"PING\r\n", (b"+PONG", b"-")):
        return f"{server} does not speak TLS on this port: name its TLS port, or begin the URL with redis://"
    said = tls.look(settings, host, port)
    return None if said is None else tls.trouble(settings, said, server=server, plain="redis")


def _refused(link: Spot, error: BaseException) -> str:
    return f"Redis at {link.where} refuses the user or password in HOLDFAST_REDIS_URL: {_said(link, error)}"


def _said(link: Spot, error: BaseException) -> str:
    return redact(str(error), *link.settings.redis_seeds)


def _let_go(link: Spot) -> None:
    if isinstance(link, RedisLink):
        link.reconnect()


def is_full(error: Exception) -> bool:
    """Return whether the server refused a write since it has reached its memory limit; nothing of it was written."""
    return "command not allowed when used memory" in str(error)


def full_sentence(link: Spot) -> str:
    """Return what that means for whoever reads it."""
    return f"Redis at {link.where} is full: it has reached its maxmemory, and takes nothing until it has more"


def info(link: Spot, section: str) -> dict[str, Any]:
    """Return a section of the server's INFO."""
    with unavailable(link):
        found: dict[str, Any] = link.client.info(section)
        return found
