"""A read model in memory, written together with how far it goes: what SqlStore is in a database, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from holdfast.runtime.feed import Stale
from holdfast.runtime.keys import Ref

_GONE: Any = object()


class MemoryStore:
    """A read model in a dictionary: `ctx.tx[key] = value` is stored with how far it goes, so each event counts once.

    For tests of projections: nothing of it survives the process. `rows` is what the live generation shows.
    """

    def __init__(self) -> None:
        self._rows: dict[int, dict[Any, Any]] = {}
        self._seqs: dict[tuple[int, Ref], int] = {}
        self._positions: dict[int, dict[int, str]] = {}
        self._live = 1

    @property
    def rows(self) -> dict[Any, Any]:
        """What the live generation has."""
        return self._rows.setdefault(self._live, {})

    def clear(self) -> None:
        """Begin anew."""
        self.__init__()  # type: ignore[misc]

    def open(self, _settings: object, _projection: str) -> MemoryModel:
        """Return what a worker writes with."""
        return MemoryModel(self)


class Draft:
    """What one transaction writes, above what is stored."""

    def __init__(self, rows: dict[Any, Any]) -> None:
        self._rows = rows
        self.written: dict[Any, Any] = {}
        #: What was read of what is stored: it must still be so when this is stored.
        self.read: dict[Any, Any] = {}

    def get(self, key: Any, default: Any = None) -> Any:
        """Return a value, or the default where there is none."""
        found = self.written[key] if key in self.written else self._stored(key)
        return default if found is _GONE else found

    def _stored(self, key: Any) -> Any:
        return self.read.setdefault(key, self._rows.get(key, _GONE))

    def __getitem__(self, key: Any) -> Any:
        found = self.get(key, _GONE)
        if found is _GONE:
            raise KeyError(key)
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        self.written[key] = value

    def __delitem__(self, key: Any) -> None:
        self[key]  # as a dictionary does where there is nothing
        self.written[key] = _GONE

    def __contains__(self, key: object) -> bool:
        return self.get(key, _GONE) is not _GONE


class MemoryWriting:
    """One transaction."""

    def __init__(self, store: MemoryStore, generation: int) -> None:
        self._store = store
        self._generation = generation
        self.tx: Any = Draft(store._rows.setdefault(generation, {}))
        self._read: dict[Ref, int] = {}
        self._kept: list[tuple[Ref, int]] = []
        self._positions: dict[int, str] = {}

    def seqs(self, refs: Sequence[Ref]) -> list[int]:
        """Return up to which record instances are applied."""
        found = [self._store._seqs.get((self._generation, ref), 0) for ref in refs]
        self._read.update(zip(refs, found, strict=True))
        return found

    def keep(self, seqs: Sequence[tuple[Ref, int]], positions: Mapping[int, str]) -> None:
        """Have it kept."""
        self._kept += seqs
        self._positions.update(positions)

    def store(self) -> None:
        """Store everything, unless somebody else stored something of it meanwhile."""
        rows = self._store._rows[self._generation]
        seqs = ((self._store._seqs.get((self._generation, ref), 0), seq) for ref, seq in self._read.items())
        values = ((rows.get(key, _GONE), value) for key, value in self.tx.read.items())
        if any(now != then for now, then in chain(seqs, values)):
            message = "somebody else has written meanwhile"
            raise Stale(message)
        for key, value in self.tx.written.items():
            if value is _GONE:
                rows.pop(key, None)
            else:
                rows[key] = value
        self._store._seqs.update({(self._generation, ref): seq for ref, seq in self._kept})
        self._store._positions.setdefault(self._generation, {}).update(self._positions)


class MemoryModel:
    """What a worker writes to."""

    exactly_once = True

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def prepare(self, generation: int, *, live: bool) -> None:
        """Begin a generation."""
        self._store._rows.setdefault(generation, {})
        if live:
            self._store._live = generation

    @contextmanager
    def transaction(self, generation: int, _partitions: Sequence[int]) -> Iterator[MemoryWriting]:
        """Write all of it or nothing."""
        writing = MemoryWriting(self._store, generation)
        yield writing
        writing.store()

    def positions(self, generation: int) -> dict[int, str]:
        """Return how far the feed was read."""
        return dict(self._store._positions.get(generation, {}))

    def reachable(self) -> bool:
        """Return True: it is here."""
        return True

    def switch(self, generation: int) -> None:
        """Show another generation."""
        self._store._live = generation

    def drop(self, generation: int) -> None:
        """Forget a generation."""
        self._store._rows.pop(generation, None)

    def close(self) -> None:
        """Need nothing."""
