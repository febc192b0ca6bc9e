"""Read models in Redis: `RedisStore`, which is written in one transaction with how far it goes, and checkpoints alone.

A RedisStore keeps everything of a projection under one hash tag. A batch is one MULTI/EXEC that goes through only if
nobody else has moved the instances of its partitions meanwhile.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, at, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.checks import said
from holdfast.runtime.config import Settings, check_redis_url
from holdfast.runtime.errors import HoldfastError, SettingsError, WorkflowError
from holdfast.runtime.feed import Reader, Stale
from holdfast.runtime.keys import Ref
from holdfast.runtime.redaction import hide_password

log = logging.getLogger(__name__)

#: What a server says that cannot write now, whoever asks: as redis-py has a class for it, or as text.
_CANNOT_WRITE = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ClusterDownError,
)
_CANNOT_WRITE_TEXT = ("MASTERDOWN", "MISCONF", "NOREPLICAS")
#: Keys that one step of a removal takes.
DROP_STEP = 1_000


@dataclass(frozen=True, slots=True, repr=False)
class RedisStore:
    """A read model in Redis, written together with how far it goes: each event is applied exactly once.

    Handlers write with `ctx.tx.pipe`, a redis-py pipeline: what they queue is carried out with the batch, in one
    MULTI/EXEC. Keys come from `ctx.tx.key("by-day")`; readers get the live ones from `client.projections.key(...)`.

    Redis undoes nothing: a command that it refuses for the type of its key is left out and logged, the others stand.
    """

    #: The server; empty for the installation's own.
    url: str = ""

    def __post_init__(self) -> None:
        url: Any = self.url
        if not isinstance(url, str):
            message = f"RedisStore({said(url)}): the URL must be text, such as redis://localhost:6379/0"
            raise WorkflowError(message)
        try:
            check_redis_url("the URL of a RedisStore", url)
        except SettingsError as error:
            raise WorkflowError(str(error)) from None

    def __repr__(self) -> str:
        """Return the store without the password in its URL."""
        return f"RedisStore({hide_password(self.url)!r})" if self.url else "RedisStore()"

    def open(self, settings: Settings, projection: str) -> RedisReadModel:
        """Return the read model; called by workers."""
        if self.url:
            settings = at(settings, self.url)
        return RedisReadModel(settings, projection)


class RedisTransaction:
    """What handlers of a projection with a RedisStore write with."""

    def __init__(self, pipe: Any, keys: Keys, projection: str, generation: int) -> None:
        #: A redis-py pipeline; what is queued is carried out with the batch.
        self.pipe = pipe
        self._keys = keys
        self._projection = projection
        self._generation = generation

    def key(self, name: str) -> str:
        """Return the key of this name in the generation that is written."""
        return self._keys.model(self._projection, self._generation, name)


class _Writing:
    """A transaction that is being put together: looked first, then queued."""

    def __init__(self, pipe: Any, keys: Keys, projection: str, generation: int) -> None:
        self._pipe = pipe
        self._keys = keys
        self._where = (projection, generation)
        self.tx = RedisTransaction(pipe, keys, projection, generation)

    def seqs(self, refs: Sequence[Ref]) -> list[int]:
        """Return up to which record instances are applied; from here on everything is queued."""
        by_partition: dict[int, list[Ref]] = defaultdict(list)
        for ref in refs:
            by_partition[ref.partition].append(ref)
        found: dict[Ref, int] = {}
        for partition, those in by_partition.items():
            key = self._keys.model_applied(*self._where, partition)
            values = self._pipe.hmget(key, [ref.scope for ref in those])
            found.update((ref, int(value or 0)) for ref, value in zip(those, values, strict=True))
        self._pipe.multi()
        return [found[ref] for ref in refs]

    def keep(self, seqs: Sequence[tuple[Ref, int]], positions: Mapping[int, str]) -> None:
        """Queue how far instances are applied."""
        by_partition: dict[int, dict[str, int]] = defaultdict(dict)
        for ref, seq in seqs:
            by_partition[ref.partition][ref.scope] = seq
        for partition, mapping in by_partition.items():
            self._pipe.hset(self._keys.model_applied(*self._where, partition), mapping=mapping)
        if positions:
            self._pipe.hset(self._keys.model_positions(*self._where), mapping=positions)


class RedisReadModel:
    """The read model of one projection in Redis."""

    exactly_once = True

    def __init__(self, settings: Settings, projection: str) -> None:
        self._link = RedisLink(settings)
        self._keys = Keys(settings.namespace)
        self._projection = projection

    def prepare(self, generation: int, *, live: bool) -> None:
        """Say which generation is live, if nobody did yet."""
        if live:
            with unavailable(self._link):
                self._link.client.setnx(self._keys.model_live(self._projection), generation)

    @contextmanager
    def transaction(self, generation: int, partitions: Sequence[int]) -> Iterator[_Writing]:
        """Watch the partitions, look, queue, and carry out what was queued if nobody else moved them."""
        with self._refusals():
            pipe: Any = self._link.at(self._keys.model_live(self._projection)).pipeline(transaction=True)
            pipe.watch(*(self._keys.model_applied(self._projection, generation, p) for p in partitions))
        try:
            yield _Writing(pipe, self._keys, self._projection, generation)
            with self._refusals():
                replies = pipe.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception):
                    log.error(
                        "Redis refused a command of a projection",
                        extra={"projection": self._projection, "error": str(reply)},
                    )
        finally:
            with unavailable(self._link):
                pipe.reset()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Tell apart a server that cannot write, another writer, and a command that is wrong in itself."""
        try:
            yield
        except redis.exceptions.WatchError as error:
            message = f"another writer was at the read model of {self._projection!r}"
            raise Stale(message) from error
        except redis.exceptions.ResponseError as error:
            known = isinstance(error, _CANNOT_WRITE)
            if not known and not any(word in str(error) for word in _CANNOT_WRITE_TEXT):
                raise
            with unavailable(self._link):
                raise
        except (redis.exceptions.RedisError, OSError):
            with unavailable(self._link):
                raise

    def positions(self, generation: int) -> dict[int, str]:
        """Return how far the feed was read."""
        with unavailable(self._link):
            found: Any = self._link.client.hgetall(self._keys.model_positions(self._projection, generation))
        return {int(partition): position.decode() for partition, position in found.items()}

    def reachable(self) -> bool:
        """Return whether the server answers."""
        try:
            with unavailable(self._link):
                return bool(self._link.client.ping())
        except HoldfastError:
            return False

    def switch(self, generation: int) -> None:
        """Name another generation to readers."""
        with unavailable(self._link):
            self._link.client.set(self._keys.model_live(self._projection), generation)

    def drop(self, generation: int) -> None:
        """Delete a generation, step by step."""
        pattern = f"{self._keys.model_tag(self._projection)}:{generation}:*"
        with unavailable(self._link):
            step: list[Any] = []
            for key in self._link.client.scan_iter(match=pattern, count=DROP_STEP):
                step.append(key)
                if len(step) == DROP_STEP:
                    self._link.client.unlink(*step)
                    step.clear()
            if step:
                self._link.client.unlink(*step)

    def live(self) -> int:
        """Return the generation that readers are to see."""
        with unavailable(self._link):
            found: Any = self._link.client.get(self._keys.model_live(self._projection))
        return int(found or 1)

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


class _Checkpoint:
    """How far handlers have come; they write elsewhere."""

    tx: Any = None

    def __init__(self, link: RedisLink, keys: Keys, reader: Reader) -> None:
        self._link = link
        self._keys = keys
        self._reader = reader
        self.kept: list[tuple[Ref, int]] = []

    def seqs(self, refs: Sequence[Ref]) -> list[int]:
        """Return up to which record instances are applied."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for ref in refs:
                pipe.hget(self._keys.applied(ref.partition, self._reader), ref.scope)
            return [int(found or 0) for found in pipe.execute()]

    def keep(self, seqs: Sequence[tuple[Ref, int]], positions: Mapping[int, str]) -> None:  # noqa: ARG002 - the port's signature
        """Have it kept when the handlers are done."""
        self.kept += seqs


class RedisCheckpoints:
    """A read model of which only the checkpoints are kept, in the installation's own Redis."""

    exactly_once = False

    def __init__(self, settings: Settings, projection: str) -> None:
        self._link = RedisLink(settings)
        self._keys = Keys(settings.namespace)
        self._projection = projection

    def prepare(self, generation: int, *, live: bool) -> None:
        """Need nothing."""

    @contextmanager
    def transaction(self, generation: int, partitions: Sequence[int]) -> Iterator[_Checkpoint]:  # noqa: ARG002 - the port's signature
        """Keep the checkpoints when the handlers are done; see applied.lua."""
        reader = Reader(self._projection, generation)
        checkpoint = _Checkpoint(self._link, self._keys, reader)
        yield checkpoint
        by_partition: dict[int, list[str | int]] = defaultdict(list)
        for ref, seq in checkpoint.kept:
            by_partition[ref.partition] += (ref.scope, seq)
        calls = [
            Call(Script.APPLIED, (self._keys.applied(partition, reader),), pairs)
            for partition, pairs in by_partition.items()
        ]
        if calls:
            scripts.run(self._link, calls)

    def positions(self, generation: int) -> dict[int, str]:  # noqa: ARG002 - the port's signature
        """Return nothing: what is kept here is where the feed is, and goes back with it."""
        return {}

    def reachable(self) -> bool:
        """Return True: the handlers' own store is not known here, so their errors are theirs."""
        return True

    def switch(self, generation: int) -> None:
        """Need nothing: who reads asks for the live generation."""

    def drop(self, generation: int) -> None:
        """Need nothing: the checkpoints went with the reader."""

    def close(self) -> None:
        """Close the connection."""
        self._link.close()
