"""Command ids: unique without asking anybody, short, and cheap to make.

An id is the process's own random 72 bits and a counter: about twelve characters and a few more.
It is several times cheaper than a UUID, and a log of ids that share a prefix is small.
"""

import itertools
import os
import secrets
from collections.abc import Iterator

#: The longest command id, in bytes of UTF-8: it is kept in every record.
ID_BYTES_MAX = 128

_PREFIX_BYTES = 9  # 72 random bits: a million processes collide with a chance of one in ten thousand million

_prefix: str
_counter: Iterator[int]


def _reseed() -> None:
    global _prefix, _counter  # noqa: PLW0603 - one source of ids per process, made anew after a fork
    _prefix = secrets.token_urlsafe(_PREFIX_BYTES)
    _counter = itertools.count(1)


_reseed()
os.register_at_fork(after_in_child=_reseed)


def new_id() -> str:
    """Return an id that no other call, process or machine returns."""
    return f"{_prefix}.{next(_counter):x}"
