"""Checks: whether what a declaration was given is what it must be.

Each `*_problem` returns what is wrong as the end of a sentence, with what to write instead, or None where nothing is;
who asks puts the name of the thing in front. So a mistake reads the same wherever it is made.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from holdfast.runtime.errors import WorkflowError

#: A value is quoted up to here.
SAID_CHARS_MAX = 100
#: How much alike a name and an option's are where one may be meant for the other, from 0 to 1.
RESEMBLANCE = 0.8


def said(value: object) -> str:
    """Return how a value is spoken of in a message."""
    if inspect.isclass(value):
        return f"the class {value.__qualname__}"
    if inspect.isroutine(value):
        return f"the function {getattr(value, '__qualname__', value)!s}"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a mistake in it must not hide the mistake that is spoken of
        text = f"a {type(value).__name__}"
    return text if len(text) <= SAID_CHARS_MAX else f"{text[:SAID_CHARS_MAX]}..."


# -- values


def value_problem(value: object, kind: type | tuple[type, ...], example: str) -> str | None:
    """Say what is wrong with what must be a value of a class, and not the class itself."""
    return None if isinstance(value, kind) else f"is {said(value)}; write {example}"


def is_whole(value: object, low: int, high: int) -> bool:
    """Return whether it is a whole number within limits. Truth values are no numbers."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, low: float, high: float) -> bool:
    """Return whether it is a number within limits; what is not a number, as NaN, is within none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def span_problem(value: object, low: timedelta, high: timedelta) -> str | None:
    """Say what is wrong with what must be a length of time within limits."""
    if not isinstance(value, timedelta):
        return f"is {said(value)}; it must be a timedelta, such as timedelta(hours=1)"
    if not low <= value <= high:
        return f"is {value}; the least is {low} and the most {high}"
    return None


# -- several values


def one_or_many(given: object) -> tuple[Any, ...]:
    """Return what was given where one thing may be written without brackets around it."""
    return tuple(given) if isinstance(given, list | tuple | set | frozenset) else (given,)


def members(call: str, name: str, given: object, example: str) -> tuple[Any, ...]:
    """Return what is in an argument that takes several things.

    Raises:
        WorkflowError: It is one thing; the message says to put brackets around it.
    """
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping | type):
        return tuple(given)
    message = f"{call}({name}=...) is {said(given)}; it takes a list: {name}=[{example}]"
    raise WorkflowError(message)


# -- options


def misspelt_option(kind: type, base: type, options: Sequence[str]) -> str | None:
    """Say which attribute of a class is an option of its base that is spelt otherwise, so that it would be passed over.

    Methods are none, nor is what is private, what resembles no option, or what stands beside the option itself.

    Args:
        kind: The class.
        base: Whose options they are.
        options: Those that need not be given; without the others it is refused anyway.
    """
    for one in kind.__mro__[: kind.__mro__.index(base)]:
        own = vars(one)
        for name, value in own.items():
            if name.startswith("_") or hasattr(base, name) or _does_something(value):
                continue
            for meant in get_close_matches(name, options, 1, RESEMBLANCE):
                if meant not in own:
                    return f"{name} is no option of a {base.__name__.lower()}; did you mean `{meant}`?"
    return None


def _does_something(value: object) -> bool:
    return callable(value) or hasattr(type(value), "__get__")


# -- functions


def function_problem(
    call: Any,
    *parameters: str,
    name: str,
    method: bool = False,
    may_be_async: bool = False,
    may_be_class: bool = False,
) -> str | None:
    """Say what is wrong with what must be a function of these parameters, which it is given by position.

    Args:
        call: What was given; a method as it is found on an object, without `self`.
        parameters: How the parameters are called in the documentation.
        name: What the function is called in the example.
        method: Whether the example is one of a method.
        may_be_async: Whether it may be declared with `async def`.
        may_be_class: Whether a class will do: calling it makes an object.
    """
    example = f"write def {name}({', '.join(('self', *parameters) if method else parameters)})"
    if not callable(call):
        return f"is {said(call)}, which cannot be called; {example}"
    if inspect.isclass(call) and not may_be_class:
        return f"is {said(call)}; {example}"
    code = _code_of(call)
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        return f"has a yield, so that calling it runs nothing; it must return its result: {example}"
    if inspect.iscoroutinefunction(code) and not may_be_async:
        return f"is async, but nobody awaits it; {example} without async"
    taken = _misfit(call, len(parameters))
    if taken is not None:
        return f"takes ({taken}), but is called with ({', '.join(parameters)}); {example}"
    return None


def is_async(call: Any) -> bool:
    """Return whether it is a coroutine function, or an object that is called like one."""
    return inspect.iscoroutinefunction(_code_of(call))


def _code_of(call: Any) -> Any:
    """Return the function that runs when something is called."""
    while isinstance(call, functools.partial):
        call = call.func
    if inspect.isroutine(call) or inspect.isclass(call) or inspect.iscoroutinefunction(call):
        return call
    return getattr(call, "__call__", call)  # noqa: B004 - what it is, not whether it is there


def _misfit(call: Any, count: int) -> str | None:
    """Return the parameters of what cannot be called with so many arguments; None if it can, or does not say.

    What counts is what is called, not what it wraps: a decorator may fill in arguments of its own. One that hands on
    whatever it gets can do no more than add to it.
    """
    arguments = (None,) * count
    try:
        outer, inner = inspect.signature(call, follow_wrapped=False), inspect.signature(call)
    except (TypeError, ValueError):
        return None  # a builtin that does not say what it takes
    try:
        outer.bind(*arguments)
    except TypeError:
        return _listed(outer)
    try:
        inner.bind_partial(*arguments)
    except TypeError:
        kinds = [parameter.kind for parameter in outer.parameters.values()]
        return _listed(inner) if inspect.Parameter.VAR_POSITIONAL in kinds else None
    return None


def _listed(signature: inspect.Signature) -> str:
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))[1:-1]
