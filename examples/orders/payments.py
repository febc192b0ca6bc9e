"""A payment provider, as they are: it fails, and sometimes it charges the card but its answer is lost.

It keeps books by idempotency key, as real ones do: the same key again is the same charge. So whoever uses one key for
every attempt charges once, and whoever makes up a new one charges twice; `books` tells.
"""

from __future__ import annotations

import random
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from examples.orders.ledger import Ledger

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (idempotency_key TEXT, outcome TEXT);
CREATE TABLE IF NOT EXISTS charges (
    idempotency_key TEXT PRIMARY KEY, reference TEXT, amount INTEGER, refunded INTEGER DEFAULT 0
);
CREATE TABLE IF NOT EXISTS voided (reference TEXT PRIMARY KEY);
CREATE VIEW IF NOT EXISTS kept AS SELECT * FROM charges WHERE NOT refunded;
CREATE INDEX IF NOT EXISTS calls_by_key ON calls (idempotency_key);
CREATE INDEX IF NOT EXISTS charges_by_reference ON charges (reference);
"""


_CHARGED, _DECLINED, _UNREACHABLE, _LOST = "charged", "declined", "unreachable", "answer lost"


class ProviderError(Exception):
    """The provider failed. Nobody knows whether it did anything."""


class Unreachable(ProviderError):
    """The provider did not take the call."""


class AnswerLost(ProviderError):
    """The provider took the call, but its answer did not come in time."""


class Declined(Exception):
    """The card was refused, and will be whenever one asks."""


@dataclass(frozen=True, slots=True)
class Books:
    """What the provider's books say."""

    calls: int
    unreachable: int
    answers_lost: int
    declined: int
    #: References, such as orders, for which a card is charged now, and the sum.
    charged: int
    amount: int
    #: Those for which it is charged more than once.
    charged_twice: int
    refunded: int


class PaymentProvider:
    """A fake provider with a durable record of its own, which any number of processes may use at once."""

    def __init__(
        self,
        path: Path,
        *,
        seed: int = 0,
        unreachable: float = 0.1,
        answers_lost: float = 0.1,
        declines: float = 0.0,
        slow_s: float = 0.0,
    ) -> None:
        """Open or make the provider's books.

        Args:
            path: The file that they are kept in.
            seed: What goes wrong depends on it, and on the idempotency key and the number of the call; on nothing else.
            unreachable, answers_lost: Shares of calls that go wrong in these ways.
            declines: The share of references whose card is refused.
            slow_s: How long it takes to lose an answer.
        """
        self._ledger = Ledger(path, _SCHEMA)
        self._seed = seed
        self._unreachable = unreachable
        self._answers_lost = answers_lost
        self._declines = declines
        self._slow_s = slow_s

    def charge(self, idempotency_key: str, reference: str, amount: int) -> str:
        """Charge a card and return the payment's number; the same key again is the same payment.

        Raises:
            ProviderError: It may or may not have been charged; ask again with the same key.
            Declined: It was not, and will not be.
        """
        with self._ledger.write() as books:
            outcome = self._outcome(books, idempotency_key, reference)
            if outcome in (_CHARGED, _LOST):
                books.execute(
                    "INSERT OR IGNORE INTO charges (idempotency_key, reference, amount) VALUES (?, ?, ?)",
                    (idempotency_key, reference, amount),
                )
            books.execute("INSERT INTO calls VALUES (?, ?)", (idempotency_key, outcome))
        if outcome == _UNREACHABLE:
            message = "connection refused"
            raise Unreachable(message)
        if outcome == _DECLINED:
            message = f"the card of {reference} was refused"
            raise Declined(message)
        if outcome == _LOST:
            time.sleep(self._slow_s)
            message = "no answer in time"
            raise AnswerLost(message)
        return f"pay-{idempotency_key}"

    def _outcome(self, books: sqlite3.Connection, idempotency_key: str, reference: str) -> str:
        """Return what is to become of a call, without a coin that falls otherwise the next time it is run."""
        before = _count(books, "SELECT count(*) FROM calls WHERE idempotency_key = ?", idempotency_key)
        luck = random.Random(f"{self._seed} {idempotency_key} {before}").random()
        if luck < self._unreachable:
            return _UNREACHABLE
        if _count(books, "SELECT count(*) FROM voided WHERE reference = ?", reference):
            return _DECLINED
        if random.Random(f"{self._seed} {reference}").random() < self._declines:
            return _DECLINED
        return _LOST if luck < self._unreachable + self._answers_lost else _CHARGED

    def void(self, reference: str) -> int:
        """Give back all that was charged for a reference, and never charge for it again; return the sum.

        However often it is asked, and whatever comes first, the charge or the voiding: nothing stays charged.
        """
        with self._ledger.write() as books:
            books.execute("INSERT OR IGNORE INTO voided VALUES (?)", (reference,))
            books.execute("UPDATE charges SET refunded = 1 WHERE reference = ?", (reference,))
            return _count(
                books, "SELECT coalesce(sum(amount), 0) FROM charges WHERE reference = ?", reference
            )

    def books(self) -> Books:
        """Return what the books say."""
        with self._ledger.read() as books:
            outcomes = dict(books.execute("SELECT outcome, count(*) FROM calls GROUP BY outcome"))
            return Books(
                calls=sum(outcomes.values()),
                unreachable=outcomes.get(_UNREACHABLE, 0),
                answers_lost=outcomes.get(_LOST, 0),
                declined=outcomes.get(_DECLINED, 0),
                charged=_count(books, "SELECT count(DISTINCT reference) FROM kept"),
                amount=_count(books, "SELECT coalesce(sum(amount), 0) FROM kept"),
                charged_twice=_count(
                    books, "SELECT count(*) FROM (SELECT 1 FROM kept GROUP BY reference HAVING count(*) > 1)"
                ),
                refunded=_count(books, "SELECT count(DISTINCT reference) FROM charges WHERE refunded"),
            )


def _count(books: sqlite3.Connection, question: str, *values: str) -> int:
    (number,) = books.execute(question, values).fetchone()
    return int(number)
