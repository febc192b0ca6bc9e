"""The places of limits and rates, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.brokers.memory import MemoryServer
from holdfast.runtime.limit import Want


class MemorySlots:
    """Hands out places."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def acquire(self, wants: Sequence[Want], lease_ms: int) -> list[int]:
        """Take a place and a turn, both or neither."""
        with self._server.changed:
            return [self._acquire(want, lease_ms) for want in wants]

    def _acquire(self, want: Want, lease_ms: int) -> int:
        now = self._server.now_ms()
        places = self._server.slots.setdefault(want.limit, {})
        for who in [who for who, until in places.items() if until <= now]:
            del places[who]
        if want.limit and want.who not in places and len(places) >= want.places:
            return -1
        wait_ms = self._turn(want, now) if want.rate else 0
        if want.limit and not wait_ms:
            places[want.who] = now + lease_ms
        return wait_ms

    def _turn(self, want: Want, now: int) -> int:
        """Return how long it is until a turn comes, and keep it; 0 takes it."""
        turns = [one for one in self._server.starts.get(want.rate, []) if one[0] > now - want.per_ms]
        at = next((at for at, who in turns if who == want.who), None)
        turns = [one for one in turns if one[1] != want.who]
        if at is None:
            at = max(now, turns[-want.starts][0] + want.per_ms) if len(turns) >= want.starts else now
        come = [one for one, _ in turns if one <= now]
        if at <= now and len(come) >= want.starts:
            at = come[-want.starts] + want.per_ms  # others were late to theirs
        turns.append((max(at, now), want.who if at > now else ""))
        self._server.starts[want.rate] = sorted(turns)
        return max(0, at - now)

    def renew(self, wants: Sequence[Want], lease_ms: int) -> None:
        """Keep places."""
        with self._server.changed:
            for want in wants:
                places = self._server.slots.get(want.limit, {})
                if want.who in places:
                    places[want.who] = self._server.now_ms() + lease_ms

    def give_back(self, wants: Sequence[Want]) -> None:
        """Free places."""
        with self._server.changed:
            for want in wants:
                self._server.slots.get(want.limit, {}).pop(want.who, None)
