"""Lottery: which traces are kept, drawn without making a span for each that is not.

A sampler is asked when a span is started, and most of what that costs is spent before it says no. Where it draws by the
trace id alone, as OTEL_TRACES_SAMPLER=traceidratio does, the id is drawn first, and only a winner's span is started, with
that id: the sampler then says what was known.
"""

from __future__ import annotations

import random
import re
import threading
from typing import Any

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

#: How the samplers that draw describe themselves; what the second does with a parent is no matter where there is none.
_DRAWS = re.compile(r"(?:ParentBased\{root:)?TraceIdRatioBased\{([0-9.e-]+)\}.*")


class Ids(RandomIdGenerator):
    """Random ids; for the next trace of a thread one that was drawn before."""

    def __init__(self) -> None:
        self._drawn = threading.local()

    def keep(self, trace_id: int) -> None:
        """Have the next trace that this thread begins have this id."""
        self._drawn.trace_id = trace_id

    def generate_trace_id(self) -> int:
        """Return the id that was drawn, once, or else a new one."""
        drawn: int = getattr(self._drawn, "trace_id", 0)
        if not drawn:
            return super().generate_trace_id()
        self._drawn.trace_id = 0
        return drawn


class Lottery:
    """Draws for the sampler of a provider."""

    def __init__(self, ids: Ids, rate: float) -> None:
        self._ids = ids
        self._bound = TraceIdRatioBased.get_bound_for_rate(rate)

    def draw(self) -> bool:
        """Return whether the trace that this thread begins next is kept; then it must begin it, without a parent."""
        trace_id = random.getrandbits(128)
        if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT >= self._bound or not trace_id:
            return False
        self._ids.keep(trace_id)
        return True

    def win(self) -> None:
        """Have the trace that this thread begins next kept, where any is: it must begin it, without a parent."""
        if self._bound:
            low = 1 + random.randrange(self._bound - 1) if self._bound > 1 else 0
            self._ids.keep(1 + random.randrange((1 << 64) - 1) << 64 | low)


def lottery_of(provider: Any) -> Lottery | None:
    """Return what draws for a provider; None where its sampler or its ids are not ours to know."""
    sampler, ids = getattr(provider, "sampler", None), getattr(provider, "id_generator", None)
    if sampler is None or not isinstance(ids, Ids):
        return None
    found = _DRAWS.fullmatch(sampler.get_description())
    return Lottery(ids, float(found[1])) if found else None
