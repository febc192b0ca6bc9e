"""check_workflow: what must hold for every workflow, tried on stories that hypothesis makes up."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from holdfast.runtime.actor import Actor, clock_ms, fold, start
from holdfast.runtime.clock import ManualClock, from_ms
from holdfast.runtime.codec import encode
from holdfast.runtime.decision import Accept, Reject
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HoldfastError, SetupError
from holdfast.runtime.keys import Ref
from holdfast.runtime.mailbox import Letter
from holdfast.runtime.plan import make_plan
from holdfast.runtime.ports import Committed, Opened
from holdfast.runtime.record import Snapshot
from holdfast.runtime.testing.difference import difference, same
from holdfast.runtime.testing.scenario import PAYLOAD_BYTES_MAX, ask, define, impure, letter
from holdfast.runtime.workflow import Workflow

if TYPE_CHECKING:
    import hypothesis
    from hypothesis.strategies import SearchStrategy

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")
F = TypeVar("F")

#: The longest pause between two commands of a story: long enough for any time limit to pass.
PAUSE_MAX = timedelta(days=40)


@dataclass(slots=True)
class Coverage:
    """What the stories of a check came to: whether it looked where you think it did."""

    #: How often each command was accepted and rejected, and how often each event was recorded, by class name.
    accepted: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    stories: int = 0


def check_workflow(
    workflow: type[Workflow[S, C, E, F]],
    *,
    commands: SearchStrategy[C] | None = None,
    types: Mapping[Any, SearchStrategy[Any]] | None = None,
    commands_max: int = 10,
    settings: hypothesis.settings | None = None,
) -> Coverage:
    """Check on made-up stories what must hold for every workflow, and return what the stories came to.

    - `decide` is deterministic, leaves the state alone, and answers every command with a decision that can be written.
    - `evolve` accepts every event in every state that commands lead to, returns a state, and changes none in place.
    - Every message and every state survives the codec.
    - The same command handled twice records nothing new.
    - Folding the log in pieces, from a snapshot or at once comes to the same state.

    Args:
        workflow: The workflow's class.
        commands: Your own strategy of commands; else commands are made up from the types of their fields.
        types: Strategies for message classes or field types, in place of what would be made up for them.
        commands_max: The most commands of one story.
        settings: How hypothesis goes about it; else a hundred new stories each time, none of them kept.

    Raises:
        AssertionError: Something does not hold; the smallest story that shows it is in the message.
        WorkflowError: The workflow is declared wrongly.
        SetupError: hypothesis is not installed.
    """
    definition = define(workflow)
    try:
        import hypothesis
        from hypothesis import strategies as st

        from holdfast.runtime.testing.strategies import Strategies
    except ImportError as error:
        message = "check_workflow makes up its stories with hypothesis: pip install hypothesis"
        raise SetupError(message) from error

    strategies = Strategies(definition, types or {})
    pauses = st.timedeltas(timedelta(0), PAUSE_MAX)
    step = st.tuples(strategies.commands() if commands is None else commands, pauses)
    coverage = Coverage()

    # Explaining which parts of a story matter traces every line of it: half a minute for what the message says.
    phases = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain]
    usual = hypothesis.settings(deadline=None, database=None, print_blob=False, phases=phases)

    @hypothesis.settings(settings or usual, report_multiple_bugs=False)
    @hypothesis.given(story=st.lists(step, min_size=1, max_size=commands_max), events=strategies.events())
    def check(story: list[tuple[C, timedelta]], events: tuple[E, ...]) -> None:
        _tell(definition, story, events, coverage)

    check()
    if not coverage.accepted:
        message = (
            f"{definition.name} accepted none of {coverage.rejected.total():,} made-up commands, so next to nothing was "
            "checked: pass commands=... with a strategy of commands that it can accept"
        )
        raise AssertionError(message)
    return coverage


def _tell(
    definition: Definition,
    story: Sequence[tuple[Any, timedelta]],
    events: Sequence[Any],
    coverage: Coverage,
) -> None:
    """Tell one story, and check after every command what must hold."""
    now = ManualClock().now()
    instances: dict[str, _Instance] = {}
    for number, (command, pause) in enumerate(story, 1):
        now += pause
        _survives(definition.commands, command, f"{definition.name}: the command {command!r}")
        key = definition.key_of(command)
        if key not in instances:
            instances[key] = _Instance(definition, key)
        instances[key].handle(command, f"command-{number}", now, coverage)
        for event in events:
            _evolve(definition, instances[key].actor.state, event, "made-up")
    for instance in instances.values():
        instance.check_log()
    coverage.stories += 1


class _Instance:
    """One instance of a story: its actor, and its log as a journal would keep it."""

    def __init__(self, definition: Definition, key: str) -> None:
        self.definition = definition
        self.name = definition.name
        self.actor: Actor = start(definition, Ref(0, definition.type, key), None)
        self.log: list[bytes] = []
        self.accepted: list[Letter] = []
        self.snapshots: list[Snapshot] = []
        self._now = ManualClock().now()

    def handle(self, command: Any, command_id: str, now: datetime, coverage: Coverage) -> None:
        """Handle a command, and check its decision, its events and what comes of handling it once more."""
        actor, definition = self.actor, self.definition
        name, before, decision = type(command).__name__, actor.state, None
        if not actor.run_state.finished:
            moment = from_ms(clock_ms(now, actor))
            try:
                decision = ask(definition, moment, actor.state, command)
            except AssertionError:
                raise
            except Exception as error:
                message = (
                    f"{self.name}.decide raised {type(error).__name__}: {error}. It must accept or reject every command\n"
                    f"  now: {moment}\n  state: {actor.state!r}\n  command: {command!r}"
                )
                raise AssertionError(message) from error
            if isinstance(decision, Reject):
                coverage.rejected[name] += 1
            elif isinstance(decision, Accept):
                self._check_accepted(decision)
                coverage.accepted[name] += 1
                coverage.events.update(type(event).__name__ for event in decision.events)
        recorded = self._commit(actor, command, command_id, now)
        expected = decision.events if isinstance(decision, Accept) else ()
        if not same(list(expected), list(recorded)):
            message = (
                f"{self.name}.decide is not deterministic: asked a third time about {command!r} in {before!r} it decided "
                f"otherwise.\n  (- first, + third)\n{difference(expected, recorded)}"
            )
            raise AssertionError(message)
        self._survives_state()
        self._now = now
        self._handled_again(actor, "at once")
        self.snapshots.append(actor.snapshot())

    def _check_accepted(self, decision: Accept[Any, Any]) -> None:
        """Check that the events evolve, and that every part of the decision survives the codec."""
        definition, state = self.definition, self.actor.state
        for event in decision.events:
            if type(event) not in definition.event_classes:
                return  # what is wrong with it is said when it is committed
            _survives(definition.events, event, f"{self.name}: the event {event!r}")
            state = _evolve(definition, state, event, "recorded")
        for effect in decision.effects:
            if definition.effects is not None and type(effect) in definition.effect_classes:
                _survives(definition.effects, effect, f"{self.name}: the effect {effect!r}")
        for timer in decision.timers:
            if type(timer.command) in definition.commands.by_tag.values():
                what = f"{self.name}: the command of a timer, {timer.command!r},"
                _survives(definition.commands, timer.command, what)

    def _commit(self, actor: Actor, command: Any, command_id: str, now: datetime) -> tuple[Any, ...]:
        """Write the decision as a worker would, and return the events that were recorded."""
        plan = make_plan(actor, [letter(actor.ref, command_id, command)], now, None, PAYLOAD_BYTES_MAX)
        for _, error in plan.failures:
            message = f"{self.name}: the decision on {command!r} cannot be written: {error}"
            raise AssertionError(message) from error
        self.log += plan.commit.entries
        if plan.commit.entries:
            self.accepted.append(letter(actor.ref, command_id, command))
        plan.applied(Committed(0))
        return tuple(
            event
            for data in plan.commit.entries
            for event in self.definition.entries.decode(data, "the record").events
        )

    def _handled_again(self, actor: Actor, when: str) -> None:
        """Check that the accepted commands, all delivered once more, record nothing new."""
        plan = make_plan(actor, self.accepted, self._now, None, PAYLOAD_BYTES_MAX)
        if plan.commit.entries:
            message = f"{self.name}: a command was recorded twice when it was handled again {when}"
            raise AssertionError(message)

    def _survives_state(self) -> None:
        state = self.actor.state
        try:
            again = self.definition.state_decoder.decode(encode(state))
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            message = f"{self.name}: the state {state!r} cannot be stored and read back: {error}"
            raise AssertionError(message) from error
        if not same(state, again):
            message = f"{self.name}: the state is another one after it was stored and read back.\n"
            raise AssertionError(message + _parted(state, again))

    def check_log(self) -> None:
        """Check that the log folds to the state that the commands led to, at once and from every snapshot."""
        whole = self._folded(None)
        for snapshot in (None, *self.snapshots):
            actor = whole if snapshot is None else self._folded(snapshot)
            if not same(actor.state, self.actor.state):
                how = "at once" if snapshot is None else f"from a snapshot of record {snapshot.seq} on"
                message = (
                    f"{self.name}: folding the log {how} comes to another state than the commands did.\n"
                )
                raise AssertionError(message + _parted(self.actor.state, actor.state))
            self._handled_again(actor, "after a restart")

    def _folded(self, snapshot: Snapshot | None) -> Actor:
        if snapshot is not None and snapshot.seq == 0:
            snapshot = None
        after = snapshot.seq if snapshot else 0
        tail = list(enumerate(self.log, 1))[after:]
        actor = self.actor
        try:
            return fold(
                self.definition,
                Opened(actor.ref, actor.seq, actor.head, 0, actor.run_state, snapshot, tail),
            )
        except HoldfastError as error:
            message = f"{self.name}: its log cannot be read back: {error}"
            raise AssertionError(message) from error


def _evolve(definition: Definition, state: Any, event: Any, kind: str) -> Any:
    """Return the state after an event, having made sure that `evolve` is pure and total."""
    name, evolve = definition.name, definition.workflow.evolve
    before = copy.deepcopy(state)
    try:
        after = evolve(state, event)
        again = evolve(copy.deepcopy(before), copy.deepcopy(event))
    except Exception as error:
        message = (
            f"{name}.evolve raised {type(error).__name__}: {error}. It must accept every event in every state\n"
            f"  state: {before!r}\n  event ({kind}): {event!r}"
        )
        raise AssertionError(message) from error
    if not same(before, state):
        raise AssertionError(impure(name, "evolve", before, state))
    if not isinstance(after, definition.state_class):
        message = f"{definition.no_state(after, event)}\n  state: {before!r}\n  event ({kind}): {event!r}"
        raise AssertionError(message)  # noqa: TRY004 - a check failed, whatever it was about
    if not same(after, again):
        message = (
            f"{name}.evolve is not deterministic: the same state and event gave two states.\n"
            f"  state: {before!r}\n  event ({kind}): {event!r}\n{_parted(after, again)}"
        )
        raise AssertionError(message)
    return after


def _survives(codec: Any, message: Any, what: str) -> None:
    """Make sure that a message is the same after it was stored and read back."""
    try:
        again = codec.decode(codec.encode(message))
    except (HoldfastError, TypeError, ValueError, OverflowError, RecursionError) as error:
        text = f"{what} cannot be stored and read back: {error}"
        raise AssertionError(text) from error
    if not same(message, again):
        text = f"{what} is another one after it was stored and read back.\n{_parted(message, again)}"
        raise AssertionError(text)


def _parted(one: Any, other: Any) -> str:
    return f"  (- first, + then)\n{difference([one], [other], spread=True)}"
