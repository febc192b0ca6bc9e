"""Records: committed decisions, as the log keeps them and as users read them.

What is proposed (`Entry`, without a sequence number) and what was recorded (`Record`) are different types.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

E = TypeVar("E")


class Moved(msgspec.Struct, frozen=True, array_like=True):
    """What a built-in command did to the run itself; a record of one has this and no events."""

    #: pause, resume, cancel or delete-data.
    verb: str
    #: Why, in the words of whoever asked.
    reason: str = ""
    #: When a paused instance is resumed without being asked, in milliseconds since 1970; 0 for never.
    resume_at_ms: int = 0

    @property
    def erases(self) -> bool:
        """Whether the instance's data was deleted: everything before this record is gone."""
        return self.verb == "delete-data"


class AskedTimer(msgspec.Struct, frozen=True, array_like=True):
    """A timer that a decision set."""

    #: The name of the command's class.
    command: str
    #: The timer's own key; empty where it has none.
    key: str = ""
    #: When it is due, in milliseconds since 1970; 0 where that is a delay from the commit.
    due_ms: int = 0
    delay_ms: int = 0


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """What a decision asked for beside its events: names only. The rest was in the outbox until it was done with."""

    #: The names of the effects' classes; the id of the n-th is `<command id>:<n>`.
    effects: tuple[str, ...] = ()
    timers: tuple[AskedTimer, ...] = ()
    #: The keys of the timers to cancel, which happens before the timers are set.
    cancels: tuple[str, ...] = ()


class Entry(msgspec.Struct, Generic[E], frozen=True, array_like=True):
    """One decision in the form in which it is stored: a msgpack array.

    The order of the fields is the storage format: add at the end, with a default.
    """

    #: The command that was decided, and its type.
    command_id: str
    command: str
    #: When it was decided, in milliseconds since 1970; never goes back within a log.
    at_ms: int
    #: The token of the lease under which it was decided, for forensics; 0 where none was held.
    token: int
    events: tuple[E, ...]
    #: The id of the command or record that led to the command.
    cause: str | None = None
    #: The W3C traceparent of the decision where it is traced, else of what sent the command.
    trace: str | None = None
    #: What it did to the run; None for a decision of the workflow.
    control: Moved | None = None
    #: What else it asked for; None for nothing, and in records from before this was written down.
    asked: Asked | None = None
    #: How many attempts the effect took that sent the command; 0 for what no effect sent, and in older records.
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Record(Generic[E]):
    """One committed decision, read back from the log."""

    #: 1 for the first record of an instance, and then without gaps.
    seq: int
    command_id: str
    command: str
    at: datetime
    token: int
    events: tuple[E, ...]
    cause: str | None
    trace: str | None
    #: What a built-in command did to the run: then there are no events.
    control: Moved | None = None
    #: The effects and timers that it asked for, by name; None for none.
    asked: Asked | None = None
    #: How many attempts the effect took that sent the command; 0 where none did, or where that is not known.
    attempts: int = 0


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """The fold of a log up to a sequence number, so that opening need not read it all."""

    seq: int
    head: str
    #: The workflow's `state_version` when it was taken; another one makes the snapshot worthless, not wrong.
    state_version: int
    state: bytes
    #: The handled command ids that are still remembered: (id, seq, at_ms), oldest first.
    handled: tuple[tuple[str, int, int], ...] = ()
    #: Whether the data was deleted and nothing is left of the state.
    erased: bool = False


class EffectEntry(msgspec.Struct, frozen=True, array_like=True):
    """An effect in the outbox, as it is stored."""

    #: Stable over every retry and unique within its instance: `<command id>:<index>`. The idempotency key to hand
    #: outward is the instance and this.
    id: str
    workflow: str
    key: str
    seq: int
    payload: bytes
    at_ms: int
    trace: str | None = None
    #: What happened to it before, where it was a dead letter and was put back: one sentence each.
    history: tuple[str, ...] = ()


class TimerEntry(msgspec.Struct, frozen=True, array_like=True):
    """A pending timer, as it is proposed to the journal."""

    #: What it is replaced and cancelled by; unique in its partition.
    name: str
    #: The envelope to send when it is due.
    envelope: bytes
    #: Milliseconds from the commit, by the journal's clock; used when `due_ms` is 0.
    delay_ms: int
    due_ms: int = 0
