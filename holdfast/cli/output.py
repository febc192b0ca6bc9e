"""What commands print: results to standard output, for people or as JSON; everything else to standard error.

Whatever comes from messages, keys and errors may hold anything. It is never read as markup, and what of it is not
simply shown is escaped before it reaches the terminal.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from holdfast.cli import notes
from holdfast.runtime.printable import printable

note = notes.note

#: Wide enough that nothing is cut or wrapped where a program reads.
WIDTH_OF_A_FILE = 100_000

#: What is nested deeper is shown as JSON.
DEPTH_MAX = 12

#: What JSON allows in text, but a terminal should not get.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def paper(*, error: bool = False) -> Console:
    """Return a console for standard output or error as it is now; it reads no markup."""
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else WIDTH_OF_A_FILE
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


@contextmanager
def waiting(sentence: str) -> Iterator[None]:
    """Show on a terminal that something takes its time."""
    console = paper(error=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(printable(sentence))):
        yield


def text(value: object, style: str = "") -> Text:
    """Return a value as a piece of a table or tree."""
    return Text(printable(str(value)), style)


def table(columns: Iterable[str], rows: Iterable[Iterable[Text | str]]) -> Table:
    """Return a table with as little ink as possible."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        found.add_column(column, overflow="fold")
    for row in rows:
        found.add_row(*(cell if isinstance(cell, Text) else text(cell) for cell in row))
    return found


def tree(label: Text, value: Any) -> Tree:
    """Return plain values as a tree."""
    root = Tree(label)
    _grow(root, value, DEPTH_MAX)
    return root


def _grow(branch: Tree, value: Any, depth: int) -> None:
    if isinstance(value, Mapping) and value and depth:
        for name, inner in value.items():
            _twig(branch, text(name, "bold"), inner, depth)
    elif isinstance(value, list) and value and depth:
        for index, inner in enumerate(value):
            _twig(branch, text(f"[{index}]", "dim"), inner, depth)
    else:
        branch.add(text(compact(value)))


def _twig(branch: Tree, label: Text, value: Any, depth: int) -> None:
    if isinstance(value, Mapping | list) and value:
        _grow(branch.add(label), value, depth - 1)
    else:
        branch.add(Text.assemble(label, " ", text(compact(value))))


def time(moment: datetime) -> str:
    """Return a time as a person reads it: local, to the millisecond."""
    return moment.astimezone().isoformat(sep=" ", timespec="milliseconds")


def age(since_ms: int, now_ms: int) -> str:
    """Return how long ago a time was, in the largest unit that says enough."""
    seconds = max(0, now_ms - since_ms) // 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:,} {unit}"
    return f"{seconds} s"


def plain(value: Any) -> Any:
    """Return any value that a message or state can hold as what JSON can hold."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    try:
        found = msgspec.to_builtins(value, str_keys=True)
    except TypeError:
        found = msgspec.to_builtins(value, enc_hook=repr)
    return _with_text_keys(found)


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name if isinstance(name, str) else compact(_with_text_keys(name)): _with_text_keys(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_with_text_keys(inner) for inner in value]
    return value


def compact(value: Any) -> str:
    """Return plain values as JSON on one line, safe for a terminal."""
    return _UNSAFE_IN_JSON.sub(
        lambda found: f"\\u{ord(found[0]):04x}", msgspec.json.encode(value, enc_hook=repr).decode()
    )


def message(value: Any) -> str:
    """Return a message on one line: its name, and its fields as name=value."""
    fields = dict(plain(value))
    name = str(fields.pop("type"))
    return " ".join([name, *(f"{field}={compact(inner)}" for field, inner in fields.items())])


def emit(value: Any) -> None:
    """Print one line of JSON."""
    print(compact(plain(value)))
