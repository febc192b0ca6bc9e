"""
Worlds: one installation on one technology each, from which a suite takes as many ports as it wants.

Every call returns a port as another process would have it: with a connection of its own, for one thread.
"""

import copy
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import redis

from holdfast.brokers.keys import PUT_OFF, Keys
from holdfast.brokers.memory import (
    MemoryAnswers,
    MemoryDeadLetters,
    MemoryDirectory,
    MemoryJournal,
    MemoryMembership,
    MemoryServer,
)
from holdfast.brokers.memory_backlog import MemoryBacklog
from holdfast.brokers.memory_effects import MemoryEffects
from holdfast.brokers.memory_feed import MemoryFeed
from holdfast.brokers.memory_observations import MemoryObservations
from holdfast.brokers.memory_remains import MemoryRemains
from holdfast.brokers.memory_sizes import MemorySizes
from holdfast.brokers.memory_slots import MemorySlots
from holdfast.brokers.memory_timers import MemoryTimers
from holdfast.brokers.memory_uniques import MemoryUniques
from holdfast.brokers.redis_answers import RedisAnswers, RedisMailbox
from holdfast.brokers.redis_backlog import RedisBacklog
from holdfast.brokers.redis_dead_letters import RedisDeadLetters
from holdfast.brokers.redis_directory import RedisDirectory
from holdfast.brokers.redis_effects import RedisEffects
from holdfast.brokers.redis_feed import RedisFeed
from holdfast.brokers.redis_journal import RedisJournal
from holdfast.brokers.redis_link import RedisLink
from holdfast.brokers.redis_membership import RedisMembership
from holdfast.brokers.redis_observations import RedisObservations
from holdfast.brokers.redis_remains import RedisRemains
from holdfast.brokers.redis_sizes import RedisSizes
from holdfast.brokers.redis_slots import RedisSlots
from holdfast.brokers.redis_timers import RedisTimers
from holdfast.brokers.redis_uniques import RedisUniques
from holdfast.runtime.backlog import Backlog
from holdfast.runtime.config import Settings
from holdfast.runtime.effect_queue import EffectQueue, Slots
from holdfast.runtime.keys import Ref
from holdfast.runtime.observation import KEPT_MAX
from holdfast.runtime.ports import (
    Answers,
    Commit,
    CommitResult,
    Committed,
    DeadLetters,
    Directory,
    Feed,
    Held,
    Journal,
    Membership,
    Observations,
    Opened,
    Outbox,
    Parking,
    Remains,
    Sizes,
    Suspects,
    Timers,
)
from holdfast.runtime.record import EffectEntry
from holdfast.runtime.uniques import CLAIM_MS, Uniques
from tests import controls
from tests.conftest import remove_keys
from tests.support.servers import redis_client

#: Long enough that no lease expires by accident, whatever the machine does meanwhile.
LEASE_MS = 60_000


class Ledger(Journal, Outbox, Protocol):
    """The journal and the outbox, which are one object in every adapter."""


class Desk(Answers, Suspects, Protocol):
    """The worker's side of answers, and the suspects, which are one object in every adapter."""


class FeedAndParking(Feed, Parking, Protocol):
    """The feed and the parked instances, which are one object in every adapter."""


class Mailbox(Protocol):
    """The caller's side of answers."""

    def expect(self, command_id: str) -> tuple[str, Future[bytes]]:
        """
        Return the address for an answer, and the future that it ends.
        """
        ...

    def forget(self, command_id: str) -> None:
        """
        Stop expecting an answer.
        """
        ...


@dataclass(frozen=True)
class Features:
    """
    What an adapter does not promise beyond its port, or does.
    """

    #: Refusals are forgotten after `refusals_s`.
    refusals_expire: bool = True


class World(ABC):
    """One namespace on one technology."""

    features: Features
    settings: Settings

    @abstractmethod
    def journal(self, *, lease_ms: int = LEASE_MS, leases: bool = True, refusals_s: int = 60) -> Ledger:
        """
        Return a journal and outbox.
        """

    @abstractmethod
    def desk(self, *, refusals_s: int = 60) -> Desk:
        """
        Return the answers and suspects of a worker.
        """

    @abstractmethod
    def mailbox(self) -> Mailbox:
        """
        Return the answers of a caller.
        """

    @abstractmethod
    def dead_letters(self) -> DeadLetters:
        """
        Return dead letters.
        """

    @abstractmethod
    def directory(self) -> Directory:
        """
        Return a directory.
        """

    @abstractmethod
    def membership(self) -> Membership:
        """
        Return a membership.
        """

    @abstractmethod
    def effects(self) -> EffectQueue:
        """
        Return the outbox as a queue.
        """

    @abstractmethod
    def slots(self) -> Slots:
        """
        Return the places of limits.
        """

    @abstractmethod
    def fire(self, partition: int) -> int:
        """
        Move the effects whose time in the schedule has come back into the outbox; return how many. What a timer pool does.
        """

    @abstractmethod
    def timers(self) -> Timers:
        """
        Return timers.
        """

    @abstractmethod
    def feed(self) -> FeedAndParking:
        """
        Return a feed, and what projections parked.
        """

    @abstractmethod
    def remains(self) -> Remains:
        """
        Return what clears away after instances.
        """

    @abstractmethod
    def uniques(self, *, claim_ms: int = CLAIM_MS) -> Uniques:
        """
        Return unique keys.
        """

    @abstractmethod
    def observations(self, *, kept_max: int = KEPT_MAX) -> Observations:
        """
        Return observations.
        """

    @abstractmethod
    def sizes(self) -> Sizes:
        """
        Return what measures instances.
        """

    @abstractmethod
    def backlog(self) -> Backlog:
        """
        Return a backlog.
        """

    @abstractmethod
    def let_read(self, partition: int, **positions: str) -> None:
        """
        Have projections read a partition's feed, each from its position on; what is committed from now on is fed.
        """

    @abstractmethod
    def everything(self) -> Any:
        """
        Return all that is kept, to be compared: equal when nothing was written in between.
        """

    @abstractmethod
    def neighbour(self, namespace: str) -> "World":
        """
        Return another namespace on the same servers.
        """

    @abstractmethod
    def close(self) -> None:
        """
        Close every port that was taken.
        """


class MemoryWorld(World):
    """The ports in memory."""

    features = Features(refusals_expire=False)

    def __init__(self, namespace: str = "memory") -> None:
        self.settings = controls.settings(namespace=namespace)
        self.server = MemoryServer(controls.PARTITIONS)

    def journal(self, *, lease_ms: int = LEASE_MS, leases: bool = True, refusals_s: int = 60) -> Ledger:
        return MemoryJournal(self.server, lease_ms=lease_ms, leases=leases)

    def desk(self, *, refusals_s: int = 60) -> Desk:
        return MemoryAnswers(self.server)

    def mailbox(self) -> Mailbox:
        return _MemoryMailbox(self.server)

    def dead_letters(self) -> DeadLetters:
        return MemoryDeadLetters(self.server)

    def directory(self) -> Directory:
        return MemoryDirectory(self.server)

    def membership(self) -> Membership:
        return MemoryMembership(self.server)

    def effects(self) -> EffectQueue:
        return MemoryEffects(self.server)

    def slots(self) -> Slots:
        return MemorySlots(self.server)

    def fire(self, partition: int) -> int:
        server = self.server
        with server.changed:
            timers = server.timers[partition]
            due = [
                name for name, (at, _) in timers.items() if name.startswith(PUT_OFF) and at <= server.now_ms()
            ]
            for name in due:
                _, timer = timers.pop(name)
                server.effects[partition].append(msgspec.msgpack.decode(timer.envelope, type=EffectEntry))
            server.changed.notify_all()
        return len(due)

    def timers(self) -> Timers:
        return MemoryTimers(self.server)

    def feed(self) -> FeedAndParking:
        return MemoryFeed(self.server)

    def remains(self) -> Remains:
        return MemoryRemains(self.server)

    def observations(self, *, kept_max: int = KEPT_MAX) -> Observations:
        return MemoryObservations(self.server, kept_max=kept_max)

    def sizes(self) -> Sizes:
        return MemorySizes(self.server)

    def uniques(self, *, claim_ms: int = CLAIM_MS) -> Uniques:
        return MemoryUniques(self.server, claim_ms=claim_ms)

    def backlog(self) -> Backlog:
        return MemoryBacklog(self.server)

    def let_read(self, partition: int, **positions: str) -> None:
        self.server.readers[partition] = dict(positions)

    def everything(self) -> Any:
        server = self.server
        with server.changed:
            return copy.deepcopy((server.instances, server.effects, server.timers, server.due))

    def neighbour(self, namespace: str) -> World:
        return MemoryWorld(namespace)

    def close(self) -> None:
        pass


class _MemoryMailbox:
    """Memory has one mailbox for all callers; an answer's address is its command id."""

    def __init__(self, server: MemoryServer) -> None:
        self._answers = MemoryAnswers(server)
        self.forget = self._answers.forget

    def expect(self, command_id: str) -> tuple[str, Future[bytes]]:
        return command_id, self._answers.expect(command_id)


class RedisWorld(World):
    """The ports on Redis."""

    features = Features()

    def __init__(self, url: str, namespace: str | None = None) -> None:
        self.url = url
        self.settings = controls.settings(
            redis_url=url, namespace=namespace or f"t{uuid.uuid4().hex[:8]}", lease_ms=LEASE_MS
        )
        self.keys = Keys(self.settings.namespace)
        self._closers: list[Callable[[], None]] = []
        #: What looks at the server itself.
        self.client: redis.Redis = redis_client(url)
        self._closers.append(self.client.close)

    def link(self, **changes: Any) -> RedisLink:
        """
        Return a connection of its own.
        """
        found = RedisLink(self.with_(**changes))
        self._closers.append(found.close)
        return found

    def with_(self, **changes: Any) -> Settings:
        """
        Return the settings with some of them otherwise.
        """
        values = {name: getattr(self.settings, name) for name in self.settings.__struct_fields__}
        return Settings.of(**(values | changes))

    def journal(self, *, lease_ms: int = LEASE_MS, leases: bool = True, refusals_s: int = 60) -> Ledger:
        return RedisJournal(self.with_(lease_ms=lease_ms, leases=leases, refusals_s=refusals_s), self.link())

    def desk(self, *, refusals_s: int = 60) -> Desk:
        return RedisAnswers(self.with_(refusals_s=refusals_s), self.link())

    def mailbox(self, on_reconnect: Callable[[], None] = lambda: None) -> Mailbox:
        mailbox = RedisMailbox(self.settings, on_reconnect)
        self._closers.append(mailbox.close)
        return _RedisMailbox(mailbox)

    def dead_letters(self) -> DeadLetters:
        return RedisDeadLetters(self.settings, self.link())

    def directory(self) -> Directory:
        return RedisDirectory(self.settings, self.link())

    def membership(self) -> Membership:
        return RedisMembership(self.settings, self.link())

    def effects(self) -> EffectQueue:
        return RedisEffects(self.settings, self.link())

    def slots(self) -> Slots:
        return RedisSlots(self.settings, self.link())

    def fire(self, partition: int) -> int:
        return fire(self.client, self.keys, partition)

    def timers(self) -> Timers:
        return RedisTimers(self.settings, self.link())

    def feed(self) -> FeedAndParking:
        return RedisFeed(self.settings, self.link())

    def remains(self) -> Remains:
        return RedisRemains(self.settings, self.link())

    def observations(self, *, kept_max: int = KEPT_MAX) -> Observations:
        return RedisObservations(self.settings, self.link(), kept_max=kept_max)

    def sizes(self) -> Sizes:
        return RedisSizes(self.settings, self.link())

    def uniques(self, *, claim_ms: int = CLAIM_MS) -> Uniques:
        return RedisUniques(self.settings, self.link(), claim_ms=claim_ms)

    def backlog(self) -> Backlog:
        return RedisBacklog(self.settings, self.link())

    def let_read(self, partition: int, **positions: str) -> None:
        for name, position in positions.items():
            self.client.hset(self.keys.readers(partition), name, position)

    def everything(self) -> Any:
        patterns = self.keys.patterns()
        found = [key for pattern in patterns for key in self.client.scan_iter(pattern, count=10_000)]
        return {key: self.client.dump(key) for key in found}

    def neighbour(self, namespace: str) -> "RedisWorld":
        world = RedisWorld(self.url, namespace)
        self._closers += [lambda: remove_keys(self.url, namespace), world.close]
        return world

    def servers(self) -> list[redis.Redis]:
        """
        Return a client of each server that takes writes.
        """
        with self.link() as link:
            found = []
            for spot in link.spots():
                kwargs = spot.client.connection_pool.connection_kwargs
                found.append(redis.Redis(host=kwargs["host"], port=kwargs["port"]))
        self._closers += [client.close for client in found]
        return found

    def forget_scripts(self) -> None:
        """
        Have the server forget every script, as a restart would.
        """
        self.client.script_flush()

    def close(self) -> None:
        for close in reversed(self._closers):
            close()
        self._closers.clear()


#: What the timer pool does with effects: those that are due go back into the outbox.
_FIRE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local moved = 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  if string.sub(name, 1, 3) == '~e:' then
    redis.call('XADD', KEYS[3], '*', 'e', redis.call('HGET', KEYS[2], name))
    redis.call('ZREM', KEYS[1], name)
    redis.call('HDEL', KEYS[2], name)
    moved = moved + 1
  end
end
return moved
"""


def fire(client: redis.Redis, keys: Keys, partition: int) -> int:
    """
    Move the effects of a partition that are due back into its outbox.
    """
    moved: Any = client.eval(
        _FIRE, 3, keys.schedule(partition), keys.timers(partition), keys.effects(partition)
    )
    return int(moved)


class _RedisMailbox:
    """A mailbox that waits long enough to be listening."""

    def __init__(self, mailbox: RedisMailbox) -> None:
        self._mailbox = mailbox
        self.forget = mailbox.forget

    def expect(self, command_id: str) -> tuple[str, Future[bytes]]:
        return self._mailbox.expect(command_id, 40)


# -- what suites do with journals


def opened(found: Opened | Held) -> Opened:
    """
    Return an instance that was opened; fail if another holds it.
    """
    assert isinstance(found, Opened), f"held: {found}"
    return found


def committed(result: CommitResult) -> int:
    """
    Return the token under which a commit went through; fail if it did not.
    """
    assert isinstance(result, Committed), f"not committed: {result}"
    return result.token


def moved(commit: Commit, result: CommitResult) -> Opened:
    """
    Return the view that a holder has after its commit went through, without opening again.
    """
    return Opened(
        commit.ref,
        commit.seq + len(commit.entries),
        commit.new_head,
        committed(result),
        commit.run_state,
        None,
        (),
    )


def write(journal: Journal, view: Opened | Ref, *command_ids: str, owner: str = "a") -> Opened:
    """
    Commit decisions that must go through, and return the view after them.
    """
    commit = controls.commit(view, *command_ids)
    return moved(commit, journal.commit([commit], owner)[0])


def log_of(journal: Journal, ref: Ref) -> list[tuple[int, bytes]]:
    """
    Return the whole log of an instance.
    """
    return list(journal.read([ref], snapshots=False)[0].tail)
