"""Actor: an instance in memory, folded from its log, and the plan of what to do to it next.

An actor changes only when a plan of it was committed. Everything before that happens in the plan.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from holdfast.runtime.cipher import check_open, is_sealed
from holdfast.runtime.clock import to_ms
from holdfast.runtime.codec import encode
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import Ending, HistoryError, Unopened, message_of
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import OUT_OF_STEP, Opened
from holdfast.runtime.record import Entry, Snapshot

#: How many handled command ids an instance remembers at least ...
HANDLED_MIN = 1_000
#: ... for how long it remembers more than that: longer than any broker or caller retries ...
HANDLED_MS = 24 * 60 * 60 * 1000
#: ... and how many at the most: an instance that takes a thousand commands a second must not fill the memory.
HANDLED_MAX = 100_000


class Handled(NamedTuple):
    """Where a handled command is recorded."""

    seq: int
    at_ms: int


@dataclass(slots=True)
class Actor:
    """An instance's view: the fold of its log up to `seq`."""

    ref: Ref
    definition: Definition
    state: Any
    seq: int = 0
    head: str = ""
    token: int = 0
    run_state: RunState = RunState.RUNNING
    #: When the last record was made, in milliseconds since 1970: time never goes back within a log.
    at_ms: int = 0
    #: The remembered command ids, oldest first.
    handled: OrderedDict[str, Handled] = field(default_factory=OrderedDict)
    snapshot_seq: int = 0
    #: How many commands are kept for it until it is resumed.
    parked: int = 0
    #: Why it is in its run state, where somebody said so.
    reason: str = ""
    #: The unique key that it holds; empty for none.
    unique: str = ""
    #: Whether its data was deleted and nothing of its state is left.
    erased: bool = False

    @property
    def draining(self) -> bool:
        """Whether commands that were kept for it go before all others."""
        return self.parked > 0 and self.run_state is not RunState.PAUSED

    def absorb(self, seq: int, entry: Entry[Any]) -> None:
        """Fold one entry of the log.

        Raises:
            HistoryError: `evolve` failed on a recorded event or returned no state, or the log has a gap.
        """
        self._fold(seq, entry)
        self.remember(entry.command_id, Handled(seq, entry.at_ms))

    def absorb_all(self, tail: Sequence[tuple[int, bytes]]) -> None:
        """Fold entries of the log, as they are stored.

        Raises:
            HistoryError: As for `absorb`; or the code of today cannot read one.
        """
        if not tail:
            return
        decode = self.definition.entries.decode
        end, data = tail[-1]
        # Only the ids that will be remembered in the end are put among those that are: of a long log few are.
        remembered = end - HANDLED_MIN
        try:
            fresh_ms = decode(data, "record", end, "of", self.ref).at_ms - HANDLED_MS
        except HistoryError:
            fresh_ms = 0  # the first that cannot be read is told of, below
        for seq, data in tail:
            entry = decode(data, "record", seq, "of", self.ref)
            self._fold(seq, entry)
            if seq > remembered or entry.at_ms > fresh_ms:
                self.remember(entry.command_id, Handled(seq, entry.at_ms))

    def _fold(self, seq: int, entry: Entry[Any]) -> None:
        if entry.control is not None and entry.control.erases:
            # What was before it is gone, and meant to be.
            self.state, self.erased, self.seq = self.definition.workflow.initial(), True, seq - 1
            self.handled.clear()
        if seq != self.seq + 1:
            raise gap(self.ref, self.seq, seq)
        state, evolve = self.state, self.definition.workflow.evolve
        state_class = self.definition.state_class
        for event in entry.events:
            try:
                state = evolve(state, event)
            except (Ending, KeyboardInterrupt):  # of a client whose user has enough
                raise
            except BaseException as error:
                message = (
                    f"{self.definition.name}.evolve failed on {type(event).__name__} in record {seq} of {self.ref}: "
                    f"{type(error).__name__}: {message_of(error)}. evolve must accept every recorded event"
                )
                raise HistoryError(message) from error
            if not isinstance(state, state_class):
                message = f"{self.definition.no_state(state, event)}. That was in record {seq} of {self.ref}"
                raise HistoryError(message)
        self.state = state
        self.seq = seq
        self.head = entry.command_id
        self.at_ms = entry.at_ms

    def remember(self, command_id: str, handled: Handled) -> None:
        """Remember a handled command, and forget those beyond both limits."""
        known = self.handled
        known[command_id] = handled
        while len(known) > HANDLED_MIN:
            oldest = next(iter(known.values()))
            fresh = handled.at_ms - oldest.at_ms < HANDLED_MS
            if fresh and len(known) <= HANDLED_MAX:
                break
            known.popitem(last=False)

    def snapshot(self) -> Snapshot:
        """Return the actor as a snapshot."""
        return Snapshot(
            self.seq,
            self.head,
            self.definition.kind.state_version,
            encode(self.state),
            tuple((id_, seq, at_ms) for id_, (seq, at_ms) in self.handled.items()),
            self.erased,
        )


def gap(ref: Ref, before: int, seq: int) -> HistoryError:
    """Return the error of a log in which a record does not follow the one before it."""
    return HistoryError(f"the log of {ref} goes from {before} to {seq}; records between them are gone")


def fold(definition: Definition, opened: Opened) -> Actor:
    """Return the actor that a journal's answer describes, from its snapshot where that can be used.

    Raises:
        HistoryError: The log cannot be read or folded by the code of today.
    """
    actor = start(definition, opened.ref, opened.snapshot)
    actor.absorb_all(opened.tail)
    actor.token = opened.token
    actor.run_state = opened.run_state
    actor.parked, actor.reason, actor.unique = opened.parked, opened.reason, opened.unique
    if actor.seq != opened.seq:
        message = (
            f"the log of {opened.ref} ends at {actor.seq}, but the instance is at {opened.seq}: {OUT_OF_STEP}"
        )
        raise HistoryError(message)
    return actor


def start(definition: Definition, ref: Ref, snapshot: Snapshot | None) -> Actor:
    """Return an actor before its first entry, or at its snapshot.

    A snapshot of another `state_version`, or of a state that no longer fits, raises UnusableSnapshot.
    """
    if snapshot is None:
        return Actor(ref, definition, definition.workflow.initial())
    if snapshot.state_version != definition.kind.state_version:
        raise UnusableSnapshot(str(ref))
    if is_sealed(snapshot.state):
        # Not of other code: what was trimmed or scrubbed is nowhere else.
        try:
            check_open(snapshot.state, f"the snapshot of {ref}")
        except Unopened as error:
            raise HistoryError(str(error)) from error
    try:
        state = definition.state_decoder.decode(snapshot.state)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnusableSnapshot(str(ref)) from error
    handled = OrderedDict((id_, Handled(seq, at_ms)) for id_, seq, at_ms in snapshot.handled)
    at_ms = snapshot.handled[-1][2] if snapshot.handled else 0
    actor = Actor(ref, definition, state, snapshot.seq, snapshot.head, at_ms=at_ms, handled=handled)
    actor.snapshot_seq = snapshot.seq
    actor.erased = snapshot.erased
    return actor


class UnusableSnapshot(Exception):
    """The snapshot is of other code; the log has the truth."""


def clock_ms(now: datetime, actor: Actor) -> int:
    """Return the time for the actor's next record: now, but never before its last one."""
    return max(to_ms(now), actor.at_ms)
