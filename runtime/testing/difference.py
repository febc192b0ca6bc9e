"""Difference: what was expected and what was there, so that a person sees at once where they part."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

#: Values that fit on a line of this length are not spread over several.
WIDTH = 88
#: Marking the characters that differ takes time that grows fast; longer texts are compared by line.
LINES_MARKED_MAX = 100


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, or are alike in every part where their classes know no equality."""
    if one is other or one == other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return math.isnan(one) and math.isnan(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    these, those = _members(one), _members(other)
    if these is None or those is None:
        return False
    return len(these) == len(those) and all(map(same, these, those))


def _members(value: Any) -> list[Any] | None:
    """Return what is in a value, in order; None where nobody can tell."""
    if isinstance(value, list | tuple):
        return list(value)
    names = _names(value)
    return None if names is None else [getattr(value, name) for name in names]


def _names(value: Any) -> list[str] | None:
    """Return the names of a value's fields; None where it has none."""
    if isinstance(value, msgspec.Struct):
        return list(value.__struct_fields__)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in dataclasses.fields(value)]
    return None


def difference(expected: Iterable[Any], actual: Iterable[Any], *, spread: bool = False) -> str:
    """Return the lines of both, marked `-` where only expected and `+` where only there; `spread` opens every value."""
    wanted = [line for value in expected for line in _lines(value, spread=spread)]
    found = [line for value in actual for line in _lines(value, spread=spread)]
    if wanted == found:
        return "  the two read alike but are not equal: compare the types of their fields\n" + _joined(wanted)
    if max(len(wanted), len(found)) > LINES_MARKED_MAX:
        return _joined(list(difflib.unified_diff(wanted, found, "expected", "actual", lineterm="")))
    return _joined([line.rstrip() for line in difflib.ndiff(wanted, found)])


def _joined(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def _lines(value: Any, *, spread: bool = False) -> list[str]:
    """Return a value as it would be written in Python, over several lines if it is long."""
    text = repr(value)
    parts = _parts(value)
    if parts is None or not (spread or len(text) > WIDTH):
        return text.splitlines() or [text]
    opening, members, closing = parts
    lines = [opening]
    for prefix, member in members:
        first, *more = _lines(member)
        lines.append(f"    {prefix}{first}")
        lines += [f"    {line}" for line in more]
        lines[-1] += ","
    return [*lines, closing] if len(lines) > 1 else [opening + closing]


def _parts(value: Any) -> tuple[str, Iterator[tuple[str, Any]], str] | None:
    """Return how a value opens, what is in it, and how it closes; None where it has no parts."""
    names = _names(value)
    if names is not None:
        return f"{type(value).__name__}(", ((f"{name}=", getattr(value, name)) for name in names), ")"
    if type(value) is dict:
        return "{", ((f"{key!r}: ", member) for key, member in value.items()), "}"
    if type(value) in (list, tuple):
        opening, closing = ("[", "]") if type(value) is list else ("(", ")")
        return opening, (("", member) for member in value), closing
    return None
