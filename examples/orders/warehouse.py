"""A warehouse: it sets goods aside, puts them back, and sends parcels. It never fails; it only runs out of things."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from examples.orders.ledger import Ledger

_SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, quantity INTEGER CHECK (quantity >= 0));
CREATE TABLE IF NOT EXISTS reservations (reference TEXT PRIMARY KEY, sku TEXT, quantity INTEGER);
CREATE TABLE IF NOT EXISTS released (reference TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS parcels (number INTEGER PRIMARY KEY AUTOINCREMENT, reference TEXT UNIQUE);
"""


class Warehouse:
    """A fake warehouse with durable books; every verb may be repeated for the same reference."""

    def __init__(self, path: Path) -> None:
        self._ledger = Ledger(path, _SCHEMA)

    def fill(self, goods: Mapping[str, int]) -> None:
        """Put goods on the shelves, unless there are some already."""
        with self._ledger.write() as books:
            books.executemany("INSERT OR IGNORE INTO stock VALUES (?, ?)", goods.items())

    def reserve(self, reference: str, sku: str, quantity: int) -> bool:
        """Set goods aside and return whether they are; not if there are too few, or the order was called off."""
        with self._ledger.write() as books:
            if books.execute("SELECT 1 FROM reservations WHERE reference = ?", (reference,)).fetchone():
                return True
            if books.execute("SELECT 1 FROM released WHERE reference = ?", (reference,)).fetchone():
                return False
            taken = books.execute(
                "UPDATE stock SET quantity = quantity - ? WHERE sku = ? AND quantity >= ?",
                (quantity, sku, quantity),
            )
            if not taken.rowcount:
                return False
            books.execute("INSERT INTO reservations VALUES (?, ?, ?)", (reference, sku, quantity))
            return True

    def release(self, reference: str) -> None:
        """Put back what was set aside, and set nothing aside any more. What was sent is gone."""
        with self._ledger.write() as books:
            if books.execute("SELECT 1 FROM parcels WHERE reference = ?", (reference,)).fetchone():
                return
            books.execute("INSERT OR IGNORE INTO released VALUES (?)", (reference,))
            set_aside = books.execute(
                "SELECT quantity, sku FROM reservations WHERE reference = ?", (reference,)
            ).fetchall()
            books.executemany("UPDATE stock SET quantity = quantity + ? WHERE sku = ?", set_aside)
            books.execute("DELETE FROM reservations WHERE reference = ?", (reference,))

    def ship(self, reference: str) -> str | None:
        """Send what was set aside and return the parcel's number; None if nothing is set aside (any more)."""
        with self._ledger.write() as books:
            if not books.execute("SELECT 1 FROM reservations WHERE reference = ?", (reference,)).fetchone():
                return None
            books.execute("INSERT OR IGNORE INTO parcels (reference) VALUES (?)", (reference,))
            (number,) = books.execute(
                "SELECT number FROM parcels WHERE reference = ?", (reference,)
            ).fetchone()
            return f"parcel-{number}"

    def counts(self) -> dict[str, int]:
        """Return how many goods are on the shelves, how many are set aside or sent, and how many parcels there are."""
        questions = {
            "on the shelves": "SELECT coalesce(sum(quantity), 0) FROM stock",
            "set aside or sent": "SELECT coalesce(sum(quantity), 0) FROM reservations",
            "parcels": "SELECT count(*) FROM parcels",
        }
        with self._ledger.read() as books:
            return {name: int(books.execute(question).fetchone()[0]) for name, question in questions.items()}
