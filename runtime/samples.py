"""Samples: a few messages of a class, made up from the types of its fields; always the same ones.

They are for trying what a workflow does, not for proving it: that is `check_workflow`, with thousands of them. What
is lying about in a state (an amount that is due, an id that was given out) is tried before what is made up, since
that is what commands are compared with.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any

import msgspec
from msgspec import inspect

#: Values tried for one field.
VALUES_MAX = 6
#: Messages tried of one class in one state.
MESSAGES_MAX = 40
#: How deep values are looked for in a state, and made up for a field.
DEPTH_MAX = 4

_MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def messages(kind: type[msgspec.Struct], key: str, found: Iterable[Any] = ()) -> Iterator[Any]:
    """Return messages of a class: first the plainest, then with one field otherwise at a time.

    Args:
        kind: The class.
        key: The field that names the instance; it is the same in all messages.
        found: Values that lie about in a state, to be tried where their type fits.
    """
    pool = list(found)
    choices: dict[str, list[Any]] = {}
    for field in msgspec.structs.fields(kind):
        info = inspect.type_info(field.type)
        made = list(values(info)) if field.name == key else [*_fitting(field.type, pool), *values(info)]
        if not field.required and field.name != key:
            made.append(
                field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            )
        choices[field.name] = list(_distinct(made))[: 1 if field.name == key else VALUES_MAX]
        if not choices[field.name]:
            return  # nothing is known about how to make one up
    yield from islice(_distinct(_combined(kind, choices)), MESSAGES_MAX)


def _combined(kind: type[msgspec.Struct], choices: Mapping[str, list[Any]]) -> Iterator[Any]:
    first = {name: made[0] for name, made in choices.items()}
    for rank in range(VALUES_MAX):
        # All fields at once: what belongs together often lies in the same place.
        yield from _built(kind, {name: made[min(rank, len(made) - 1)] for name, made in choices.items()})
    for name, made in choices.items():
        for value in made[1:]:
            yield from _built(kind, first | {name: value})


def _built(kind: type[msgspec.Struct], fields: Mapping[str, Any]) -> Iterator[Any]:
    try:
        made = kind(**fields)
        yield msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=kind)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        return  # a class may check its fields in ways that no type tells


def _fitting(type_: Any, pool: list[Any]) -> Iterator[Any]:
    """Yield values that may stand in a field of this type."""
    for value in pool:
        try:
            yield msgspec.convert(value, type_, strict=True)
        except (msgspec.ValidationError, TypeError, ValueError):
            continue


def values(info: inspect.Type, depth: int = DEPTH_MAX) -> Iterator[Any]:
    """Yield a few values of a type, the most usual first; none where nothing is known about it."""
    if depth < 0:
        return
    match info:
        case inspect.NoneType() | inspect.AnyType():
            yield None
        case inspect.BoolType():
            yield from (True, False)
        case inspect.IntType() | inspect.FloatType():
            yield from _numbers(info)
        case inspect.StrType():
            text = "example".ljust(info.min_length or 0, "x")
            if info.pattern is None:
                yield text if info.max_length is None else text[: info.max_length]
        case inspect.BytesType() | inspect.ByteArrayType():
            yield b"example".ljust(info.min_length or 0, b"x")[: info.max_length]
        case inspect.DateTimeType(tz=tz):
            for moment in (_MOMENT, _MOMENT + timedelta(days=365)):
                yield moment.replace(tzinfo=None) if tz is False else moment
        case inspect.DateType():
            yield date(2026, 1, 1)
        case inspect.TimeType(tz=tz):
            yield time(12, tzinfo=UTC if tz else None)
        case inspect.TimeDeltaType():
            yield timedelta(hours=1)
        case inspect.DecimalType():
            yield Decimal(100)
        case inspect.UUIDType():
            yield uuid.UUID(int=1)
        case inspect.LiteralType(values=literals):
            yield from sorted(literals, key=repr)
        case inspect.EnumType(cls=cls):
            yield from cls
        case inspect.UnionType(types=types):
            # What is there before what is not.
            for one in sorted(types, key=lambda one: isinstance(one, inspect.NoneType)):
                yield from values(one, depth - 1)
        case _:
            yield from _containers(info, depth)


def _containers(info: inspect.Type, depth: int) -> Iterator[Any]:
    match info:
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            make = {inspect.ListType: list, inspect.VarTupleType: tuple, inspect.SetType: set}.get(
                type(info), frozenset
            )
            for item in islice(values(info.item_type, depth - 1), 1):
                yield make([item] * max(1, info.min_length or 0))
            if not info.min_length:
                yield make(())
        case inspect.TupleType(item_types=items):
            made = [found for item in items for found in islice(values(item, depth - 1), 1)]
            if len(made) == len(items):
                yield tuple(made)
        case inspect.DictType():
            for name in islice(values(info.key_type, depth - 1), 1):
                for value in islice(values(info.value_type, depth - 1), 1):
                    yield {name: value}
            if not info.min_length:
                yield {}
        case inspect.StructType() | inspect.DataclassType() | inspect.NamedTupleType():
            yield from _objects(info, depth)
        case inspect.TypedDictType(fields=fields):
            named = _named([field for field in fields if field.required], depth)
            if named is not None:
                yield named
        case _:
            return


def _objects(info: Any, depth: int) -> Iterator[Any]:
    fields = _named(info.fields, depth)
    if fields is None:
        return
    try:
        yield info.cls(**fields)
    except (TypeError, ValueError):
        return


def _named(fields: Iterable[Any], depth: int) -> dict[str, Any] | None:
    """Return a value for each field, but for those that need none; None where nothing is known about one that does."""
    made: dict[str, Any] = {}
    for field in fields:
        for value in islice(values(field.type, depth - 1), 1):
            made[field.name] = value
        if field.name not in made and field.required:
            return None
    return made


def _numbers(info: Any) -> Iterator[Any]:
    """Yield numbers within the limits of a type: some, one, none, and the limits themselves."""
    least = info.ge if info.ge is not None else None if info.gt is None else info.gt + 1
    most = info.le if info.le is not None else None if info.lt is None else info.lt - 1
    step = info.multiple_of or 1
    usual: tuple[Any, ...] = (100, 1, 0) if isinstance(info, inspect.IntType) else (100.0, 1.0, 0.0)
    for number in (*(one * step for one in usual), least, most):
        if number is not None and (least is None or number >= least) and (most is None or number <= most):
            yield number


def lying_about(value: Any, depth: int = DEPTH_MAX) -> Iterator[Any]:
    """Yield the plain values within a state, and one more and one less of its numbers."""
    if depth < 0:
        return
    if isinstance(value, bool | Enum) or value is None:
        return  # all values of these are tried anyway
    if isinstance(value, int):
        yield from (value, value + 1, value - 1)
    elif isinstance(value, str | bytes | float | datetime | date | timedelta | Decimal | uuid.UUID):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in islice(value.items(), VALUES_MAX):
            yield from lying_about(name, depth - 1)
            yield from lying_about(inner, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in islice(value, VALUES_MAX):
            yield from lying_about(inner, depth - 1)
    else:
        for name in fields_of(value):
            yield from lying_about(getattr(value, name), depth - 1)


def fields_of(value: Any) -> tuple[str, ...]:
    """Return the names of the fields of a Struct or dataclass; of anything else none."""
    return tuple(getattr(value, "__struct_fields__", ()) or getattr(value, "__dataclass_fields__", ()))


def _distinct(found: Iterable[Any]) -> Iterator[Any]:
    seen: set[str] = set()
    for one in found:
        # Not by equality: 1 == True == 1.0, and many things cannot be hashed.
        name = f"{type(one).__name__} {one!r}"
        if name not in seen:
            seen.add(name)
            yield one
