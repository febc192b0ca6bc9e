"""Plan: what one mailbox's commands come to, worked out on a view of the actor and not yet written.

The commands are decided one after another, each on the state that the ones before it would leave behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from tenacity import Retrying, stop_after_attempt

from holdfast.runtime.actor import Actor, Handled, clock_ms
from holdfast.runtime.clock import from_ms, span_ms_up, to_ms_up
from holdfast.runtime.codec import check_size, encode, encode_envelope
from holdfast.runtime.control import TARGETS, VERBS, Control, DeleteData, Pause, Resume
from holdfast.runtime.decision import Accept, Decision, Reject, Timer
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HistoryError, UsageError, WorkflowError
from holdfast.runtime.instance import RunState, move
from holdfast.runtime.keys import check_key
from holdfast.runtime.mailbox import Letter
from holdfast.runtime.message import Envelope, describe, tag_of
from holdfast.runtime.outcome import Answer
from holdfast.runtime.ports import Commit, Committed, Park
from holdfast.runtime.record import EffectEntry, Entry, Moved, Snapshot, TimerEntry

#: How often `decide` is tried on one command before it is a dead letter: it is pure, so more would say the same.
DECIDE_ATTEMPTS = 3


@dataclass(slots=True)
class Plan:
    """The decisions of one mailbox on one view, and the actor as it will be when they are committed."""

    actor: Actor
    commit: Commit
    state: Any
    run_state: RunState
    at_ms: int
    #: Answers by the letter they belong to.
    answers: list[tuple[Letter, Answer]] = field(default_factory=list)
    #: Letters that were handled before: (letter, the seq of their record). Their answer has to be looked up.
    duplicates: list[tuple[Letter, int]] = field(default_factory=list)
    #: Letters that cannot be decided: a dead letter each.
    failures: list[tuple[Letter, Exception]] = field(default_factory=list)
    #: Letters that wait because one before them does.
    deferred: list[Letter] = field(default_factory=list)
    handled: dict[str, Handled] = field(default_factory=dict)
    #: Refusals by command id: a second copy in the same mailbox is told the same, whatever happened in between.
    refused: dict[str, Answer] = field(default_factory=dict)
    #: Where the last record of the commit is in the feed, once it is there.
    position: str = ""
    #: Letters that come after what is kept for the instance, which it may go on with from here on.
    rest: Sequence[Letter] = ()
    reason: str = ""
    #: The unique key that the instance will hold, and all that it would hold on the way there.
    unique: str = ""
    claims: Sequence[str] = ()
    #: The unique key that it held before.
    before: str = ""
    #: What it was made of.
    letters: Sequence[Letter] = ()
    erased: bool = False
    #: Whether a built-in command moved the run.
    moved: bool = False

    @property
    def needs_check(self) -> bool:
        """Whether an answer stands and falls with the view: then the journal must confirm it."""
        return bool(
            not self.commit.empty or self.failures or any(a.kind == "rejected" for _, a in self.answers)
        )

    @property
    def seq(self) -> int:
        """Where the log will stand."""
        return self.commit.seq + len(self.commit.entries)

    def applied(self, committed: Committed) -> Actor:
        """Return the actor after the commit."""
        actor = self.actor
        if committed.feed_id:
            self.position = f"{actor.ref.partition}/{committed.feed_id}"
        actor.state, actor.run_state, actor.at_ms = self.state, self.run_state, self.at_ms
        actor.reason, actor.unique, actor.erased = self.reason, self.unique, self.erased
        if committed.parked is not None:
            actor.parked = committed.parked
        if self.commit.wipe is not None:
            actor.handled.clear()
            actor.snapshot_seq, actor.parked = self.commit.wipe.seq, 0
        actor.seq += len(self.commit.entries)
        actor.head = self.commit.new_head
        actor.token = committed.token
        for command_id, handled in self.handled.items():
            actor.remember(command_id, handled)
        return actor


def make_plan(
    actor: Actor,
    letters: Sequence[Letter],
    now: datetime,
    trace: str | None,
    payload_bytes_max: int,
    taken: Mapping[str, str] | None = None,
) -> Plan:
    """Decide each letter in turn and return what that comes to. Nothing is written and the actor does not change.

    `taken` are unique keys that others hold, and who: a decision that would need one is a refusal.
    """
    ref = actor.ref
    commit = Commit(
        ref,
        actor.seq,
        actor.head,
        actor.token,
        new_head=actor.head,
        was=actor.run_state,
        run_state=actor.run_state,
    )
    plan = Plan(actor, commit, actor.state, actor.run_state, clock_ms(now, actor))
    plan.reason, plan.unique, plan.erased = actor.reason, actor.unique, actor.erased
    plan.before, plan.letters = actor.unique, letters
    unparks: list[str] = []
    for position, letter in enumerate(letters):
        envelope = letter.envelope
        seen = plan.handled.get(envelope.id) or actor.handled.get(envelope.id)
        if seen is not None:
            plan.duplicates.append((letter, seen.seq))
        elif type(letter.command) in TARGETS:
            if _control(plan, letter, letter.command, trace or envelope.trace, payload_bytes_max):
                plan.rest = letters[position + 1 :]
                break
        elif plan.run_state is RunState.PAUSED:
            if letter.parked:
                break  # it was paused on the way, and what is left stays where it is
            _park(plan, letter)
        elif letter.stalled is not None:
            plan.deferred.extend(letters[position:])
            break
        elif letter.broken is not None:
            _fail(plan, letter, letter.broken, trace)
        elif envelope.id in plan.refused:
            again = letter.delivery.fresh
            plan.answers.append((letter, msgspec.structs.replace(plan.refused[envelope.id], duplicate=again)))
        elif plan.run_state.finished:
            plan.answers.append((letter, Answer(envelope.id, "completed", reason=plan.run_state)))
        else:
            try:
                _decide(plan, letter, trace or envelope.trace, payload_bytes_max, taken or {})
            except Exception as error:  # noqa: BLE001 - user code may raise anything; it becomes a dead letter
                _fail(plan, letter, error, trace)
        if letter.parked:
            unparks.append(envelope.id)
    commit.unparks = unparks
    # A move always says why, if only with nothing: then the journal says how many commands are kept.
    if plan.moved or plan.reason != actor.reason:
        commit.reason = plan.reason
    if plan.unique != actor.unique:
        commit.unique = plan.unique
    if commit.wipe is not None:
        commit.timers, commit.effects = [], []
    return plan


def _park(plan: Plan, letter: Letter) -> None:
    """Have a command kept until the instance is resumed."""
    envelope = letter.envelope
    if not letter.delivery.fresh and plan.commit.new_head == _pause_id(envelope.id):
        # The instance was paused because of this very command, whose dead letter was written with the pause.
        plan.answers.append((letter, Answer(envelope.id, "dead", reason=plan.reason)))
        return
    commit = plan.commit
    commit.parks = (*commit.parks, Park(envelope.id, letter.delivery.body, envelope.first))
    plan.answers.append((letter, Answer(envelope.id, "parked", reason=plan.reason)))


def _fail(plan: Plan, letter: Letter, error: Exception, trace: str | None) -> None:
    """Give a command up, and pause the instance behind it where its workflow wants that."""
    plan.failures.append((letter, error))
    if not plan.actor.definition.kind.pause_on_dead_letter or plan.run_state is not RunState.RUNNING:
        return
    envelope = letter.envelope
    reason = f"{describe(letter.command) if letter.command is not None else 'a command'} became a dead letter"
    step = Moved(VERBS[Pause], reason)
    pause_id = _pause_id(envelope.id)
    _record(
        plan, Entry(pause_id, "holdfast.Pause", plan.at_ms, plan.actor.token, (), envelope.id, trace, step)
    )
    plan.run_state = plan.commit.run_state = RunState.PAUSED
    plan.reason, plan.moved = reason, True


def _pause_id(command_id: str) -> str:
    """Return the id of the pause that a command's becoming a dead letter led to."""
    return f"{command_id}:pause"


def _record(plan: Plan, entry: Entry[Any], data: bytes = b"") -> bytes:
    """Add a record that changes no state."""
    data = data or encode(entry)
    plan.commit.entries.append(data)
    plan.commit.new_head = entry.command_id
    plan.handled[entry.command_id] = Handled(plan.seq, plan.at_ms)
    return data


def _control(plan: Plan, letter: Letter, command: Control, trace: str | None, payload_bytes_max: int) -> bool:
    """Move the run as asked, if the table has that move; return whether kept commands come next."""
    actor, envelope = plan.actor, letter.envelope
    try:
        target = _target(plan, command)
    except UsageError as error:
        answer = Answer(envelope.id, "rejected", reason=str(error))
        plan.refused[envelope.id] = answer
        plan.answers.append((letter, answer))
        return False
    resume_at_ms = 0
    if isinstance(command, Pause):
        after = command.resume_after_ms
        resume_at_ms = command.resume_at_ms or (plan.at_ms + after if after else 0)
    step = Moved(VERBS[type(command)], command.reason, resume_at_ms)
    name = describe(command)
    entry: Entry[Any] = Entry(envelope.id, name, plan.at_ms, actor.token, (), envelope.cause, trace, step)
    data = check_size(encode(entry), f"the record of {name} for {actor.ref}", payload_bytes_max)
    if isinstance(command, DeleteData):
        try:
            _erase(plan, envelope.id)
        except Exception as error:  # noqa: BLE001 - scrub is user code
            plan.failures.append((letter, error))
            return False
    _record(plan, entry, data)
    timers = []
    if resume_at_ms and isinstance(command, Pause):
        again = Envelope(
            f"{envelope.id}:resume",
            actor.ref.workflow,
            actor.ref.key,
            encode(Resume("its time has come", envelope.id)),
            cause=envelope.id,
            trace=trace,
        )
        delay_ms = 0 if command.resume_at_ms else max(0, command.resume_after_ms)
        timers = [
            TimerEntry(_resume_timer(actor), encode_envelope(again), delay_ms, max(0, command.resume_at_ms))
        ]
    _merge_timers(plan.commit, [_resume_timer(actor)], timers)
    was_paused = plan.run_state is RunState.PAUSED
    plan.run_state = plan.commit.run_state = target
    plan.reason = command.reason
    if target.finished:
        plan.unique = ""
    plan.answers.append((letter, Answer(envelope.id, "accepted", seq=plan.seq, entry=data)))
    plan.moved = True
    # What is kept is only known for sure when the move is written: another may have kept more since.
    return was_paused


def _target(plan: Plan, command: Control) -> RunState:
    """Return the run state that a control leads to.

    Raises:
        UsageError: It may not, and why.
    """
    if not plan.seq:
        message = f"there is no {plan.actor.ref}"
        raise UsageError(message)
    meant = plan.run_state is RunState.PAUSED and plan.commit.new_head
    if isinstance(command, Resume) and command.pause_id and command.pause_id != meant:
        message = "it was resumed or paused again since"
        raise UsageError(message)
    return move(plan.run_state, TARGETS[type(command)])


def _erase(plan: Plan, command_id: str) -> None:
    """Plan to leave nothing of an instance but what its workflow wants to stay."""
    definition = plan.actor.definition
    left = None if plan.erased else definition.workflow.scrub(plan.state)
    state = definition.workflow.initial() if left is None else left
    plan.commit.wipe = Snapshot(
        plan.seq + 1,
        command_id,
        definition.kind.state_version,
        encode(state),
        ((command_id, plan.seq + 1, plan.at_ms),),
        left is None,
    )
    plan.state, plan.erased = state, left is None
    plan.handled.clear()


def _resume_timer(actor: Actor) -> str:
    """Return the name of the timer that resumes an instance; no key and no id of a user's timer makes the same."""
    return f"{actor.ref.scope}:holdfast.resume"


def _decide(
    plan: Plan, letter: Letter, trace: str | None, payload_bytes_max: int, taken: Mapping[str, str]
) -> None:
    actor, envelope = plan.actor, letter.envelope
    definition = actor.definition
    decision = _ask(plan, letter)
    if isinstance(decision, Reject):
        _refuse(plan, letter, decision)
        return
    _check(definition.name, decision, definition.event_classes, definition.effect_classes)

    seq = plan.commit.seq + len(plan.commit.entries) + 1
    name = describe(letter.command)
    entry = Entry(envelope.id, name, plan.at_ms, actor.token, decision.events, envelope.cause, trace)
    data = check_size(encode(entry), f"the record of {name} for {actor.ref}", payload_bytes_max)

    # The state is folded from what will be read back: what cannot be is refused now, not found in the log later.
    state = plan.state
    for event in _read_back(definition, data):
        state = definition.workflow.evolve(state, event)
    terminal = bool(definition.workflow.is_terminal(state))
    unique = "" if terminal or not definition.has_unique_key else _unique_key(definition, state)
    if unique in taken:
        holder = f"{actor.ref.workflow}/{taken[unique]}"
        details = {"unique_key": unique, "holder": taken[unique]}
        _refuse(plan, letter, Reject(f"the unique key {unique!r} is held by {holder}", details))
        return

    effects = [
        EffectEntry(
            f"{envelope.id}:{index}",
            actor.ref.workflow,
            actor.ref.key,
            seq,
            check_size(encode(effect), f"{tag_of(type(effect))} for {actor.ref}", payload_bytes_max),
            plan.at_ms,
            trace,
        )
        for index, effect in enumerate(decision.effects)
    ]
    timers = [
        _timer_entry(actor, envelope.id, index, timer, trace, payload_bytes_max)
        for index, timer in enumerate(decision.timers)
    ]

    # From here on nothing can fail: the plan takes the whole decision or none of it.
    commit = plan.commit
    commit.entries.append(data)
    commit.new_head = envelope.id
    commit.effects.extend(effects)
    _merge_timers(commit, [timer_name(actor, key) for key in decision.cancels], timers)
    plan.state = state
    plan.handled[envelope.id] = Handled(seq, plan.at_ms)
    if unique != plan.unique:
        plan.unique = unique
        if unique not in ("", plan.before, *plan.claims):
            plan.claims = (*plan.claims, unique)
    if terminal:
        plan.run_state = commit.run_state = move(plan.run_state, RunState.COMPLETED)
        plan.reason = ""
    plan.answers.append((letter, Answer(envelope.id, "accepted", seq=seq, entry=data)))


def _refuse(plan: Plan, letter: Letter, decision: Reject) -> None:
    details = b"" if decision.details is None else encode(decision.details)
    answer = Answer(letter.envelope.id, "rejected", reason=str(decision.reason), details=details)
    plan.refused[answer.command_id] = answer
    plan.answers.append((letter, answer))


def _unique_key(definition: Definition, state: Any) -> str:
    found = definition.workflow.unique_key(state)
    return "" if found is None else check_key(found, f"{definition.name}.unique_key")


def _ask(plan: Plan, letter: Letter) -> Decision[Any, Any]:
    decide, now = plan.actor.definition.workflow.decide, from_ms(plan.at_ms)
    letter.tries = 1
    try:
        return decide(now, plan.state, letter.command)
    except Exception:
        again = Retrying(stop=stop_after_attempt(DECIDE_ATTEMPTS - 1), reraise=True)
        for attempt in again:
            with attempt:
                letter.tries += 1
                return decide(now, plan.state, letter.command)
        raise


def _read_back(definition: Definition, data: bytes) -> tuple[Any, ...]:
    try:
        return definition.entries.decode(data, "the record").events
    except HistoryError as error:
        message = (
            f"{definition.name}.decide accepted with an event whose fields are not of their types, so that it could not "
            f"be read back: {error.__cause__}"
        )
        raise WorkflowError(message) from error


def _check(name: str, decision: Any, events: tuple[type, ...], effects: tuple[type, ...]) -> None:
    if not isinstance(decision, Accept):
        message = (
            f"{name}.decide returned {type(decision).__name__}; it must return accept(...) or reject(...)"
        )
        raise WorkflowError(message)
    if not decision.events:
        message = f"{name}.decide accepted without an event; an accepted command must record something, else reject it"
        raise WorkflowError(message)
    for event in decision.events:
        if type(event) not in events:
            message = f"{name}.decide accepted with {type(event).__name__}, which is no event of {name}"
            raise WorkflowError(message)
    for effect in decision.effects:
        if type(effect) not in effects:
            message = f"{name}.decide asked for {type(effect).__name__}, which is no effect of {name}"
            raise WorkflowError(message)


def timer_name(actor: Actor, key: str) -> str:
    """Return the name of a keyed timer, unique in its partition: no workflow type has a slash in it."""
    return f"{actor.ref.scope}/{key}"


def _timer_entry(
    actor: Actor, command_id: str, index: int, timer: Timer, trace: str | None, payload_bytes_max: int
) -> TimerEntry:
    definition, ref = actor.definition, actor.ref
    if type(timer.command) not in definition.commands.by_tag.values():
        message = (
            f"{definition.name} set a timer for {type(timer.command).__name__}, which is no command of it"
        )
        raise WorkflowError(message)
    key = definition.key_of(timer.command)
    if key != ref.key:
        message = (
            f"{definition.name} set a timer for {key!r}, but a timer is for its own instance, {ref.key!r}"
        )
        raise UsageError(message)
    if (timer.after is None) == (timer.at is None):
        message = f"{definition.name} set a timer that has not either `after` or `at`"
        raise UsageError(message)
    own_id = f"{command_id}:t{index}"
    payload = check_size(encode(timer.command), f"{describe(timer.command)} for {ref}", payload_bytes_max)
    envelope = Envelope(own_id, ref.workflow, ref.key, payload, cause=command_id, trace=trace)
    # A timer without a key is named after its command, within its instance: two instances may know the same id.
    name = f"{actor.ref.scope}:{own_id}" if timer.key is None else timer_name(actor, timer.key)
    if timer.at is not None:
        return TimerEntry(name, encode_envelope(envelope), 0, max(1, to_ms_up(timer.at)))
    delay_ms = max(0, span_ms_up(timer.after)) if timer.after is not None else 0
    return TimerEntry(name, encode_envelope(envelope), delay_ms)


def _merge_timers(commit: Commit, cancels: list[str], timers: list[TimerEntry]) -> None:
    """Add one decision's timers to those of the decisions before it: the last word on a name counts."""
    gone = {*cancels, *(timer.name for timer in timers)}
    commit.timers = [timer for timer in commit.timers if timer.name not in gone] if gone else commit.timers
    commit.cancels.extend(cancels)
    commit.timers.extend(timers)
