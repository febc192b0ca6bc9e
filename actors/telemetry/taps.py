"""Taps: wrapped around ports, caches and lanes, they count what goes through and change nothing of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.actors.effect_job import Job
from holdfast.actors.pool import Lane
from holdfast.actors.telemetry.meter import Meter, Tally
from holdfast.actors.telemetry.metrics import (
    ATTEMPTS,
    CACHE,
    COMMAND_AGE,
    COMMANDS,
    COMMITS,
    DEAD_LETTERS,
    HANDOVERS,
    LATENESS,
    TURN_DURATION,
    TURN_SIZE,
)
from holdfast.actors.telemetry.vitals import Vitals
from holdfast.runtime.actor import Actor
from holdfast.runtime.app import App
from holdfast.runtime.cache import ActorCache
from holdfast.runtime.clock import Clock, to_ms
from holdfast.runtime.control import TARGETS
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.effect import EffectTimeout
from holdfast.runtime.keys import Ref
from holdfast.runtime.mailbox import Letter
from holdfast.runtime.message import describe, tag_of
from holdfast.runtime.ports import Ahead, Commit, CommitResult, Committed, Conflict, Fenced
from holdfast.runtime.timers import Due, Fired
from holdfast.runtime.timetable import SCHEDULE_TYPE

#: In place of a name that the app does not have: those who send could make up any number of them.
OTHER = "other"


class Names:
    """The names that may be values of attributes: those of the app's workflows and messages, and of schedules."""

    def __init__(self, app: App) -> None:
        definitions = (*app.definitions, app.definition(SCHEDULE_TYPE))
        self.workflows = frozenset(one.type for one in definitions)
        self.messages = frozenset(
            name
            for one in definitions
            for known in (one.commands, one.events, one.effects)
            if known is not None
            for name in known.by_tag
        ).union(map(tag_of, TARGETS))

    def workflow(self, name: str) -> str:
        """Return the name of a workflow, if it is one of the app's."""
        return name if name in self.workflows else OTHER

    def message(self, name: str) -> str:
        """Return the name of a message, if it is one of the app's."""
        return name if name in self.messages else OTHER


class _Tap:
    """Has every verb of what it is wrapped around."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


#: What the outcomes of commits are called.
_OUTCOMES: dict[type[CommitResult], str] = {
    Committed: "committed",
    Conflict: "conflict",
    Fenced: "fenced",
    Ahead: "ahead",
}


class JournalTap(_Tap):
    """Counts commits."""

    def __init__(self, inner: Any, meter: Meter) -> None:
        super().__init__(inner)
        self._tally = meter.tally(COMMITS, *((outcome,) for outcome in _OUTCOMES.values()))

    def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
        """Commit."""
        results: list[CommitResult] = self._inner.commit(commits, owner)
        for result in results:
            self._tally.count(_OUTCOMES[type(result)])
        return results


class DeadLettersTap(_Tap):
    """Counts dead letters as they are written."""

    def __init__(self, inner: Any, meter: Meter, names: Names) -> None:
        super().__init__(inner)
        self._meter = meter
        self._tally = meter.tally(DEAD_LETTERS)
        self._names = names

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Write dead letters."""
        self._inner.add(letters)
        try:
            for letter in letters:
                self._tally.count(letter.kind, self._names.message(letter.message_type))
        except Exception as error:  # noqa: BLE001 - what was written is written
            self._meter.fail(DEAD_LETTERS, error)


class TimersTap(_Tap):
    """Measures how late timers are: by Redis's clock until they were moved, and then by how long they were in our hands."""

    def __init__(self, inner: Any, meter: Meter, monotonic: Callable[[], float]) -> None:
        super().__init__(inner)
        self._meter = meter
        self._monotonic = monotonic
        #: By partition: nothing more of it is moved while something is in our hands.
        self._fired: dict[int, float] = {}

    def fire(self, partitions: Sequence[int], owner: str, limit: int) -> list[Fired]:
        """Move what is due."""
        found: list[Fired] = self._inner.fire(partitions, owner, limit)
        now = self._monotonic()
        self._fired.update((fired.partition, now) for fired in found)
        return found

    def remove(self, sent: Sequence[Due]) -> None:
        """Forget what was sent."""
        now = self._monotonic()
        self._inner.remove(sent)
        for one in sent:
            held_s = now - self._fired.get(one.partition, now)
            self._meter.record(LATENESS, max(0.0, (one.moved_ms - one.due_ms) / 1000) + held_s)


class CacheTap(ActorCache):
    """Counts what is found in the cache."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._tally = meter.tally(CACHE, ("hit",), ("miss",))

    def get(self, ref: Ref) -> Actor | None:
        """Look."""
        actor = super().get(ref)
        self._tally.count("miss" if actor is None else "hit")
        return actor


class CommandTally:
    """Counts what becomes of commands, and notes when the oldest was sent."""

    def __init__(self, meter: Meter, names: Names, clock: Clock) -> None:
        self._meter = meter
        self._names = names
        self._clock = clock
        self._tally = meter.tally(COMMANDS)
        self._oldest_ms: float = math.inf

    def __call__(self, workflow: str, letter: Letter | None, outcome: str) -> None:
        """Count a command; one that cannot be read has no letter."""
        try:
            self._count(workflow, letter, outcome)
        except Exception as error:  # noqa: BLE001 - it was decided, whether it is counted or not
            self._meter.fail(COMMANDS, error)

    def _count(self, workflow: str, letter: Letter | None, outcome: str) -> None:
        known = letter is not None and letter.command is not None
        name = self._names.message(describe(letter.command)) if letter is not None and known else OTHER
        self._tally.count(self._names.workflow(workflow), name, outcome)
        if letter is not None and not letter.parked and 0 < letter.envelope.sent_ms < self._oldest_ms:
            self._oldest_ms = letter.envelope.sent_ms

    def flush(self) -> None:
        """Record the age of the oldest command since the last time."""
        if self._oldest_ms < math.inf:
            age_ms = to_ms(self._clock.now()) - self._oldest_ms
            self._oldest_ms = math.inf
            self._meter.record(COMMAND_AGE, max(0.0, age_ms / 1000))


class AttemptTap:
    """Measures attempts of effects; called by whoever ran the handler."""

    def __init__(self, meter: Meter, monotonic: Callable[[], float]) -> None:
        self._meter = meter
        self._monotonic = monotonic

    def __call__(self, job: Job, error: BaseException | None) -> None:
        """Record an attempt that has ended."""
        timeout = isinstance(error, EffectTimeout)
        outcome = "done" if error is None else "timeout" if timeout else "failed"
        self._meter.record(ATTEMPTS, self._monotonic() - job.began, job.tag, outcome)


class HandoverTap:
    """Stands among the holders of a pool's partitions and counts what they are given and give up."""

    def __init__(self, meter: Meter, pool: str) -> None:
        self._pool = pool
        self._tally: Tally = meter.tally(HANDOVERS, (pool, "taken"), (pool, "given"))

    def assign(self, partition: int) -> None:  # noqa: ARG002 - a holder's signature
        """Count a partition that was taken."""
        self._tally.count(self._pool, "taken")

    def renew(self, partition: int) -> None:
        """Do nothing."""

    def revoke(self, partition: int) -> None:
        """Do nothing."""

    def drained(self, partition: int) -> bool:  # noqa: ARG002 - as above
        """Hold nothing."""
        return True

    def forget(self, partition: int) -> list[tuple[Ref, int]]:  # noqa: ARG002 - as above
        """Count a partition that was handed over."""
        self._tally.count(self._pool, "given")
        return []

    def stop(self) -> None:
        """Do nothing."""


class LaneTap:
    """Notes what a lane is doing, and measures its batches where that is wanted."""

    def __init__(
        self,
        inner: Lane,
        vitals: Vitals,
        meter: Meter | None = None,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = inner.name
        self._inner = inner
        self._vitals = vitals
        self._meter = meter
        self._flush = flush
        self._pool = inner.name.partition(".")[0]

    def take(self, timeout_s: float) -> Any | None:
        """Take."""
        self._vitals.begin("taking")
        try:
            return self._inner.take(timeout_s)
        finally:
            self._vitals.begin("waiting")

    def work(self, batch: Any) -> None:
        """Work."""
        began = self._vitals.begin("working")
        try:
            self._inner.work(batch)
        finally:
            ended = self._vitals.begin("settling")
            self._vitals.turns += 1
            if self._meter is not None:
                self._measure(self._meter, ended - began, batch)

    def _measure(self, meter: Meter, seconds: float, batch: Any) -> None:
        meter.record(TURN_DURATION, seconds, self._pool)
        try:
            meter.record(TURN_SIZE, _size(batch), self._pool)
            self._flush()
        except Exception as error:  # noqa: BLE001 - the batch is done, whether it is measured or not
            meter.fail(TURN_SIZE, error)

    def settle(self, batch: Any) -> None:
        """Settle."""
        try:
            self._inner.settle(batch)
        finally:
            self._vitals.begin("waiting")

    def linger(self) -> Any | None:
        """Take what is there at once."""
        self._vitals.begin("taking")
        try:
            return self._inner.linger()
        finally:
            self._vitals.begin("waiting")

    def close(self) -> None:
        """Close."""
        self._inner.close()


def _size(batch: Any) -> int:
    """Return how much a batch has; each pool has a batch of its own."""
    if isinstance(batch, list):
        return len(batch)
    for name in ("deliveries", "works", "due"):
        if hasattr(batch, name):
            return len(getattr(batch, name))
    return 0
