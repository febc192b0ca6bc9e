"""Backlog: what waits in an installation, for those who look after it. It only looks, and every look is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.record import EffectEntry

#: What the name of an effect that waits for its next try begins with; it stands among the timers.
RETRY = "~e:"

#: How far a reader is behind is counted up to here: whoever is behind farther is so for a long time.
BEHIND_MAX = 500


class Reading(NamedTuple):
    """How far one projection is in a partition's feed."""

    projection: str
    #: Records that it has not read, up to BEHIND_MAX, and when the oldest of them was written; -1 if it does not say.
    behind: int
    since_ms: int


class Load(NamedTuple):
    """What waits in one partition, beside its commands. A time of 0 says that there is nothing that waits."""

    partition: int
    #: The server's time, which all the others are to be compared with.
    now_ms: int
    #: Effects that nobody has finished, without those that wait for their next try, and the oldest of them.
    effects: int
    effects_since_ms: int
    #: Pending timers, and effects that wait for their next try.
    scheduled: int
    #: Those of them that are due, and when the first was.
    due: int
    due_since_ms: int
    #: Records that are kept for projections, and how far each of these is.
    feed: int
    readings: tuple[Reading, ...]


class Idle(NamedTuple):
    """An instance that has not changed for a while."""

    ref: Ref
    run_state: RunState
    updated_ms: int


class Unfinished(NamedTuple):
    """An effect that is to be run, or runs."""

    partition: int
    #: When it was put there: with its decision, or for its latest try.
    since_ms: int
    entry: EffectEntry


class Scheduled(NamedTuple):
    """Something that waits for its time: a timer, or, with a name that begins with RETRY, an effect."""

    partition: int
    name: str
    due_ms: int


class Backlog(Protocol):
    """Shows what waits; proved by tests/contract/test_backlog.py."""

    def loads(self) -> list[Load]:
        """Return what waits in each partition."""
        ...

    def idle(self, workflow: str, run_states: Sequence[RunState], until_ms: int, limit: int) -> list[Idle]:
        """Return instances in these run states that have not changed since a time, the longest idle first."""
        ...

    def effects(self, limit: int) -> list[Unfinished]:
        """Return up to `limit` unfinished effects of each partition, the oldest first."""
        ...

    def scheduled(self, limit: int, partitions: Sequence[int] | None = None) -> list[Scheduled]:
        """Return up to `limit` of what is scheduled in each partition (or in some), by due time."""
        ...

    def payloads(self, wanted: Sequence[Scheduled]) -> list[bytes | None]:
        """Return what is scheduled: a timer's envelope, an effect's entry; None for what is no longer there."""
        ...


class TimerName(NamedTuple):
    """What the name of a timer says."""

    workflow: str
    key: str
    #: The timer's own key; for one without, the id of its command.
    timer: str


def read_name(name: str) -> TimerName | None:
    """Return what the name of a timer says, or None if it is named otherwise; see `Ref.scope`."""
    workflow, slash, rest = name.partition("/")
    length, second, rest = rest.partition("/")
    if not (slash and second and length.isascii() and length.isdigit()):
        return None
    key, timer = rest[: int(length)], rest[int(length) :]
    if len(key) != int(length) or timer[:1] not in ("/", ":"):
        return None
    return TimerName(workflow, key, timer[1:])
