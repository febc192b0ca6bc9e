"""
Declaring a workflow: every mistake is found when the app is made, and the message names the class and the field.
"""

import dataclasses
import functools
import types
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Generic, Never, NewType, TypeVar
from uuid import UUID

import msgspec
import pytest

from holdfast.runtime.app import App
from holdfast.runtime.decision import Decision, accept, reject
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import KeyRefused, WorkflowError
from holdfast.runtime.message import Command, Effect, Event
from holdfast.runtime.retention import Retention
from holdfast.runtime.workflow import Upcaster, Workflow
from tests import controls
from tests.unit import riches


class Go(Command, frozen=True):
    """
    A command as it should be.
    """

    id: str


class Went(Event, frozen=True):
    """
    An event as it should be.
    """


class Call(Effect, frozen=True):
    """
    An effect as it should be.
    """


class Body:
    """
    What every workflow here does: nothing.
    """

    type: ClassVar[str] = "trip"
    key: ClassVar[str] = "id"

    def initial(self) -> Any:
        return 0

    def evolve(self, state: Any, event: Any) -> Any:
        return state

    def decide(self, now: datetime, state: Any, command: Any) -> Decision[Any, Any]:
        return accept(Went())


def declared(
    state: Any = int,
    commands: Any = Go,
    events: Any = Went,
    effects: Any = Never,
    /,
    **attributes: Any,
) -> type[Workflow[Any, Any, Any, Any]]:
    """
    A workflow class called Trip with these types and attributes.
    """
    base: Any = Workflow
    namespace = {name: value for name, value in attributes.items() if value is not ...}
    left_out = {name for name, value in attributes.items() if value is ...}
    body = {name: value for name, value in vars(Body).items() if name[:2] != "__" and name not in left_out}

    bases = (base[state, commands, events, effects],)
    made: type[Workflow[Any, Any, Any, Any]] = types.new_class(
        "Trip", bases, {}, lambda made: made.update(body | namespace)
    )
    return made


def refused(workflow: Any) -> str:
    """
    The sentence with which an app of this workflow is refused.
    """
    with pytest.raises(WorkflowError) as caught:
        App(workflows=[workflow])
    return str(caught.value)


def test_a_workflow_as_it_should_be_is_accepted() -> None:
    """
    The example that the mistakes below are made in.
    """
    definition = Definition(declared(int, Go, Went, Call))

    assert ("Trip", "trip", {"Go": Go}, (Went,), (Call,)) == (
        definition.name,
        definition.type,
        definition.commands.by_tag,
        definition.event_classes,
        definition.effect_classes,
    )


# -- the class


@pytest.mark.parametrize("thing", [None, "order", Go, Go("t-1"), object, int, lambda: None])
def test_what_is_no_workflow_class_is_refused(thing: Any) -> None:
    """
    An app takes classes.
    """
    assert "is no Workflow class; give the class itself, such as App(workflows=[Order])" in refused(thing)


def test_an_instance_of_a_workflow_is_refused() -> None:
    """
    The class is wanted, not an object of it.
    """
    assert "is no Workflow class; give the class itself" in refused(controls.Order())


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (("initial",), "Trip does not define initial"),
        (("evolve",), "Trip does not define evolve"),
        (("decide",), "Trip does not define decide"),
        (("initial", "decide", "evolve"), "Trip does not define decide, evolve, initial"),
    ],
)
def test_missing_methods_are_named(missing: tuple[str, ...], words: str) -> None:
    """
    All of them at once.
    """
    assert words == refused(declared(**dict.fromkeys(missing, ...)))


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"type": ...}, 'Trip needs a class attribute `type`, such as type = "order"'),
        ({"type": None}, 'Trip needs a class attribute `type`, such as type = "order"'),
        ({"key": ...}, 'Trip needs a class attribute `key`, such as key = "order_id"'),
        ({"key": lambda command: command.id}, 'Trip needs a class attribute `key`, such as key = "order_id"'),
        ({"state_version": "2"}, "Trip.state_version is '2'; it must be a whole number"),
        ({"state_version": True}, "Trip.state_version is True; it must be a whole number"),
        ({"state_version": None}, "Trip.state_version is None; it must be a whole number"),
        ({"state_version": 1 << 64}, "Trip.state_version is 18446744073709551616; it must be a whole number"),
        (
            {"keep_records": True},
            "Trip.keep_records is True; it must be a number of records, or None for all",
        ),
        ({"keep_records": -1}, "Trip.keep_records is -1; it must be a number of records, or None for all"),
        ({"keep_records": "9"}, "Trip.keep_records is '9'; it must be a number of records, or None for all"),
        (
            {"retention": timedelta(days=1)},
            "Trip.retention is datetime.timedelta(days=1); write retention = Retention(completed=timedelta(days=90))",
        ),
        (
            {"retention": Retention},
            "Trip.retention is the class Retention; write retention = Retention(completed=timedelta(days=90))",
        ),
        (
            {"pause_on_dead_letter": "no"},
            "Trip.pause_on_dead_letter is 'no'; write pause_on_dead_letter = True",
        ),
        ({"observe_inputs": None}, "Trip.observe_inputs is None; write observe_inputs = True"),
        ({"upcasters": None}, "Trip.upcasters is None; it must be a mapping from old types to functions"),
    ],
)
def test_missing_and_wrong_attributes_are_named(attributes: dict[str, Any], words: str) -> None:
    """
    With an example where one helps.
    """
    assert words == refused(declared(**attributes))


@pytest.mark.parametrize("name", ["", "1st", "a b", "a/b", "a:b", "{a}", "ä", "a" * 65, "a\n", "-a", ".a"])
def test_a_type_that_cannot_be_part_of_keys_and_queues_is_refused(name: str) -> None:
    """
    The type is a name in Redis, RabbitMQ and every record.
    """
    assert f"Trip.type is {name!r}; it must be 1 to 64 letters, digits" in refused(declared(type=name))


@pytest.mark.parametrize("name", ["a", "Order", "order-2", "shop.order_v2", "a" * 64])
def test_types_as_people_write_them_are_accepted(name: str) -> None:
    """
    Letters, digits, dots, dashes and underscores, after a letter.
    """
    assert name == Definition(declared(type=name)).type


def test_a_workflow_without_its_types_is_refused() -> None:
    """
    The types of state and messages are in the class's brackets.
    """
    bare = type("Trip", (Workflow,), dict(vars(Body)))

    assert "Trip must inherit from Workflow[State, Commands, Events, Effects]" == refused(bare)


@pytest.mark.parametrize(("types", "count"), [(int, 1), ((int, Go, Went), 3), ((int, Go, Went, Call, Go), 5)])
def test_a_workflow_has_four_types(types: Any, count: int) -> None:
    """
    One that is left out is found where it is left out.
    """
    base: Any = Workflow
    with pytest.raises(
        WorkflowError, match=rf"takes 4 types, not {count}: Workflow\[State, Commands, Events, "
    ):
        base[types]


class Functions:
    """
    What a workflow's functions must not be.
    """

    async def decide(self, now: datetime, state: Any, command: Any) -> Any:
        """
        Answer once somebody waits for it.
        """

    def evolve(self, state: Any, event: Any) -> Any:
        """
        Return a generator.
        """
        yield state

    async def initial(self) -> Any:
        """
        Return an asynchronous generator.
        """
        yield 0

    def is_terminal(self) -> bool:
        """
        Take too little.
        """
        return False


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        (
            "decide",
            Functions.decide,
            "Trip.decide is async, but nobody awaits it; write def decide(self, now, state, command) without async",
        ),
        (
            "evolve",
            Functions.evolve,
            (
                "Trip.evolve has a yield, so that calling it runs nothing; it must return its result: "
                "write def evolve(self, state, event)"
            ),
        ),
        (
            "initial",
            Functions.initial,
            (
                "Trip.initial has a yield, so that calling it runs nothing; it must return its result: "
                "write def initial(self)"
            ),
        ),
        (
            "is_terminal",
            Functions.is_terminal,
            "Trip.is_terminal takes (), but is called with (state); write def is_terminal(self, state)",
        ),
        (
            "decide",
            lambda self, state, command: accept(Went()),
            (
                "Trip.decide takes (state, command), but is called with (now, state, command); "
                "write def decide(self, now, state, command)"
            ),
        ),
        (
            "evolve",
            lambda self, state, event, *, strict: state,
            (
                "Trip.evolve takes (state, event, *, strict), but is called with (state, event); "
                "write def evolve(self, state, event)"
            ),
        ),
        ("status", 7, "Trip.status is 7, which cannot be called; write def status(self, state)"),
        ("scrub", None, "Trip.scrub is None, which cannot be called; write def scrub(self, state)"),
        (
            "unique_key",
            "id",
            "Trip.unique_key is 'id', which cannot be called; write def unique_key(self, state)",
        ),
    ],
)
def test_a_function_of_another_form_is_refused(name: str, function: Any, words: str) -> None:
    """
    The message says how it is declared, how it is called, and what to write.
    """
    assert words == refused(declared(**{name: function}))


def wrapped(function: Any) -> Any:
    """
    A decorator that hands on what it gets.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def filling_in(function: Any) -> Any:
    """
    A decorator that adds an argument.
    """

    @functools.wraps(function)
    def wrapper(self: Any, state: Any, event: Any) -> Any:
        return function(self, state, event, "more")

    return wrapper


def test_decorated_functions_are_seen_as_they_are_called() -> None:
    """
    What is wrapped may take more than the wrapper, which may fill it in; less than it is handed on is a mistake.
    """
    Definition(declared(evolve=wrapped(lambda self, state, event: state)))
    Definition(declared(evolve=filling_in(lambda self, state, event, more: state)))
    Definition(declared(evolve=functools.lru_cache(lambda self, state, event: state)))
    Definition(declared(evolve=staticmethod(lambda state, event: state)))

    assert "Trip.evolve takes (state), but is called with (state, event)" in refused(
        declared(evolve=wrapped(lambda self, state: state))
    )


def test_a_workflow_that_cannot_be_made_is_refused() -> None:
    """
    Whatever it raises.
    """

    def __init__(self: object) -> None:
        raise KeyError("DATABASE")

    assert "Trip must be creatable without arguments: KeyError: 'DATABASE'" == refused(
        declared(__init__=__init__)
    )


def test_a_workflow_that_needs_arguments_is_refused() -> None:
    """
    It is made once, without any, and keeps nothing.
    """

    def __init__(self: object, database: str) -> None:
        pass

    assert "Trip must be creatable without arguments: " in refused(declared(__init__=__init__))


# -- the messages


class Stay(Command, frozen=True, tag="Go"):
    """
    Another command under the same name.
    """

    id: str


class Gone(Event, frozen=True, tag="Went"):
    """
    Another event under the same name.
    """


class Ring(Effect, frozen=True, tag="Call"):
    """
    Another effect under the same name.
    """


@pytest.mark.parametrize(
    ("types", "first", "second", "tag"),
    [
        ((int, Go | Stay, Went, Never), "Go", "Stay", "Go"),
        ((int, Go, Went | Gone, Never), "Went", "Gone", "Went"),
        ((int, Go, Went, Call | Ring), "Call", "Ring", "Call"),
    ],
)
def test_two_classes_under_one_tag_are_refused(
    types: tuple[Any, ...], first: str, second: str, tag: str
) -> None:
    """
    What is stored could not be told apart; the message names both classes and the way out.
    """
    message = refused(declared(*types))

    assert f"Trip: {__name__}.{first} and {__name__}.{second} are both stored as {tag!r}" in message
    assert f"give one of them another tag: class {second}(..., tag='...')" in message


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ((int, Never, Went, Never), "Trip has no command class"),
        ((int, None, Went, Never), "Trip has no command class"),
        ((int, Go, Never, Never), "Trip has no event class"),
        ((int, Went, Went, Never), "Trip: Went is used as command but is no Command class"),
        ((int, Go, Go, Never), "Trip: Go is used as event but is no Event class"),
        ((int, Go, Went, Went), "Trip: Went is used as effect but is no Effect class"),
        ((int, Go | Went, Went, Never), "Trip: Went is used as command but is no Command class"),
        ((int, str, Went, Never), "Trip: str is used as command but is no Command class"),
        ((int, Any, Went, Never), "Trip: Any is used as command but is no Command class"),
        ((int, list[Go], Went, Never), "Trip: list is used as command but is no Command class"),
        ((int, "Go", Went, Never), "is used as command but is no Command class"),
    ],
)
def test_classes_in_the_wrong_place_are_named(types: tuple[Any, ...], words: str) -> None:
    """
    With the place that they are used in.
    """
    assert words in refused(declared(*types))


class Thawed(Command, frozen=False):  # type: ignore[misc]  # the mistake
    """
    A command that may change.
    """

    id: str


class Listed(Command, frozen=True, array_like=True):
    """
    A command without field names.
    """

    id: str


class Kinded(Command, frozen=True, tag_field="kind"):
    """
    A command with its tag elsewhere.
    """

    id: str


class Untagged(Command, frozen=True, tag=False):
    """
    A command without a tag.
    """

    id: str


class Numbered(Command, frozen=True, tag=7):
    """
    A command with a number for a name.
    """

    id: str


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (Thawed, "Trip: Thawed must stay frozen; remove frozen=False"),
        (Listed, "Trip: Listed must keep the tag field `type` and must not be array_like"),
        (Kinded, "Trip: Kinded must keep the tag field `type` and must not be array_like"),
        (Untagged, "Trip: Untagged has the tag None; a message is stored under a name, so it must be text"),
        (Numbered, "Trip: Numbered has the tag 7; a message is stored under a name, so it must be text"),
    ],
)
def test_messages_in_another_form_are_refused(command: type[Command], words: str) -> None:
    """
    All messages are stored in the same form.
    """
    assert words == refused(declared(int, command))


class Odd:
    """
    A class that no codec knows.
    """


@dataclasses.dataclass
class Box:
    """
    Something with an odd thing in it.
    """

    odd: Odd


@dataclasses.dataclass
class Lid:
    """
    Something without an odd thing in it.
    """

    size: int


class Undefined(Command, frozen=True):
    """
    A command with a type that does not exist.
    """

    id: str
    what: "Nowhere"  # type: ignore[name-defined]  # noqa: F821 - the mistake


@pytest.mark.parametrize(
    "type_",
    [
        Odd,
        list[Odd],
        dict[str, Odd],
        Odd | None,
        tuple[int, Odd],
        Box,
        list[Box],
        complex,
        type,
        list[dict[str, set[Odd]]],
    ],
)
@pytest.mark.parametrize(("role", "base"), [(1, Command), (2, Event), (3, Effect)])
def test_a_field_that_cannot_be_stored_is_named(type_: Any, role: int, base: type[msgspec.Struct]) -> None:
    """
    With its class, and the type that is in the way, however deep.
    """
    fields: list[Any] = [("id", str), ("odd", type_)]
    message = msgspec.defstruct("Strange", fields, bases=(base,), frozen=True, tag="Strange")
    types: list[Any] = [int, Go, Went, Call]
    types[role] = message

    sentence = refused(declared(*types))

    assert sentence.startswith("Trip: Strange.odd cannot be stored: ")
    assert any(name in sentence for name in ("Odd", "complex", "type"))


def test_a_field_of_a_type_that_does_not_exist_is_named() -> None:
    """
    A slip in an annotation in quotes is found at once.
    """
    assert "Trip: the fields of Undefined cannot be read: name 'Nowhere' is not defined" == refused(
        declared(int, Undefined)
    )


def test_a_union_that_could_not_be_told_apart_is_refused() -> None:
    """
    Of two classes without a tag nobody knows which was stored.
    """
    both = msgspec.defstruct(
        "Both", [("id", str), ("one", riches.Coin | Lid)], bases=(Command,), frozen=True, tag="Both"
    )

    assert "Trip: Both.one cannot be stored: Type unions may not contain more than one dataclass" in refused(
        declared(int, both)
    )


@pytest.mark.parametrize("state", [Odd, list[Odd], Box, complex])
def test_a_state_that_cannot_be_stored_is_refused(state: Any) -> None:
    """
    Snapshots would fail after the five-hundredth record; now is better.
    """
    message = refused(declared(state, initial=lambda self: None))

    assert message.startswith("the state of Trip cannot be stored: ")


@pytest.mark.parametrize(
    ("initial", "words"),
    [
        (lambda self: "zero", "ValidationError: Expected `int`, got `str`"),
        (lambda self: None, "ValidationError: Expected `int`"),
        (lambda self: Odd(), "TypeError: Encoding objects of type Odd is unsupported"),
        (lambda self: 1 // 0, "ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_an_initial_state_that_is_none_is_refused(initial: Any, words: str) -> None:
    """
    Every command would stumble over it.
    """
    assert f"Trip.initial does not return a state that can be stored: {words}" in refused(
        declared(initial=initial)
    )


@pytest.mark.parametrize(
    "state",
    [int, str | None, dict[str, int], list[tuple[int, str]], riches.Coin, riches.Chest, Any, riches.Place],
)
def test_states_as_people_write_them_are_accepted(state: Any) -> None:
    """
    Structs, dataclasses, typed dictionaries, builtins.
    """
    examples: dict[Any, Any] = {
        int: 0,
        (str | None): None,
        dict[str, int]: {},
        list[tuple[int, str]]: [],
        riches.Coin: riches.Coin(riches.Metal.GOLD, 1),  # type: ignore[arg-type]  # a whole number is written the same
        riches.Chest: riches.Chest(riches.Size.SMALL, []),
        Any: [1],
        riches.Place: {"island": "a"},
    }

    Definition(declared(state, initial=lambda self: examples[state]))


def test_every_type_of_field_that_can_be_stored_is_accepted() -> None:
    """
    What the codec's tests send there and back is what the checks let pass.
    """
    assert riches.Treasure in Definition(riches.Riches).event_classes


# -- the key

OrderId = NewType("OrderId", str)


def keyed(type_: Any, name: str = "id") -> Any:
    """
    A command called Keyed with one field.
    """
    made: Any = msgspec.defstruct("Keyed", [(name, type_)], bases=(Command,), frozen=True, tag="Keyed")
    return made


@pytest.mark.parametrize("type_", [str, int, str | int, Annotated[str, msgspec.Meta(max_length=8)], OrderId])
def test_a_key_is_text_or_a_whole_number(type_: Any) -> None:
    """
    Constraints and new names of such types are welcome.
    """
    Definition(declared(int, keyed(type_)))


@pytest.mark.parametrize(
    "type_", [float, bool, bytes, UUID, str | None, list[str], Any, datetime, str | float]
)
def test_a_key_of_another_type_is_refused(type_: Any) -> None:
    """
    The message names the field and its type.
    """
    message = refused(declared(int, keyed(type_)))

    assert message.startswith("Trip.key names Keyed.id, which is ")
    assert message.endswith("; a key is str or int")


def test_a_command_without_the_key_is_named() -> None:
    """
    Every command of a workflow names its instance, and in the same way.
    """
    assert "Trip.key is 'id', but Keyed has no such field or method" == refused(
        declared(int, Go | keyed(str, "number"))
    )


class Worked(Command, frozen=True):
    """
    A command whose key is worked out.
    """

    first: str
    second: int

    def whole(self) -> str:
        """
        Both parts.
        """
        return f"{self.first}-{self.second}"


def test_a_method_may_be_the_key() -> None:
    """
    It is called on each command.
    """
    definition = Definition(declared(int, Worked, key="whole"))

    assert "a-7" == definition.key_of(Worked("a", 7))


class Slow(Command, frozen=True):
    """
    A command whose key nobody awaits, or nobody can ask for.
    """

    async def later(self) -> str:
        """
        Not now.
        """
        return "a"

    def part(self, number: int) -> str:
        """
        Not without a number.
        """
        return str(number)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (
            "later",
            "Trip.key names Slow.later, which is async, but nobody awaits it; write def later(self) without async",
        ),
        (
            "part",
            "Trip.key names Slow.part, which takes (self, number), but is called with (self); write def part(self)",
        ),
    ],
)
def test_a_method_that_cannot_be_the_key_is_refused(key: str, words: str) -> None:
    """
    The message names it and says why.
    """
    assert words == refused(declared(int, Slow, key=key))


@pytest.mark.parametrize(("command", "key"), [(Go("t-1"), "t-1"), (keyed(int)(7), "7")])
def test_the_key_of_a_command_is_text(command: Command, key: str) -> None:
    """
    A number is the text that it is written as.
    """
    assert key == Definition(declared(int, type(command))).key_of(command)


def test_a_key_that_is_refused_is_named() -> None:
    """
    With the class and the field that it is in.
    """
    with pytest.raises(KeyRefused, match=r"the key of Go\.id is empty"):
        Definition(declared()).key_of(Go(""))


# -- upcasters


def upcasting(upcasters: Mapping[Any, Any]) -> type[Workflow[Any, Any, Any, Any]]:
    """
    A workflow with these upcasters.
    """
    return declared(int, Go, Went, Call, upcasters=upcasters)


@pytest.mark.parametrize("tag", ["Go", "Went", "Call"])
def test_an_upcaster_on_a_live_tag_is_refused(tag: str) -> None:
    """
    It would never be called; the message says how to give the class a new tag.
    """
    upcaster: Upcaster = lambda old: old  # noqa: E731 - the mistake fits on a line

    message = refused(upcasting({tag: upcaster}))

    assert f"Trip.upcasters has {tag!r}, which a class of today is stored as" in message
    assert f"Give that class a new tag (tag='{tag}.2')" in message


def test_an_upcaster_that_cannot_be_called_is_refused() -> None:
    """
    The message names the tag, and says what it is called with.
    """
    assert (
        "Trip.upcasters['Old'] is {'type': 'Go'}, which cannot be called; write def upcast(old)"
        == refused(upcasting({"Old": {"type": "Go"}}))
    )


async def awaited(old: dict[str, Any]) -> dict[str, Any]:
    """
    An upcaster that nobody would wait for.
    """
    return old


@pytest.mark.parametrize(
    ("upcasters", "words"),
    [
        ({"Old": lambda: {"type": "Go"}}, "Trip.upcasters['Old'] takes (), but is called with (old)"),
        ({"Old": awaited}, "Trip.upcasters['Old'] is async, but nobody awaits it"),
        ({Go: lambda old: old}, "Trip.upcasters has the class Go; it goes by the old type as it is stored"),
    ],
)
def test_an_upcaster_is_a_function_of_the_old_message(upcasters: Any, words: str) -> None:
    """
    Under the name that the message is stored under.
    """
    assert words in refused(upcasting(upcasters))


# -- several workflows


def test_two_workflows_of_one_type_are_refused() -> None:
    """
    Their instances could not be told apart.
    """
    one, other = declared(), declared(int, keyed(str))
    other.__qualname__ = "Journey"

    with pytest.raises(WorkflowError, match="Trip and Journey both have the type 'trip'"):
        App(workflows=[one, other])


def test_a_command_of_two_workflows_is_refused() -> None:
    """
    A client could not tell where to send it.
    """
    other = declared(type="journey")
    other.__qualname__ = "Journey"

    with pytest.raises(WorkflowError, match="Go is a command of both Trip and Journey"):
        App(workflows=[declared(), other])


def test_an_app_without_workflows_is_refused() -> None:
    """
    There would be nothing to do.
    """
    with pytest.raises(
        WorkflowError, match=r"an app needs at least one workflow: App\(workflows=\[Order\]\)"
    ):
        App(workflows=[])


# -- what is allowed

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")
F = TypeVar("F")


def test_a_workflow_may_inherit_from_another() -> None:
    """
    The types are found in any of its bases.
    """

    class Longer(declared()):  # type: ignore[misc]  # made by hand
        type = "longer"

        def decide(self, now: datetime, state: Any, command: Any) -> Decision[Any, Any]:
            return reject("no")

    assert ({"Go": Go}, "longer") == (Definition(Longer).commands.by_tag, Definition(Longer).type)


def test_a_workflow_may_mix_in_others() -> None:
    """
    As long as one base says what the types are.
    """

    class Mixin(Generic[S]):
        pass

    class Mixed(Mixin[int], Body, Workflow[int, Go, Went, Never]):
        pass

    assert "trip" == Definition(Mixed).type


def test_nested_unions_are_flattened() -> None:
    """
    Names for parts of a union are welcome.
    """
    both = Go | keyed(str)

    assert ["Go", "Keyed", "Worked"] == sorted(Definition(declared(int, both | WithId)).commands.by_tag)


class WithId(Command, frozen=True, tag="Worked"):
    """
    One more.
    """

    id: str


def test_named_unions_are_understood() -> None:
    """
    `type Commands = A | B`, as Python writes it from 3.12 on.
    """
    alias = pytest.importorskip("typing_extensions").TypeAliasType("Commands", Go | WithId)

    assert ["Go", "Worked"] == sorted(Definition(declared(int, alias)).commands.by_tag)


# -- options that are not spelt as they are called


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("observe_input", True, "observe_inputs"),
        ("observes_inputs", True, "observe_inputs"),
        ("retention_", Retention(), "retention"),
        ("retentions", Retention(), "retention"),
        ("pause_on_deadletter", True, "pause_on_dead_letter"),
        ("keep_record", 5, "keep_records"),
        ("parked_maximum", 5, "parked_max"),
        ("stateversion", 2, "state_version"),
        ("upcaster", {}, "upcasters"),
    ],
)
def test_a_misspelt_option_is_refused(name: str, value: Any, meant: str) -> None:
    """
    It would have been passed over, and the option left as it is.
    """
    sentence = f"Trip.{name} is no option of a workflow; did you mean `{meant}`?"

    assert sentence == refused(declared(**{name: value}))


def test_a_misspelt_option_of_a_base_class_is_refused() -> None:
    """
    Wherever it is written.
    """
    base = declared(observe_input=True)

    class Sub(base):  # type: ignore[valid-type, misc]  # made above
        observe_inputs = False

    assert refused(Sub).endswith(
        "Sub.observe_input is no option of a workflow; did you mean `observe_inputs`?"
    )


def test_other_attributes_stay_allowed() -> None:
    """
    Those that resemble no option, methods, private ones, and those beside the option that they resemble.
    """
    allowed: dict[str, Any] = {
        "limit": 5,
        "types": ("a", "b"),
        "keys": ("a",),
        "_retention": 5,
        "retentions": lambda self: 5,
        "parked_maxi": property(lambda self: 5),
        "keep_records": 5,
        "keep_records_": 6,
    }

    assert "trip" == Definition(declared(**allowed)).type
