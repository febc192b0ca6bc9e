"""Settings: one frozen value, read once, checked, and passed down. Nothing else reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from holdfast.runtime.errors import SettingsError

_PREFIX = "HOLDFAST_"
_NAMESPACE_FORM = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
#: What Kubernetes adds to every container when a Service is called holdfast or holdfast-something.
_SERVICE_LINK_FORM = re.compile(r"HOLDFAST(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\w+)?)")
_REPLICATED_FORM = re.compile(r"replicated\(([1-9][0-9]?)\)")
_SCHEME_FORM = re.compile(r"[A-Za-z0-9+.-]*:?//")
_PASSWORD_ARGUMENT_FORM = re.compile(r"(?i)((?:password|passwd|secret)=)[^&#]*")

#: In place of a Redis URL: the ports in memory, where nothing survives the process.
MEMORY_URL = "memory://"

Positive = Annotated[int, msgspec.Meta(gt=0)]


class TransportKind(StrEnum):
    """What carries commands."""

    RABBITMQ = "rabbitmq"
    REDIS = "redis"
    MEMORY = "memory"


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

    #: redis://, rediss:// or unix:// URL of the journal; empty for the embedded server.
    redis_url: str = ""
    #: amqp:// or amqps:// URL of RabbitMQ; empty to carry commands over Redis Streams.
    amqp_url: str = ""
    #: Set off everything of this installation from others on the same servers.
    namespace: str = "holdfast"
    #: How many shares all keys are divided into. Fixed when the namespace is first used.
    partitions: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    durability: Durability = Durability("everysec")
    #: Where the embedded server keeps its data.
    data_dir: Path = Path(".holdfast")
    #: How long a lease lasts that nobody renews.
    lease_ms: Annotated[int, msgspec.Meta(ge=100)] = 10_000
    #: Whether commits claim leases. Off in the tests that show that they are only there for speed.
    leases: bool = True
    #: How often a worker says that it lives, and how long it is believed. A dead worker's partitions move after that.
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=50)] = 500
    member_ttl_ms: Annotated[int, msgspec.Meta(ge=200)] = 5_000
    #: The most commands that one turn takes.
    batch_max: Annotated[int, msgspec.Meta(ge=1, le=5_000)] = 500
    #: The most messages of a partition that a worker holds before the transport waits for acknowledgements.
    prefetch: Annotated[int, msgspec.Meta(ge=1, le=2_000)] = 256
    #: The most bytes of one message or record.
    payload_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=64 * 1024 * 1024)] = 1024 * 1024
    #: How long a command of an unknown type is kept back, for a rolling deploy, before it becomes a dead letter.
    patience_s: Annotated[float, msgspec.Meta(ge=0)] = 120.0
    #: How many records an instance may be past its last snapshot.
    snapshot_every: Positive = 500
    #: After so many hand-outs without an end a command becomes a dead letter: it may kill its workers.
    deliveries_max: Annotated[int, msgspec.Meta(ge=2, le=100)] = 5
    #: How long a refusal that was answered is remembered.
    refusals_s: Positive = 24 * 60 * 60
    #: How many effects a worker runs at once: with `def` handlers on a thread each, with `async def` on one event loop.
    effect_threads: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 32
    effect_tasks: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    #: How long a stopping worker may take to finish what it has begun.
    drain_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0

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

    def to_environment(self) -> dict[str, str]:
        """Return the variables that make these settings, for a process that is started with them."""
        plain = {name: getattr(self, name) for name in self.__struct_fields__}
        plain["leases"] = "1" if self.leases else "0"
        return {_PREFIX + name.upper(): str(value) for name, value in plain.items() if str(value)}

    def _check(self) -> None:
        Durability.parse(str(self.durability))
        if self.redis_url == MEMORY_URL and self.amqp_url:
            message = "HOLDFAST_REDIS_URL=memory:// keeps everything in one process; it does not go with HOLDFAST_AMQP_URL"
            raise SettingsError(message)
        if self.redis_url != MEMORY_URL:
            _check_url(
                "HOLDFAST_REDIS_URL", self.redis_url, ("redis", "rediss", "unix"), "redis://localhost:6379/0"
            )
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
        if self.member_ttl_ms < 3 * self.heartbeat_ms:
            message = "HOLDFAST_MEMBER_TTL_MS must be at least three times HOLDFAST_HEARTBEAT_MS, or the living look dead"
            raise SettingsError(message)


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
    except msgspec.ValidationError as error:
        message = f"{_PREFIX}{name.upper()} is wrong: {error}"
        raise SettingsError(message) from None


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


def hide_password(url: str) -> str:
    """Return a URL, or what should have been one, without the password in it, for messages."""
    url = _PASSWORD_ARGUMENT_FORM.sub(r"\1***", url)
    before, at, host = url.rpartition("@")
    if not at:
        return url
    scheme = _SCHEME_FORM.match(before)
    start = scheme.end() if scheme else 0
    user, colon, _ = before[start:].partition(":")
    return f"{before[:start]}{user}{colon and ':***'}@{host}"
