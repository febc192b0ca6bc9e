"""Outcomes: what became of a command, as its sender learns it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

E_co = TypeVar("E_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Accepted(Generic[E_co]):
    """The command was decided, and its events were committed as record `seq`."""

    seq: int
    events: tuple[E_co, ...]
    #: Where the record is in its partition's feed, for `client.wait_for`; empty while no projection reads that.
    position: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The workflow refused the command; nothing was recorded in the log."""

    reason: str
    details: Any = None


@dataclass(frozen=True, slots=True)
class AlreadyCompleted:
    """The instance is finished, so the command was not decided."""

    run_state: str


@dataclass(frozen=True, slots=True)
class Duplicate(Generic[E_co]):
    """A command with this id had been decided before; `first` is what was answered then."""

    first: Accepted[E_co] | Rejected


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The command could not be decided and is kept as a dead letter for a person."""

    error: str
    dead_letter_id: str


@dataclass(frozen=True, slots=True)
class Parked:
    """The instance is paused, and the command is kept for it, in order, until it is resumed.

    Executing it again with the same id tells what became of it then.
    """

    #: Why the instance is paused.
    reason: str


#: Everything that `client.execute` can return.
Outcome = Accepted[Any] | Rejected | AlreadyCompleted | Duplicate[Any] | DeadLettered | Parked


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """An outcome on its way back to a waiting caller, and as a refusal is remembered."""

    command_id: str
    #: accepted, rejected, completed, dead or parked.
    kind: str
    #: Whether a command with this id had been decided before.
    duplicate: bool = False
    seq: int = 0
    #: The record as the log keeps it (accepted).
    entry: bytes = b""
    #: The reason (rejected, parked), the run state (completed), the error (dead).
    reason: str = ""
    #: The details of a refusal, as msgpack; the id of the dead letter.
    details: bytes = b""
    dead_letter_id: str = ""
    #: `<partition>/<feed id>` (accepted).
    position: str = ""
