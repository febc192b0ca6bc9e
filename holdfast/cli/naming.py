"""What people write on the command line, and what of an app they mean by it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import msgspec

from holdfast.runtime.app import App
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import UsageError
from holdfast.runtime.message import TAG_FIELD, Command


def workflow_named(app: App, name: str) -> Definition:
    """Return the workflow of this type or class.

    Raises:
        UsageError: The app has no such workflow.
    """
    for definition in app.definitions:
        if name == definition.type:
            return definition
    found = [
        definition for definition in app.definitions if name in (definition.kind.__name__, definition.name)
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{definition.type} ({definition.kind.__name__})" for definition in app.definitions)
    message = f"{name!r} is no workflow of this app; it has: {known}"
    raise UsageError(message)


def command_named(app: App, name: str) -> tuple[Definition, Any]:
    """Return the command class of this name with its workflow; `workflow/Command` where two have one of that name.

    Raises:
        UsageError: The app has no such command, or several.
    """
    workflow, _, tag = name.rpartition("/")
    definitions = [workflow_named(app, workflow)] if workflow else app.definitions
    found = [(definition, definition.commands.by_tag.get(tag)) for definition in definitions]
    found = [(definition, kind) for definition, kind in found if kind is not None]
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"{definition.type}/{tag}" for definition, _ in found)
        message = f"{tag!r} is a command of several workflows; write {choices}"
    else:
        known = ", ".join(sorted({tag for definition in definitions for tag in definition.commands.by_tag}))
        message = f"{tag!r} is no command of this app; it has: {known}"
    raise UsageError(message)


def command_from(definition: Definition, kind: Any, json: str | bytes) -> Command:
    """Return the command with the fields in a JSON object.

    Raises:
        UsageError: It is no JSON object, or its fields are not the command's.
    """
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    tag = kind.__struct_config__.tag
    what = f"{tag} takes a JSON object with {', '.join(names) or 'no fields: {}'}"
    try:
        values = msgspec.json.decode(json)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        message = f"{what}; this is no JSON: {error}"
        raise UsageError(message) from None
    if not isinstance(values, dict):
        message = f"{what}; this is a JSON {_json_kind(values)}"
        raise UsageError(message)
    if values.pop(TAG_FIELD, tag) != tag:
        message = f"{what}; the field `{TAG_FIELD}` in it says otherwise"
        raise UsageError(message)
    unknown = [name for name in values if name not in names]
    if unknown:
        message = f"{what}; it has no {unknown[0]!r}"
        raise UsageError(message)
    command: Command = definition.commands.convert({TAG_FIELD: tag, **values})[0]
    return command


def _json_kind(value: object) -> str:
    kinds = {list: "array", str: "string", bool: "true or false", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def moment(text: str) -> datetime:
    """Return a time; without a time zone it is local."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        message = f"{text!r} is no time; write 2025-01-31T12:00 or 2025-01-31T11:00Z"
        raise click.BadParameter(message) from None


def point(text: str) -> int | datetime:
    """Return a record's sequence number, or a time."""
    return int(text) if text.isascii() and text.isdigit() else moment(text)


_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def span_ms(text: str) -> int:
    """Return a length of time in milliseconds: 30s, 10m, 2h, 7d."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS_MS and number.isascii() and number.isdigit():
        return int(number) * _UNITS_MS[unit]
    message = f"{text!r} is no length of time; write 30s, 10m, 2h or 7d"
    raise click.BadParameter(message)


def span_text(ms: int) -> str:
    """Return a length of time as `span_ms` reads it, in the largest unit that it is a whole number of."""
    unit, length = next(
        ((unit, length) for unit, length in reversed(_UNITS_MS.items()) if ms and ms % length == 0),
        ("s", 1_000),
    )
    return f"{ms // length}{unit}"
