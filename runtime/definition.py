"""Definition: a workflow that was checked and compiled when the app was made.

Every mistake in a declaration is found here, at start-up, with the class and the field that it is in.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Never, Union, get_args, get_origin, is_typeddict

import msgspec

from holdfast.runtime.checks import function_problem, is_whole, misspelt_option, said, value_problem
from holdfast.runtime.codec import EntryCodec, MessageCodec, encode
from holdfast.runtime.control import RESERVED, is_reserved
from holdfast.runtime.errors import WorkflowError
from holdfast.runtime.immutable import is_immutable
from holdfast.runtime.keys import check_key
from holdfast.runtime.message import Command, Effect, Event, Message, tag_of
from holdfast.runtime.retention import Retention
from holdfast.runtime.workflow import Workflow

#: The user's functions, and what each is called with.
_METHODS = {
    "initial": (),
    "evolve": ("state", "event"),
    "decide": ("now", "state", "command"),
    "is_terminal": ("state",),
    "unique_key": ("state",),
    "scrub": ("state",),
    "status": ("state",),
}
#: Snapshots are stored with a number of this size.
_STATE_VERSION_MAX = 2**31
#: No log has more records.
_KEEP_RECORDS_MAX = 2**53
#: The class variables that need not be given.
_OPTIONS = (
    "state_version",
    "upcasters",
    "pause_on_dead_letter",
    "observe_inputs",
    "retention",
    "keep_records",
    "parked_max",
)
_TYPE_FORM = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class Definition:
    """A checked workflow: its codecs, its key, and its four functions.

    Raises:
        WorkflowError: The declaration is wrong; the message names the class and the field.
    """

    def __init__(self, kind: type[Workflow[Any, Any, Any, Any]]) -> None:
        check_class(kind)
        self.kind = kind
        self.name = kind.__qualname__
        self.type: str = kind.type
        state, commands, events, effects = _arguments(kind)
        command_classes = _classes(self.name, "command", commands, Command)
        event_classes = _classes(self.name, "event", events, Event)
        effect_classes = _classes(self.name, "effect", effects, Effect)
        for required, classes in (("command", command_classes), ("event", event_classes)):
            if not classes:
                message = f"{self.name} has no {required} class"
                raise WorkflowError(message)
        self._check_state(state)
        _check_options(self.name, kind)
        _check_upcasters(self.name, kind, (*command_classes, *event_classes, *effect_classes))

        self.commands: MessageCodec[Any] = self._codec(command_classes)
        self.events: MessageCodec[Any] = self._codec(event_classes)
        self.effects: MessageCodec[Any] | None = self._codec(effect_classes) if effect_classes else None
        self.entries: EntryCodec[Any] = EntryCodec(self.name, self.events)
        self.state_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(state)
        #: What every state is an instance of: `object` where its type does not say.
        self.state_class: tuple[type, ...] = _state_classes(state)
        #: Whether no state can change, so that nobody has to watch whether `decide` or `evolve` changes one in place.
        self.state_is_immutable = is_immutable(state)
        self.event_classes = event_classes
        self.effect_classes = effect_classes
        self._keys: dict[type, Callable[[Any], Any]] = {
            command: _key_getter(self.name, kind.key, command) for command in command_classes
        }
        try:
            self.workflow = kind()
        except Exception as error:
            message = f"{self.name} must be creatable without arguments: {type(error).__name__}: {error}"
            raise WorkflowError(message) from error
        self._check_methods()
        #: Whether instances have a unique key at all: most workflows never ask.
        self.has_unique_key = kind.unique_key is not Workflow.unique_key
        self._check_initial()

    def _codec(self, classes: tuple[type[msgspec.Struct], ...]) -> MessageCodec[Any]:
        return MessageCodec(self.name, classes, self.kind.upcasters)

    def key_of(self, command: object) -> str:
        """Return the business key that a command names.

        Raises:
            KeyRefused: The key is missing, empty, too long or no text.
        """
        return check_key(self._keys[type(command)](command), f"{type(command).__name__}.{self.kind.key}")

    def no_state(self, found: object, event: object) -> str:
        """Return the sentence on what `evolve` returned for an event, which is no state."""
        names = [_name_of(kind) for kind in self.state_class]
        wanted = f"{'an' if names[0][0] in 'AEIOUaeiou' else 'a'} {' or '.join(names)}"
        what = f"the class {found.__qualname__}" if isinstance(found, type) else _name_of(type(found))
        return f"{self.name}.evolve returned {what} for {type(event).__name__}; it must return {wanted}"

    def _check_methods(self) -> None:
        for name, parameters in _METHODS.items():
            problem = function_problem(getattr(self.workflow, name), *parameters, name=name, method=True)
            if problem:
                message = f"{self.name}.{name} {problem}"
                raise WorkflowError(message)

    def _check_state(self, state: Any) -> None:
        problem = _unsupported(state)
        if problem:
            message = f"the state of {self.name} cannot be stored: {problem}"
            raise WorkflowError(message)

    def _check_initial(self) -> None:
        """Check that the state of a new instance can be stored: every command of the workflow begins with it."""
        try:
            self.state_decoder.decode(encode(self.workflow.initial()))
        except Exception as error:
            message = f"{self.name}.initial does not return a state that can be stored: {type(error).__name__}: {error}"
            raise WorkflowError(message) from error


def check_class(kind: Any) -> None:
    """Check that it is a workflow's class, with what every one of them has.

    Raises:
        WorkflowError: It is not, or something is missing.
    """
    if not (inspect.isclass(kind) and issubclass(kind, Workflow)):
        message = f"{said(kind)} is no Workflow class; give the class itself, such as App(workflows=[Order])"
        raise WorkflowError(message)
    name = kind.__qualname__
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing:
        message = f"{name} does not define {', '.join(missing)}"
        raise WorkflowError(message)
    for attribute, example in (("type", '"order"'), ("key", '"order_id"')):
        if not isinstance(getattr(kind, attribute, None), str):
            message = f"{name} needs a class attribute `{attribute}`, such as {attribute} = {example}"
            raise WorkflowError(message)
    if not _TYPE_FORM.fullmatch(kind.type):
        message = (
            f"{name}.type is {kind.type!r}; it must be 1 to 64 letters, digits, dots, dashes or underscores"
        )
        raise WorkflowError(message)


def _check_options(name: str, kind: type[Workflow[Any, Any, Any, Any]]) -> None:
    misspelt = misspelt_option(kind, Workflow, _OPTIONS)
    if misspelt:
        message = f"{name}.{misspelt}"
        raise WorkflowError(message)
    version: Any = kind.state_version
    if not is_whole(version, -_STATE_VERSION_MAX, _STATE_VERSION_MAX):
        message = f"{name}.state_version is {said(version)}; it must be a whole number"
        raise WorkflowError(message)
    keep: Any = kind.keep_records
    if keep is not None and not is_whole(keep, 0, _KEEP_RECORDS_MAX):
        message = f"{name}.keep_records is {said(keep)}; it must be a number of records, or None for all"
        raise WorkflowError(message)
    parked: Any = kind.parked_max
    if not is_whole(parked, 1, _KEEP_RECORDS_MAX):
        message = (
            f"{name}.parked_max is {said(parked)}; it must be how many commands a paused instance may keep"
        )
        raise WorkflowError(message)
    for option, wanted, example in (
        ("retention", Retention, "retention = Retention(completed=timedelta(days=90))"),
        ("pause_on_dead_letter", bool, "pause_on_dead_letter = True"),
        ("observe_inputs", bool, "observe_inputs = True"),
    ):
        problem = value_problem(getattr(kind, option), wanted, example)
        if problem:
            message = f"{name}.{option} {problem}"
            raise WorkflowError(message)


def _arguments(kind: type[Workflow[Any, Any, Any, Any]]) -> tuple[Any, Any, Any, Any]:
    for base in kind.__mro__:
        for generic in getattr(base, "__orig_bases__", ()):
            if get_origin(generic) is Workflow:
                state, commands, events, effects = get_args(generic)
                return state, commands, events, effects
    message = f"{kind.__qualname__} must inherit from Workflow[State, Commands, Events, Effects]"
    raise WorkflowError(message)


def _state_classes(state: Any) -> tuple[type, ...]:
    """Return the classes of which every state is an instance."""
    if get_origin(state) is Annotated:
        return _state_classes(get_args(state)[0])
    for behind in ("__value__", "__supertype__"):  # type State = ...; NewType("State", ...)
        if hasattr(state, behind):
            return _state_classes(getattr(state, behind))
    if get_origin(state) in (Union, types.UnionType):
        return tuple(dict.fromkeys(kind for one in get_args(state) for kind in _state_classes(one)))
    kind = type(None) if state is None else get_origin(state) or state
    if is_typeddict(kind):
        return (dict,)
    if kind is float:
        return (float, int)  # where a float is wanted, an int will do
    return (kind,) if inspect.isclass(kind) and kind is not Any else (object,)


def _name_of(kind: type) -> str:
    return "None" if kind is type(None) else kind.__qualname__


def _members(union: Any) -> tuple[Any, ...]:
    if union is Never or union is None or union is type(None):
        return ()
    union = getattr(union, "__value__", union)  # type Commands = A | B
    if get_origin(union) in (Union, types.UnionType):
        return tuple(leaf for member in get_args(union) for leaf in _members(member))
    return (union,)


def _classes(name: str, role: str, union: Any, base: type[Message]) -> tuple[type[msgspec.Struct], ...]:
    found = _members(union)
    by_tag: dict[str, Any] = {}
    for kind in found:
        if not (inspect.isclass(kind) and issubclass(kind, base)):
            message = f"{name}: {getattr(kind, '__name__', kind)!s} is used as {role} but is no {base.__name__} class"
            raise WorkflowError(message)
        config = kind.__struct_config__
        if not isinstance(config.tag, str):
            message = f"{name}: {kind.__name__} has the tag {config.tag!r}; a message is stored under a name, so it must be text"
            raise WorkflowError(message)
        if not config.frozen:
            message = f"{name}: {kind.__name__} must stay frozen; remove frozen=False"
            raise WorkflowError(message)
        if config.tag_field != "type" or config.array_like:
            message = f"{name}: {kind.__name__} must keep the tag field `type` and must not be array_like"
            raise WorkflowError(message)
        tag = tag_of(kind)
        if is_reserved(tag) and not kind.__module__.startswith(__package__):
            message = f"{name}: {kind.__name__} is stored as {tag!r}; names that begin with {RESERVED!r} are Holdfast's own"
            raise WorkflowError(message)
        other = by_tag.setdefault(tag, kind)
        if other is not kind:
            message = (
                f"{name}: {other.__module__}.{other.__qualname__} and {kind.__module__}.{kind.__qualname__} "
                f"are both stored as {tag!r}; give one of them another tag: class {kind.__name__}(..., tag='...')"
            )
            raise WorkflowError(message)
        _check_fields(name, kind)
    return tuple(by_tag.values())


def _check_fields(name: str, kind: type[msgspec.Struct]) -> None:
    try:
        fields = msgspec.structs.fields(kind)
    except (NameError, TypeError) as error:
        message = f"{name}: the fields of {kind.__name__} cannot be read: {error}"
        raise WorkflowError(message) from error
    for field in fields:
        problem = _unsupported(field.type)
        if problem:
            message = f"{name}: {kind.__name__}.{field.name} cannot be stored: {problem}"
            raise WorkflowError(message)


def _unsupported(type_: Any) -> str | None:
    """Return why msgspec cannot store a type, or None if it can."""
    try:
        msgspec.msgpack.Decoder(type_)
        info = msgspec.inspect.type_info(type_)
    except (TypeError, NameError, ValueError) as error:
        return " ".join(str(error).split())
    custom = _find_custom(info, set())
    if custom is None:
        return None
    return f"{getattr(custom, '__qualname__', custom)!s} is no type that msgspec knows; use a Struct, dataclass or builtin"


def _find_custom(info: Any, seen: set[int]) -> Any:
    if id(info) in seen:
        return None
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.CustomType):
        return info.cls
    if isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
        children = [getattr(info, name) for name in info.__struct_fields__]
    elif isinstance(info, tuple | list):
        children = list(info)
    else:
        return None
    for child in children:
        found = _find_custom(child, seen)
        if found is not None:
            return found
    return None


def _key_getter(name: str, key: str, command: type[msgspec.Struct]) -> Callable[[Any], Any]:
    if key in command.__struct_fields__:
        field = next(f for f in msgspec.structs.fields(command) if f.name == key)
        info = msgspec.inspect.type_info(field.type)
        kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
        if not all(isinstance(one, msgspec.inspect.StrType | msgspec.inspect.IntType) for one in kinds):
            message = (
                f"{name}.key names {command.__name__}.{key}, which is {field.type!r}; a key is str or int"
            )
            raise WorkflowError(message)
        return lambda message: getattr(message, key)
    method = inspect.getattr_static(command, key, None)
    if callable(getattr(command, key, None)):
        problem = function_problem(method, "self", name=key) if inspect.isfunction(method) else None
        if problem:
            message = f"{name}.key names {command.__name__}.{key}, which {problem}"
            raise WorkflowError(message)
        return lambda message: getattr(message, key)()
    message = f"{name}.key is {key!r}, but {command.__name__} has no such field or method"
    raise WorkflowError(message)


def _check_upcasters(
    name: str, kind: type[Workflow[Any, Any, Any, Any]], classes: tuple[type[msgspec.Struct], ...]
) -> None:
    tags = {tag_of(message) for message in classes}
    upcasters: Any = kind.upcasters
    if not isinstance(upcasters, Mapping):
        message = f"{name}.upcasters is {said(upcasters)}; it must be a mapping from old types to functions"
        raise WorkflowError(message)
    for tag, upcaster in upcasters.items():
        if tag in tags:
            message = (
                f"{name}.upcasters has {tag!r}, which a class of today is stored as. "
                f"Give that class a new tag (tag='{tag}.2') and let the upcaster turn the old into the new"
            )
            raise WorkflowError(message)
        if not isinstance(tag, str):
            message = f"{name}.upcasters has {said(tag)}; it goes by the old type as it is stored, such as 'OrderPlaced'"
            raise WorkflowError(message)
        problem = function_problem(upcaster, "old", name="upcast", may_be_class=True)
        if problem:
            message = f"{name}.upcasters[{tag!r}] {problem}"
            raise WorkflowError(message)
