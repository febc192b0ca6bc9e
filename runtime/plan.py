"""Plan: what one mailbox's commands come to, worked out on a view of the actor and not yet written.

The commands are decided one after another, each on the state that the ones before it would leave behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from tenacity import Retrying, stop_after_attempt

from holdfast.runtime.actor import Actor, Handled, clock_ms
from holdfast.runtime.bearings import bear
from holdfast.runtime.checks import said
from holdfast.runtime.cipher import was_shredded
from holdfast.runtime.clock import from_ms, span_ms_up, to_ms_up
from holdfast.runtime.codec import check_size, encode, encode_envelope, encode_message
from holdfast.runtime.control import RESUME_TIMER, TARGETS, VERBS, Control, DeleteData, Pause, Resume
from holdfast.runtime.decision import Accept, Decision, Reject, Timer
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import Ending, HistoryError, HoldfastError, UsageError, WorkflowError
from holdfast.runtime.instance import RunState, move
from holdfast.runtime.keys import check_key
from holdfast.runtime.mailbox import Letter
from holdfast.runtime.message import Envelope, describe, tag_of
from holdfast.runtime.outcome import Answer
from holdfast.runtime.ports import Commit, Committed, Park
from holdfast.runtime.record import Asked, AskedTimer, EffectEntry, Entry, Moved, Snapshot, TimerEntry
from holdfast.runtime.spans import DecisionSpans
from holdfast.runtime.timers import timer_id

#: How often `decide` is tried on one command before it is a dead letter: it is pure, so more would say the same.
DECIDE_ATTEMPTS = 3
#: The latest end of a pause and the longest pause, in milliseconds: more than numbers in Redis tell apart.
PAUSE_MS_MAX = 2**53


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
    failures: list[tuple[Letter, BaseException]] = field(default_factory=list)
    #: Letters that wait because one before them does.
    deferred: list[Letter] = field(default_factory=list)
    handled: dict[str, Handled] = field(default_factory=dict)
    #: Refusals by command id: a second copy in the same mailbox is told the same, whatever happened in between.
    refused: dict[str, Answer] = field(default_factory=dict)
    #: Where the last record of the commit is in the feed, once it is there.
    position: str = ""
    #: Letters that come after what is kept for the instance, which it may go on with from here on; or that are to be
    #: decided on the log anew.
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
    #: Whether user code changed the state so that nothing more can be decided on it.
    spoilt: bool = False
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
        if committed.crowded_out:
            self._turn_away(frozenset(committed.crowded_out))
        if self.commit.wipe is not None:
            actor.handled.clear()
            actor.snapshot_seq, actor.parked = self.commit.wipe.seq, 0
        actor.seq += len(self.commit.entries)
        actor.head = self.commit.new_head
        actor.token = committed.token
        for command_id, handled in self.handled.items():
            actor.remember(command_id, handled)
        return actor

    def _turn_away(self, ids: frozenset[str]) -> None:
        """Refuse commands that there was no room to keep; where nobody waits for that they are given up."""
        refused = CrowdedOut(self.actor)
        kept: list[tuple[Letter, Answer]] = []
        for letter, answer in self.answers:
            if answer.kind != "parked" or answer.command_id not in ids:
                kept.append((letter, answer))
            elif letter.envelope.reply_to is not None:
                kept.append((letter, Answer(answer.command_id, "rejected", reason=str(refused))))
            else:
                self.failures.append((letter, refused))
        self.answers = kept


class CrowdedOut(HoldfastError):
    """As many commands are kept for a paused instance as may be."""

    def __init__(self, actor: Actor) -> None:
        why = f": {actor.reason}" if actor.reason else ""
        super().__init__(
            f"{actor.ref} is paused{why}, and {actor.parked:,} commands are kept for it already, which is the most "
            f"({actor.definition.name}.parked_max). Resume or cancel it, and send the command again"
        )


def make_plan(
    actor: Actor,
    letters: Sequence[Letter],
    now: datetime,
    spans: DecisionSpans | None,
    payload_bytes_max: int,
    taken: Mapping[str, str] | None = None,
    refused: Mapping[str, Answer] | None = None,
) -> Plan:
    """Decide each letter in turn and return what that comes to. Nothing is written and the actor does not change.

    `taken` are unique keys that others hold, and who: a decision that would need one is a refusal. `refused` are the
    refusals of earlier plans, which a second copy of a command is answered with. `spans` are told of what is decided,
    and say under which trace it is recorded; without them it stays in its sender's.
    """
    ref, definition = actor.ref, actor.definition
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
    if refused:
        plan.refused.update(refused)
    unparks: list[str] = []
    for position, letter in enumerate(letters):
        envelope = letter.envelope
        bear(envelope)
        seen = plan.handled.get(envelope.id) or actor.handled.get(envelope.id)
        if seen is not None:
            plan.duplicates.append((letter, seen.seq))
        elif envelope.id in plan.refused:
            # Whatever came in between, a pause too: who is told that he was refused is not accepted later.
            again = letter.delivery.fresh
            plan.answers.append((letter, msgspec.structs.replace(plan.refused[envelope.id], duplicate=again)))
        elif type(letter.command) in TARGETS:
            span = spans.begin(ref, letter) if spans is not None else None
            trace = span.trace if span is not None else envelope.trace
            try:
                moved = _control(plan, letter, letter.command, trace, payload_bytes_max)
            except Ending:
                raise
            except BaseException as error:  # noqa: BLE001 - what it says may be too long, and scrub is user code
                plan.failures.append((letter, error))
            else:
                if moved:
                    plan.rest = letters[position + 1 :]
                    break
            finally:
                if span is not None:
                    span.leave()
        elif plan.run_state is RunState.PAUSED:
            if letter.parked:
                break  # it was paused on the way, and what is left stays where it is
            _park(plan, letter)
        elif plan.run_state is RunState.DATA_DELETED and was_shredded(envelope.payload):
            # It was sent before the data was deleted, and can never be read: but what becomes of it is known.
            plan.answers.append((letter, Answer(envelope.id, "completed", reason=plan.run_state)))
        elif letter.stalled is not None:
            plan.deferred.extend(letters[position:])
            break
        elif letter.broken is not None:
            _fail(plan, letter, letter.broken, envelope.trace)
        elif plan.run_state.finished:
            plan.answers.append((letter, Answer(envelope.id, "completed", reason=plan.run_state)))
        else:
            span = spans.begin(ref, letter) if spans is not None else None
            trace = span.trace if span is not None else envelope.trace
            try:
                if definition.state_is_immutable:
                    _decide(plan, letter, trace, payload_bytes_max, taken or {}, None)
                else:
                    _decide_watched(plan, letter, trace, payload_bytes_max, taken or {})
            except Ending:
                raise
            except BaseException as error:  # noqa: BLE001 - user code may raise anything; it becomes a dead letter
                _fail(plan, letter, error, trace)
            finally:
                if span is not None:
                    span.leave()
        if letter.parked:
            unparks.append(envelope.id)
        if plan.spoilt:
            plan.rest = letters[position + 1 :]
            break
    bear(None)
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
    commit.parks_max = plan.actor.definition.kind.parked_max
    plan.answers.append((letter, Answer(envelope.id, "parked", reason=plan.reason)))


def _fail(plan: Plan, letter: Letter, error: BaseException, trace: str | None) -> None:
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
    if isinstance(command, DeleteData) and plan.run_state is RunState.DATA_DELETED:
        # What was wished for is so already: nothing is recorded, however often it is asked for.
        plan.answers.append((letter, Answer(envelope.id, "completed", reason=plan.run_state)))
        return False
    try:
        target = _target(plan, command)
    except UsageError as error:
        answer = Answer(envelope.id, "rejected", reason=str(error))
        plan.refused[envelope.id] = answer
        plan.answers.append((letter, answer))
        return False
    resume_at_ms = at_ms = after_ms = 0
    if isinstance(command, Pause):
        # Any program may have sent it, with any numbers.
        at_ms = min(max(1, command.resume_at_ms), PAUSE_MS_MAX) if command.resume_at_ms else 0
        after_ms = min(max(0, command.resume_after_ms), PAUSE_MS_MAX)
        resume_at_ms = at_ms or (plan.at_ms + after_ms if command.resume_after_ms else 0)
    step = Moved(VERBS[type(command)], command.reason, resume_at_ms)
    name = describe(command)
    entry: Entry[Any] = Entry(envelope.id, name, plan.at_ms, actor.token, (), envelope.cause, trace, step)
    data = check_size(encode(entry), f"the record of {name} for {actor.ref}", payload_bytes_max)
    if isinstance(command, DeleteData):
        _erase(plan, envelope.id)
    _record(plan, entry, data)
    timers = []
    if resume_at_ms:
        again = Envelope(
            f"{envelope.id}:resume",
            actor.ref.workflow,
            actor.ref.key,
            encode(Resume("its time has come", envelope.id)),
            plan.at_ms if trace is not None else 0,
            cause=envelope.id,
            trace=trace,
        )
        delay_ms = 0 if at_ms else after_ms
        timers = [TimerEntry(_resume_timer(actor), encode_envelope(again), delay_ms, at_ms)]
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
    left = definition.workflow.scrub(plan.state)
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
    return f"{actor.ref.scope}:{RESUME_TIMER}"


def _decide_watched(
    plan: Plan, letter: Letter, trace: str | None, payload_bytes_max: int, taken: Mapping[str, str]
) -> None:
    """Decide where user code can change the state that it is given: nothing of that may reach the next decision."""
    before = _encoded(plan.state)
    try:
        _decide(plan, letter, trace, payload_bytes_max, taken, before)
    except BaseException:
        if before is not None and _encoded(plan.state) != before:
            _restore(plan, before)
        raise


def _restore(plan: Plan, before: bytes) -> None:
    """Have the state be what it was; the actor's too, where it is the same one, for it may be planned with again."""
    actor, changed = plan.actor, plan.state
    try:
        plan.state = actor.definition.state_decoder.decode(before)
    except msgspec.MsgspecError:  # it was not of its type: only the log has it
        plan.spoilt = True
        return
    if actor.state is changed:
        actor.state = plan.state


def _encoded(state: Any) -> bytes | None:
    """Return a state as it is stored, None where it cannot be: its snapshots say so, and it cannot be watched."""
    try:
        return encode(state)
    except Exception:  # noqa: BLE001 - a state is user code's
        return None


def _check_untouched(plan: Plan, letter: Letter, before: bytes) -> None:
    """Check that the state is what it was before a decision.

    Raises:
        WorkflowError: Somebody changed it in place.
    """
    if _encoded(plan.state) != before:
        definition = plan.actor.definition
        raise WorkflowError(in_place(definition.name, _who_changed(plan, letter, before)))


def in_place(name: str, method: str) -> str:
    """Return the sentence on a method of a workflow that changed the state it was given."""
    return (
        f"{name}.{method} changed the state that it was given, and what comes next would be decided on what no log says. "
        "Leave it alone: evolve returns a new one, such as msgspec.structs.replace(state, ...), and a class with "
        "frozen=True, with tuples in place of lists, cannot be changed by mistake"
    )


def _who_changed(plan: Plan, letter: Letter, before: bytes) -> str:
    """Return which method changes the state, found by asking each again."""
    definition = plan.actor.definition
    workflow, decode = definition.workflow, definition.state_decoder.decode
    try:
        state = decode(before)
        untouched = encode(state)
    except msgspec.MsgspecError:  # it is not of its type
        return f"decide or {definition.name}.evolve"
    after, decision = state, None
    with suppress(Exception):  # user code may do otherwise this time
        decision = workflow.decide(from_ms(plan.at_ms), state, letter.command)
    if _encoded(state) != untouched:
        return "decide"
    with suppress(Exception):
        for event in decision.events if isinstance(decision, Accept) else ():
            after = workflow.evolve(after, event)
    if _encoded(state) != untouched:
        return "evolve"
    return f"is_terminal or {definition.name}.unique_key"


def _decide(
    plan: Plan,
    letter: Letter,
    trace: str | None,
    payload_bytes_max: int,
    taken: Mapping[str, str],
    before: bytes | None,
) -> None:
    """Take a command's decision into the plan; `before` is the state as it was, where it can change."""
    actor, envelope = plan.actor, letter.envelope
    definition = actor.definition
    decision = _ask(plan, letter)
    if isinstance(decision, Reject):
        if before is not None:
            _check_untouched(plan, letter, before)
        _refuse(plan, letter, decision)
        return
    _check(definition.name, decision, definition.event_classes, definition.effect_classes)

    seq = plan.commit.seq + len(plan.commit.entries) + 1
    name = describe(letter.command)
    asked = _asked(decision)
    entry = Entry(
        envelope.id,
        name,
        plan.at_ms,
        actor.token,
        decision.events,
        envelope.cause,
        trace,
        None,
        asked,
        envelope.attempts,
    )
    data = encode(entry)
    if len(data) > payload_bytes_max:
        check_size(data, f"the record of {name} for {actor.ref}", payload_bytes_max)

    # The state is folded from what will be read back: what cannot be is refused now, not found in the log later.
    state = plan.state
    for event in _read_back(definition, data):
        state = definition.workflow.evolve(state, event)
        if not isinstance(state, definition.state_class):
            raise WorkflowError(definition.no_state(state, event))
    terminal = bool(definition.workflow.is_terminal(state))
    unique = "" if terminal or not definition.has_unique_key else _unique_key(definition, state)
    if before is not None:
        _check_untouched(plan, letter, before)
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
            encode_message(effect, f"{tag_of(type(effect))} for {actor.ref}", payload_bytes_max),
            plan.at_ms,
            trace,
        )
        for index, effect in enumerate(decision.effects)
    ]
    timers = [
        _timer_entry(actor, envelope.id, index, timer, plan.at_ms, trace, payload_bytes_max)
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
        message = f"{name}.decide returned {_what(decision)}; it must return accept(...) or reject(...)"
        raise WorkflowError(message)
    parts: Any = decision  # whatever it may have in them
    if not (
        type(parts.events) is tuple
        and type(parts.effects) is tuple
        and type(parts.timers) is tuple
        and type(parts.cancels) is tuple
    ):
        _check_parts(name, decision)
    if not decision.events:
        message = f"{name}.decide accepted without an event; an accepted command must record something, else reject it"
        raise WorkflowError(message)
    for event in decision.events:
        if type(event) not in events:
            message = f"{name}.decide accepted with {_what(event)}, which is no event of {name}"
            raise WorkflowError(message)
    for effect in decision.effects:
        if type(effect) not in effects:
            message = f"{name}.decide asked for {_what(effect)}, which is no effect of {name}"
            raise WorkflowError(message)
    timer: Any
    for timer in decision.timers:
        if not isinstance(timer, Timer):
            message = f"{name}.decide set {_what(timer)} as a timer; write accept(...).timer({type(timer).__name__}(...), after=...)"
            raise WorkflowError(message)


def _check_parts(name: str, decision: Accept[Any, Any]) -> None:
    parts = (
        ("events", decision.events, "accept(OrderPaid())"),
        ("effects", decision.effects, "accept(...).effect(ChargeCard(...))"),
        ("timers", decision.timers, "accept(...).timer(ExpireOrder(...), after=...)"),
        ("cancels", decision.cancels, 'accept(...).cancel("expiry")'),
    )
    given: Any
    for part, given, example in parts:
        if not isinstance(given, tuple | list):
            message = f"{name}.decide accepted with {part} that are {_what(given)}, no tuple; write {example}"
            raise WorkflowError(message)


def _asked(decision: Accept[Any, Any]) -> Asked | None:
    """Return what the record is to say of effects and timers: they are deleted when they are done with."""
    if not (decision.effects or decision.timers or decision.cancels):
        return None
    timers = tuple(
        AskedTimer(describe(timer.command), timer.key or "", *_when(timer)) for timer in decision.timers
    )
    return Asked(tuple(describe(effect) for effect in decision.effects), timers, tuple(decision.cancels))


def _when(timer: Timer) -> tuple[int, int]:
    """Return when a timer is due, or 0, and its delay."""
    if timer.at is not None:
        return max(1, to_ms_up(timer.at)), 0
    return 0, max(0, span_ms_up(timer.after)) if timer.after is not None else 0


def _what(message: object) -> str:
    """Return how something that is no message of a workflow is spoken of."""
    return (
        f"{said(message)} itself, not a value of it" if isinstance(message, type) else type(message).__name__
    )


def timer_name(actor: Actor, key: str) -> str:
    """Return the name of a keyed timer, unique in its partition: no workflow type has a slash in it."""
    return f"{actor.ref.scope}/{key}"


def _timer_entry(
    actor: Actor,
    command_id: str,
    index: int,
    timer: Timer,
    at_ms: int,
    trace: str | None,
    payload_bytes_max: int,
) -> TimerEntry:
    definition, ref = actor.definition, actor.ref
    if type(timer.command) not in definition.commands.by_tag.values():
        message = f"{definition.name} set a timer for {_what(timer.command)}, which is no command of it"
        raise WorkflowError(message)
    key = definition.key_of(timer.command)
    if key != ref.key:
        message = (
            f"{definition.name} set a timer for {key!r}, but a timer is for its own instance, {ref.key!r}"
        )
        raise UsageError(message)
    own_id = timer_id(ref, command_id, index)
    payload = encode_message(timer.command, f"{describe(timer.command)} for {ref}", payload_bytes_max)
    # When it was set is of use to traces alone: whether what it leads to is still a part of them.
    set_ms = at_ms if trace is not None else 0
    envelope = Envelope(own_id, ref.workflow, ref.key, payload, set_ms, cause=command_id, trace=trace)
    # A timer without a key is named after its command, within its instance: two instances may know the same id.
    name = f"{actor.ref.scope}:{own_id}" if timer.key is None else timer_name(actor, timer.key)
    due_ms, delay_ms = _when(timer)
    return TimerEntry(name, encode_envelope(envelope), delay_ms, due_ms)


def _merge_timers(commit: Commit, cancels: list[str], timers: list[TimerEntry]) -> None:
    """Add one decision's timers to those of the decisions before it: the last word on a name counts."""
    if not (cancels or timers):
        return
    gone = {*cancels, *(timer.name for timer in timers)}
    commit.timers = [timer for timer in commit.timers if timer.name not in gone]
    commit.cancels.extend(cancels)
    commit.timers.extend(timers)
