"""
Text of unknown origin, as it reaches a terminal or a log file.
"""

from hypothesis import given
from hypothesis import strategies as st

from holdfast.runtime.printable import printable, printable_bytes, printable_lines


@given(st.text())
def test_text_is_safe_to_show(text: str) -> None:
    """
    No control, direction or invisible character is left, and ordinary text stays as it is.
    """
    shown = printable(text)

    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@given(st.binary())
def test_bytes_are_safe_to_show(data: bytes) -> None:
    """
    Any bytes at all become text that can be shown.
    """
    assert printable_bytes(data).isprintable()


def test_bytes_are_shown_without_doubt() -> None:
    r"""
    What was a byte \xff and what was a backslash and letters can be told apart.
    """
    assert printable_bytes(b"\xff") == r"\xff"
    assert printable_bytes(rb"\xff") == r"\\xff"
    assert printable_bytes("Grüße\n".encode()) == r"Grüße\n"


@given(st.lists(st.text(st.characters(exclude_characters="\n"))))
def test_lines_stay_lines(lines: list[str]) -> None:
    """
    A line break of a text that has several is kept, and nothing else that is not simply shown.
    """
    shown = printable_lines("\n".join(lines)).split("\n")

    assert shown == [printable(line) for line in lines or [""]]
