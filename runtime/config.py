"""Settings: one frozen value, read once, checked, and passed down. Nothing else reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from holdfast.runtime.errors import SettingsError
from holdfast.runtime.redaction import HIDDEN, hide_password

_PREFIX = "HOLDFAST_"
_NAMESPACE_FORM = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
#: What Kubernetes adds to every container when a Service is called holdfast or holdfast-something.
_SERVICE_LINK_FORM = re.compile(r"HOLDFAST(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\w+)?)")
_DATABASE = re.compile(r"[0-9]{1,9}")
_HOST_FORM = re.compile(r"[A-Za-z0-9_.:-]{1,253}")
_REPLICATED_FORM = re.compile(r"replicated\(([1-9][0-9]?)\)")

#: What the URL of a Redis Cluster begins with.
_CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")

#: In place of a Redis URL: the ports in memory, where nothing survives the process.
MEMORY_URL = "memory://"

Positive = Annotated[int, msgspec.Meta(gt=0, le=2**31)]
#: The longest that anything is waited for, in seconds and in milliseconds: what clocks and servers can be told.
_YEAR_S, _DAY_MS = 365 * 24 * 60 * 60, 24 * 60 * 60 * 1000


class TransportKind(StrEnum):
    """What carries commands."""

    RABBITMQ = "rabbitmq"
    REDIS = "redis"
    MEMORY = "memory"


class LogFormat(StrEnum):
    """How log lines are written."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class Durability(msgspec.Struct, frozen=True):
    """A named level: what an acknowledged command has survived.

    memory: nothing. everysec: a crash of any process, and of Redis but for its last second or so. fsync: power loss.
    replicated(n): the loss of the primary, as far as `WAIT` can tell.
    """

    level: str
    #: How many replicas must have the writes; 0 for the other levels.
    replicas: int = 0

    def __str__(self) -> str:
        return f"replicated({self.replicas})" if self.replicas else self.level

    @classmethod
    def parse(cls, text: str) -> Durability:
        """Return the level of this name.

        Raises:
            SettingsError: There is no such level.
        """
        if text in ("memory", "everysec", "fsync"):
            return cls(text)
        found = _REPLICATED_FORM.fullmatch(text)
        if found:
            return cls("replicated", int(found[1]))
        message = f"HOLDFAST_DURABILITY is {text!r}; it must be memory, everysec, fsync or replicated(n), as replicated(1)"
        raise SettingsError(message)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Each field is read from HOLDFAST_<FIELD> by `from_environment`."""

    #: redis://, rediss:// or unix:// URL of the journal; empty for the embedded server. A Redis Cluster is
    #: redis+cluster:// or rediss+cluster://, with one or several of its servers: redis+cluster://one:6379,two:6379
    redis_url: str = ""
    #: amqp:// or amqps:// URL of RabbitMQ; empty to carry commands over Redis Streams.
    amqp_url: str = ""
    #: The certificates of those who sign the servers', in one PEM file; empty for those that the system trusts.
    tls_ca_file: str = ""
    #: Our own certificate, where a server asks for one, and its key where that is in a file of its own.
    tls_cert_file: str = ""
    tls_key_file: str = ""
    #: Whether a server's certificate must be for the name that it is connected by.
    tls_check_hostname: bool = True
    #: Keys that payloads are encrypted with, `id:base64` with commas between them; the first one writes, all read.
    encryption_keys: str = ""
    #: The same in a file, one on each line.
    encryption_keys_file: str = ""
    #: In their place the `KeyRing` of a key management service, as module:name.
    keyring: str = ""
    #: Set off everything of this installation from others on the same servers.
    namespace: str = "holdfast"
    #: How many shares all keys are divided into. Fixed when the namespace is first used.
    partitions: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    durability: Durability = Durability("everysec")
    #: Where the embedded server keeps its data.
    data_dir: Path = Path(".holdfast")
    #: How long a lease lasts that nobody renews.
    lease_ms: Annotated[int, msgspec.Meta(ge=100, le=_DAY_MS)] = 10_000
    #: Whether commits claim leases. Off in the tests that show that they are only there for speed.
    leases: bool = True
    #: How often a worker says that it lives, and how long it is believed. A dead worker's partitions move after that.
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=50, le=_DAY_MS)] = 500
    member_ttl_ms: Annotated[int, msgspec.Meta(ge=200, le=_DAY_MS)] = 5_000
    #: The most commands that one turn takes.
    batch_max: Annotated[int, msgspec.Meta(ge=1, le=5_000)] = 500
    #: The most messages of a partition that a worker holds before the transport waits for acknowledgements.
    prefetch: Annotated[int, msgspec.Meta(ge=1, le=2_000)] = 256
    #: The most bytes of one message or record.
    payload_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=64 * 1024 * 1024)] = 1024 * 1024
    #: How long a command of an unknown type is kept back, for a rolling deploy, before it becomes a dead letter.
    patience_s: Annotated[float, msgspec.Meta(ge=0, le=_YEAR_S)] = 120.0
    #: How many records an instance may be past its last snapshot.
    snapshot_every: Positive = 500
    #: After so many hand-outs without an end a command becomes a dead letter: it may kill its workers.
    deliveries_max: Annotated[int, msgspec.Meta(ge=2, le=100)] = 5
    #: How long a refusal that was answered is remembered.
    refusals_s: Positive = 24 * 60 * 60
    #: How many effects a worker runs at once: with `def` handlers on a thread each, with `async def` on one event loop.
    effect_threads: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 32
    effect_tasks: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    #: How long sending waits while nothing is taken: RabbitMQ has blocked its publishers or cannot be reached, a queue or
    #: Redis is full, or too much waits in this process already. 0 never waits, and raises at once.
    send_wait_s: Annotated[float, msgspec.Meta(ge=0, le=_DAY_MS // 1000)] = 30.0
    #: How long a stopping worker may take to finish what it has begun.
    drain_s: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = 10.0
    #: Whether spans carry payloads. Never where payloads are encrypted.
    trace_payloads: bool = False
    #: How workers write their log: text or json; auto is text where a person reads it at a terminal, else json.
    log_format: LogFormat = LogFormat.AUTO
    #: Where workers serve /metrics, /health and /ready; the second process of a worker takes the next port, and so on.
    #: 0 for nowhere.
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    #: The address that they listen on; 0.0.0.0 for all, as in a container.
    metrics_host: str = "127.0.0.1"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Return the settings in HOLDFAST_* variables, with `overrides` in front of them.

        Raises:
            SettingsError: A variable is unknown or its value is wrong; the message names it.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for name, text in environment.items():
            field = name.removeprefix(_PREFIX).lower()
            if name.startswith(_PREFIX) and field in cls.__struct_fields__:
                values[field] = text
            elif name.startswith(_PREFIX) and not (
                name.startswith(_PREFIX + "WORKER_") or _SERVICE_LINK_FORM.fullmatch(name)
            ):
                known = ", ".join(_PREFIX + f.upper() for f in cls.__struct_fields__)
                message = f"{name} is no setting of Holdfast; there are: {known}"
                raise SettingsError(message)
        return cls.of(**(values | overrides))

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """Return settings from values or their text forms.

        Raises:
            SettingsError: A value is wrong; the message names the variable.
        """
        fields = {field.name: field.type for field in msgspec.structs.fields(cls)}
        for name in values:
            if name not in fields:
                message = f"{name!r} is no setting of Holdfast; there are: {', '.join(fields)}"
                raise SettingsError(message)
        return cls(**{name: _read(name, value, fields[name]) for name, value in values.items()})

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(type(self)):
            _read(field.name, getattr(self, field.name), field.type, strict=True)
        self._check()

    @property
    def transport(self) -> TransportKind:
        """What carries commands: RabbitMQ where its URL is set, else the Redis of the journal, or memory."""
        if self.redis_url == MEMORY_URL:
            return TransportKind.MEMORY
        return TransportKind.RABBITMQ if self.amqp_url else TransportKind.REDIS

    @property
    def embedded(self) -> bool:
        """Whether the journal is a private server of ours."""
        return not self.redis_url

    @property
    def clustered(self) -> bool:
        """Whether the journal is on a Redis Cluster."""
        return self.redis_url.partition("://")[0] in _CLUSTER_SCHEMES

    @property
    def redis_seeds(self) -> list[str]:
        """The URL of each server of the journal that is named, as for a single one."""
        return _single_urls(self.redis_url)

    def to_environment(self) -> dict[str, str]:
        """Return the variables that make these settings, for a process that is started with them."""
        plain = {name: getattr(self, name) for name in self.__struct_fields__}
        plain |= {name: "1" if value else "0" for name, value in plain.items() if isinstance(value, bool)}
        return {_PREFIX + name.upper(): str(value) for name, value in plain.items() if str(value)}

    @property
    def encrypted(self) -> bool:
        """Whether payloads are encrypted before they leave the process."""
        return bool(self.encryption_keys or self.encryption_keys_file or self.keyring)

    def __repr__(self) -> str:
        """Return what is not as it is by default, without secrets."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the same for rich, whose tracebacks show values: a struct's own tells everything."""
        told: list[tuple[str, Any]] = []
        for field in msgspec.structs.fields(type(self)):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if field.name in ("redis_url", "amqp_url"):
                value = hide_password(value)
            told.append((field.name, HIDDEN if field.name == "encryption_keys" else value))
        return told

    def _check(self) -> None:
        Durability.parse(str(self.durability))
        if self.redis_url == MEMORY_URL and self.amqp_url:
            message = "HOLDFAST_REDIS_URL=memory:// keeps everything in one process; it does not go with HOLDFAST_AMQP_URL"
            raise SettingsError(message)
        if self.redis_url != MEMORY_URL:
            check_redis_url("HOLDFAST_REDIS_URL", self.redis_url)
        _check_url(
            "HOLDFAST_AMQP_URL", self.amqp_url, ("amqp", "amqps"), "amqp://guest:guest@localhost:5672/"
        )
        if not _NAMESPACE_FORM.fullmatch(self.namespace):
            message = (
                f"HOLDFAST_NAMESPACE is {self.namespace!r}; it must be 1 to 40 letters, digits, dashes or "
                "underscores, starting with a letter"
            )
            raise SettingsError(message)
        if self.amqp_url and not self.redis_url:
            message = (
                "HOLDFAST_AMQP_URL is set but HOLDFAST_REDIS_URL is not: RabbitMQ carries the commands and Redis keeps "
                "the logs. Set both, or neither for the embedded server"
            )
            raise SettingsError(message)
        if not _HOST_FORM.fullmatch(self.metrics_host):
            message = f"HOLDFAST_METRICS_HOST is {self.metrics_host!r}; it must be an address or a name, as 127.0.0.1 or 0.0.0.0"
            raise SettingsError(message)
        self._check_tls()
        rings = ("encryption_keys", "encryption_keys_file", "keyring")
        named = [_PREFIX + name.upper() for name in rings if getattr(self, name)]
        if len(named) > 1:
            message = f"{' and '.join(named)} are set; there is one place for the keys: set one of them"
            raise SettingsError(message)
        if self.member_ttl_ms < 3 * self.heartbeat_ms:
            message = "HOLDFAST_MEMBER_TTL_MS must be at least three times HOLDFAST_HEARTBEAT_MS, or the living look dead"
            raise SettingsError(message)

    def _check_tls(self) -> None:
        """Refuse TLS settings that would do nothing: who sets them believes that they do."""
        names = ("tls_ca_file", "tls_cert_file", "tls_key_file")
        named = [_PREFIX + name.upper() for name in names if getattr(self, name)]
        secure = self.redis_url.startswith("rediss://") or self.amqp_url.startswith("amqps://")
        if named and not secure:
            message = (
                f"{named[0]} is set, but no server is reached over TLS: HOLDFAST_REDIS_URL would begin with rediss:// "
                "and HOLDFAST_AMQP_URL with amqps://"
            )
            raise SettingsError(message)
        if self.tls_key_file and not self.tls_cert_file:
            message = "HOLDFAST_TLS_KEY_FILE is set, but HOLDFAST_TLS_CERT_FILE is not: a key goes with a certificate"
            raise SettingsError(message)


def _single_urls(url: str) -> list[str]:
    """Return a URL for each server that a cluster's URL names; a URL of another kind as it is."""
    scheme, _, rest = url.partition("://")
    if scheme not in _CLUSTER_SCHEMES:
        return [url]
    place, slash, path = rest.partition("/")
    if not slash:
        place, mark, path = rest.partition("?")
        slash = mark
    user, at, hosts = place.rpartition("@")
    single = scheme.removesuffix("+cluster")
    return [f"{single}://{user}{at}{host}{slash}{path}" for host in hosts.split(",")]


def _read(name: str, value: Any, kind: Any, *, strict: bool = False) -> Any:
    """Return the value of a setting if it is one; where not `strict`, also of its text form."""
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    if kind is Durability and isinstance(value, str) and not strict:
        return Durability.parse(value)
    if kind is Path and isinstance(value, str) and not strict:
        return Path(value)
    if kind is Durability:
        message = f"HOLDFAST_DURABILITY is {value!r}; it is a Durability, such as Durability.parse('fsync')"
        raise SettingsError(message)
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (msgspec.ValidationError, UnicodeError) as error:
        message = f"{_PREFIX}{name.upper()} is wrong: {error}{_hint(kind)}"
        raise SettingsError(message) from None


def _hint(kind: Any) -> str:
    """Return what to write instead, where the error does not say that; empty where it does."""
    if kind is bool:
        return "; write 1 or 0"
    if kind is int or getattr(kind, "__origin__", None) is int:
        return "; write a whole number"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return f"; write {' or '.join(kind)}"
    return ""


def check_redis_url(name: str, url: str) -> None:
    """Check the URL of a Redis server or cluster; an empty one is none.

    Raises:
        SettingsError: It is wrong; the message gives an example.
    """
    for one in _single_urls(url):
        _check_url(name, one, ("redis", "rediss", "unix"), "redis://localhost:6379/0")
        if one != url and urlsplit(one).path.strip("/") not in ("", "0"):
            message = f"{name} is {hide_password(url)!r}; a Redis Cluster has no database but 0"
            raise SettingsError(message)
        if not _names_database(one):
            message = f"{name} is {hide_password(url)!r}; a database is named by its number alone, as in redis://localhost:6379/0"
            raise SettingsError(message)


def _names_database(url: str) -> bool:
    """Return whether a database is named by a number or not at all: redis-py would take anything else for 0."""
    parts = urlsplit(url)
    named = parse_qs(parts.query, keep_blank_values=True).get("db", [])
    if parts.scheme != "unix" and parts.path not in ("", "/"):
        named.append(parts.path[1:])
    return all(_DATABASE.fullmatch(one) for one in named)


def _check_url(name: str, url: str, schemes: tuple[str, ...], example: str) -> None:
    if not url:
        return
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        # The error quotes what it stumbled over, which may be a password that should have been escaped.
        message = f"{name} is {hide_password(url)!r}, which is no URL; it must look like {example}"
        raise SettingsError(message) from None
    if parts.scheme not in schemes or not (parts.hostname or (parts.scheme == "unix" and parts.path)):
        message = f"{name} is {hide_password(url)!r}; it must look like {example}"
        raise SettingsError(message)
