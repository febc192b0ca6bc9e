"""Strategies: how hypothesis makes up messages, from the types of their fields.

msgspec knows what may stand in every field, constraints included, so what is made up here is what the codec accepts.
Numbers, texts and dates are kept to what real work has: nobody learns from a timer that is due in the year 9999.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import inspect

from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import UsageError
from holdfast.runtime.keys import KEY_BYTES_MAX

#: Whole numbers stay within what JSON carries; a thousand of them still add up to less than msgpack's 64 bits.
INT_MAX = 2**53
TEXT_MAX = 20
ITEMS_MAX = 4
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)

_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-INT_MAX, INT_MAX) | st.text(max_size=TEXT_MAX),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


class Strategies:
    """Strategies for the messages of one workflow; those of `types` are used in place of what would be made up."""

    def __init__(self, definition: Definition, types: Mapping[Any, SearchStrategy[Any]]) -> None:
        self._definition = definition
        self._types = dict(types)
        self._classes: dict[Any, SearchStrategy[Any]] = {}
        self._where = definition.name

    def commands(self) -> SearchStrategy[Any]:
        """Return a strategy of commands: within one example all have the same key, where the key is a field."""
        return st.one_of([self._command(kind) for kind in self._definition.commands.by_tag.values()])

    def events(self) -> SearchStrategy[tuple[Any, ...]]:
        """Return a strategy of one event of each class."""
        return st.tuples(*(self.message(kind) for kind in self._definition.event_classes))

    def message(self, kind: type[msgspec.Struct]) -> SearchStrategy[Any]:
        """Return a strategy of messages of one class."""
        found = self._types.get(kind)
        return self._fields(kind, {}) if found is None else found

    def _command(self, kind: type[msgspec.Struct]) -> SearchStrategy[Any]:
        key = self._definition.kind.key
        if kind in self._types or key not in kind.__struct_fields__:
            return self.message(kind)
        field = next(field for field in msgspec.structs.fields(kind) if field.name == key)
        made = self._types.get(field.type)
        if made is None:
            made = self._made(inspect.type_info(field.type), f"{kind.__name__}.{key}").filter(_can_be_key)
        return self._fields(kind, {key: st.shared(made, key=f"holdfast key {field.type!r}")})

    def _fields(
        self, kind: type[msgspec.Struct], given: Mapping[str, SearchStrategy[Any]]
    ) -> SearchStrategy[Any]:
        made = dict(given)
        for field in msgspec.structs.fields(kind):
            if field.name not in made:
                made[field.name] = self._of_type(field.type, f"{kind.__name__}.{field.name}")
        return st.builds(kind, **made)

    def _of_type(self, type_: Any, where: str) -> SearchStrategy[Any]:
        try:
            found = self._types.get(type_)
        except TypeError:  # a type that cannot be hashed, such as Annotated[..., []]
            found = None
        return self._made(inspect.type_info(type_), where) if found is None else found

    def _made(self, info: inspect.Type, where: str) -> SearchStrategy[Any]:
        """Return a strategy for one of msgspec's kinds of type."""
        given: SearchStrategy[Any] | None = self._types.get(getattr(info, "cls", None))
        if given is not None:
            return given
        for make in (self._plain, self._container, self._class):
            found = make(info, where)
            if found is not None:
                return found
        message = (
            f"{self._where}: nothing is known about how to make up {where} ({info}); "
            "pass types={that type: a strategy}, or your own commands=... and events=..."
        )
        raise UsageError(message)

    def _plain(self, info: inspect.Type, _where: str) -> SearchStrategy[Any] | None:
        match info:
            case inspect.AnyType():
                return _ANY
            case inspect.NoneType():
                return st.none()
            case inspect.BoolType():
                return st.booleans()
            case inspect.IntType():
                return _integers(info)
            case inspect.FloatType():
                return _floats(info)
            case inspect.StrType():
                return _texts(info)
            case inspect.BytesType():
                return st.binary(min_size=info.min_length or 0, max_size=_most(info))
            case inspect.ByteArrayType():
                return st.binary(min_size=info.min_length or 0, max_size=_most(info)).map(bytearray)
            case inspect.DateTimeType(tz=tz):
                naive = st.datetimes(FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None))
                return naive if tz is False else naive.map(lambda moment: moment.replace(tzinfo=UTC))
            case inspect.DateType():
                return st.dates(date(FIRST.year, 1, 1), date(LAST.year, 1, 1))
            case inspect.TimeType(tz=tz):
                return st.times() if tz is not True else st.times(timezones=st.just(UTC))
            case inspect.TimeDeltaType():
                return st.timedeltas(timedelta(0), timedelta(days=365))
            case inspect.DecimalType():
                return st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=2)
            case inspect.UUIDType():
                return st.builds(uuid.UUID, int=st.integers(0, 2**128 - 1))
            case inspect.LiteralType(values=values):
                return st.sampled_from(sorted(values, key=repr))
            case inspect.EnumType(cls=cls):
                return st.sampled_from(list(cls))
            case _:
                return None

    def _container(self, info: inspect.Type, where: str) -> SearchStrategy[Any] | None:
        match info:
            case inspect.UnionType(types=types):
                return st.one_of([self._made(one, where) for one in types])
            case inspect.ListType():
                return self._items(info, where)
            case inspect.VarTupleType():
                return self._items(info, where).map(tuple)
            case inspect.SetType():
                return self._items(info, where, unique=True).map(set)
            case inspect.FrozenSetType():
                return self._items(info, where, unique=True).map(frozenset)
            case inspect.TupleType(item_types=items):
                return st.tuples(*(self._made(item, where) for item in items))
            case inspect.DictType():
                return st.dictionaries(
                    self._made(info.key_type, where),
                    self._made(info.value_type, where),
                    min_size=info.min_length or 0,
                    max_size=_most(info, ITEMS_MAX),
                )
            case _:
                return None

    def _items(self, info: Any, where: str, *, unique: bool = False) -> SearchStrategy[list[Any]]:
        item = self._made(info.item_type, where)
        return st.lists(item, min_size=info.min_length or 0, max_size=_most(info, ITEMS_MAX), unique=unique)

    def _class(self, info: inspect.Type, where: str) -> SearchStrategy[Any] | None:
        match info:
            case inspect.StructType() | inspect.DataclassType() | inspect.NamedTupleType():
                return self._once(info.cls, lambda: st.builds(info.cls, **self._named(info.fields, where)))
            case inspect.TypedDictType(cls=cls, fields=fields):
                required = self._named([field for field in fields if field.required], where)
                optional = self._named([field for field in fields if not field.required], where)
                return self._once(cls, lambda: st.fixed_dictionaries(required, optional=optional))
            case _:
                return None

    def _named(self, fields: Any, where: str) -> dict[str, SearchStrategy[Any]]:
        return {field.name: self._made(field.type, f"{where}.{field.name}") for field in fields}

    def _once(self, kind: Any, make: Callable[[], SearchStrategy[Any]]) -> SearchStrategy[Any]:
        """Return the strategy of a class, also to fields of that class within itself."""
        found = self._classes.get(kind)
        if found is None:
            self._classes[kind] = st.deferred(lambda: self._classes[kind])
            found = self._classes[kind] = make()
        return found


def _can_be_key(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and 0 < len(value.encode()) <= KEY_BYTES_MAX)


def _most(info: Any, usual: int = TEXT_MAX) -> int:
    least = info.min_length or 0
    return int(info.max_length) if info.max_length is not None else max(usual, least + usual)


def _integers(info: inspect.IntType) -> SearchStrategy[int]:
    least = info.ge if info.ge is not None else None if info.gt is None else info.gt + 1
    most = info.le if info.le is not None else None if info.lt is None else info.lt - 1
    if least is None:
        least = -INT_MAX if most is None else min(-INT_MAX, most - INT_MAX)
    if most is None:
        most = max(INT_MAX, least + INT_MAX)
    if info.multiple_of is not None:
        step = int(info.multiple_of)
        return st.integers(-(-least // step), most // step).map(lambda number: number * step)
    return st.integers(least, most)


def _floats(info: inspect.FloatType) -> SearchStrategy[float]:
    least, most = info.ge if info.ge is not None else info.gt, info.le if info.le is not None else info.lt
    made = st.floats(
        min_value=-1e12 if least is None and (most is None or most > -1e12) else least,
        max_value=1e12 if most is None and (least is None or least < 1e12) else most,
        exclude_min=info.gt is not None,
        exclude_max=info.lt is not None,
        allow_nan=False,
        allow_infinity=False,
    )
    if info.multiple_of is not None:
        step = info.multiple_of
        return made.map(lambda number: round(number / step) * step)
    return made


def _texts(info: inspect.StrType) -> SearchStrategy[str]:
    least, most = info.min_length or 0, info.max_length
    if info.pattern is not None:
        found = st.from_regex(info.pattern)
        return found.filter(lambda text: least <= len(text) and (most is None or len(text) <= most))
    return st.text(min_size=least, max_size=_most(info))
