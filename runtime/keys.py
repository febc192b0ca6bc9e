"""Business keys and the partitions that they fall into."""

import zlib
from typing import NamedTuple

from holdfast.runtime.errors import KeyRefused

#: Long enough for any sane identifier, short enough to be part of a dozen Redis keys.
KEY_BYTES_MAX = 512


class Ref(NamedTuple):
    """Which instance: its partition, its workflow type and its business key."""

    partition: int
    workflow: str
    key: str

    def __str__(self) -> str:
        return f"{self.workflow}/{self.key}"

    @property
    def scope(self) -> str:
        """What names within this instance begin with; no other instance's names do, whatever is in the keys."""
        return f"{self.workflow}/{len(self.key)}/{self.key}"


def check_key(key: object, owner: str) -> str:
    """Return the key if it can name an instance.

    Raises:
        KeyRefused: It is no text, empty, longer than 512 bytes, or has characters that UTF-8 cannot carry.
    """
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str):
        message = f"the key of {owner} must be text, not {type(key).__name__}"
        raise KeyRefused(message)
    if not key:
        message = f"the key of {owner} is empty; give the business identifier of the instance"
        raise KeyRefused(message)
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError as error:
        message = f"the key of {owner} cannot be written as UTF-8: {error.reason} at character {error.start}"
        raise KeyRefused(message) from None
    if size > KEY_BYTES_MAX:
        message = f"the key of {owner} is {size:,} bytes long; the limit is {KEY_BYTES_MAX}: {key[:40]!r}..."
        raise KeyRefused(message)
    return key


def partition_of(workflow: str, key: str, partitions: int) -> int:
    """Return the partition of an instance: crc32 of `type/key`, modulo the number of partitions."""
    return zlib.crc32(f"{workflow}/{key}".encode()) % partitions
