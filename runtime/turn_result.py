"""What became of a batch, and the scribe who writes that down.

Nothing here talks to a server: what is written down, the caller of the turn acts on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from holdfast.runtime import ids
from holdfast.runtime.clock import Clock, to_ms
from holdfast.runtime.control import Cancel, Control, DeleteData
from holdfast.runtime.dead_letter import DeadLetter, sentence_of, traceback_of
from holdfast.runtime.keys import Ref
from holdfast.runtime.mailbox import Letter
from holdfast.runtime.message import describe
from holdfast.runtime.observation import Observation
from holdfast.runtime.outcome import Answer
from holdfast.runtime.plan import Plan
from holdfast.runtime.ports import Delivery


@dataclass(slots=True)
class TurnResult:
    """What became of a batch, for its caller to act on."""

    #: Deliveries that are done with, once the rest of this result was acted on.
    done: list[Delivery] = field(default_factory=list)
    #: Deliveries that wait, in order; they come first in the next batch.
    deferred: list[Delivery] = field(default_factory=list)
    #: The instances that those are for.
    waiting: set[Ref] = field(default_factory=set)
    #: The instances that were resumed and have not gone on with all that was kept for them: while that is so, no
    #: control of theirs is done with, for nobody else would bring them on.
    unfinished: set[Ref] = field(default_factory=set)
    dead: list[DeadLetter] = field(default_factory=list)
    #: (reply address, answer) for callers who wait.
    replies: list[tuple[str, Answer]] = field(default_factory=list)
    #: Refusals to remember before they are answered, which the commit itself could not: of those for whom there was no
    #: room. (partition, name, answer); a name is the instance and the id.
    refusals: list[tuple[int, str, Answer]] = field(default_factory=list)
    #: All that were refused in this turn, for second copies of them: by instance and command id.
    refused: dict[Ref, dict[str, Answer]] = field(default_factory=dict)
    #: Instances that were cancelled or whose data was deleted: what they left elsewhere is to be cleared away.
    over: list[Ref] = field(default_factory=list)
    erased: list[Ref] = field(default_factory=list)
    #: What is to be kept of what came, where a workflow wants that.
    observed: list[tuple[Ref, Observation]] = field(default_factory=list)
    #: How many commands were committed, refused, found handled before, and kept for paused instances.
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    parked: int = 0
    #: How often a commit met another writer.
    conflicts: int = 0


#: Told what became of a letter, by its workflow: one of the kinds of `Answer`, "duplicate" or "dead".
Tally = Callable[[str, Letter | None, str], None]


class Scribe:
    """Writes down what became of each letter. For one thread at a time."""

    def __init__(self, clock: Clock, watched: Collection[str] = (), tally: Tally | None = None) -> None:
        self._clock = clock
        #: The workflows of which it is kept what came.
        self._watched = watched
        self.tally = tally

    def reply(
        self, result: TurnResult, ref: Ref, letter: Letter, answer: Answer, *, duplicate: bool = False
    ) -> None:
        """Say what became of a letter, to whoever waits for it, and that its delivery is done with."""
        if self.tally is not None:
            self.tally(ref.workflow, letter, "duplicate" if duplicate or answer.duplicate else answer.kind)
        if self._watched:
            kind = "duplicate" if duplicate or answer.duplicate else answer.kind
            self.observe(result, ref, letter, kind, answer.reason, answer.seq)
        if letter.envelope.reply_to is not None:
            if duplicate:
                answer = replace(answer, duplicate=True)
            result.replies.append((letter.envelope.reply_to, answer))
        if letter.parked or ref in result.unfinished:
            self.done(result, ref, letter)
        else:
            result.done.append(letter.delivery)

    def observe(
        self, result: TurnResult, ref: Ref, letter: Letter, outcome: str, reason: str = "", seq: int = 0
    ) -> None:
        """Note what became of a letter, where its workflow wants that."""
        if ref.workflow not in self._watched:
            return
        envelope = letter.envelope
        name = describe(letter.command) if letter.command is not None else ""
        at_ms = to_ms(self._clock.now())
        seen = Observation(envelope.id, name, envelope.payload, at_ms, outcome, reason, seq)
        result.observed.append((ref, seen))

    def done(self, result: TurnResult, ref: Ref, letter: Letter) -> None:
        """Say that a letter is done with, as far as it came in a delivery."""
        if letter.parked:
            return
        if ref in result.unfinished and isinstance(letter.command, Control):
            self.defer(result, ref, [letter])
        else:
            result.done.append(letter.delivery)

    def defer(self, result: TurnResult, ref: Ref, letters: Sequence[Letter]) -> None:
        """Put letters off; those behind them for the same instance wait as well."""
        for letter in letters:
            result.waiting.add(ref)
            if letter.parked:
                continue
            if letter.delivery.deferred_since == 0:
                letter.delivery.deferred_since = self._clock.monotonic()
            result.deferred.append(letter.delivery)

    def bury(
        self, result: TurnResult, delivery: Delivery, error: BaseException, letter: Letter | None
    ) -> None:
        """Make a dead letter of a delivery, and tell whoever waits for it."""
        dead = (letter.dead if letter is not None else None) or self.dead(delivery, error, letter)
        result.dead.append(dead)
        if self.tally is not None:
            self.tally(dead.workflow, letter, "dead")
        if letter is None or not letter.parked:
            result.done.append(delivery)
        envelope = letter.envelope if letter is not None else None
        if envelope is not None and letter is not None:
            ref = Ref(delivery.partition, envelope.workflow, envelope.key)
            self.observe(result, ref, letter, "dead", dead.error)
        if envelope is not None and envelope.reply_to is not None:
            answer = Answer(envelope.id, "dead", reason=dead.error, dead_letter_id=dead.id)
            result.replies.append((envelope.reply_to, answer))

    def dead(self, delivery: Delivery, error: BaseException, letter: Letter | None) -> DeadLetter:
        """Return the dead letter of a delivery."""
        envelope = letter.envelope if letter is not None else None
        return DeadLetter(
            id=f"{delivery.partition}.{ids.new_id()}",
            kind="command",
            partition=delivery.partition,
            body=delivery.body,
            error=sentence_of(error),
            traceback=traceback_of(error),
            attempts=max(delivery.redeliveries, letter.tries if letter is not None else 0, 1),
            at_ms=to_ms(self._clock.now()),
            command_id=envelope.id if envelope else "",
            workflow=envelope.workflow if envelope else "",
            key=envelope.key if envelope else "",
            message_type=type(letter.command).__name__ if letter and letter.command is not None else "",
            history=envelope.history if envelope else (),
        )

    def note_ends(self, result: TurnResult, plan: Plan, told: Sequence[tuple[Letter, Answer]]) -> None:
        """Have the remains of an instance cleared away whose run was ended."""
        for letter in (
            *(letter for letter, answer in told if answer.kind in ("accepted", "completed")),
            *(letter for letter, _ in plan.duplicates),
        ):
            # Again for what was done before: nobody knows whether its remains were cleared away then,
            # and what came since may have left something too.
            if isinstance(letter.command, Cancel | DeleteData):
                (result.over if isinstance(letter.command, Cancel) else result.erased).append(plan.actor.ref)


def name_in_partition(ref: Ref, letter: Letter) -> str:
    """Return the name of a command in its partition: two instances may know the same id."""
    return f"{ref.scope}:{letter.envelope.id}"
