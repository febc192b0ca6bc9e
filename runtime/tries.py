"""Tries: how often, and after which waits, something is tried again. A value, made of tenacity's strategies."""

from __future__ import annotations

from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, wait_exponential

from holdfast.runtime.errors import UsageError


@dataclass(frozen=True, slots=True)
class Tries:
    """Try `attempts` times in all, after waits that double from `first_s` up to `longest_s`."""

    attempts: int = 5
    first_s: float = 0.2
    longest_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_s < 0 or self.longest_s < self.first_s:
            message = f"{self!r}: attempts is at least 1, and 0 <= first_s <= longest_s"
            raise UsageError(message)

    def wait_s(self, attempt: int) -> float:
        """Return the seconds to wait after this attempt, the first of which is 1."""
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = attempt
        return float(wait_exponential(multiplier=self.first_s, max=self.longest_s)(state))
