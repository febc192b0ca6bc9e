"""Limits: how many effects of a kind run at once, and how many begin in a stretch of time, over all processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from holdfast.runtime.checks import function_problem, is_number, is_whole, said
from holdfast.runtime.errors import UsageError, WorkflowError

#: Every start within `per` is remembered, so a rate is no place for large numbers.
COUNT_MAX = 100_000
PER_MAX_S = 30 * 24 * 60 * 60.0


def _check_count(what: str, count: Any) -> None:
    if not is_whole(count, 1, COUNT_MAX):
        message = f"{what}({said(count)}): it must be a whole number from 1 to {COUNT_MAX:,}"
        raise WorkflowError(message)


def _check_key(what: str, key: Any) -> None:
    if key is None:
        return
    problem = function_problem(key, "effect", name="key", may_be_class=True)
    if problem:
        message = f"{what}(key=...) {problem}, or key=lambda effect: effect.customer_id"
        raise WorkflowError(message)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` effects of a handler run at once; with `key`, at most that many for each value of it."""

    count: int
    key: Callable[[Any], str | int] | None = None

    def __post_init__(self) -> None:
        _check_count("Limit", self.count)
        _check_key("Limit", self.key)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` effects of a handler begin within any `per` seconds; with `key`, for each value of it.

    It counts from when a worker is given leave, and the handler is called at once after that. A handler that blocks the
    event loop makes others late, and those may then begin closer together.
    """

    count: int
    per: float = 1.0
    key: Callable[[Any], str | int] | None = None

    def __post_init__(self) -> None:
        _check_count("Rate", self.count)
        _check_key("Rate", self.key)
        if not is_number(self.per, 0.001, PER_MAX_S):
            message = (
                f"Rate(per={said(self.per)}): it must be a number of seconds from 0.001 to {PER_MAX_S:g}"
            )
            raise WorkflowError(message)


class Want(NamedTuple):
    """What one effect needs before it may begin."""

    #: Who wants it: the effect's own name. It is granted the same place again if it asks again.
    who: str
    #: The name of the limit and how many places it has; an empty name for none.
    limit: str = ""
    places: int = 0
    #: The name of the rate and how many it lets begin in how many milliseconds; an empty name for none.
    rate: str = ""
    starts: int = 0
    per_ms: int = 0


def value_of(key: Callable[[Any], Any] | None, effect: Any) -> str:
    """Return what a key function makes of an effect.

    Raises:
        UsageError: It is neither text nor a whole number, or text that cannot be written.
    """
    if key is None:
        return ""
    value = key(effect)
    if isinstance(value, bool) or not isinstance(value, str | int):
        message = f"the key of a limit or rate is {value!r} for a {type(effect).__name__}; it must be text or a whole number"
        raise UsageError(message)
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"the key of a limit or rate is {value!r} for a {type(effect).__name__}; it cannot be written as UTF-8"
        raise UsageError(message) from None
    return text
