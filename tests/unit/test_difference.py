"""
The difference between two values, for people.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from holdfast.runtime.testing.difference import difference, same
from tests.controls import OrderPaid, OrderPlaced, OrderState


@dataclass(eq=False)
class Alike:
    """
    Two of these are never equal.
    """

    number: int


class Plain(msgspec.Struct, eq=False):
    """
    Nor are two of these.
    """

    number: float


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1, True),
        (OrderPaid(), OrderPaid(), True),
        (OrderPlaced(1), OrderPlaced(2), False),
        (Alike(1), Alike(1), True),
        (Alike(1), Alike(2), False),
        (Plain(float("nan")), Plain(float("nan")), True),
        (float("nan"), float("nan"), True),
        (object(), object(), False),
        ([1], (1,), False),
        ([float("nan"), 1], [float("nan"), 1], True),
        ([float("nan"), 1], [float("nan"), 2], False),
        ([float("nan")], [float("nan"), 1], False),
        ({"a": Alike(1)}, {"a": Alike(1)}, True),
        ({"a": Alike(1)}, {"b": Alike(1)}, False),
        (Alike([(Plain(1.0),)]), Alike([(Plain(1.0),)]), True),  # type: ignore[arg-type]  # anything goes
        (1, 1.0, True),
        ({1, 2, 3}, {3, 2, 1}, True),
    ],
)
def test_values_are_the_same_if_they_are_equal_or_alike_in_every_part(
    one: Any, other: Any, expected: bool
) -> None:
    """
    A class without equality is judged by its fields, and the number that equals nothing equals itself.
    """
    assert expected == same(one, other)


def test_short_values_stay_on_a_line() -> None:
    """
    A list of events reads as a list of events.
    """
    assert "  - OrderPlaced(amount=1)\n    OrderPaid()" == difference(
        [OrderPlaced(1), OrderPaid()], [OrderPaid()]
    )


def test_long_values_are_spread() -> None:
    """
    So that the field that parts is a line of its own.
    """
    one, other = OrderState("a" * 100, 1), OrderState("a" * 100, 2)

    assert (
        "    OrderState(\n"
        f"        status='{'a' * 100}',\n"
        "  -     amount=1,\n"
        "  ?            ^\n"
        "  +     amount=2,\n"
        "  ?            ^\n"
        "    )"
    ) == difference([one], [other])


def test_long_values_within_values_are_spread_as_well() -> None:
    """
    However deep.
    """
    long = {"a": ["x" * 60, {"b": (1, "y" * 60)}], "c": Alike(1)}

    assert (
        "    {\n"
        "        'a': [\n"
        f"            '{'x' * 60}',\n"
        f"            {{'b': (1, '{'y' * 60}')}},\n"
        "        ],\n"
        "  -     'c': Alike(number=1),\n"
        "  ?                       ^\n"
        "  +     'c': Alike(number=2),\n"
        "  ?                       ^\n"
        "    }"
    ) == difference([long], [long | {"c": Alike(2)}])


def test_values_that_read_alike_are_called_so() -> None:
    """
    A difference that cannot be seen is said.
    """
    text = difference([Alike(1)], [Alike(1)])

    assert text.startswith("  the two read alike but are not equal")
    assert text.endswith("  Alike(number=1)")


def test_much_text_is_compared_by_line() -> None:
    """
    Marking characters in thousands of lines would take minutes.
    """
    wanted = [OrderPlaced(n) for n in range(5_000)]

    text = difference(wanted, [*wanted[:2_500], OrderPaid(), *wanted[2_501:]])

    assert "  -OrderPlaced(amount=2500)\n  +OrderPaid()" in text
    assert len(text) < 1_000


@pytest.mark.parametrize("empty", [[], (), {}, OrderPaid()])
def test_empty_values_are_written_in_one(empty: Any) -> None:
    """
    Nothing to spread.
    """
    assert f"  - {empty!r}" == difference([empty], [], spread=True)
