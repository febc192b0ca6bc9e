"""
Errors: the tree in the docstring is the tree in the code.
"""

import re

import pytest

from holdfast.runtime import errors
from holdfast.runtime.errors import HoldfastError, message_of
from tests.unit.trouble import Unspeakable

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, HoldfastError)
]


def drawn() -> dict[str, str | None]:
    """
    From each error in the drawing to the one above it.
    """
    found: dict[str, str | None] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(
            r"    (?P<branches>(?:[│ ]   )*(?:[├└]── )?)(?P<name>[A-Z]\w+)(?: {2,}\S.*)?", line
        )
        if match:
            depth = len(match["branches"]) // 4
            above[depth:] = [match["name"]]
            found[match["name"]] = above[depth - 1] if depth else None
    return found


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
    """
    Every class is in the drawing, under the class that it inherits from.
    """
    base = {HoldfastError: None}

    assert {kind.__name__: base.get(kind, kind.__bases__[0].__name__) for kind in CLASSES} == drawn()


@pytest.mark.parametrize("kind", CLASSES)
def test_the_first_line_of_the_docstring_is_the_default_message(kind: type[HoldfastError]) -> None:
    """
    An error that is raised without a word says what it is.
    """
    assert (kind.__doc__ or "").strip().splitlines()[0] == str(kind())
    assert str(kind()).endswith(".")


@pytest.mark.parametrize("kind", CLASSES)
def test_a_message_of_its_own_comes_first(kind: type[HoldfastError]) -> None:
    """
    What is said where it is raised counts.
    """
    assert "something else" == str(kind("something else"))


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not HoldfastError])
def test_every_error_has_one_parent(kind: type[HoldfastError]) -> None:
    """
    Who must act is a question with one answer.
    """
    assert 1 == len(kind.__bases__)


def test_every_error_has_a_message() -> None:
    """
    Also one that raises when it is asked for it.
    """
    assert ["no", "its message cannot be told: LookupError"] == [
        message_of(ValueError("no")),
        message_of(Unspeakable()),
    ]
