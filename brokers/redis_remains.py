"""The remains of instances that are over, in Redis: looked for page by page, and removed by one script a page.

Timers may be many and far away, so theirs are found by name. Nothing keeps a list of what an instance has in the outbox
or among the dead letters: that would cost each decision a write, for what few instances ever need. Outboxes are short
while their pool is served, so whoever is cancelled has the partition's looked through, off the path of everybody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from holdfast.brokers import scripts
from holdfast.brokers.keys import PUT_OFF, Keys, name_of_effect
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.redis_timer_names import TimerNames
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime import faults
from holdfast.runtime.config import Settings
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.faults import Point
from holdfast.runtime.keys import Ref
from holdfast.runtime.record import EffectEntry

#: Entries looked through, and removed, in one round trip.
PAGE = 500

_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)
_letter_decoder = msgspec.msgpack.Decoder(DeadLetter)


class RedisRemains:
    """Clears away what instances have left in Redis."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)

    def withdraw(self, ref: Ref) -> int:
        """Remove timers and effects; see withdraw.lua."""
        timers = self._remove(ref, "timers", self._timers(ref))
        faults.reach(Point.REMAINING_TIMERS_REMOVED)
        return timers + self._remove(ref, "effects", self._effects(ref))

    def scrub(self, ref: Ref) -> int:
        """Remove the dead letters and observations too."""
        count = self.withdraw(ref)
        faults.reach(Point.REMAINING_EFFECTS_REMOVED)
        count += self._remove(ref, "dead", self._letters(ref))
        return count + self._remove(ref, "observations")

    def _remove(self, ref: Ref, what: str, pages: Iterator[Sequence[bytes]] | None = None) -> int:
        """Remove what was found, page by page; without pages, all that goes by the instance's own name."""
        own, partition = self._keys, ref.partition
        keys = (
            own.actor(ref),
            own.schedule(partition),
            own.timers(partition),
            own.effects(partition),
            own.dead(partition),
            own.dead_letters(partition),
            own.begun(partition),
            own.effect_notes(partition),
            own.timer_names(partition),
            own.observations(ref),
        )
        found = [()] if pages is None else (page for page in pages if page)
        calls = (Call(Script.WITHDRAW, keys, (what, *page)) for page in found)
        return sum(int(scripts.run(self._link, [call])[0]) for call in calls)

    def _timers(self, ref: Ref) -> Iterator[Sequence[bytes]]:
        # Put-off effects wait in the same hash, under names of their own.
        own = (*(f"{ref.scope}{mark}" for mark in "/:"), put_off_name(ref))
        return TimerNames(self._keys, self._link).beginning_with(ref.partition, *own)

    def _letters(self, ref: Ref) -> Iterator[Sequence[bytes]]:
        for found in self._scan(self._keys.dead_letters(ref.partition)):
            yield [id_ for id_, data in found.items() if _is_of(ref, _letter_decoder.decode(data))]

    def _scan(self, key: str) -> Iterator[dict[bytes, bytes]]:
        cursor = 0
        while True:
            with unavailable(self._link):
                reply: Any = self._link.client.hscan(key, cursor, count=PAGE)
            cursor, found = reply
            yield found
            if not cursor:
                return

    def _effects(self, ref: Ref) -> Iterator[Sequence[bytes]]:
        after = "-"
        while True:
            with unavailable(self._link):
                found: Any = self._link.client.xrange(
                    self._keys.effects(ref.partition), after, "+", count=PAGE
                )
            own: list[bytes] = []
            for id_, fields in found:
                entry = _effect_decoder.decode(fields[b"e"]) if b"e" in fields else None
                if entry is not None and _is_of(ref, entry):
                    own += [id_, name_of_effect(entry.workflow, entry.key, entry.id).encode()]
            yield own
            if len(found) < PAGE:
                return
            after = f"({found[-1][0].decode()}"


def _is_of(ref: Ref, one: EffectEntry | DeadLetter) -> bool:
    return (one.workflow, one.key) == (ref.workflow, ref.key)


def put_off_name(ref: Ref) -> str:
    """Return what the names of an instance's put-off effects begin with, among those of the timers."""
    return PUT_OFF + name_of_effect(ref.workflow, ref.key, "")
