"""
Dead letters: small enough to keep, with enough in them to act.
"""

import msgspec

from holdfast.runtime.dead_letter import TRACEBACK_CHARS_MAX, DeadLetter, sentence_of, traceback_of
from tests import controls


def raised(error: Exception) -> Exception:
    """
    An error as it is caught.
    """
    try:
        raise error
    except Exception as caught:
        return caught


def test_a_sentence_is_one_line() -> None:
    """
    The kind of error and its message, whatever line breaks were in it.
    """
    assert "ValueError: a b c" == sentence_of(ValueError("a\n  b\tc"))
    assert "ValueError" == sentence_of(ValueError())


def test_a_traceback_tells_where() -> None:
    """
    It ends with the error, and names the function that raised it.
    """
    text = traceback_of(raised(ValueError("no")))

    assert "in raised" in text
    assert text.endswith("ValueError: no\n")


def test_a_traceback_tells_the_cause() -> None:
    """
    What an error was raised from is in it.
    """
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as caught:
        text = traceback_of(caught)

    assert "KeyError: 'first'" in text
    assert "ValueError: second" in text


def test_a_long_traceback_keeps_its_end() -> None:
    """
    The last frames say enough, and a dead letter stays small.
    """
    text = traceback_of(raised(ValueError("x" * 100_000 + "end")))

    assert len(text) <= TRACEBACK_CHARS_MAX + 4
    assert text.startswith("...\n")
    assert text.endswith("end\n")


def test_a_dead_letter_comes_back() -> None:
    """
    Its body is kept byte for byte.
    """
    letter = controls.dead_letter(body=bytes(range(256)), history=("given up", "sent again"))

    assert letter == msgspec.msgpack.decode(msgspec.msgpack.encode(letter), type=DeadLetter)
