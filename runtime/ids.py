"""Command ids: unique without asking anybody, short, and cheap to make.

An id is the process's own random 72 bits and a counter: about twelve characters and a few more.
It is several times cheaper than a UUID, and a log of ids that share a prefix is small.
"""

import base64
import hashlib
import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

#: The longest command id, in bytes of UTF-8: it is kept in every record.
ID_BYTES_MAX = 128

#: Ids that are made of other ids say up to this length which those are; longer ones are digests, so that they do not
#: grow from one step of a process to the next.
READABLE_ID_CHARS = 64

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


@contextmanager
def repeatable(prefix: str) -> Iterator[None]:
    """Have ids be the same each time, for a simulation that is to be repeated exactly."""
    global _prefix, _counter
    before = _prefix, _counter
    _prefix, _counter = prefix, itertools.count(1)
    try:
        yield
    finally:
        _prefix, _counter = before


def digest_of(whole: str) -> str:
    """Return a short text that no other text leads to, and this one always."""
    return base64.urlsafe_b64encode(hashlib.blake2b(whole.encode(), digest_size=15).digest()).decode()
