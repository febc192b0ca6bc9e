"""Spans of decisions, as the turn sees them: it says when one begins and what it came to, and knows of no tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from holdfast.runtime.keys import Ref
    from holdfast.runtime.mailbox import Letter
    from holdfast.runtime.plan import Plan


class DecisionSpan(Protocol):
    """A decision in a trace, from when it is asked for until it stands or is given up."""

    #: What it leads to is traced under this W3C traceparent.
    trace: str

    def leave(self) -> None:
        """Say that the workflow's code is through."""
        ...


class DecisionSpans(Protocol):
    """Traces decisions. Nothing here raises."""

    def begin(self, ref: Ref, letter: Letter) -> DecisionSpan | None:
        """Say that the workflow's code is asked next; None where that is not traced.

        A decision that is asked for again, after a conflict or because a server was away, is the same one still.
        """
        ...

    def stand(self, plans: Sequence[Plan]) -> None:
        """Say which plans stand."""
        ...
