"""Names of timers in Redis: those of one instance are found without looking at those of all others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.scripts import Call, Script

#: Names that are read in one round trip.
PAGE = 500


class TimerNames:
    """Finds names by what they begin with.

    Every script that writes or removes a timer does so with its name. Workers of a release that knew no names do
    neither: where the two differ in number, all are compared, once. While such workers run, a timer that one has set
    can be missed as long as another that one has removed is still named.
    """

    def __init__(self, keys: Keys, link: RedisLink) -> None:
        self._keys = keys
        self._link = link

    def beginning_with(self, partition: int, *starts: str) -> Iterator[list[bytes]]:
        """Yield names page by page."""
        if not self._agree(partition):
            self._compare(partition)
        for start in starts:
            yield from self._range(partition, start.encode())

    def _range(self, partition: int, start: bytes) -> Iterator[list[bytes]]:
        # No byte of UTF-8 is 255.
        low, high = b"[" + start, b"(" + start + b"\xff"
        while True:
            with unavailable(self._link):
                names: Any = self._link.client.zrange(
                    self._keys.timer_names(partition),
                    low,
                    high,
                    bylex=True,
                    offset=0,
                    num=PAGE,
                )
            if names:
                yield names
            if len(names) < PAGE:
                return
            low = b"(" + names[-1]

    def _agree(self, partition: int) -> bool:
        timers, names = self._keys.timers(partition), self._keys.timer_names(partition)
        with unavailable(self._link):
            pipe = self._link.at(timers).pipeline(transaction=True)
            pipe.hlen(timers)
            pipe.zcard(names)
            stored, named = pipe.execute()
        return bool(stored == named)

    def _compare(self, partition: int) -> None:
        timers, names = self._keys.timers(partition), self._keys.timer_names(partition)
        for found in self._scan("hscan", timers), self._scan("zscan", names):
            for page in found:
                scripts.run(self._link, [Call(Script.NAME_TIMERS, (timers, names), page)])

    def _scan(self, command: str, key: str) -> Iterator[list[bytes]]:
        cursor = 0
        while True:
            with unavailable(self._link):
                reply: Any = getattr(self._link.client, command)(key, cursor, count=PAGE)
            cursor, found = reply
            page = list(dict(found))
            if page:
                yield page
            if not cursor:
                return
