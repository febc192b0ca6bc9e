"""What the entries of a log's stream have: a record each, in the field `r`, under its sequence number.

Somebody else's entry in such a stream has no record. It is handed on without any bytes, so that whoever reads the log
says so, and of this one instance only; the codec has the sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_FIELD = b"r"


def seq_of(id_: bytes) -> int:
    """Return the number of the record with this id."""
    return int(id_.partition(b"-")[0])


def record_in(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the record in an entry's fields; nothing where the first of them has none."""
    name, value = next(iter(fields.items()))
    return value if name == _FIELD else b""


def records_in(entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> list[tuple[int, bytes]]:
    """Return the records in a stretch of a log."""
    return [(seq_of(id_), record_in(fields)) for id_, fields in entries]


def bare_records_in(entries: Iterable[tuple[bytes, Sequence[bytes]]]) -> list[tuple[int, bytes]]:
    """Return the records in a stretch of a log that is as Redis sent it."""
    return [(seq_of(id_), fields[1] if fields[0] == _FIELD else b"") for id_, fields in entries]
