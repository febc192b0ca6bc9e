"""
Log lines: a sentence and its facts, and nothing of them that a terminal would obey.
"""

import io
import logging

import pytest

from holdfast.actors.logs import FieldFormatter, use_fields

#: Turns the terminal red, writes backwards, and begins a line of its own.
HOSTILE = "o-1\x1b[31m\u202e\r\n2026-01-01 CRITICAL all is lost"


def logged(error: Exception | None = None) -> str:
    """
    What a line about something hostile looks like.
    """
    facts = {"name": "shop", "levelname": "ERROR", "msg": "gave %s up", "args": (HOSTILE,), "key": HOSTILE}
    exc_info = error and (type(error), error, error.__traceback__)
    return FieldFormatter().format(logging.makeLogRecord(facts | {"exc_info": exc_info}))


def test_a_line_is_a_sentence_and_its_facts() -> None:
    """
    In one line, whatever they hold; each is still there to be read.
    """
    line = logged()

    assert line.isprintable()
    assert 2 == line.count(r"o-1\x1b[31m\u202e\r\n2026-01-01 CRITICAL all is lost")
    assert "shop: gave o-1" in line
    assert "  key=o-1" in line


def test_a_traceback_keeps_its_lines() -> None:
    """
    And nothing else that is not simply shown.
    """
    try:
        raise ValueError("\x1b[2Jgone\x07")
    except ValueError as error:
        lines = logged(error).splitlines()

    assert "Traceback (most recent call last):" in lines
    assert r"ValueError: \x1b[2Jgone\x07" == lines[-1]
    assert all(line.isprintable() for line in lines)


def test_the_handlers_of_a_worker_are_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Whoever set them up.
    """
    handler = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    use_fields()

    assert isinstance(handler.formatter, FieldFormatter)
