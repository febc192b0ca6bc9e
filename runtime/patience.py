"""Patience: how long messages are kept back that cannot be dealt with now.

In a rolling deploy an old process meets types of the new code, which it does not know; the new process will. So such a
message waits for a while, and what comes after it waits too. But garbage waits as well, and a queue that is full of it
stands still: patience is with the type, counted from when it was first met, and not with each message anew. A type that
stayed unknown for that long stays unknown to this process; and with many unknown types there is no patience at all,
since no deploy brings so many.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from holdfast.runtime.clock import monotonic
from holdfast.runtime.ports import Delivery

#: Things that are waited for at a time.
WAITED_FOR_MAX = 100


class Patience:
    """Remembers what is waited for, and since when. Used by one thread at a time."""

    def __init__(self, patience_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._now = clock()
        #: By name, when it was first met and when last; the one that was not met for longest in front.
        self._met: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def look(self) -> None:
        """Begin another look at what waits: what is first met in it has time until the next one at least."""
        self._now = self._clock()

    def begins(self, delivery: Delivery, name: str) -> bool:
        """Return whether the waiting for what is named begins with this message. To be asked before `ran_out`.

        Among too many names it cannot be told of a message that waits already: then it does not.
        """
        known = self._met.get(name)
        if known is not None and self._now - known[1] <= self._patience_s:
            return False
        return delivery.deferred_since == 0 or len(self._met) < WAITED_FOR_MAX

    def ran_out(self, delivery: Delivery, name: str, *, many: bool = False) -> bool:
        """Return whether a message has waited for long enough for what is named, itself or by others that did.

        Of what comes in `many` names, as instances do, those that were not met for longest are forgotten. Else there is
        no patience with one name more.
        """
        now = self._now
        since = delivery.deferred_since or now
        known = self._met.pop(name, None)
        # Where none of it came for a while, this is another deploy.
        first = known[0] if known is not None and now - known[1] <= self._patience_s else now
        while self._met and ((many and len(self._met) >= WAITED_FOR_MAX) or self._is_stale(now)):
            self._met.popitem(last=False)
        if len(self._met) >= WAITED_FOR_MAX:
            return True
        self._met[name] = (first, now)
        return (first < now or delivery.deferred_since > 0) and now - min(first, since) >= self._patience_s

    def _is_stale(self, now: float) -> bool:
        return now - next(iter(self._met.values()))[1] > self._patience_s
