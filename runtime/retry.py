"""Retry: how often an effect is tried, and how long it waits in between. A policy is a value.

It is built on tenacity's strategies: they say when to stop and how long to wait, and Holdfast does the waiting, since a
long wait must survive the process.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tenacity import RetryCallState, stop_after_attempt, wait_exponential

from holdfast.runtime.checks import is_number, one_or_many, said
from holdfast.runtime.errors import WorkflowError

#: Longer waits than this are a mistake in the policy.
WAIT_MAX_S = 30 * 24 * 60 * 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy: `Retry(attempts=5)` waits about 1, 2, 4 and 8 seconds, and then gives up.

    Args:
        attempts: The most times that the handler is called, the first one included.
        first: Seconds before the second attempt.
        factor: By how much each wait is longer than the one before it.
        cap: The longest wait in seconds, jitter aside.
        jitter: A share of each wait that is added at random, so that what failed together does not come back together.
        unless: Exceptions that trying again would not help: a class or several.

    Raises:
        WorkflowError: A number makes no sense, or what is no exception class is among `unless`.
    """

    attempts: int = 5
    first: float = 1.0
    factor: float = 2.0
    cap: float = 300.0
    jitter: float = 0.1
    unless: type[BaseException] | tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        numbers: dict[str, tuple[Any, float, float]] = {
            "attempts": (self.attempts, 1, 1_000_000),
            "first": (self.first, 0, WAIT_MAX_S),
            "factor": (self.factor, 1, 1_000),
            "cap": (self.cap, 0, WAIT_MAX_S),
            "jitter": (self.jitter, 0, 1),
        }
        for name, (value, low, high) in numbers.items():
            if not is_number(value, low, high):
                message = f"Retry({name}={said(value)}): it must be a number from {low:g} to {high:g}"
                raise WorkflowError(message)
        attempts: Any = self.attempts
        if not isinstance(attempts, int):
            message = f"Retry(attempts={attempts!r}): it must be a whole number"
            raise WorkflowError(message)
        errors = one_or_many(self.unless)
        for error in errors:
            if not (isinstance(error, type) and issubclass(error, BaseException)):
                message = f"Retry(unless=...): {said(error)} is no exception class; write unless=(ValueError, KeyError)"
                raise WorkflowError(message)
        object.__setattr__(self, "unless", errors)

    def wait_s(self, attempt: int) -> float | None:
        """Return the seconds to wait after this attempt has failed, or None when it was the last one."""
        state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # the strategies look at the number only
        state.attempt_number = attempt
        if stop_after_attempt(self.attempts)(state):
            return None
        wait = wait_exponential(multiplier=self.first, exp_base=self.factor, max=self.cap)(state)
        return wait * (1 + random.uniform(0, self.jitter))
