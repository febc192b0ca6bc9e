"""
Samples: messages that could be sent, always the same ones, for workflows to be tried with.
"""

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pytest

from holdfast.runtime.definition import Definition
from holdfast.runtime.exploration import explore
from holdfast.runtime.message import Command
from holdfast.runtime.samples import MESSAGES_MAX, lying_about, messages
from tests import controls
from tests.unit.riches import Bury, Riches, Treasure


class Choice(enum.Enum):
    LEFT = "left"
    RIGHT = "right"


class Choose(Command, frozen=True):
    """Asks for something of everything."""

    key: str
    which: Choice
    amount: int
    text: str
    perhaps: int | None = None
    usual: str = "as always"
    made: list[int] = msgspec.field(default_factory=lambda: [7])


class Picky(Command, frozen=True):
    """Refuses what no type tells."""

    key: str
    amount: int

    def __post_init__(self) -> None:
        if self.amount != 1:
            raise ValueError("only one")


class Locked(Command, frozen=True):
    """Nothing is known about how to make this up."""

    key: str
    code: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}-[0-9]+$")]


def test_every_kind_of_field_is_filled() -> None:
    """
    Whatever can be stored can be made up, within the limits of its type, and survives the codec.
    """
    found = list(messages(Treasure, "", ["ABC-12"]))

    assert len(found) > 10
    assert found == [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Treasure) for one in found]
    assert {"ABC-12"} == {one.code for one in found}


def test_the_key_is_the_same_in_all() -> None:
    """
    All messages are for one instance, whatever lies about.
    """
    assert {"example"} == {one.key for one in messages(Choose, "key", ["other", "another"])}


def test_choices_are_tried() -> None:
    """
    Every member of an Enum, what is there and what is not, and what the class itself would take.
    """
    found = list(messages(Choose, "key"))

    assert set(Choice) == {one.which for one in found}
    assert {None, 100} <= {one.perhaps for one in found}
    assert "as always" in {one.usual for one in found}
    assert [7] in [one.made for one in found]
    assert len(found) <= MESSAGES_MAX


def test_what_lies_about_comes_first() -> None:
    """
    A value of the state is tried before what is made up, where its type fits.
    """
    found = list(messages(Choose, "key", ["word", 42, b"bytes"]))

    assert (42, "word") == (found[0].amount, found[0].text)


def test_what_a_class_refuses_is_left_out() -> None:
    """
    A check of the class's own is no mistake; what cannot be made up at all is not.
    """
    assert {1} == {one.amount for one in messages(Picky, "key")}
    assert [] == list(messages(Locked, "key"))
    assert [Locked("example", "XYZ-1")] == list(messages(Locked, "key", ["nothing", "XYZ-1"]))


def test_samples_are_always_the_same() -> None:
    """
    Nothing is left to chance.
    """
    assert list(messages(Treasure, "", ["ABC-12"])) == list(messages(Treasure, "", ["ABC-12"]))


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (5, [5, 6, 4]),
        ("word", ["word"]),
        (True, []),
        (None, []),
        (Choice.LEFT, []),
        ([Point(1)], [1, 2, 0]),
        ({"a": (b"b",)}, ["a", b"b"]),
        (controls.OrderState("placed", 7), ["placed", 7, 8, 6]),
        (controls.NOW, [controls.NOW]),
        (timedelta(1), [timedelta(1)]),
        (object(), []),
    ],
)
def test_what_lies_about_is_found(state: Any, expected: list[Any]) -> None:
    """
    The plain values within anything that a state can be, with the neighbours of numbers.
    """
    assert expected == list(lying_about(state))


def test_a_state_within_a_state_within_a_state_ends() -> None:
    """
    However deep a state is, looking through it comes to an end.
    """
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]

    assert [] == list(lying_about(deep))


def test_what_raises_leads_nowhere() -> None:
    """
    A workflow that breaks on what is made up is drawn with what is left: here nothing.
    """
    machine = explore(Definition(Riches))

    assert ((), ("Bury", "Treasure")) == (machine.transitions, machine.unseen)
    assert Bury("example") in list(messages(Bury, "island"))
