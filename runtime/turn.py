"""Turn: one pass over a batch of deliveries.

    sort by instance -> open what is not cached -> drop what was handled -> decide and evolve -> commit -> answer

A conflict is a value: the actor's cached state is dropped and its mailbox is tried again, a bounded number of times.
The turn writes logs, nothing else. Its caller writes the dead letters, takes the barrier, replies and acknowledges,
in that order.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec.structs import replace

from holdfast.runtime import faults
from holdfast.runtime.actor import Actor, UnusableSnapshot, fold
from holdfast.runtime.app import App
from holdfast.runtime.cache import ActorCache
from holdfast.runtime.clock import Clock
from holdfast.runtime.codec import encode
from holdfast.runtime.dead_letter import sentence_of, shortened
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HistoryError, UnknownType
from holdfast.runtime.faults import Point
from holdfast.runtime.head_start import HeadStart
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.loss import Known, Watchman
from holdfast.runtime.mailbox import Letter, Mailbox, parked_letter, sort
from holdfast.runtime.outcome import Answer
from holdfast.runtime.patience import Patience
from holdfast.runtime.plan import CrowdedOut, Plan, make_plan
from holdfast.runtime.ports import Ahead, Answers, Committed, Delivery, Held, Journal, Opened, Suspects
from holdfast.runtime.record import Snapshot
from holdfast.runtime.spans import DecisionSpans
from holdfast.runtime.suspicion import SUSPECT_REDELIVERIES, Suspicion, poison, portions, suspicious
from holdfast.runtime.turn_result import Scribe, Tally, TurnResult, name_in_partition
from holdfast.runtime.uniques import Claim, Claimed, Taken, Uniques

log = logging.getLogger(__name__)

#: A snapshot is taken at the earliest when the records since the last one are this share of the remembered ids.
SNAPSHOT_SHARE = 4

#: Tries against other writers before a mailbox is put off. Each costs two round trips; more than a few means that
#: somebody else owns the instance and should be left to it.
COMMIT_ATTEMPTS = 5

#: Rounds of claiming unique keys for one mailbox; each ends with a command of it refused.
CLAIM_ROUNDS = 5

#: Kept commands that one commit takes when an instance goes on, and how many such commits one turn makes of them:
#: the other instances of the batch wait for their turn meanwhile.
PARKED_PER_COMMIT = 500
PARKED_COMMITS_MAX = 20

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
        spans: DecisionSpans | None = None,
        alone: AbstractContextManager[object] | None = None,
        uniques: Uniques | None = None,
        watchman: Watchman | None = None,
        tally: Tally | None = None,
        head_start: HeadStart | None = None,
    ) -> None:
        self._app = app
        self._journal = journal
        self._answers = answers
        self._suspicion = Suspicion(suspects)
        #: Kept commands that were counted in this run.
        self._tried: dict[tuple[int, str], int] = {}
        self._owner = owner
        self._clock = clock
        self._partitions = partitions
        self._limits = limits or Limits()
        #: With types that are not known, and with logs that cannot be read.
        self._types = Patience(self._limits.patience_s, clock.monotonic)
        self._logs = Patience(self._limits.patience_s, clock.monotonic)
        self._spans = spans
        #: Held while a suspect is worked on. One for all turns of a process: they die together, and only the one who
        #: killed them shall be counted.
        self._alone = alone or nullcontext()
        self._uniques = uniques
        self._watchman = watchman
        watched = [one.type for one in app.definitions if one.kind.observe_inputs]
        self._scribe = Scribe(clock, frozenset(watched), tally)
        #: What begins effects with their commits; None where no effect is run in this process.
        self._head_start = head_start
        self.cache = cache if cache is not None else ActorCache()

    def run(self, deliveries: Sequence[Delivery]) -> TurnResult:
        """Decide a batch and commit what was decided."""
        self.look()
        result = TurnResult()
        doubtful = False
        for delivery in deliveries:
            delivery.turns += 1
            doubtful = doubtful or delivery.redeliveries >= SUSPECT_REDELIVERIES
        for portion in portions(deliveries) if doubtful else (deliveries,):
            with self._alone if doubtful and suspicious(portion[0]) else nullcontext():
                self._run(result, portion)
        if result.deferred:
            order = {id(delivery): index for index, delivery in enumerate(deliveries)}
            result.deferred.sort(key=lambda delivery: order[id(delivery)])
        return result

    def look(self, *, ask: bool = False) -> None:
        """Compare what was known with the server, where another may answer than before.

        Args:
            ask: Also see whether another does, which costs a round trip.
        """
        if self._watchman is None:
            return
        if ask:
            self._watchman.ask()
        if not self._watchman.calm():
            # What the cache says is of a server that may not be there any more.
            self.doubt()
            self._watchman.settle()

    def doubt(self) -> None:
        """Forget all actors: nobody knows how far they came. What was known of them is compared when a server answers."""
        self._doubt(self.cache.clear())

    def forget(self, partition: int) -> list[tuple[Ref, int]]:
        """Forget the actors of a partition, and return them with their tokens.

        What was known of them is compared as well: they may be somebody else's by now because a server went away.
        """
        gone = self.cache.drop_partition(partition)
        self._doubt(gone)
        return [(actor.ref, actor.token) for actor in gone]

    def _doubt(self, gone: Sequence[Actor]) -> None:
        if self._watchman is not None:
            self._watchman.doubt(_known(gone))

    def _run(self, result: TurnResult, deliveries: Sequence[Delivery]) -> None:
        """Run a portion of a batch; what waits since an earlier portion holds up what comes after it."""
        self._types.look()
        self._logs.look()
        batch = sort(self._app, deliveries, self._partitions)
        for _, delivery, error in batch.unreadable:
            self._scribe.bury(result, delivery, error, None)
        if result.waiting:
            for box in batch.mailboxes:
                if box.ref in result.waiting:
                    self._scribe.defer(result, box.ref, box.letters)
                    box.letters = []
        self._tried = {}
        suspects = self._suspicion.suspected(batch.mailboxes)
        boxes = self._without_the_given_up(result, batch.mailboxes, suspects)
        boxes = self._without_the_refused(result, boxes)
        pending = {box.ref: box for box in boxes}
        plans: list[Plan] = []
        lost = rounds = 0
        while pending and lost < COMMIT_ATTEMPTS and rounds < PARKED_COMMITS_MAX:
            standing, conflicts = self._attempt(result, pending)
            plans += standing
            result.conflicts += conflicts
            lost += bool(conflicts)
            rounds += 1
            if not standing and not conflicts:
                break  # what is left waits for somebody else
            if conflicts:
                # What another has decided there may be refusals as well.
                self._without_the_refused(result, list(pending.values()))
        for box in pending.values():
            result.waiting.add(box.ref)
            self._scribe.defer(result, box.ref, box.letters)
        for plan in plans:
            self._settle(result, plan)
        if self._spans is not None:
            self._spans.stand(plans)
        self._answer_duplicates(result, plans)
        self._snapshot(plans)
        self._suspicion.end(suspects | self._tried)

    # -- before the decision

    def _without_the_given_up(
        self, result: TurnResult, boxes: list[Mailbox], suspects: dict[tuple[int, str], int]
    ) -> list[Mailbox]:
        """Bury what killed its workers too often, and what stayed unknown for too long; keep the rest."""
        kept = []
        for box in boxes:
            letters = []
            for letter in box.letters:
                turns = (
                    suspects.get((box.ref.partition, name_in_partition(box.ref, letter)), 0)
                    if suspects
                    else 0
                )
                error: Exception | None = None
                if turns > self._limits.deliveries_max:
                    error = poison(turns)
                elif letter.stalled is not None and self._waited(letter, letter.stalled):
                    error = letter.stalled
                if error is None:
                    letters.append(letter)
                elif box.definition is not None and box.definition.kind.pause_on_dead_letter:
                    letter.stalled, letter.broken = None, error
                    letters.append(letter)
                else:
                    self._scribe.bury(result, letter.delivery, error, letter)
            box.letters = letters
            if not letters:
                continue
            if box.definition is None:
                self._scribe.defer(result, box.ref, letters)
            else:
                kept.append(box)
        return kept

    def _waited(self, letter: Letter, stalled: UnknownType) -> bool:
        """Return whether what a letter waits for did not come in time; say so when the waiting begins."""
        name = _unknown(stalled)
        begins = self._types.begins(letter.delivery, name)
        ran_out = self._types.ran_out(letter.delivery, name)
        if begins and not ran_out:
            log.warning(
                "commands are kept back that this process cannot read",
                extra={"error": name, "command_id": letter.envelope.id, "for_s": self._limits.patience_s},
            )
        return ran_out

    def _out_of_patience(self, delivery: Delivery) -> bool:
        since = delivery.deferred_since
        return since > 0 and self._clock.monotonic() - since >= self._limits.patience_s

    def _without_the_refused(self, result: TurnResult, boxes: list[Mailbox]) -> list[Mailbox]:
        """Answer what was refused before with that refusal: its sender may have been told."""
        wanted = [(box, letter) for box in boxes for letter in box.letters if _may_be_refused(letter)]
        if not wanted:
            return boxes
        found = self._answers.recall(
            [(box.ref.partition, name_in_partition(box.ref, letter)) for box, letter in wanted]
        )
        refused = set()
        for (box, letter), data in zip(wanted, found, strict=True):
            if data is not None:
                refused.add(letter.index)
                self._scribe.reply(
                    result, box.ref, letter, _answer_decoder.decode(data), duplicate=letter.delivery.fresh
                )
                result.duplicates += 1
        for box in boxes if refused else ():
            box.letters = [letter for letter in box.letters if letter.index not in refused]
        return [box for box in boxes if box.letters]

    # -- the decision

    def _attempt(self, result: TurnResult, pending: dict[Ref, Mailbox]) -> tuple[list[Plan], int]:
        """Try every pending mailbox once; return the plans that stand, and how many met another writer.

        What is left in `pending` is to be tried again: after a conflict, or because there is more to do first.
        """
        actors = self._actors(result, pending)
        faults.reach(Point.OPENED)
        now = self._clock.now()
        kept = self._kept(pending, [actor for actor in actors if actor.draining])
        plans = []
        for actor in actors:
            letters = kept[actor.ref] if actor.ref in kept else pending[actor.ref].letters
            refused = result.refused.get(actor.ref)
            plans.append(
                make_plan(actor, letters, now, self._spans, self._limits.payload_bytes_max, refused=refused)
            )
        if self._uniques is not None and any(plan.claims for plan in plans):
            plans = self._claimed(self._uniques, plans, now, result.refused)
            faults.reach(Point.UNIQUES_CLAIMED)
        for plan in plans:
            if plan.failures:
                self._write_with(plan)
        faults.reach(Point.DECIDED)
        to_commit = [plan for plan in plans if plan.needs_check]
        for plan in to_commit:
            _with_refusals(plan, result.refused.get(plan.actor.ref, ()))
        head_start = self._head_start
        if head_start is not None:
            head_start.reserve([plan.commit for plan in to_commit])
        outcomes = self._journal.commit([plan.commit for plan in to_commit], self._owner) if to_commit else []
        faults.reach(Point.COMMITTED)
        lost: set[Ref] = set()
        ahead: dict[Ref, Ahead] = {}
        for plan, outcome in zip(to_commit, outcomes, strict=True):
            if isinstance(outcome, Committed):
                plan.applied(outcome)
            else:
                self.cache.drop(plan.actor.ref)
                if isinstance(outcome, Ahead):
                    ahead[plan.actor.ref] = outcome
                else:
                    lost.add(plan.actor.ref)
            if head_start is not None and plan.commit.begins:
                head_start.settle(plan.commit, outcome.begun if isinstance(outcome, Committed) else ())
        if lost and self._watchman is not None:
            # Most often another was there before us. But what we had seen must be there still.
            self._watchman.meet(_known(plan.actor for plan in to_commit if plan.actor.ref in lost))
        for ref, outcome in ahead.items():
            self._stall(result, pending.pop(ref), HistoryError(outcome.sentence(ref)))
        standing = [plan for plan in plans if plan.actor.ref not in lost and plan.actor.ref not in ahead]
        result.refused.update((plan.actor.ref, plan.refused) for plan in standing if plan.refused)
        if self._settle_uniques(standing):
            faults.reach(Point.UNIQUES_SETTLED)
        for plan in standing:
            ref = plan.actor.ref
            if plan.actor.draining:
                result.unfinished.add(ref)
            else:
                result.unfinished.discard(ref)
            if ref not in kept:
                pending[ref].letters = list(plan.rest)
            if plan.deferred:
                self._scribe.defer(result, ref, pending.pop(ref).letters)
            elif not (pending[ref].letters or plan.actor.draining):
                del pending[ref]
            if plan.failures and any(not isinstance(error, CrowdedOut) for _, error in plan.failures):
                # User code that failed may have changed a state that it was to leave alone.
                self.cache.drop(ref)
                if self._watchman is not None:
                    self._watchman.keep(_known([plan.actor]))
        return standing, len(lost)

    def _kept(self, pending: dict[Ref, Mailbox], actors: list[Actor]) -> dict[Ref, list[Letter]]:
        """Return the next commands that were kept for instances which may go on."""
        if not actors:
            return {}
        found = self._journal.parked([actor.ref for actor in actors], PARKED_PER_COMMIT)
        return {
            actor.ref: self._kept_letters(pending[actor.ref], actor, kept)
            for actor, kept in zip(actors, found, strict=True)
        }

    def _kept_letters(self, box: Mailbox, actor: Actor, kept: list[tuple[str, bytes]]) -> list[Letter]:
        letters = [parked_letter(actor.definition, actor.ref, body) for _, body in kept]
        if any(suspicious(letter.delivery) for letter in box.letters):
            # One of them may be what kills the workers, and not the command that was handed out again.
            letters = letters[:1]
            for letter in letters:
                command = (actor.ref.partition, name_in_partition(actor.ref, letter))
                turns = self._tried[command] = self._suspicion.begin([command])[command]
                # Sooner than what was handed out, whose turns are as many.
                if turns > max(1, self._limits.deliveries_max - 2):
                    letter.stalled, letter.broken = None, poison(turns)
        if any(self._out_of_patience(letter.delivery) for letter in box.letters):
            for letter in letters:
                letter.stalled, letter.broken = None, letter.broken or letter.stalled
        return letters

    def _claimed(
        self,
        uniques: Uniques,
        plans: list[Plan],
        now: datetime,
        known: Mapping[Ref, Mapping[str, Answer]],
    ) -> list[Plan]:
        """Claim the unique keys that plans need, and plan again without those that others have.

        A plan that needs a key which another is just about to have is left out, and tried again later.
        """
        standing = [plan for plan in plans if not plan.claims]
        asking = [plan for plan in plans if plan.claims]
        taken: dict[Ref, dict[str, str]] = {plan.actor.ref: {} for plan in asking}
        for _ in range(CLAIM_ROUNDS):
            claims = [
                (plan, Claim(unique, plan.actor.ref, plan.seq)) for plan in asking for unique in plan.claims
            ]
            results = uniques.claim([claim for _, claim in claims])
            later: set[Ref] = set()
            refused: set[Ref] = set()
            for (plan, claim), result in zip(claims, results, strict=True):
                ref = plan.actor.ref
                if isinstance(result, Claimed):
                    until_ms = plan.commit.unique_until_ms
                    plan.commit.unique_until_ms = min(until_ms or result.until_ms, result.until_ms)
                elif isinstance(result, Taken):
                    taken[ref][claim.unique] = result.holder
                    refused.add(ref)
                else:
                    later.add(ref)
            # Two that need each other's must not wait for each other.
            let_go = [
                claim._replace(seq=claim.seq + 1)
                for (_, claim), result in zip(claims, results, strict=True)
                if claim.holder in later and isinstance(result, Claimed)
            ]
            if let_go:
                uniques.give_up(let_go)
            standing += [plan for plan in asking if plan.actor.ref not in later | refused]
            asking = [
                make_plan(
                    plan.actor,
                    plan.letters,
                    now,
                    self._spans,
                    self._limits.payload_bytes_max,
                    taken[plan.actor.ref],
                    known.get(plan.actor.ref),
                )
                for plan in asking
                if plan.actor.ref in refused - later
            ]
            standing += [plan for plan in asking if not plan.claims]
            asking = [plan for plan in asking if plan.claims]
            if not asking:
                break
        return standing

    def _settle_uniques(self, plans: list[Plan]) -> bool:
        """Confirm the unique keys that instances have now, and free those that they no longer have; say if there were any."""
        if self._uniques is None:
            return False
        have: list[Claim] = []
        gave_up: list[Claim] = []
        for plan in plans:
            if not plan.before and not plan.claims:
                continue
            ref, seq = plan.actor.ref, plan.seq
            if plan.unique in plan.claims:
                have.append(Claim(plan.unique, ref, seq))
            gone = {plan.before, *plan.claims} - {"", plan.unique}
            gave_up.extend(Claim(unique, ref, seq + 1) for unique in gone)
        if have:
            self._uniques.confirm(have)
        if gave_up:
            self._uniques.give_up(gave_up)
        return bool(have or gave_up)

    def _write_with(self, plan: Plan) -> None:
        """Write dead letters with the commit where nothing else would bring them back after a crash."""
        pausing = plan.actor.definition.kind.pause_on_dead_letter
        for letter, error in plan.failures:
            if pausing or letter.parked:
                letter.dead = self._scribe.dead(letter.delivery, error, letter)
                plan.commit.dead = (*plan.commit.dead, letter.dead)

    def _actors(self, result: TurnResult, pending: dict[Ref, Mailbox]) -> list[Actor]:
        """Return the pending mailboxes' actors, from the cache or opened; put off or bury those that cannot be."""
        found = {ref: self.cache.get(ref) for ref in pending}
        cold = [ref for ref, actor in found.items() if actor is None]
        for opened in self._journal.open(cold, self._owner) if cold else ():
            box = pending[opened.ref]
            if isinstance(opened, Held):
                del found[opened.ref]
                self._scribe.defer(result, opened.ref, pending.pop(opened.ref).letters)
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
        """Put off a mailbox whose log this code cannot read, or which does not go with its instance.

        Newer code may read it, and a person may restore it; after a while it is given up. When the waiting begins, that
        is said.
        """
        name = str(box.ref)
        for letter in box.letters:
            begins = self._logs.begins(letter.delivery, name)
            ran_out = self._logs.ran_out(letter.delivery, name, many=True)
            if begins and not ran_out:
                log.warning(
                    "commands are kept back whose instance cannot be read from its log",
                    extra={
                        "workflow": box.ref.workflow,
                        "key": box.ref.key,
                        "error": sentence_of(error),
                        "command_id": letter.envelope.id,
                        "for_s": self._limits.patience_s,
                    },
                )
            if ran_out:
                letter.dead = None  # of a plan that was not committed
                self._scribe.bury(result, letter.delivery, error, letter)
            else:
                self._scribe.defer(result, box.ref, [letter])

    # -- after the decision

    def _settle(self, result: TurnResult, plan: Plan) -> None:
        moved = plan.moved or plan.run_state is RunState.DATA_DELETED
        if moved or plan.duplicates:
            self._scribe.note_ends(result, plan, plan.answers if moved else ())
        remembered = {name for name, _ in plan.commit.refusals}
        for letter, answer in plan.answers:
            if answer.duplicate:
                result.duplicates += 1
            elif answer.kind == "accepted":
                result.accepted += 1
            elif answer.kind == "rejected":
                result.rejected += 1
            elif answer.kind == "parked":
                result.parked += 1
            if answer.kind == "rejected" and letter.envelope.reply_to is not None:
                ref, name = plan.actor.ref, name_in_partition(plan.actor.ref, letter)
                # One for whom there was no room is refused by the commit itself, which could not remember it.
                if name not in remembered:
                    result.refusals.append((ref.partition, name, answer))
            placed = bool(plan.position) and answer.kind == "accepted"
            placed_answer = replace(answer, position=plan.position) if placed else answer
            self._scribe.reply(result, plan.actor.ref, letter, placed_answer)
        for letter, error in plan.failures:
            self._scribe.bury(result, letter.delivery, error, letter)
        if plan.deferred:
            self._scribe.defer(result, plan.actor.ref, plan.deferred)

    def _answer_duplicates(self, result: TurnResult, plans: list[Plan]) -> None:
        """Answer commands that were handled before with their first outcome, read from the log."""
        waiting: list[tuple[Letter, int]] = []
        wanted: list[tuple[Ref, int]] = []
        for plan in plans:
            for letter, seq in plan.duplicates:
                result.duplicates += 1
                if letter.envelope.reply_to is None:
                    if self._scribe.tally is not None:
                        self._scribe.tally(plan.actor.ref.workflow, letter, "duplicate")
                    self._scribe.observe(result, plan.actor.ref, letter, "duplicate", seq=seq)
                    self._scribe.done(result, plan.actor.ref, letter)
                else:
                    waiting.append((letter, seq))
                    wanted.append((plan.actor.ref, seq))
        found = self._journal.entry(wanted) if wanted else ()
        for (letter, seq), (ref, _), data in zip(waiting, wanted, found, strict=True):
            answer = Answer(letter.envelope.id, "accepted", seq=seq, entry=data or b"")
            self._scribe.reply(
                result, ref, letter, answer, duplicate=letter.delivery.fresh and not letter.parked
            )

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
            for ref, snapshot in due:
                keep = self._app.definition(ref.workflow).kind.keep_records
                if keep is not None and snapshot.seq > keep:
                    self._journal.trim(ref, snapshot.seq - keep)
                    faults.reach(Point.LOG_TRIMMED)


def _with_refusals(plan: Plan, ours: Collection[str]) -> None:
    """Have a commit remember what it refuses to callers who wait, and hold only where no other has refused what it decides.

    A worker that stands still between the two would tell its callers of refusals that nobody knows of, and of commands
    that are long since accepted elsewhere. `ours` are the commands that this turn has refused before.
    """
    ref, commit = plan.actor.ref, plan.commit
    refusals: dict[str, bytes] = {}
    unless: list[str] = []
    for letter, answer in plan.answers:
        reply_to = letter.envelope.reply_to
        if reply_to is None and not letter.delivery.redeliveries:
            continue
        name = name_in_partition(ref, letter)
        if answer.kind == "rejected" and reply_to is not None:
            refusals[name] = encode(replace(answer, duplicate=False) if answer.duplicate else answer)
        if not letter.parked and letter.envelope.id not in ours:
            unless.append(name)
    unless += [name_in_partition(ref, letter) for letter, _ in plan.failures if _may_be_refused(letter)]
    commit.refusals, commit.unless_refused = tuple(refusals.items()), unless


def _may_be_refused(letter: Letter) -> bool:
    """Return whether the sender of a command may have been told by another that it was refused.

    Of what is kept for a paused instance that was asked before it was kept.
    """
    return not letter.parked and (letter.envelope.reply_to is not None or letter.delivery.redeliveries > 0)


def _known(actors: Iterable[Actor]) -> list[Known]:
    """Return up to where instances were seen; of those that have no record yet there is nothing to know."""
    return [Known(actor.ref, actor.seq, actor.head) for actor in actors if actor.seq]


def _unknown(error: UnknownType) -> str:
    """Return what names a type that is not known: the error names it, and who does not know it."""
    return shortened(str(error))


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
