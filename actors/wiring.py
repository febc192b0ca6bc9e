"""Wiring: the one place that knows every concrete class, and so the one that chooses among them.

What keeps everything in memory is imported only where that is asked for: each worker process that starts on servers
starts sooner without.
"""

from __future__ import annotations

import dataclasses
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import msgspec

from holdfast.brokers import durability, redis_namespace
from holdfast.brokers.aes import AesGcm, key_ring
from holdfast.brokers.embedded import EmbeddedRedis, EmbeddedUnavailable, holds_data, server_exists
from holdfast.brokers.rabbitmq import RabbitTransport
from holdfast.brokers.rabbitmq_topology import remove
from holdfast.brokers.redis_answers import RedisAnswers
from holdfast.brokers.redis_backlog import RedisBacklog
from holdfast.brokers.redis_dead_letters import RedisDeadLetters
from holdfast.brokers.redis_directory import RedisDirectory
from holdfast.brokers.redis_effects import RedisEffects
from holdfast.brokers.redis_feed import RedisFeed
from holdfast.brokers.redis_journal import RedisJournal
from holdfast.brokers.redis_link import RedisLink
from holdfast.brokers.redis_losses import RedisLosses
from holdfast.brokers.redis_membership import RedisMembership
from holdfast.brokers.redis_observations import RedisObservations
from holdfast.brokers.redis_read_model import RedisCheckpoints, RedisStore
from holdfast.brokers.redis_remains import RedisRemains
from holdfast.brokers.redis_secrets import RedisSecrets
from holdfast.brokers.redis_sizes import RedisSizes
from holdfast.brokers.redis_slots import RedisSlots
from holdfast.brokers.redis_timers import RedisTimers
from holdfast.brokers.redis_transport import RedisTransport
from holdfast.brokers.redis_uniques import RedisUniques
from holdfast.runtime.backlog import Backlog
from holdfast.runtime.cipher import NOWHERE, Cipher, Secrets
from holdfast.runtime.config import MEMORY_URL, Settings, TransportKind
from holdfast.runtime.effect_queue import EffectQueue, Slots
from holdfast.runtime.errors import SetupError, UsageError
from holdfast.runtime.loss import Losses
from holdfast.runtime.ports import (
    Answers,
    DeadLetters,
    Directory,
    Feed,
    Journal,
    Membership,
    Observations,
    Outbox,
    Parking,
    ReadModel,
    Remains,
    Sizes,
    Suspects,
    Timers,
    Transport,
)
from holdfast.runtime.projection import CheckpointStore
from holdfast.runtime.projection_definition import ProjectionDefinition
from holdfast.runtime.sealed import (
    SealedAnswers,
    SealedDeadLetters,
    SealedEffects,
    SealedFeed,
    SealedJournal,
    SealedObservations,
    SealedTimers,
    SealedTransport,
)
from holdfast.runtime.turn import Limits
from holdfast.runtime.uniques import Uniques

if TYPE_CHECKING:
    from holdfast.brokers.memory import MemoryServer

_memory: dict[str, MemoryServer] = {}
_memory_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Ports:
    """Every port over one connection, to be used by one thread at a time."""

    journal: Journal
    outbox: Outbox
    answers: Answers
    suspects: Suspects
    dead_letters: DeadLetters
    directory: Directory
    membership: Membership
    effects: EffectQueue
    slots: Slots
    timers: Timers
    feed: Feed
    parking: Parking
    remains: Remains
    uniques: Uniques
    sizes: Sizes
    observations: Observations
    backlog: Backlog
    #: None where nothing can get lost but everything.
    losses: Losses | None
    secrets: Secrets
    close: Callable[[], None]


def memory_server(settings: Settings) -> MemoryServer:
    """Return the server in memory that everything of a namespace in this process shares."""
    from holdfast.brokers.memory import MemoryServer

    with _memory_lock:
        return _memory.setdefault(settings.namespace, MemoryServer(settings.partitions))


def ground(settings: Settings) -> tuple[Settings, EmbeddedRedis | None]:
    """Return settings with a server in them: where none is named, a private one is started or joined.

    Where no Redis server can be had at all, everything is kept in memory, and a warning says so.

    Raises:
        EmbeddedUnavailable: One can be had but not run in the folder, or the folder has data that it could not read.
    """
    if not settings.embedded:
        return settings, None
    server = EmbeddedRedis(settings.data_dir, fsync=settings.durability.level == "fsync")
    try:
        url = server.start()
    except EmbeddedUnavailable as error:
        if server_exists() or holds_data(settings.data_dir):
            raise
        warnings.warn(
            f"{error} Until then everything is kept in memory: nothing will survive this process.",
            stacklevel=2,
        )
        return msgspec.structs.replace(settings, redis_url=MEMORY_URL), None
    return msgspec.structs.replace(settings, redis_url=url), server


def memory_ports(server: MemoryServer, settings: Settings) -> Ports:
    """Return the ports of a server in memory."""
    from holdfast.brokers.memory import (
        MemoryAnswers,
        MemoryDeadLetters,
        MemoryDirectory,
        MemoryJournal,
        MemoryMembership,
    )
    from holdfast.brokers.memory_backlog import MemoryBacklog
    from holdfast.brokers.memory_effects import MemoryEffects
    from holdfast.brokers.memory_feed import MemoryFeed
    from holdfast.brokers.memory_observations import MemoryObservations
    from holdfast.brokers.memory_remains import MemoryRemains
    from holdfast.brokers.memory_secrets import MemorySecrets
    from holdfast.brokers.memory_sizes import MemorySizes
    from holdfast.brokers.memory_slots import MemorySlots
    from holdfast.brokers.memory_timers import MemoryTimers
    from holdfast.brokers.memory_uniques import MemoryUniques

    journal = MemoryJournal(server, lease_ms=settings.lease_ms, leases=settings.leases)
    answers = MemoryAnswers(server)
    memory_feed = MemoryFeed(server)
    return Ports(
        journal=journal,
        outbox=journal,
        answers=answers,
        suspects=answers,
        dead_letters=MemoryDeadLetters(server),
        directory=MemoryDirectory(server),
        membership=MemoryMembership(server),
        effects=MemoryEffects(server),
        slots=MemorySlots(server),
        timers=MemoryTimers(server),
        feed=memory_feed,
        parking=memory_feed,
        remains=MemoryRemains(server),
        uniques=MemoryUniques(server),
        sizes=MemorySizes(server),
        observations=MemoryObservations(server),
        backlog=MemoryBacklog(server),
        losses=None,
        secrets=MemorySecrets(server),
        close=lambda: None,
    )


def open_ports(settings: Settings) -> Ports:
    """Return the ports that the settings ask for.

    Raises:
        SetupError: The server refuses us or cannot give the configured durability, or was set up otherwise.
        Unavailable: It cannot be reached.
    """
    ring = key_ring(settings) if settings.encrypted else None
    ports = _open_ports(settings)
    try:
        if ring is None:
            _check_plain(settings, ports.secrets)
            return ports
        # What is encrypted here is committed on the same connection, behind the same barrier as its data key.
        epoch = ports.losses.epoch if ports.losses is not None else lambda: 0
        cipher = Cipher(settings.namespace, ring, ports.secrets, AesGcm(), epoch=epoch)
        cipher.check()
        return _sealed(settings, ports, cipher)
    except Exception:
        ports.close()
        raise


def _check_plain(settings: Settings, secrets: Secrets) -> None:
    """Refuse to work without keys where others have them: what we wrote would be there for all to read."""
    if secrets.secrets([NOWHERE])[0] is not None:
        message = (
            f"payloads of namespace {settings.namespace!r} are encrypted: set HOLDFAST_ENCRYPTION_KEYS, "
            "HOLDFAST_ENCRYPTION_KEYS_FILE or HOLDFAST_KEYRING, as for the others"
        )
        raise SetupError(message)


def _sealed(settings: Settings, ports: Ports, cipher: Cipher) -> Ports:
    """Return ports that encrypt what goes through them. That they have every verb is for the contract suites to say."""
    own = (cipher, settings.partitions)
    journal: Any = SealedJournal(ports.journal, *own)
    answers: Any = SealedAnswers(ports.answers, *own)
    feed: Any = SealedFeed(ports.feed, *own)
    others: dict[str, Any] = {
        "dead_letters": SealedDeadLetters(ports.dead_letters, *own),
        "effects": SealedEffects(ports.effects, *own),
        "timers": SealedTimers(ports.timers, *own),
        "observations": SealedObservations(ports.observations, *own),
    }
    return dataclasses.replace(
        ports, journal=journal, outbox=journal, answers=answers, feed=feed, parking=feed, **others
    )


def open_cipher(settings: Settings) -> tuple[Cipher, Callable[[], None]]:
    """Return a cipher with a connection of its own, for any thread, and what closes that.

    Raises:
        SettingsError, SetupError: The keys cannot be used.
    """
    ring = key_ring(settings)
    if settings.transport is TransportKind.MEMORY:
        from holdfast.brokers.memory_secrets import MemorySecrets

        return Cipher(
            settings.namespace, ring, MemorySecrets(memory_server(settings)), AesGcm()
        ), lambda: None
    link = RedisLink(settings)
    cipher = Cipher(
        settings.namespace,
        ring,
        RedisSecrets(settings, link),
        AesGcm(),
        epoch=RedisLosses(settings, link).epoch,
        lasting=durability.lasting(settings, link),
    )
    return cipher, link.close


def _open_ports(settings: Settings) -> Ports:
    if settings.transport is TransportKind.MEMORY:
        return memory_ports(memory_server(settings), settings)
    link = RedisLink(settings)
    try:
        redis_namespace.settle(settings, link)
        barrier = durability.barrier(settings, link)
    except Exception:
        link.close()
        raise
    redis_journal = RedisJournal(settings, link, barrier)
    redis_answers = RedisAnswers(settings, link)
    redis_feed = RedisFeed(settings, link)
    return Ports(
        journal=redis_journal,
        outbox=redis_journal,
        answers=redis_answers,
        suspects=redis_answers,
        dead_letters=RedisDeadLetters(settings, link),
        directory=RedisDirectory(settings, link),
        membership=RedisMembership(settings, link),
        effects=RedisEffects(settings, link),
        slots=RedisSlots(settings, link),
        timers=RedisTimers(settings, link),
        feed=redis_feed,
        parking=redis_feed,
        remains=RedisRemains(settings, link),
        uniques=RedisUniques(settings, link),
        sizes=RedisSizes(settings, link),
        observations=RedisObservations(settings, link),
        backlog=RedisBacklog(settings, link),
        losses=RedisLosses(settings, link),
        secrets=RedisSecrets(settings, link),
        close=link.close,
    )


def open_transport(settings: Settings) -> Transport:
    """Return the transport that the settings ask for.

    Raises:
        SetupError, Unavailable: As for `open_ports`.
    """
    transport = _open_transport(settings)
    if not settings.encrypted:
        return transport
    key_ring(settings)  # what is wrong with the keys is said now
    sealed: Any = SealedTransport(transport, lambda: open_cipher(settings), settings.partitions)
    return cast("Transport", sealed)


def _open_transport(settings: Settings) -> Transport:
    if settings.transport is TransportKind.MEMORY:
        from holdfast.brokers.memory import MemoryTransport

        return MemoryTransport(memory_server(settings))
    if settings.transport is TransportKind.RABBITMQ:
        return RabbitTransport(settings)
    return RedisTransport(settings)


def open_read_model(settings: Settings, definition: ProjectionDefinition) -> ReadModel:
    """Return what a projection writes to, with connections of its own; nothing is connected yet.

    Raises:
        SetupError: A library that the store needs is not installed.
        UsageError: The store does not go with the settings.
    """
    store: Any = definition.projection.store
    in_memory = settings.transport is TransportKind.MEMORY
    if isinstance(store, CheckpointStore):
        if in_memory:
            from holdfast.brokers.memory_feed import MemoryCheckpoints

            return MemoryCheckpoints(memory_server(settings), definition.name)
        return RedisCheckpoints(settings, definition.name)
    if isinstance(store, RedisStore) and in_memory and not store.url:
        message = f"{definition.kind}.store is a RedisStore without a URL, but there is no Redis: everything is in memory"
        raise UsageError(message)
    model: ReadModel = store.open(settings, definition.name)
    return model


def limits(settings: Settings) -> Limits:
    """Return the turn's limits."""
    return Limits(
        settings.payload_bytes_max, settings.patience_s, settings.snapshot_every, settings.deliveries_max
    )


def remove_namespace(settings: Settings) -> int:
    """Delete everything of a namespace from both servers, and return how many Redis keys that were. For tests."""
    if settings.transport is TransportKind.MEMORY:
        with _memory_lock:
            _memory.pop(settings.namespace, None)
        return 0
    if settings.transport is TransportKind.RABBITMQ:
        remove(settings)
    with RedisLink(settings) as link:
        return redis_namespace.erase(settings, link)
