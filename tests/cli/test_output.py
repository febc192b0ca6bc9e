"""
What is printed, for people and for programs.
"""

import io
import sys
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Event
from holdfast.cli import output


class Colour(Enum):
    RED = "red"


class Painted(Event, frozen=True):
    colour: Colour
    layers: tuple[int, ...] = ()


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_is_safe_to_show_and_still_json(value: Any) -> None:
    """
    What a terminal would obey is escaped in a way that JSON undoes.
    """
    shown = output.compact(value)

    assert not any(char in shown for char in "\x1b\x7f\x9b\u202e\u2066\n")
    assert value == msgspec.json.decode(shown)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x00\xff", "AP8="),
        ({1: "one"}, {"1": "one"}),
        ({(1, 2): "pair"}, {"[1,2]": "pair"}),
        ({b"key": b"value"}, {"a2V5": "dmFsdWU="}),
        ([(1, 2), {3}, frozenset({4})], [[1, 2], [3], [4]]),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00Z"),
        (Decimal("1.10"), "1.10"),
        (UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (Painted(Colour.RED), {"type": "Painted", "colour": "red", "layers": []}),
        (None, None),
    ],
)
def test_whatever_a_state_holds_becomes_json(value: Any, expected: Any) -> None:
    """
    Nothing that msgspec can store makes --json fail.
    """
    assert expected == output.plain(value)
    assert expected == msgspec.json.decode(output.compact(output.plain(value)))


def test_a_message_is_one_line() -> None:
    """
    Its name and its fields.
    """
    assert output.message(Painted(Colour.RED, (1, 2))) == 'Painted colour="red" layers=[1,2]'


def test_nothing_is_cut_where_a_program_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A table in a pipe is as wide as it needs to be, and has no colours.
    """
    output.paper().print(output.table(("key", "value"), [("k" * 300, "[bold]v[/bold]")]))

    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["key", "value"]
    assert row.split() == ["k" * 300, "[bold]v[/bold]"]


def test_waiting_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A log file gets no animation.
    """
    terminal, file = _Terminal(), io.StringIO()
    for stream in (terminal, file):
        monkeypatch.setattr(sys, "stderr", stream)
        with output.waiting("reading \x1b the log"):
            pass

    assert "reading \\x1b the log" in terminal.getvalue()
    assert file.getvalue() == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
