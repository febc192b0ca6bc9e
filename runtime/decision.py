"""Decisions: what `decide` answers a command with.

Build them with `accept(...)` and `reject(...)`; every builder returns a new decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Never, TypeVar, overload

from holdfast.runtime.checks import said
from holdfast.runtime.errors import UsageError

E_co = TypeVar("E_co", covariant=True)
F_co = TypeVar("F_co", covariant=True)
E_ = TypeVar("E_")
F_ = TypeVar("F_")
A_ = TypeVar("A_")
B_ = TypeVar("B_")
C_ = TypeVar("C_")


@dataclass(frozen=True, slots=True)
class Timer:
    """A command that will be sent at a time, or after a delay from the commit."""

    command: Any
    #: Scheduling the key of a pending timer of the same instance replaces that timer; None is never replaced.
    key: str | None = None
    after: timedelta | None = None
    at: datetime | None = None

    def __post_init__(self) -> None:
        after: Any = self.after
        at: Any = self.at
        if (after is None) == (at is None):
            message = "a timer has either `after` or `at`"
            raise UsageError(message)
        if after is not None and not isinstance(after, timedelta):
            message = f"`after` is {said(after)}; it must be a timedelta, such as timedelta(hours=1)"
            raise UsageError(message)
        if at is not None and not isinstance(at, datetime):
            message = f"`at` is {said(at)}; it must be a datetime with a time zone, such as now + timedelta(hours=1)"
            raise UsageError(message)
        if at is not None and at.utcoffset() is None:
            message = "`at` needs a time zone, such as datetime.now(UTC)"
            raise UsageError(message)
        if self.key is not None:
            _check_key(self.key)


def _check_key(key: Any) -> None:
    if not isinstance(key, str):
        message = f'the key of a timer is {said(key)}; it must be text, such as key="expiry"'
        raise UsageError(message)


@dataclass(frozen=True, slots=True)
class Accept(Generic[E_co, F_co]):
    """The command is accepted: these events happened, and these effects and timers are asked for."""

    events: tuple[E_co, ...]
    effects: tuple[F_co, ...] = ()
    timers: tuple[Timer, ...] = ()
    #: Keys of timers to cancel; cancels are applied before the timers of the same decision.
    cancels: tuple[str, ...] = ()

    # The overloads are for type checkers: of two classes some of them make their common base, not their union.
    @overload
    def effect(self, first: A_, second: B_, /) -> Accept[E_co, F_co | A_ | B_]: ...
    @overload
    def effect(self, first: A_, second: B_, third: C_, /) -> Accept[E_co, F_co | A_ | B_ | C_]: ...
    @overload
    def effect(self, *effects: F_) -> Accept[E_co, F_co | F_]: ...
    def effect(self, *effects: Any) -> Accept[E_co, Any]:
        """Ask for effects, to be run after the commit, in any order."""
        return Accept(self.events, (*self.effects, *effects), self.timers, self.cancels)

    def timer(
        self,
        command: Any,
        *,
        key: str | None = None,
        after: timedelta | None = None,
        at: datetime | None = None,
    ) -> Accept[E_co, F_co]:
        """Ask for a command to be sent to this instance `after` a delay or `at` a time with a time zone."""
        return replace(self, timers=(*self.timers, Timer(command, key, after, at)))

    def cancel(self, *keys: str) -> Accept[E_co, F_co]:
        """Cancel pending timers by key; a key that is not pending is no error."""
        for key in keys:
            _check_key(key)
        return replace(self, cancels=(*self.cancels, *keys))


@dataclass(frozen=True, slots=True)
class Reject:
    """The command is refused, and nothing is recorded in the log."""

    reason: str
    #: Plain facts about the refusal, for the caller: anything that msgspec can encode.
    details: Any = field(default=None)


#: What `decide` returns.
Decision = Accept[E_, F_] | Reject


@overload
def accept(first: A_, second: B_, /) -> Accept[A_ | B_, Never]: ...
@overload
def accept(first: A_, second: B_, third: C_, /) -> Accept[A_ | B_ | C_, Never]: ...
@overload
def accept(first: E_, /, *more: E_) -> Accept[E_, Never]: ...
def accept(*events: Any) -> Accept[Any, Never]:
    """Accept a command with at least one event: an accepted command must record something.

    Chain `.effect(...)`, `.timer(...)` and `.cancel(...)` to ask for more.
    """
    if not events:
        message = "accept() has no event; an accepted command must record something, else reject(...) it"
        raise UsageError(message)
    return Accept(events)


def reject(reason: str, details: Any = None) -> Reject:
    """Refuse a command; nothing is recorded, and a waiting caller learns the reason."""
    return Reject(reason, details)
