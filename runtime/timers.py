"""Timers: commands that wait for their time, and the port of the pool that sends them.

A timer is written with the decision that asks for it, under a name that is unique in its partition. When its time has
come by the server's clock, one step moves it from the pending ones to those that are due, and whoever serves the
partition in the timer pool publishes it as a command. Its envelope was made when it was set, so however often it is
published, it is one command.

A timer is pending until it is moved; only then can it still be replaced or cancelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from holdfast.runtime.cipher import tag_in
from holdfast.runtime.clock import from_ms
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.errors import Undecodable
from holdfast.runtime.ids import READABLE_ID_CHARS, digest_of
from holdfast.runtime.keys import Ref

#: Names of effects that wait for another try begin with it; they go back to the effects, and are no timers to anybody.
#: No workflow type has this first character, so no timer's name begins with it.
RETRY_PREFIX = "~e:"
#: What begins with it is Holdfast's own and not listed.
OWN_PREFIX = "~"


class Due(NamedTuple):
    """A timer whose time has come, until its command is sent."""

    partition: int
    #: The server's handle; it begins with when the timer was moved, in milliseconds by the server's clock, and a dash.
    id: str
    #: The envelope to publish.
    body: bytes
    #: When it was due, in milliseconds since 1970.
    due_ms: int

    @property
    def moved_ms(self) -> int:
        """When it was moved, by the server's clock."""
        return int(self.id.partition("-")[0])


@dataclass(frozen=True, slots=True)
class Fired:
    """What a look at one partition found."""

    partition: int
    #: How many entries were moved: to those that are due, or back to the effects.
    moved: int
    #: Milliseconds until the next one is due; None when nothing is pending.
    next_ms: int | None
    #: What waits to be sent, oldest first: what was moved now, and what somebody moved before and did not send.
    due: list[Due] = field(default_factory=list)
    #: Nothing was moved: somebody else serves the partition.
    fenced: bool = False


class PendingTimer(NamedTuple):
    """One line of a listing: a timer that was not sent yet."""

    workflow: str
    key: str
    #: The key under which it was set; None when it has none.
    name: str | None
    due: datetime
    #: The command that it will send, by its class's name, and the id that this will have.
    command: str
    command_id: str


class Timers(Protocol):
    """Keeps commands until their time; proved by tests/contract/test_timers.py."""

    def fire(self, partitions: Sequence[int], owner: str, limit: int) -> list[Fired]:
        """Move what is due by the server's clock, up to a limit in each partition, and return what waits to be sent.

        Nothing is moved in a partition that another than `owner` serves in the timer pool.
        """
        ...

    def remove(self, sent: Sequence[Due]) -> None:
        """Forget what was sent."""
        ...

    def wait(self, partitions: Sequence[int], timeout_s: float) -> set[int]:
        """Wait until a timer is set that may be due before any that was pending; return the partitions of such.

        They need not be among `partitions` only, and a word may get lost: whoever waits looks again in a while.
        """
        ...

    def pending(
        self, *, workflow: str | None = None, key: str | None = None, limit: int = 100
    ) -> list[PendingTimer]:
        """Return timers by due time, the next one first: all, those of a workflow, or those of one instance."""
        ...


def timer_id(ref: Ref, command_id: str, index: int) -> str:
    """Return the id of the command that the n-th timer of a decision will send."""
    own = f"{command_id}:t{index}"
    return own if len(own) <= READABLE_ID_CHARS else f"{digest_of(f'{ref.scope}/{command_id}')}:t{index}"


def timer_scope(workflow: str | None, key: str | None) -> str:
    """Return what the names of these timers begin with."""
    if workflow is None:
        return ""
    return f"{workflow}/" if key is None else Ref(0, workflow, key).scope


def listed(name: str, due_ms: int, body: bytes) -> PendingTimer:
    """Return the line for a timer as it is stored."""
    try:
        envelope = decode_envelope(body)
    except Undecodable:
        return PendingTimer("", "", name, from_ms(due_ms), "", "")
    mark = f"{Ref(0, envelope.workflow, envelope.key).scope}/"
    own = name.removeprefix(mark) if name.startswith(mark) else None
    return PendingTimer(
        envelope.workflow, envelope.key, own, from_ms(due_ms), tag_in(envelope.payload), envelope.id
    )
