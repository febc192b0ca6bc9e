"""Exploration: what a workflow does, found out by trying it, since a decider lists no states.

From the initial state on, every command is tried with messages that are made up (see `samples`), and from every state
that this leads to again. A status is what `Workflow.status` says; else the first Enum in the state; else the last
event. So it finds what can be reached with such messages and shows nothing that is not true, but it may miss what
takes a particular value; `Machine.unseen` has what it never saw. A log has what it misses: see `Trail`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from holdfast.runtime.clock import ManualClock
from holdfast.runtime.codec import encode
from holdfast.runtime.decision import Accept
from holdfast.runtime.definition import Definition
from holdfast.runtime.diagram import Machine, Transition, joined
from holdfast.runtime.message import describe, tag_of
from holdfast.runtime.record import Record
from holdfast.runtime.samples import fields_of, lying_about, messages

#: The status of an instance to which nothing has happened yet, where the workflow has no word for it.
NEW = "new"
#: States that are tried from of one status, and in all.
STATES_PER_STATUS_MAX = 12
STATES_MAX = 400
#: Decisions that are asked for in all.
DECISIONS_MAX = 20_000
#: How long after the latest thing that happened commands are tried: at once, and when any time limit has passed.
PAUSES = (timedelta(seconds=1), timedelta(days=400))


def status_of(definition: Definition, state: Any, last_event: str) -> str:
    """Return the name of where a state is.

    Args:
        definition: The workflow.
        state: The state.
        last_event: The name of the event that led to it; empty if there was none.
    """
    said = definition.workflow.status(state)
    if said is not None:
        return str(said.value) if isinstance(said, Enum) else str(said)
    found = _enum_in(state)
    if found is not None:
        return str(found.value)
    return last_event or NEW


def _enum_in(state: Any) -> Enum | None:
    """Return the state if it is an Enum, else the first of its fields that is one."""
    if isinstance(state, Enum):
        return state
    inner = (getattr(state, name) for name in fields_of(state))
    return next((value for value in inner if isinstance(value, Enum)), None)


def names_statuses(definition: Definition) -> bool:
    """Return whether a workflow says itself where its states are."""
    initial = definition.workflow.initial()
    return definition.workflow.status(initial) is not None or _enum_in(initial) is not None


@dataclass(slots=True)
class _State:
    """A state that was reached, and how things stand there."""

    state: Any
    status: str
    now: datetime
    #: Commands that timers will send: the real ones, as the workflow itself made them.
    timers: tuple[Any, ...] = ()
    #: Names and fields of the effects that were asked for: result commands often repeat them.
    facts: tuple[Any, ...] = ()


@dataclass(slots=True)
class _Finds:
    """What an exploration has found until now."""

    statuses: dict[str, None] = field(default_factory=dict)
    terminal: set[str] = field(default_factory=set)
    transitions: dict[tuple[Any, ...], Transition] = field(default_factory=dict)
    #: States that were queued, by status.
    known: dict[str, set[bytes]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    decisions: int = 0

    def add(self, arrow: Transition) -> None:
        """Take an arrow, or what is new of it."""
        way = (arrow.source, arrow.command, arrow.target, arrow.events)
        known = self.transitions.get(way)
        self.transitions[way] = arrow if known is None else joined(known, arrow)
        self.statuses |= dict.fromkeys((arrow.source, arrow.target))
        self.seen |= {arrow.command, *arrow.events}

    def worth_trying(self, state: _State) -> bool:
        """Return whether commands should be tried from a state, and take note of it."""
        known = self.known.setdefault(state.status, set())
        data = encode(state.state)
        room = len(known) < STATES_PER_STATUS_MAX and sum(map(len, self.known.values())) < STATES_MAX
        if data in known or not room:
            return False
        known.add(data)
        return True


def explore(definition: Definition, examples: Iterable[Any] = ()) -> Machine:
    """Return what can be found out about a workflow by trying it.

    Args:
        definition: The workflow.
        examples: Commands of the caller's own, tried in every state before those that are made up.
    """
    workflow = definition.workflow
    own = tuple(examples)
    first = _State(workflow.initial(), status_of(definition, workflow.initial(), ""), ManualClock().now())
    finds = _Finds(statuses={first.status: None})
    finds.worth_trying(first)
    queue = deque([first])
    while queue and finds.decisions < DECISIONS_MAX:
        here = queue.popleft()
        for reached in _tries(definition, here, own, finds):
            if finds.worth_trying(reached):
                queue.append(reached)
    return _machine(definition, first.status, finds)


def _tries(definition: Definition, here: _State, own: Sequence[Any], finds: _Finds) -> Iterator[_State]:
    for command in _commands(definition, here, own):
        for pause in PAUSES:
            if finds.decisions >= DECISIONS_MAX:
                return
            finds.decisions += 1
            reached = _try(definition, here, command, here.now + pause, finds)
            if reached is not None:
                yield reached


def _commands(definition: Definition, here: _State, own: Sequence[Any]) -> Iterator[Any]:
    yield from here.timers
    yield from own
    found = [*lying_about(here.state), *here.facts]
    for kind in definition.commands.by_tag.values():
        yield from messages(kind, definition.kind.key, found)


def _try(definition: Definition, here: _State, command: Any, now: datetime, finds: _Finds) -> _State | None:
    """Return where a command leads, or None if it leads nowhere."""
    workflow = definition.workflow
    try:
        decision = workflow.decide(now, here.state, command)
        if not isinstance(decision, Accept) or not decision.events:
            return None
        state = here.state
        for event in decision.events:
            state = workflow.evolve(state, event)
            if not isinstance(state, definition.state_class):
                return None
        terminal = bool(workflow.is_terminal(state))
        events = tuple(describe(event) for event in decision.events)
        status = status_of(definition, state, events[-1])
        encode(state)
    except Exception:  # noqa: BLE001 - user code may raise anything at what is made up; then it leads nowhere
        return None
    asked = tuple(describe(timer.command) for timer in decision.timers)
    effects = tuple(describe(effect) for effect in decision.effects)
    finds.add(
        Transition(
            here.status,
            describe(command),
            status,
            tuple(dict.fromkeys(events)),
            tuple(dict.fromkeys(effects)),
            tuple(dict.fromkeys(asked)),
        )
    )
    if terminal:
        finds.terminal.add(status)
        return None
    timers = (*here.timers, *(timer.command for timer in decision.timers))
    facts = (*effects, *(fact for effect in decision.effects for fact in lying_about(effect)))
    return _State(state, status, now, timers[-len(definition.commands.by_tag) * 2 :], facts or here.facts)


def _machine(definition: Definition, initial: str, finds: _Finds) -> Machine:
    declared = [*definition.commands.by_tag, *(tag_of(kind) for kind in definition.event_classes)]
    return Machine(
        definition.type,
        initial,
        tuple(finds.statuses),
        frozenset(finds.terminal),
        tuple(finds.transitions.values()),
        tuple(name for name in dict.fromkeys(declared) if name not in finds.seen),
    )


@dataclass(slots=True)
class Trail:
    """The way that a real instance went, worked out from its log record by record."""

    definition: Definition
    state: Any = None
    status: str = ""
    path: list[Transition] = field(default_factory=list)
    terminal: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin where every instance begins."""
        self.state = self.definition.workflow.initial()
        self.status = status_of(self.definition, self.state, "")

    def resume(self, seq: int, state: Any, last_event: str) -> None:
        """Go on from a state that a snapshot has, where not all records up to it are left; one step stands for them.

        Args:
            seq: The record after which the snapshot was taken.
            state: The state in it.
            last_event: The name of the event that led to it; empty if nobody knows any more.
        """
        source, self.state = self.status, state
        self.status = status_of(self.definition, state, last_event or f"record {seq}")
        self.path.append(Transition(source, f"records 1 to {seq}", self.status))
        if self.definition.workflow.is_terminal(state):
            self.terminal.add(self.status)

    def follow(self, records: Iterable[Record[Any]]) -> None:
        """Go on along some records; one without events moves nothing."""
        workflow = self.definition.workflow
        for record in records:
            if not record.events:
                continue
            for event in record.events:
                self.state = workflow.evolve(self.state, event)
            events = tuple(dict.fromkeys(describe(event) for event in record.events))
            source, self.status = (
                self.status,
                status_of(self.definition, self.state, describe(record.events[-1])),
            )
            self.path.append(Transition(source, record.command, self.status, events))
            if workflow.is_terminal(self.state):
                self.terminal.add(self.status)

    def machine(self) -> Machine:
        """Return the part of the machine that the instance went through."""
        initial = status_of(self.definition, self.definition.workflow.initial(), "")
        arrows = {(one.source, one.command, one.target, one.events): one for one in self.path}
        statuses = dict.fromkeys(
            (initial, *(status for one in self.path for status in (one.source, one.target)))
        )
        return Machine(
            self.definition.type,
            initial,
            tuple(statuses),
            frozenset(self.terminal),
            tuple(arrows.values()),
        )
