"""Ledger: what the two fakes of this example write down, in a file that all processes share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

#: How long one process waits for another one's transaction.
PATIENCE_S = 30.0


class Ledger:
    """A SQLite file. Every use has a connection of its own, so that any thread may use it."""

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(schema)

    def _connect(self) -> sqlite3.Connection:
        # Without the module's own transactions: ours begin where they are written, and as writers.
        connection = sqlite3.connect(self.path, timeout=PATIENCE_S, isolation_level=None)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection within a transaction that is kept if nothing is raised."""
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection."""
        with closing(self._connect()) as connection:
            yield connection
