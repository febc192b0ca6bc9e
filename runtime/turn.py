"""Turn: one pass over a batch of deliveries.

    sort by instance -> open what is not cached -> drop what was handled -> decide and evolve -> commit -> answer

A conflict is a value: the actor's cached state is dropped and its mailbox is tried again, a bounded number of times.
The turn writes logs, nothing else. Its caller writes the dead letters, takes the barrier, replies and acknowledges,
in that order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby

import msgspec
from msgspec.structs import replace

from holdfast.runtime import faults, ids
from holdfast.runtime.actor import Actor, UnusableSnapshot, fold
from holdfast.runtime.app import App
from holdfast.runtime.cache import ActorCache
from holdfast.runtime.clock import Clock, monotonic, to_ms
from holdfast.runtime.dead_letter import DeadLetter, sentence_of, traceback_of
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HistoryError
from holdfast.runtime.faults import Point
from holdfast.runtime.keys import Ref
from holdfast.runtime.mailbox import Letter, Mailbox, sort
from holdfast.runtime.outcome import Answer
from holdfast.runtime.plan import DECIDE_ATTEMPTS, Plan, make_plan
from holdfast.runtime.ports import Answers, Committed, Delivery, Held, Journal, Opened, Suspects
from holdfast.runtime.record import Snapshot

log = logging.getLogger(__name__)

#: A command that was handed out this often before is suspected of killing its workers, and its turns are counted.
#: Not the first times: a crash or a handover hands out again all that the broker had prefetched.
SUSPECT_REDELIVERIES = 3

#: A snapshot is taken at the earliest when the records since the last one are this share of the remembered ids.
SNAPSHOT_SHARE = 4

#: Tries against other writers before a mailbox is put off. Each costs two round trips; more than a few means that
#: somebody else owns the instance and should be left to it.
COMMIT_ATTEMPTS = 5

_answer_decoder = msgspec.msgpack.Decoder(Answer)


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers that a turn is bounded by."""

    payload_bytes_max: int = 1024 * 1024
    #: How long a command of an unknown type is kept back before it is given up: a rolling deploy should be done.
    patience_s: float = 120.0
    #: A snapshot is taken when an actor is this many records past its last one.
    snapshot_every: int = 500
    #: A command whose turn was begun this often and never came to an end kills its workers.
    deliveries_max: int = 5


@dataclass(slots=True)
class TurnResult:
    """What became of a batch, for its caller to act on."""

    #: Deliveries that are done with, once the rest of this result was acted on.
    done: list[Delivery] = field(default_factory=list)
    #: Deliveries that wait, in order; they come first in the next batch.
    deferred: list[Delivery] = field(default_factory=list)
    #: The instances that those are for.
    waiting: set[Ref] = field(default_factory=set)
    dead: list[DeadLetter] = field(default_factory=list)
    #: (reply address, answer) for callers who wait.
    replies: list[tuple[str, Answer]] = field(default_factory=list)
    #: Refusals to remember before they are answered: (partition, name, answer). A name is the instance and the id.
    refusals: list[tuple[int, str, Answer]] = field(default_factory=list)
    #: How many commands were committed, refused, and found handled before.
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    #: How often a commit met another writer.
    conflicts: int = 0


class Turn:
    """Runs batches for one lane; used by one thread at a time."""

    def __init__(
        self,
        app: App,
        journal: Journal,
        answers: Answers,
        suspects: Suspects,
        *,
        owner: str,
        clock: Clock,
        partitions: int,
        limits: Limits | None = None,
        cache: ActorCache | None = None,
        trace: Callable[[], str | None] = lambda: None,
        alone: AbstractContextManager[object] | None = None,
    ) -> None:
        self._app = app
        self._journal = journal
        self._answers = answers
        self._suspects = suspects
        self._begun: dict[tuple[int, str], int] = {}
        self._owner = owner
        self._clock = clock
        self._partitions = partitions
        self._limits = limits or Limits()
        self._trace = trace
        #: Held while a suspect is worked on. One for all turns of a process: they die together, and only the one who
        #: killed them shall be counted.
        self._alone = alone or nullcontext()
        self.cache = cache if cache is not None else ActorCache()

    def run(self, deliveries: Sequence[Delivery]) -> TurnResult:
        """Decide a batch and commit what was decided."""
        result = TurnResult()
        for delivery in deliveries:
            delivery.turns += 1
        for portion in _portions(deliveries):
            with self._alone if _suspicious(portion[0]) else nullcontext():
                self._run(result, portion)
        if result.deferred:
            order = {id(delivery): index for index, delivery in enumerate(deliveries)}
            result.deferred.sort(key=lambda delivery: order[id(delivery)])
        return result

    def _run(self, result: TurnResult, deliveries: Sequence[Delivery]) -> None:
        """Run a portion of a batch; what waits since an earlier portion holds up what comes after it."""
        batch = sort(self._app, deliveries, self._partitions)
        for _, delivery, error in batch.unreadable:
            self._bury(result, delivery, error, None)
        if result.waiting:
            for box in batch.mailboxes:
                if box.ref in result.waiting:
                    self._defer(result, box.ref, box.letters)
                    box.letters = []
        suspects = self._suspected(batch.mailboxes)
        boxes = self._without_the_given_up(result, batch.mailboxes, suspects)
        boxes = self._without_the_refused(result, boxes)
        pending = {box.ref: box for box in boxes}
        plans: list[Plan] = []
        for attempt in range(COMMIT_ATTEMPTS):
            if not pending:
                break
            if attempt:
                result.conflicts += len(pending)
            plans += self._attempt(result, pending)
        for box in pending.values():
            self._defer(result, box.ref, box.letters)
        for plan in plans:
            self._settle(result, plan)
        self._answer_duplicates(result, plans)
        self._snapshot(plans)
        if suspects:
            self._suspects.clear(list(suspects))
            for command in suspects:
                self._begun.pop(command, None)

    # -- before the decision

    def _suspected(self, boxes: list[Mailbox]) -> dict[tuple[int, str], int]:
        """Return how many turns each suspected command has begun and never ended, this one included."""
        commands = [
            (box.ref.partition, _name(box.ref, letter))
            for box in boxes
            for letter in box.letters
            if _suspicious(letter.delivery)
        ]
        # What this process began before and lived through (a server was away, say) is the same turn still.
        new = [command for command in commands if command not in self._begun]
        if new:
            self._begun.update(zip(new, self._suspects.begin(new), strict=True))
        return {command: self._begun[command] for command in commands}

    def _without_the_given_up(
        self, result: TurnResult, boxes: list[Mailbox], suspects: dict[tuple[int, str], int]
    ) -> list[Mailbox]:
        """Bury what killed its workers too often, and what stayed unknown for too long; keep the rest."""
        kept = []
        for box in boxes:
            letters = []
            for letter in box.letters:
                turns = suspects.get((box.ref.partition, _name(box.ref, letter)), 0) if suspects else 0
                if turns > self._limits.deliveries_max:
                    text = (
                        f"{turns - 1} turns on it were begun and never came to an end: it may kill its worker"
                    )
                    self._bury(result, letter.delivery, PoisonCommand(text), letter)
                elif letter.stalled is not None and self._out_of_patience(letter.delivery):
                    self._bury(result, letter.delivery, letter.stalled, letter)
                else:
                    letters.append(letter)
            box.letters = letters
            if not letters:
                continue
            if box.definition is None:
                self._defer(result, box.ref, letters)
            else:
                kept.append(box)
        return kept

    def _out_of_patience(self, delivery: Delivery) -> bool:
        since = delivery.deferred_since
        return since > 0 and monotonic() - since >= self._limits.patience_s

    def _without_the_refused(self, result: TurnResult, boxes: list[Mailbox]) -> list[Mailbox]:
        """Answer what was refused before with that refusal: its sender may have been told."""
        wanted = [
            (box, letter)
            for box in boxes
            for letter in box.letters
            if letter.envelope.reply_to is not None or letter.delivery.redeliveries
        ]
        if not wanted:
            return boxes
        found = self._answers.recall([(box.ref.partition, _name(box.ref, letter)) for box, letter in wanted])
        refused = set()
        for (_, letter), data in zip(wanted, found, strict=True):
            if data is not None:
                refused.add(letter.index)
                self._reply(result, letter, _answer_decoder.decode(data), duplicate=letter.delivery.fresh)
                result.duplicates += 1
        for box in boxes if refused else ():
            box.letters = [letter for letter in box.letters if letter.index not in refused]
        return [box for box in boxes if box.letters]

    # -- the decision

    def _attempt(self, result: TurnResult, pending: dict[Ref, Mailbox]) -> list[Plan]:
        """Try every pending mailbox once; return the plans that stand, and leave in `pending` those that do not."""
        actors = self._actors(result, pending)
        faults.reach(Point.OPENED)
        now, trace = self._clock.now(), self._trace()
        plans = [
            make_plan(actor, pending[actor.ref].letters, now, trace, self._limits.payload_bytes_max)
            for actor in actors
        ]
        faults.reach(Point.DECIDED)
        to_commit = [plan for plan in plans if plan.needs_check]
        outcomes = self._journal.commit([plan.commit for plan in to_commit], self._owner) if to_commit else []
        faults.reach(Point.COMMITTED)
        lost = set()
        for plan, outcome in zip(to_commit, outcomes, strict=True):
            if isinstance(outcome, Committed):
                plan.applied(outcome)
            else:
                lost.add(plan.actor.ref)
                self.cache.drop(plan.actor.ref)
        standing = [plan for plan in plans if plan.actor.ref not in lost]
        for plan in standing:
            del pending[plan.actor.ref]
            if plan.failures:
                # User code that failed may have changed a state that it was to leave alone.
                self.cache.drop(plan.actor.ref)
        return standing

    def _actors(self, result: TurnResult, pending: dict[Ref, Mailbox]) -> list[Actor]:
        """Return the pending mailboxes' actors, from the cache or opened; put off or bury those that cannot be."""
        found = {ref: self.cache.get(ref) for ref in pending}
        cold = [ref for ref, actor in found.items() if actor is None]
        for opened in self._journal.open(cold, self._owner) if cold else ():
            box = pending[opened.ref]
            if isinstance(opened, Held):
                del found[opened.ref]
                self._defer(result, opened.ref, pending.pop(opened.ref).letters)
                continue
            try:
                actor = self._folded(box.definition, opened)
            except HistoryError as error:
                del found[opened.ref]
                self._stall(result, pending.pop(opened.ref), error)
                continue
            self.cache.put(actor)
            found[opened.ref] = actor
        return [actor for actor in found.values() if actor is not None]

    def _folded(self, definition: Definition | None, opened: Opened) -> Actor:
        assert definition is not None  # noqa: S101 - mailboxes without one were put off before
        return fold_with_fallback(self._journal, definition, opened)

    def _stall(self, result: TurnResult, box: Mailbox, error: HistoryError) -> None:
        """Put off a mailbox whose log this code cannot read: newer code may; after a while it is given up."""
        for letter in box.letters:
            if self._out_of_patience(letter.delivery):
                self._bury(result, letter.delivery, error, letter)
            else:
                self._defer(result, box.ref, [letter])

    # -- after the decision

    def _settle(self, result: TurnResult, plan: Plan) -> None:
        for letter, answer in plan.answers:
            if answer.duplicate:
                result.duplicates += 1
            elif answer.kind == "accepted":
                result.accepted += 1
            elif answer.kind == "rejected":
                result.rejected += 1
            if answer.kind == "rejected" and letter.envelope.reply_to is not None:
                first = replace(answer, duplicate=False) if answer.duplicate else answer
                ref = plan.actor.ref
                result.refusals.append((ref.partition, _name(ref, letter), first))
            placed = bool(plan.position) and answer.kind == "accepted"
            self._reply(result, letter, replace(answer, position=plan.position) if placed else answer)
        for letter, error in plan.failures:
            self._bury(result, letter.delivery, error, letter)
        self._defer(result, plan.actor.ref, plan.deferred)

    def _answer_duplicates(self, result: TurnResult, plans: list[Plan]) -> None:
        """Answer commands that were handled before with their first outcome, read from the log."""
        waiting, wanted = [], []
        for plan in plans:
            for letter, seq in plan.duplicates:
                result.duplicates += 1
                if letter.envelope.reply_to is None:
                    result.done.append(letter.delivery)
                else:
                    waiting.append((letter, seq))
                    wanted.append((plan.actor.ref, seq))
        for (letter, seq), data in zip(waiting, self._journal.entry(wanted) if wanted else (), strict=True):
            answer = Answer(letter.envelope.id, "accepted", seq=seq, entry=data or b"")
            self._reply(result, letter, answer, duplicate=letter.delivery.fresh)

    def _snapshot(self, plans: list[Plan]) -> None:
        due: list[tuple[Ref, Snapshot]] = []
        for plan in plans:
            actor = plan.actor
            # A snapshot carries the remembered ids: where they are many it is taken more rarely, so that what it
            # costs stays a few ids for each record.
            every = max(self._limits.snapshot_every, len(actor.handled) // SNAPSHOT_SHARE)
            if actor.seq - actor.snapshot_seq >= every and not plan.failures:
                actor.snapshot_seq = actor.seq
                try:
                    due.append((actor.ref, actor.snapshot()))
                except Exception as error:  # noqa: BLE001 - a state is user code's; the log goes on without a snapshot
                    log.warning(
                        "state cannot be stored; no snapshot taken",
                        extra={
                            "workflow": actor.ref.workflow,
                            "key": actor.ref.key,
                            "error": sentence_of(error),
                        },
                    )
        if due:
            self._journal.snapshot(due)
            faults.reach(Point.SNAPSHOT)

    def _reply(self, result: TurnResult, letter: Letter, answer: Answer, *, duplicate: bool = False) -> None:
        if letter.envelope.reply_to is not None:
            if duplicate:
                answer = replace(answer, duplicate=True)
            result.replies.append((letter.envelope.reply_to, answer))
        result.done.append(letter.delivery)

    def _defer(self, result: TurnResult, ref: Ref, letters: Sequence[Letter]) -> None:
        for letter in letters:
            result.waiting.add(ref)
            if letter.delivery.deferred_since == 0:
                letter.delivery.deferred_since = monotonic()
            result.deferred.append(letter.delivery)

    def _bury(self, result: TurnResult, delivery: Delivery, error: Exception, letter: Letter | None) -> None:
        envelope = letter.envelope if letter is not None else None
        attempts = DECIDE_ATTEMPTS if envelope and letter and letter.command is not None else 1
        dead = DeadLetter(
            id=f"{delivery.partition}.{ids.new_id()}",
            kind="command",
            partition=delivery.partition,
            body=delivery.body,
            error=sentence_of(error),
            traceback=traceback_of(error),
            attempts=max(delivery.redeliveries, attempts),
            at_ms=to_ms(self._clock.now()),
            command_id=envelope.id if envelope else "",
            workflow=envelope.workflow if envelope else "",
            key=envelope.key if envelope else "",
            message_type=type(letter.command).__name__ if letter and letter.command is not None else "",
        )
        result.dead.append(dead)
        result.done.append(delivery)
        if envelope is not None and envelope.reply_to is not None:
            answer = Answer(envelope.id, "dead", reason=dead.error, dead_letter_id=dead.id)
            result.replies.append((envelope.reply_to, answer))


def _suspicious(delivery: Delivery) -> bool:
    return delivery.redeliveries >= SUSPECT_REDELIVERIES


def _portions(deliveries: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
    """Yield a batch in the portions to run one after another: what may kill its worker comes alone.

    So its neighbours are done before it, or were never begun: they are not counted, and not given up with it.
    """
    for suspected, group in groupby(deliveries, _suspicious):
        if suspected:
            yield from ([delivery] for delivery in group)
        else:
            yield list(group)


def _name(ref: Ref, letter: Letter) -> str:
    """Return the name of a command in its partition: two instances may know the same id."""
    return f"{ref.scope}:{letter.envelope.id}"


class PoisonCommand(Exception):
    """A command whose workers died each time."""


def fold_with_fallback(journal: Journal, definition: Definition, opened: Opened) -> Actor:
    """Return the actor; where its snapshot is of other code, from the whole log instead.

    Raises:
        HistoryError: The log cannot be read or folded by the code of today.
    """
    try:
        return fold(definition, opened)
    except UnusableSnapshot:
        whole = journal.read([opened.ref], snapshots=False)[0]
        actor = fold(definition, whole)
        actor.token = opened.token
        return actor
