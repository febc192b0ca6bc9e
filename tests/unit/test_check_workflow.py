"""
check_workflow: passes what is right, and finds each thing that is wrong with a story that shows it.
"""

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Never

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from holdfast.runtime import actor as actor_module
from holdfast.runtime.actor import Actor
from holdfast.runtime.decision import Decision, accept, reject
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HistoryError, SetupError, UsageError, WorkflowError
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import Command, Effect, Event
from holdfast.runtime.ports import Opened
from holdfast.runtime.record import Snapshot
from holdfast.runtime.workflow import Workflow
from holdfast.testing import Coverage, check_workflow
from tests import controls
from tests.unit import riches
from tests.unit.test_ingress import Room
from tests.unit.trouble import Troublemaker

#: Enough for the flaws below, few enough to be quick, and the same in every run.
FEW = settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[phase for phase in Phase if phase is not Phase.explain],
)


class Put(Command, frozen=True):
    """
    Asks for something to be added.
    """

    jar: str
    number: Annotated[int, msgspec.Meta(ge=0, le=9)] = 1


class Take(Command, frozen=True):
    """
    Asks for something to be taken out.
    """

    jar: str


class Added(Event, frozen=True):
    """
    Something was added.
    """

    number: int


class Taken(Event, frozen=True):
    """
    Something was taken out.
    """


class Ring(Effect, frozen=True):
    """
    Asks for a bell.
    """

    text: str


class JarState(msgspec.Struct):
    """
    What is in the jar. It may change, which is a temptation.
    """

    numbers: list[int]


class Jar(Workflow[JarState, Put | Take, Added | Taken, Ring]):
    """
    A jar as it should be.
    """

    type = "jar"
    key = "jar"

    def initial(self) -> JarState:
        return JarState([])

    def evolve(self, state: JarState, event: Added | Taken) -> JarState:
        if isinstance(event, Added):
            return JarState([*state.numbers, event.number])
        return JarState(state.numbers[:-1])

    def decide(self, now: datetime, state: JarState, command: Put | Take) -> Decision[Added | Taken, Ring]:
        if isinstance(command, Put):
            return accept(Added(command.number)).effect(Ring("ding"))
        if not state.numbers:
            return reject("empty")
        return accept(Taken()).timer(Put(command.jar), after=timedelta(hours=1))


# -- what is right


def test_a_workflow_that_is_right_passes_and_says_what_was_tried() -> None:
    """
    Coverage tells whether the made-up stories went where they should.
    """
    coverage = check_workflow(Jar, settings=FEW)

    assert {"Put", "Take"} == set(coverage.accepted)
    assert {"Take"} == set(coverage.rejected)
    assert {"Added", "Taken"} == set(coverage.events)
    assert coverage.stories >= 40


@pytest.mark.parametrize("workflow", [controls.Order, controls.Counter])
def test_the_examples_of_all_tests_pass(workflow: type[Workflow[Any, Any, Any, Any]]) -> None:
    """
    With effects, timers, refusals and an end; and with a bare number for a state.
    """
    assert check_workflow(workflow, settings=FEW).accepted.total() > 0


def test_without_settings_a_hundred_stories_are_told() -> None:
    """
    Unless the caller says otherwise.
    """
    assert 100 <= check_workflow(controls.Counter).stories <= 200


def test_own_commands_lead_where_made_up_ones_do_not() -> None:
    """
    A strategy of commands may be handed in; each goes to the instance that it names.
    """
    jars = st.sampled_from(["a", "b"])
    commands = st.builds(Put, jars, st.just(7)) | st.builds(Take, jars)

    coverage = check_workflow(Jar, commands=commands, settings=FEW)

    assert {"Put", "Take"} == set(coverage.accepted)


def test_own_strategies_stand_in_for_types() -> None:
    """
    For a message class, or the type of a field.
    """
    seen: set[int] = set()

    class Watched(Jar):
        type = "watched"

        def decide(
            self, now: datetime, state: JarState, command: Put | Take
        ) -> Decision[Added | Taken, Ring]:
            if isinstance(command, Put):
                seen.add(command.number)
            return super().decide(now, state, command)

    check_workflow(Watched, types={Put: st.builds(Put, st.just("a"), st.just(3))}, settings=FEW)
    by_class = set(seen)
    seen.clear()
    check_workflow(
        Watched, types={Annotated[int, msgspec.Meta(ge=0, le=9)]: st.sampled_from([4, 5])}, settings=FEW
    )

    assert ({3}, {4, 5}) == (by_class, seen)


def test_a_workflow_whose_key_is_worked_out_can_be_checked() -> None:
    """
    Its commands have to be handed in, where made-up ones have no key.
    """
    from tests.unit.test_ingress import Measure

    sensors = st.sampled_from(["house/kitchen", "house/attic"])

    assert check_workflow(Room, commands=st.builds(Measure, sensors), settings=FEW).accepted.total() > 0


def test_events_with_every_type_of_field_can_be_made_up() -> None:
    """
    Whatever the checks at registration let pass.
    """
    folded: list[riches.Treasure] = []

    class Rich(riches.Riches):
        type = "rich"

        def evolve(self, state: dict[str, int], event: riches.Treasure) -> dict[str, int]:
            folded.append(event)
            return super().evolve(state, event)

        def decide(
            self, now: datetime, state: dict[str, int], command: riches.Bury
        ) -> Decision[riches.Treasure, Never]:
            return reject("no")

    with pytest.raises(AssertionError, match=r"Rich accepted none of [\d,]+ made-up commands"):
        check_workflow(Rich, settings=settings(FEW, max_examples=5))

    assert len(folded) >= 5


def test_a_workflow_with_an_end_is_checked_beyond_it() -> None:
    """
    What comes after the end is not decided, and no flaw.
    """
    coverage = check_workflow(controls.Order, settings=settings(FEW, max_examples=400))

    assert coverage.events["OrderPaid"] > 0


# -- what is wrong


class Flawed(Jar):
    """
    A jar with a flaw that each test below puts in.
    """

    counter = itertools.count()


def flawed(**methods: Any) -> type[Flawed]:
    """
    A jar with other methods.
    """
    return type("Flawed", (Flawed,), methods)


def story_of(workflow: type[Workflow[Any, Any, Any, Any]], **options: Any) -> tuple[str, str]:
    """
    With what sentence a check fails, and the story that it shows.
    """
    with pytest.raises(AssertionError) as caught:
        check_workflow(workflow, settings=FEW, **options)
    return str(caught.value), "\n".join(getattr(caught.value, "__notes__", []))


def _decide_at_random(self: Flawed, now: datetime, state: Any, command: Any) -> Any:
    return accept(Added(next(self.counter)))


def _decide_in_place(self: Flawed, now: datetime, state: JarState, command: Any) -> Any:
    state.numbers.append(1)
    return accept(Added(1))


def _decide_and_raise(self: Flawed, now: datetime, state: JarState, command: Any) -> Any:
    if len(state.numbers) == 2:
        message = "I am full"
        raise RuntimeError(message)
    return accept(Added(1))


def _evolve_in_place(self: Flawed, state: JarState, event: Any) -> JarState:
    state.numbers.append(1)
    return state


def _evolve_partly(self: Flawed, state: JarState, event: Any) -> JarState:
    return JarState([*state.numbers, event.number])


def _evolve_not_everywhere(self: Flawed, state: JarState, event: Any) -> JarState:
    if isinstance(event, Added):
        return JarState([*state.numbers, event.number])
    state.numbers[-1]
    return JarState(state.numbers[:-1])


def _evolve_at_random(self: Flawed, state: JarState, event: Any) -> JarState:
    return JarState([next(self.counter)])


def _evolve_wrongly_typed(self: Flawed, state: JarState, event: Any) -> JarState:
    return JarState(["one"])  # type: ignore[list-item]  # the flaw


def _evolve_too_large(self: Flawed, state: JarState, event: Any) -> JarState:
    return JarState([2**70])


FLAWS: dict[str, tuple[dict[str, Callable[..., Any]], str]] = {
    "decide is not deterministic": (
        {"decide": _decide_at_random},
        "Flawed.decide is not deterministic: the same time, state and command gave two decisions.",
    ),
    "decide changes the state": (
        {"decide": _decide_in_place},
        "Flawed.decide changed the state that it was given; it must leave it alone and only choose.",
    ),
    "decide raises": (
        {"decide": _decide_and_raise},
        "Flawed.decide raised RuntimeError: I am full. It must accept or reject every command",
    ),
    "decide returns nothing": (
        {"decide": lambda self, now, state, command: None},
        "cannot be written: Flawed.decide returned NoneType; it must return accept(...) or reject(...)",
    ),
    "decide records nothing": (
        {"decide": lambda self, now, state, command: __import__("holdfast").Accept(())},
        "cannot be written: Flawed.decide accepted without an event",
    ),
    "decide records a foreign event": (
        {"decide": lambda self, now, state, command: accept(controls.OrderPaid())},
        "cannot be written: Flawed.decide accepted with OrderPaid, which is no event of Flawed",
    ),
    "decide asks for a foreign effect": (
        {"decide": lambda self, now, state, command: accept(Taken()).effect(controls.SendReceipt("o-1"))},
        "cannot be written: Flawed.decide asked for SendReceipt, which is no effect of Flawed",
    ),
    "decide sets a foreign timer": (
        {
            "decide": lambda self, now, state, command: accept(Taken()).timer(
                controls.Add("n"), after=timedelta(0)
            )
        },
        "cannot be written: Flawed set a timer for Add, which is no command of it",
    ),
    "decide sets a timer for another instance": (
        {
            "decide": lambda self, now, state, command: accept(Taken()).timer(
                Take("another"), after=timedelta(0)
            )
        },
        "cannot be written: Flawed set a timer for 'another', but a timer is for its own instance",
    ),
    "decide records what cannot be read back": (
        {"decide": lambda self, now, state, command: accept(Added("one"))},  # type: ignore[arg-type]  # the flaw
        "Flawed: the event Added(number='one') cannot be stored and read back: ",
    ),
    "decide asks for an effect that cannot be read back": (
        {"decide": lambda self, now, state, command: accept(Taken()).effect(Ring(7))},  # type: ignore[arg-type]  # the flaw
        "Flawed: the effect Ring(text=7) cannot be stored and read back: ",
    ),
    "decide sets a timer that cannot be read back": (
        {
            "decide": lambda self, now, state, command: accept(Taken()).timer(
                Put(command.jar, 99), after=timedelta(0)
            )
        },
        "number=99), cannot be stored and read back: ",
    ),
    "evolve changes the state": (
        {"evolve": _evolve_in_place},
        "Flawed.evolve changed the state that it was given; it must leave it alone and return a new one.",
    ),
    "evolve does not know every event": (
        {"evolve": _evolve_partly},
        (
            "Flawed.evolve raised AttributeError: 'Taken' object has no attribute 'number'. "
            "It must accept every event in every state"
        ),
    ),
    "evolve does not know every event in every state": (
        {"evolve": _evolve_not_everywhere},
        "Flawed.evolve raised IndexError: list index out of range. It must accept every event in every state",
    ),
    "evolve is not deterministic": (
        {"evolve": _evolve_at_random},
        "Flawed.evolve is not deterministic: the same state and event gave two states.",
    ),
    "the state is of another type": (
        {"evolve": _evolve_wrongly_typed},
        "Flawed: the state JarState(numbers=['one']) cannot be stored and read back: Expected `int`, got `str`",
    ),
    "the state cannot be stored": (
        {"evolve": _evolve_too_large},
        "cannot be stored and read back: can't serialize ints",
    ),
    "nothing is ever accepted": (
        {"decide": lambda self, now, state, command: reject("no")},
        "made-up commands, so next to nothing was checked: pass commands=... with a strategy",
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_each_flaw_is_found(flaw: str) -> None:
    """
    The message names the method and says what it must do.
    """
    methods, words = FLAWS[flaw]

    message, _ = story_of(flawed(**methods))

    assert words in message


def test_the_smallest_story_is_shown() -> None:
    """
    hypothesis tells the shortest way to the flaw: here three commands, the third of which is the one too many.
    """
    message, story = story_of(flawed(decide=_decide_and_raise))

    assert 3 == story.count("Put(") + story.count("Take(")
    assert "  state: JarState(numbers=[1, 1])" in message


def test_an_event_that_changes_on_its_way_is_found() -> None:
    """
    A set in a field of any type comes back as a list: the state after a restart would be another one.
    """

    class Marked(Event, frozen=True):
        marks: Any

    class Marking(Workflow[int, Put, Marked, Never]):
        type = "marking"
        key = "jar"

        def initial(self) -> int:
            return 0

        def evolve(self, state: int, event: Marked) -> int:
            return state + 1

        def decide(self, now: datetime, state: int, command: Put) -> Decision[Marked, Never]:
            return accept(Marked((1, 2)))

    message, _ = story_of(Marking)

    assert "the event Marked(marks=(1, 2)) is another one after it was stored and read back" in message


def test_a_state_that_changes_on_its_way_is_found() -> None:
    """
    A state that is not what its type says would be another one after a snapshot.
    """

    @dataclass
    class Loose:
        seen: Any

    class Leaving(Workflow[Loose, Put, Added, Never]):
        type = "leaving"
        key = "jar"

        def initial(self) -> Loose:
            return Loose(None)

        def evolve(self, state: Loose, event: Added) -> Loose:
            return Loose((event.number,))

        def decide(self, now: datetime, state: Loose, command: Put) -> Decision[Added, Never]:
            return accept(Added(command.number))

    message, _ = story_of(Leaving)

    assert "Leaving: the state is another one after it was stored and read back" in message


def test_a_workflow_that_remembers_is_found() -> None:
    """
    What a workflow keeps between calls is not in the log: the fold of the log is another state.
    """

    class Remembering(Jar):
        type = "remembering"
        total = 0

        def decide(
            self, now: datetime, state: JarState, command: Put | Take
        ) -> Decision[Added | Taken, Ring]:
            type(self).total += 1
            return accept(Added(self.total // 3))

    message, _ = story_of(Remembering)

    assert "Remembering.decide is not deterministic" in message


# -- what only a broken Holdfast would do


def test_a_command_that_is_recorded_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Were the handled commands forgotten, the check would say so.
    """
    monkeypatch.setattr(Actor, "remember", lambda self, command_id, handled: None)

    message, _ = story_of(Jar)

    assert "Jar: a command was recorded twice when it was handled again at once" == message


def test_a_command_that_is_recorded_twice_after_a_restart_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Also where only the log forgets them.
    """
    absorb_all = Actor.absorb_all

    def forgetful(self: Actor, tail: Sequence[tuple[int, bytes]]) -> None:
        absorb_all(self, tail)
        self.handled.clear()

    monkeypatch.setattr(Actor, "absorb_all", forgetful)

    message, _ = story_of(Jar)

    assert "Jar: a command was recorded twice when it was handled again after a restart" == message


def test_a_log_that_cannot_be_read_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What was written is read as another process would.
    """

    def broken(self: Actor, tail: Sequence[tuple[int, bytes]]) -> None:
        raise HistoryError

    monkeypatch.setattr(Actor, "absorb_all", broken)

    message, _ = story_of(Jar)

    assert message.startswith("Jar: its log cannot be read back: ")


@pytest.mark.parametrize(("share", "words"), [(0, "at once"), (1, "from a snapshot of record 1 on")])
def test_a_fold_that_comes_to_another_state_is_found(
    share: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    From the log alone, or from a snapshot on.
    """

    def start(definition: Definition, ref: Ref, snapshot: Snapshot | None) -> Actor:
        actor = actor_module.start(definition, ref, snapshot)
        if actor.seq == share:
            actor.state = JarState([*actor.state.numbers, 7])
        return actor

    monkeypatch.setattr("holdfast.runtime.testing.check.fold", refold(start))

    message, _ = story_of(Jar)

    assert f"Jar: folding the log {words} comes to another state than the commands did." in message


def refold(
    start: Callable[[Definition, Ref, Snapshot | None], Actor],
) -> Callable[[Definition, Opened], Actor]:
    """
    A fold that begins in its own way.
    """

    def fold(definition: Definition, opened: Opened) -> Actor:
        actor = start(definition, opened.ref, opened.snapshot)
        for seq, data in opened.tail:
            actor.absorb(seq, definition.entries.decode(data, "it"))
        return actor

    return fold


# -- what cannot be checked


def test_a_workflow_that_is_declared_wrongly_is_refused() -> None:
    """
    As at start-up.
    """
    with pytest.raises(WorkflowError, match=r"Flawed\.type is 'a b'"):
        check_workflow(type("Flawed", (Flawed,), {"type": "a b"}))


def test_without_hypothesis_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is needed for this check and nothing else of Holdfast.
    """
    monkeypatch.setitem(sys.modules, "hypothesis", None)

    with pytest.raises(SetupError, match="pip install hypothesis"):
        check_workflow(Jar)


class Sealed(Command, frozen=True):
    """
    A command with bytes that only its sender understands.
    """

    jar: str
    inside: msgspec.Raw


class Sealing(Workflow[int, Sealed, Added, Never]):
    """
    A workflow of which no command can be made up.
    """

    type = "sealing"
    key = "jar"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Added) -> int:
        return state

    def decide(self, now: datetime, state: int, command: Sealed) -> Decision[Added, Never]:
        return accept(Added(1))


def test_a_field_that_cannot_be_made_up_is_named() -> None:
    """
    With the ways to hand in what can.
    """
    with pytest.raises(UsageError) as caught:
        check_workflow(Sealing)

    assert "Sealing: nothing is known about how to make up Sealed.inside" in str(caught.value)
    assert "pass types={that type: a strategy}, or your own commands=..." in str(caught.value)


def test_the_troublemaker_is_found_out() -> None:
    """
    The example of all misbehaviour does not pass.
    """
    with pytest.raises(AssertionError):
        check_workflow(Troublemaker, settings=FEW)


def test_coverage_begins_with_nothing() -> None:
    """
    It counts what happened.
    """
    assert (0, 0, 0, 0) == (
        Coverage().accepted.total(),
        Coverage().rejected.total(),
        Coverage().events.total(),
        Coverage().stories,
    )
