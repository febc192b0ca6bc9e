"""Scenario: given these events, when this command, then those events.

A scenario runs through the same plan as a worker's turn does, so what a worker would refuse fails here as well.
Nothing in it changes: every `when` returns a new scenario, and one beginning may serve many tests.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Generic, Never, TypeVar

from holdfast.runtime.actor import Actor, clock_ms
from holdfast.runtime.clock import ManualClock, from_ms
from holdfast.runtime.decision import Accept, Decision, Reject, Timer
from holdfast.runtime.definition import Definition, check_class
from holdfast.runtime.errors import UsageError
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.mailbox import Letter
from holdfast.runtime.message import Envelope
from holdfast.runtime.plan import in_place, make_plan
from holdfast.runtime.ports import Committed, Delivery
from holdfast.runtime.record import Entry
from holdfast.runtime.testing.difference import difference, same
from holdfast.runtime.workflow import Workflow

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")
F = TypeVar("F")

#: What no command of a scenario is larger than.
PAYLOAD_BYTES_MAX = 1024 * 1024

_ANYTHING: Final = object()


@dataclass(frozen=True, slots=True)
class _Step:
    """A command, and what became of it."""

    command: Any
    #: accepted, rejected, duplicate or completed.
    kind: str
    decision: Decision[Any, Any] | None


class Scenario(Generic[S, C, E, F]):
    """One instance of a workflow, and what its last command came to; begin one with `given`."""

    def __init__(
        self, definition: Definition, actor: Actor, now: datetime, count: int, step: _Step | None
    ) -> None:
        self._definition = definition
        self._actor = actor
        self._now = now
        self._count = count
        self._step = step

    # -- when

    def when(
        self,
        command: C,
        *,
        now: datetime | None = None,
        id: str | None = None,  # noqa: A002 - the field's name
    ) -> Scenario[S, C, E, F]:
        """Hand the instance a command; its events, if it is accepted, are folded before the next one.

        Args:
            command: A command of the workflow. All commands of a scenario have the same key.
            now: The time that `decide` is told, with a time zone; else that of the command before.
            id: The command's id. One that was accepted before is not decided again, as in production.

        Raises:
            UsageError: It is no command of the workflow, or names another instance.
            AssertionError: `decide` or `evolve` is not pure.
            Exception: Whatever `decide` or `evolve` raises; in production that makes a dead letter of the command.
        """
        definition, name = self._definition, self._definition.name
        if type(command) not in definition.commands.by_tag.values():
            message = f"{type(command).__name__} is no command of {name}"
            raise UsageError(message)
        now = now or self._now
        if now.tzinfo is None:
            message = "`now` needs a time zone, such as datetime(2026, 1, 1, tzinfo=UTC)"
            raise UsageError(message)
        actor = self._actor_for(definition.key_of(command))
        count = self._count + 1
        command_id = id or f"command-{count}"

        kind, decision = "duplicate", None
        if actor.run_state.finished and command_id not in actor.handled:
            kind = "completed"
        elif command_id not in actor.handled:
            decision = ask(definition, from_ms(clock_ms(now, actor)), actor.state, command)
            kind = "rejected" if isinstance(decision, Reject) else "accepted"
        state, before = actor.state, copy.deepcopy(actor.state)
        plan = make_plan(actor, [letter(actor.ref, command_id, command)], now, None, PAYLOAD_BYTES_MAX)
        for _, error in plan.failures:
            if str(error) == in_place(name, "evolve") and not same(before, state):
                # A worker says this in a sentence; here there is the difference too.
                raise AssertionError(impure(name, "evolve", before, state)) from error
            raise error
        if not same(before, state):
            raise AssertionError(impure(name, "evolve", before, state))
        step = _Step(command, kind, decision)
        return Scenario(definition, plan.applied(Committed(0)), now, count, step)

    def _actor_for(self, key: str) -> Actor:
        """Return a copy of the instance, under its key."""
        actor = self._actor
        if actor.ref.key not in ("", key):
            message = f"this scenario is about {actor.ref}; a command for {key!r} belongs to another one"
            raise UsageError(message)
        return replace(
            actor,
            ref=actor.ref._replace(key=key),
            state=copy.deepcopy(actor.state),
            handled=actor.handled.copy(),
        )

    # -- then

    def then(self, *events: E) -> Scenario[S, C, E, F]:
        """Assert that the command was accepted with exactly these events, in this order."""
        __tracebackhide__ = True
        if not events:
            message = (
                "`then` takes the events that are expected; for none, say then_nothing() or then_rejected()"
            )
            raise UsageError(message)
        return self._expect("events", events, self.events)

    def then_effects(self, *effects: F) -> Scenario[S, C, E, F]:
        """Assert that the command asked for exactly these effects; none asserts that it asked for none."""
        __tracebackhide__ = True
        return self._expect("effects", effects, self.effects)

    def then_timers(self, *timers: Timer) -> Scenario[S, C, E, F]:
        """Assert that the command asked for exactly these timers; none asserts that it asked for none."""
        __tracebackhide__ = True
        return self._expect("timers", timers, self.timers)

    def then_cancels(self, *keys: str) -> Scenario[S, C, E, F]:
        """Assert that the command cancelled the timers of exactly these keys."""
        __tracebackhide__ = True
        return self._expect("cancelled timers", keys, self.cancels)

    def then_nothing(self) -> Scenario[S, C, E, F]:
        """Assert that nothing was recorded: the command was refused, handled before, or came after the end."""
        __tracebackhide__ = True
        if self._last().kind == "accepted":
            self._fail(f"nothing should have been recorded, but {self._outcome()}", (), self.events)
        return self

    def then_rejected(self, reason: str | None = None, details: Any = _ANYTHING) -> Scenario[S, C, E, F]:
        """Assert that the command was refused; for this reason and with these details, where they are given."""
        __tracebackhide__ = True
        decision = self._last().decision
        if not isinstance(decision, Reject):
            self._fail(f"should have been rejected, but {self._outcome()}", (), self.events)
        if reason is not None and decision.reason != reason:
            self._fail("was rejected for another reason", [reason], [decision.reason])
        if details is not _ANYTHING and decision.details != details:
            self._fail("was rejected with other details", [details], [decision.details])
        return self

    def then_duplicate(self) -> Scenario[S, C, E, F]:
        """Assert that a command with this id had been accepted before, so that it was not decided."""
        __tracebackhide__ = True
        if self._last().kind != "duplicate":
            self._fail(f"should have been a duplicate, but {self._outcome()}", (), self.events)
        return self

    def then_already_completed(self) -> Scenario[S, C, E, F]:
        """Assert that the instance was finished, so that the command was not decided."""
        __tracebackhide__ = True
        if self._last().kind != "completed":
            self._fail(f"should have come after the end, but {self._outcome()}", (), self.events)
        return self

    def then_state(self, state: S) -> Scenario[S, C, E, F]:
        """Assert that the instance is in this state."""
        __tracebackhide__ = True
        if self.state != state:
            self._fail("is in another state", [state], [self.state], spread=True)
        return self

    def then_completed(self) -> Scenario[S, C, E, F]:
        """Assert that the instance is finished: `is_terminal` says so of its state."""
        __tracebackhide__ = True
        if not self.completed:
            self._fail(f"should be finished, but is_terminal is false in {self.state!r}")
        return self

    def then_running(self) -> Scenario[S, C, E, F]:
        """Assert that the instance is not finished."""
        __tracebackhide__ = True
        if self.completed:
            self._fail(f"should not be finished, but is_terminal is true in {self.state!r}")
        return self

    # -- for assertions of one's own

    @property
    def state(self) -> S:
        """The instance's state now."""
        state: S = self._actor.state
        return state

    @property
    def completed(self) -> bool:
        """Whether the instance is finished."""
        return self._actor.run_state.finished

    @property
    def decision(self) -> Decision[E, F] | None:
        """What `decide` returned for the last command; None where it was not asked."""
        return self._last().decision

    @property
    def events(self) -> tuple[E, ...]:
        """The events that the last command recorded."""
        accepted = self._accepted()
        return tuple(accepted.events) if accepted else ()

    @property
    def effects(self) -> tuple[F, ...]:
        """The effects that the last command asked for."""
        accepted = self._accepted()
        return tuple(accepted.effects) if accepted else ()

    @property
    def timers(self) -> tuple[Timer, ...]:
        """The timers that the last command asked for."""
        accepted = self._accepted()
        return tuple(accepted.timers) if accepted else ()

    @property
    def cancels(self) -> tuple[str, ...]:
        """The keys of the timers that the last command cancelled."""
        accepted = self._accepted()
        return tuple(accepted.cancels) if accepted else ()

    # -- failing well

    def _last(self) -> _Step:
        if self._step is None:
            message = "nothing was asked yet: say when(command) first"
            raise UsageError(message)
        return self._step

    def _accepted(self) -> Accept[Any, Any] | None:
        decision = self._last().decision
        return decision if isinstance(decision, Accept) else None

    def _outcome(self) -> str:
        """Return in words what became of the last command."""
        decision = self._last().decision
        if isinstance(decision, Reject):
            return f"it was rejected: {decision.reason!r}"
        return {
            "accepted": "it was accepted",
            "duplicate": "its id had been handled before",
            "completed": "the instance was finished already",
        }[self._last().kind]

    def _expect(
        self, what: str, expected: Sequence[object], actual: Sequence[object]
    ) -> Scenario[S, C, E, F]:
        __tracebackhide__ = True
        if self._last().kind != "accepted":
            self._fail(f"should have been accepted, but {self._outcome()}", expected, actual)
        if list(expected) != list(actual):
            self._fail(f"{what} are not as expected", expected, actual)
        return self

    def _fail(
        self,
        problem: str,
        expected: Sequence[object] = (),
        actual: Sequence[object] = (),
        *,
        spread: bool = False,
    ) -> Never:
        __tracebackhide__ = True
        when = f", when {self._step.command!r}" if self._step else ""
        text = f"{self._definition.name}{when}: {problem}"
        if expected or actual:
            text += f"\n  (- expected, + actual)\n{difference(expected, actual, spread=spread)}"
        raise AssertionError(text)


def given(workflow: type[Workflow[S, C, E, F]], *events: E) -> Scenario[S, C, E, F]:
    """Begin a scenario: an instance of `workflow` to which these events happened.

    Raises:
        WorkflowError: The workflow is declared wrongly.
        UsageError: An event is none of the workflow's.
        HistoryError: `evolve` failed on one of the events, or returned no state.
    """
    definition = define(workflow)
    ref = Ref(0, definition.type, "")
    actor = Actor(ref, definition, definition.workflow.initial())
    for seq, event in enumerate(events, 1):
        if type(event) not in definition.event_classes:
            message = f"{type(event).__name__} is no event of {definition.name}"
            raise UsageError(message)
        actor.absorb(seq, Entry(f"given-{seq}", "given", 0, 0, (event,)))
    if events and definition.workflow.is_terminal(actor.state):
        actor.run_state = RunState.COMPLETED
    return Scenario(definition, actor, ManualClock().now(), 0, None)


def define(workflow: type[Workflow[Any, Any, Any, Any]]) -> Definition:
    """Return the checked workflow; a suite of a thousand scenarios checks it once."""
    check_class(workflow)  # what is no class need not go into a cache at all
    return _define(workflow)


@lru_cache(maxsize=128)
def _define(workflow: type[Workflow[Any, Any, Any, Any]]) -> Definition:
    return Definition(workflow)


def ask(definition: Definition, now: datetime, state: Any, command: Any) -> Decision[Any, Any]:
    """Return what `decide` says, having made sure that it says it twice and leaves the state alone.

    Raises:
        AssertionError: It does not.
    """
    name, decide = definition.name, definition.workflow.decide
    before, untouched = copy.deepcopy(state), copy.deepcopy(command)
    decision: Decision[Any, Any] = decide(now, state, command)
    if not same(before, state):
        raise AssertionError(impure(name, "decide", before, state))
    again = decide(now, before, untouched)
    if not same(decision, again):
        message = (
            f"{name}.decide is not deterministic: the same time, state and command gave two decisions.\n"
            f"  now: {now}\n  state: {state!r}\n  command: {command!r}\n"
            f"  (- first, + second)\n{difference([decision], [again], spread=True)}"
        )
        raise AssertionError(message)
    return decision


def impure(name: str, function: str, before: Any, after: Any) -> str:
    """Return the sentence on a function that changed the state it was given."""
    return (
        f"{name}.{function} changed the state that it was given; it must leave it alone and "
        f"{'return a new one' if function == 'evolve' else 'only choose'}.\n"
        f"  (- before, + after)\n{difference([before], [after], spread=True)}"
    )


def letter(ref: Ref, command_id: str, command: Any) -> Letter:
    """Return a command as it lies in its instance's mailbox."""
    envelope = Envelope(command_id, ref.workflow, ref.key, b"")
    return Letter(0, Delivery(ref.partition, b"", 0, None), envelope, command)
