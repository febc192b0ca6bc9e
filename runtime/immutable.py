"""Immutable: whether nothing of a type can change, so that a state of it needs no watching.

It is answered by the type alone. What is not known to be immutable is taken for what may change.
"""

from __future__ import annotations

from typing import Any, get_origin

import msgspec
from msgspec import inspect as info

#: Types whose values have nothing in them that could change.
_PLAIN = (
    info.NoneType,
    info.BoolType,
    info.IntType,
    info.FloatType,
    info.StrType,
    info.BytesType,
    info.DateTimeType,
    info.TimeType,
    info.DateType,
    info.TimeDeltaType,
    info.UUIDType,
    info.DecimalType,
    info.EnumType,
    info.LiteralType,
)


def is_immutable(type_: Any) -> bool:
    """Return whether no value of a type, and nothing in one, can change.

    Frozen structs and dataclasses, tuples, frozensets, enums and scalars cannot, if nothing in them can.
    """
    return _immutable(info.type_info(type_), set())


def _immutable(found: info.Type, seen: set[int]) -> bool:
    if isinstance(found, _PLAIN):
        return True
    if id(found) in seen:
        return True  # it has itself in it; whether the rest of it can change is being asked
    seen.add(id(found))
    match found:
        case info.Metadata(type=inner):
            return _immutable(inner, seen)
        case info.UnionType(types=types):
            return all(_immutable(one, seen) for one in types)
        case info.TupleType(item_types=types):
            return all(_immutable(one, seen) for one in types)
        case info.VarTupleType(item_type=item) | info.FrozenSetType(item_type=item):
            return _immutable(item, seen)
        case info.StructType() | info.DataclassType() | info.NamedTupleType():
            return _frozen(found) and all(_immutable(field.type, seen) for field in found.fields)
    return False


def _frozen(found: info.StructType | info.DataclassType | info.NamedTupleType) -> bool:
    kind: Any = get_origin(found.cls) or found.cls
    if isinstance(found, info.StructType):
        config: msgspec.structs.StructConfig = kind.__struct_config__
        return config.frozen
    # What attrs makes is described as a dataclass too, without these parameters.
    return isinstance(found, info.NamedTupleType) or bool(
        getattr(getattr(kind, "__dataclass_params__", None), "frozen", False)
    )
