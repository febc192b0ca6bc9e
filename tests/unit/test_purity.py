"""
Functions that are not as they must be: `evolve` that returns no state, and either of the two changing what it was given.

Whatever they do, no later decision is made on a state that is not the fold of the log.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, Never, NewType, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest

from holdfast.runtime.app import App
from holdfast.runtime.codec import encode
from holdfast.runtime.decision import Decision, accept, reject
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HistoryError, WorkflowError
from holdfast.runtime.histories import check_log
from holdfast.runtime.immutable import is_immutable
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.message import Command, Event
from holdfast.runtime.ports import Delivery
from holdfast.runtime.record import Entry
from holdfast.runtime.workflow import Workflow
from holdfast.testing import check_workflow, given
from tests import controls
from tests.controls import PARTITIONS
from tests.unit.desk import Desk, sent

T = TypeVar("T")


class Put(Command, frozen=True):
    """
    Asks for something in a box, in some way.
    """

    box: str
    how: str = ""


class Added(Event, frozen=True):
    """
    Something is in the box.
    """

    how: str


class Contents(msgspec.Struct):
    """
    What is in a box. It may change.
    """

    things: list[str]
    by_name: dict[str, int] = {}


class Box(Workflow[Contents, Put, Added, Never]):
    """
    Changes its state in the way that it is told to.
    """

    type = "box"
    key = "box"

    def initial(self) -> Contents:
        return Contents([])

    def evolve(self, state: Contents, event: Added) -> Contents:
        match event.how:
            case "evolve a list":
                state.things.append(event.how)
                return state
            case "evolve a field":
                state.things = [*state.things, event.how]
                return state
            case "evolve and raise":
                state.things.clear()
                raise ValueError("too late")
            case "evolve to nothing":
                return None  # type: ignore[return-value]  # the mistake
            case "evolve to the event":
                return event  # type: ignore[return-value]  # the mistake
        return Contents([*state.things, event.how], state.by_name)

    def decide(self, now: datetime, state: Contents, command: Put) -> Decision[Added, Never]:
        match command.how:
            case "decide a list":
                state.things.append("loot")
            case "decide a dict":
                state.by_name["loot"] = 1
            case "decide and reject":
                state.things.clear()
                return reject("and nobody saw it")
            case "decide and raise":
                state.things.clear()
                raise ValueError("too late")
            case "decide once":
                if state.things and state.things[-1] != "loot":
                    state.things.append("loot")
                    raise ValueError("once")
            case "evolve twice":
                return accept(Added("a"), Added("evolve a list"))
        return accept(Added(command.how))

    def is_terminal(self, state: Contents) -> bool:
        if state.things[-1:] == ["end in place"]:
            state.things.append("")
        return False


REMEDY = "msgspec.structs.replace(state, ...)"
IN_PLACE = {
    "decide a list": "Box.decide changed the state that it was given",
    "decide a dict": "Box.decide changed the state that it was given",
    "decide and reject": "Box.decide changed the state that it was given",
    "decide once": "Box.decide changed the state that it was given",
    "evolve a list": "Box.evolve changed the state that it was given",
    "evolve a field": "Box.evolve changed the state that it was given",
}
RAISING = {"decide and raise": "ValueError: too late", "evolve and raise": "ValueError: too late"}


def box(key: str = "b") -> Ref:
    """
    The address of a box.
    """
    return Ref(partition_of("box", key, PARTITIONS), "box", key)


def put(how: str, command_id: str, workflow: str = "box") -> Delivery:
    """
    A command for the box, as the transport hands it out.
    """
    return sent(Put("b", how), command_id, workflow=workflow, key="b")


def desk() -> Desk:
    """
    A worker with boxes.
    """
    return Desk(App(workflows=[Box]))


# -- the worker


@pytest.mark.parametrize("how", IN_PLACE | RAISING)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "three batches"])
def test_what_was_changed_in_place_never_counts(how: str, together: bool) -> None:
    """
    The command is a dead letter, and the next one is decided on the fold of the log, in the same batch too.
    """
    worker = desk()
    commands = [put(what, f"c-{number}") for number, what in enumerate(("one", how, "two"), 1)]

    results = [worker.run(*commands)] if together else [worker.run(one) for one in commands]

    (letter,) = [letter for result in results for letter in result.dead]
    if how in IN_PLACE:
        assert letter.error.startswith(f"WorkflowError: {IN_PLACE[how]}")
        assert "frozen=True" in letter.error
        assert REMEDY in letter.error
    else:
        assert RAISING[how] == letter.error
    assert ["c-1", "c-3"] == worker.commands(box())
    cached = worker.turn.cache.get(box())
    assert cached is None or Contents(["one", "two"]) == cached.state
    assert Contents(["one", "two"]) == worker.state(box())


def test_a_new_state_may_be_changed_while_it_is_made() -> None:
    """
    A later event of the same decision may build on what the one before made: nobody else has it.
    """
    worker = desk()

    result = worker.run(put("evolve twice", "c-1"), put("x", "c-2"))

    assert () == tuple(result.dead)
    assert Contents(["a", "evolve a list", "x"]) == worker.state(box())


def test_a_state_that_cannot_be_stored_is_not_compared() -> None:
    """
    As before, its snapshots fail, and its log goes on.
    """

    class Loose(Box):
        type = "loose"

        def evolve(self, state: Contents, event: Added) -> Contents:
            return Contents([*state.things, object()])  # type: ignore[list-item]  # the mistake

    worker = Desk(App(workflows=[Loose]))

    result = worker.run(*(put("x", f"c-{number}", "loose") for number in range(3)))

    assert (3, ()) == (result.accepted, tuple(result.dead))


def test_a_state_that_cannot_be_read_back_is_folded_anew() -> None:
    """
    What a state was that is not of its type is only known to the log; commands behind it wait for that.
    """

    class Mistyped(Box):
        type = "mistyped"

        def evolve(self, state: Contents, event: Added) -> Contents:
            return Contents([*state.things, 5])  # type: ignore[list-item]  # the mistake

    worker = Desk(App(workflows=[Mistyped]))
    hows = ("x", "decide a list", "y", "decide a dict", "decide and raise", "z")

    result = worker.run(*(put(how, f"c-{number}", "mistyped") for number, how in enumerate(hows)))

    assert (3, 3) == (result.accepted, len(result.dead))
    assert "Mistyped.evolve changed" in result.dead[0].error
    actor = worker.turn.cache.get(Ref(partition_of("mistyped", "b", PARTITIONS), "mistyped", "b"))
    assert actor is None or [5, 5, 5] == list[object](actor.state.things)


def test_a_second_plan_begins_with_the_state_as_it_was() -> None:
    """
    Where a unique key was taken, the whole mailbox is decided again.
    """

    class Numbered(Box):
        type = "numbered"

        def decide(self, now: datetime, state: Contents, command: Put) -> Decision[Added, Never]:
            if command.how != "count":
                return super().decide(now, state, command)
            return accept(Added(f"{len(state.things)} before"))

        def unique_key(self, state: Contents) -> str | None:
            return "one" if "key" in state.things else None

    worker = Desk(App(workflows=[Numbered]))
    worker.run(sent(Put("a", "key"), "c-0", workflow="numbered", key="a"))
    hows = ("decide a list", "key", "count")

    result = worker.run(*(put(how, f"c-{number}", "numbered") for number, how in enumerate(hows)))

    assert (1, 1, 1) == (result.accepted, result.rejected, len(result.dead))
    assert Contents(["0 before"]) == worker.state(
        Ref(partition_of("numbered", "b", PARTITIONS), "numbered", "b")
    )


def test_a_question_that_changes_the_state_is_found() -> None:
    """
    Where `evolve` returned what it was given, `is_terminal` and `unique_key` get hold of it.
    """

    class Same(Box):
        type = "same"

        def evolve(self, state: Contents, event: Added) -> Contents:
            return state

        def is_terminal(self, state: Contents) -> bool:
            state.things.append("asked")
            return False

    with pytest.raises(WorkflowError, match=r"Same\.is_terminal or .*Same\.unique_key changed the state"):
        given(Same).when(Put("b"))


# -- what is no state


@pytest.mark.parametrize(("how", "what"), [("nothing", "None"), ("the event", "Added")])
def test_what_is_no_state_is_not_committed(how: str, what: str) -> None:
    """
    An `evolve` that forgets its return makes a dead letter of the command, and the instance lives on.
    """
    worker = desk()

    result = worker.run(put("one", "c-1"), put(f"evolve to {how}", "c-2"), put("", "c-3"))

    sentence = f"Box.evolve returned {what} for Added; it must return a Contents"
    assert [f"WorkflowError: {sentence}"] == [letter.error for letter in result.dead]
    assert ["c-1", "c-3"] == worker.commands(box())
    with pytest.raises(WorkflowError) as caught:
        given(Box).when(Put("b", f"evolve to {how}"))
    assert sentence == str(caught.value)


def test_a_stored_log_that_leads_to_no_state_says_so() -> None:
    """
    With the record that it stopped at.
    """
    with pytest.raises(
        HistoryError,
        match=r"Box\.evolve returned None for Added; it must return a Contents.* record 2 of box/",
    ):
        given(Box, Added("one"), Added("evolve to nothing"))


def test_a_history_that_leads_to_no_state_differs() -> None:
    """
    `holdfast check-histories` names the record and the event.
    """
    entries = [
        (seq, encode(Entry(f"c-{seq}", "Put", 0, 1, (Added(how),))))
        for seq, how in enumerate(("one", "evolve to nothing"), 1)
    ]

    found = check_log(Definition(Box), box(), entries, None, 2)

    assert found is not None
    assert (2, "Added") == (found.seq, found.event)
    assert "evolve failed: Box.evolve returned None for Added; it must return a Contents" == found.what


def test_a_made_up_event_that_leads_to_no_state_is_found() -> None:
    """
    By the check of a whole workflow, whether a command leads to the event or not.
    """

    class Forgetful(Box):
        type = "forgetful"

        def decide(self, now: datetime, state: Contents, command: Put) -> Decision[Added, Never]:
            return accept(Added("known"))

        def evolve(self, state: Contents, event: Added) -> Contents:
            if event.how == "known":
                return Contents([])
            return None  # type: ignore[return-value]  # the mistake

    with pytest.raises(
        AssertionError, match=r"Forgetful\.evolve returned None for Added; it must return a Contents"
    ):
        check_workflow(Forgetful)


class Color(enum.Enum):
    """
    One of two.
    """

    RED = 1
    BLUE = 2


class Frozen(msgspec.Struct, frozen=True):
    """
    As a state should be.
    """

    number: int = 0


class Amended(TypedDict):
    """
    A dict with known keys.
    """

    number: int


UserId = NewType("UserId", int)

STATES: dict[str, tuple[Any, Any, list[Any], str]] = {
    "struct": (Frozen, Frozen(), [None, 1, Added("x")], "a Frozen"),
    "annotated": (Annotated[int, msgspec.Meta(ge=0)], 0, [None, "0"], "an int"),
    "number": (float, 0, [None, "0"], "a float or int"),
    "mapping": (dict[str, int], {}, [None, []], "a dict"),
    "keyed": (Amended, {"number": 1}, [None, []], "a dict"),
    "one of": (Frozen | int, 1, [None, "1"], "a Frozen or int"),
    "one of none": (Frozen | None, None, [1], "a Frozen or None"),
    "enum": (Color, Color.RED, [None, 1], "a Color"),
}


@pytest.mark.parametrize("kind", STATES)
def test_the_class_of_a_state_is_known(kind: str) -> None:
    """
    Whatever a state may be declared as.
    """
    declared, right, wrong, words = STATES[kind]
    answers = [right, *wrong]

    class Any_(Workflow[declared, Put, Added, Never]):  # type: ignore[valid-type]  # each in its turn
        type = "any"
        key = "box"

        def initial(self) -> Any:
            return right

        def evolve(self, state: Any, event: Added) -> Any:
            return answers[int(event.how)]

        def decide(self, now: datetime, state: Any, command: Put) -> Decision[Added, Never]:
            return accept(Added(command.how))

    given(Any_).when(Put("b", "0")).then_state(right)
    for number in range(1, len(answers)):
        with pytest.raises(WorkflowError, match=rf"must return {words}$"):
            given(Any_).when(Put("b", str(number)))


@pytest.mark.parametrize("declared", [Any, Literal["a", "b"], Frozen | Literal["a"]], ids=str)
def test_where_a_state_has_no_class_anything_goes(declared: Any) -> None:
    """
    What cannot be stored is found elsewhere.
    """

    class Free(Workflow[declared, Put, Added, Never]):
        type = "free"
        key = "box"

        def initial(self) -> Any:
            return "a"

        def evolve(self, state: Any, event: Added) -> Any:
            return None

        def decide(self, now: datetime, state: Any, command: Put) -> Decision[Added, Never]:
            return accept(Added(command.how))

    given(Free).when(Put("b")).then_state(None)


# -- what can change


class Deep(msgspec.Struct, frozen=True):
    """
    Holds itself.
    """

    below: tuple["Deep", ...] = ()
    names: frozenset[str] = frozenset()


class Leaky(msgspec.Struct, frozen=True):
    """
    Is frozen, but what it has is not.
    """

    inner: tuple[list[int], ...] = ()


class Holder(msgspec.Struct, Generic[T], frozen=True):
    """
    Has whatever it is said to have.
    """

    held: T


@dataclasses.dataclass(frozen=True)
class Still:
    """
    A dataclass that cannot change.
    """

    at: datetime


@dataclasses.dataclass
class Moving:
    """
    A dataclass that can.
    """

    at: datetime


class Pair(NamedTuple):
    """
    A tuple with names.
    """

    left: int
    right: str | None


class Slack(NamedTuple):
    """
    A tuple with something in it that can change.
    """

    items: set[int]


@pytest.mark.parametrize(
    "kind",
    [
        *(int, str, bool, float, bytes, None, datetime, timedelta, UUID, Decimal, Color),
        *(Literal["a", 1], int | None, Annotated[int, msgspec.Meta(ge=0)], UserId),
        *(tuple[int, ...], tuple[int, str], frozenset[str], Frozen, Deep, Still, Pair, Holder[int]),
        *(Frozen | int | None, controls.OrderState),
    ],
    ids=str,
)
def test_what_cannot_change_costs_nothing(kind: Any) -> None:
    """
    Whatever is in it.
    """
    assert is_immutable(kind)


@pytest.mark.parametrize(
    "kind",
    [
        *(Any, list, dict, set, bytearray, memoryview, list[int], dict[str, int], set[int]),
        *(Sequence[int], Mapping[str, int], Contents, Leaky, Moving, Slack, Amended, Holder[list[int]]),
        *(tuple[list[int], ...], tuple[int, dict[str, int]], Moving | None, msgspec.msgpack.Ext),
    ],
    ids=str,
)
def test_what_may_change_is_watched(kind: Any) -> None:
    """
    Wherever in it that may be.
    """
    assert not is_immutable(kind)


def test_a_state_that_cannot_change_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Watching costs two encodings a command, and nothing where there is nothing to watch.
    """
    encoded: list[Any] = []

    def encode(value: Any) -> bytes:
        encoded.append(value)
        return msgspec.msgpack.encode(value)

    monkeypatch.setattr("holdfast.runtime.plan.encode", encode)

    def states(kind: type) -> int:
        return sum(isinstance(value, kind) for value in encoded)

    desk().run(put("x", "c-1"))
    watched = states(Contents)
    Desk(App(workflows=[controls.Order])).run(
        sent(controls.PlaceOrder("o-1", 5), "c-1", workflow="order", key="o-1")
    )

    assert (2, 0) == (watched, states(controls.OrderState))
