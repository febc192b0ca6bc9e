"""
Arguments: what is typed behind `holdfast`.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import click

from holdfast.cli import main
from tests.fuzz.draw import Draw

#: Commands that would run until somebody ends them, and what starts servers: only how they are called is looked at.
_LONG = ("demo", "dev", "worker")
_APP = "tests.flow.shop:app"
#: Nobody listens there.
_NO_SERVER = "redis://127.0.0.1:1/0"


def _commands() -> dict[str, click.Command]:
    """
    Every command by its name.
    """
    ctx = click.Context(main)
    found = {name: main.get_command(ctx, name) for name in main.list_commands(ctx)}
    return {name: command for name, command in sorted(found.items()) if command is not None}


_COMMANDS = _commands()


def _words() -> list[str]:
    """
    Return all names of commands and options.
    """
    found: set[str] = set()

    def walk(command: click.Command) -> None:
        found.update(name for parameter in command.params for name in parameter.opts if name.startswith("-"))
        for name, child in getattr(command, "commands", {}).items():
            found.add(name)
            walk(child)

    walk(main)
    for name, command in _COMMANDS.items():
        found.add(name)
        walk(command)
    return sorted(found)


_WORDS = (
    *_words(),
    _APP,
    "tests.flow.shop:nothing",
    "nowhere:app",
    ":",
    "a:b:c",
    "Post",
    "ledger",
    "Ledger",
    "a",
    "0.x",
    "{}",
    '{"account": "a", "sender": "s", "number": 1}',
    '{"type": 1}',
    "[",
    "[" * 3_000,
    "1",
    "-1",
    "0",
    "nan",
    "inf",
    "2026-01-01",
    "2026-13-01T99:99",
    "5m",
    "99999999999d",
    "\u00b2d",
    "9" * 5_000,
    "--",
    "",
)

SEEDS = [bytes((command, 1)) for command in range(len(_COMMANDS))] + [
    bytes((command, 3, 0, word, 0, word + 1, 0, word + 2))
    for command in range(len(_COMMANDS))
    for word in range(0, len(_WORDS) - 3, 9)
]


def check(data: bytes) -> None:
    """
    Every call ends with an exit code that is documented, and with words: never with a traceback.
    """
    draw = Draw(data)
    arguments = [draw.pick(list(_COMMANDS))] if draw.below(16) else []
    arguments += [draw.text(16) if draw.below(8) == 1 else draw.pick(_WORDS) for _ in range(draw.below(7))]
    # What a process is given as arguments can be written as bytes, and has no end in the middle.
    arguments = [
        os.fsdecode(one.encode("utf-8", "surrogateescape" if _escaped(one) else "replace")).replace(
            "\x00", ""
        )
        for one in arguments
    ]
    said = io.StringIO()
    with _alone(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main._run(args=arguments, prog_name="holdfast", standalone_mode=False)
    assert code in {0, 1, 2}, (arguments, code)
    assert "Traceback (most recent call last)" not in said.getvalue(), arguments
    assert code == 0 or said.getvalue().strip(), (arguments, "failed without a word")


def _escaped(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """
    Keep a call from servers, from what is typed, and from running until somebody ends it.
    """
    callbacks: dict[str, Any] = {name: _COMMANDS[name].callback for name in _LONG}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment | {"HOLDFAST_REDIS_URL": _NO_SERVER}, clear=True),
        mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(b"{}"))),
    ):
        try:
            for name in _LONG:
                _COMMANDS[name].callback = lambda **_given: 0
            yield
        finally:
            for name, callback in callbacks.items():
                _COMMANDS[name].callback = callback
