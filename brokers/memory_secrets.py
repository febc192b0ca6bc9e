"""Wrapped data keys in memory: as short as a specification."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.brokers.memory import MemoryServer
from holdfast.runtime.keys import Ref


class MemorySecrets:
    """Keeps secrets."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def secrets(self, refs: Sequence[Ref]) -> list[bytes | None]:
        """Return what is kept."""
        return [self._server.secrets.get(ref) for ref in refs]

    def keep(self, new: Sequence[tuple[Ref, bytes]]) -> list[bytes]:
        """Keep what is new."""
        with self._server.changed:
            return [self._server.secrets.setdefault(ref, data) for ref, data in new]

    def replace(self, ref: Ref, old: bytes, new: bytes) -> bool:
        """Replace it."""
        with self._server.changed:
            if self._server.secrets.get(ref) != old:
                return False
            self._server.secrets[ref] = new
            return True

    def all(self, partition: int) -> Iterator[tuple[Ref, bytes]]:
        """Yield what is kept in a partition."""
        yield from [(ref, data) for ref, data in self._server.secrets.items() if ref.partition == partition]
