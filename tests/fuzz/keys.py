"""
Keys: whatever a business key contains, its instance's keys in Redis are its own, and within its namespace.
"""

import re

from holdfast.brokers.keys import Keys, escape
from holdfast.runtime.errors import KeyRefused
from holdfast.runtime.keys import KEY_BYTES_MAX, Ref, check_key, partition_of
from tests import controls
from tests.fuzz.draw import Draw

_KEYS = Keys("shop")
_OTHER = Keys("shop-2")
_ESCAPED = re.compile("%([0-9A-F]{2})")

SEEDS = [b"\x03" + key.encode()[:60] + b"\x10" + key.encode()[:60] for key in controls.KEYS]


def check(data: bytes) -> None:
    """
    A key is refused, or it can name an instance; escaping it can be undone, so that no two keys become one; and no key
    of Redis that is made of it is another's, of another partition, or of another namespace.
    """
    draw = Draw(data)
    one, two = draw.text(200), draw.text(200)
    for text in (one, two):
        escaped = escape(text)
        assert not re.search(r"[{}:\x00-\x1f\x7f]", escaped)
        assert text == _ESCAPED.sub(lambda found: chr(int(found[1], 16)), escaped)
    assert (one == two) == (escape(one) == escape(two))
    names = [_names(text) for text in (one, two)]
    if None in names or one == two:
        return
    first, second = names
    assert first is not None
    assert second is not None
    assert not first & second


def _names(text: str) -> set[str] | None:
    """
    Return the keys of Redis that an instance of this business key has, or None where there can be none.
    """
    try:
        key = check_key(text, "the test")
    except KeyRefused:
        return None
    assert key == text
    assert 0 < len(key.encode()) <= KEY_BYTES_MAX
    partition = partition_of("order", key, controls.PARTITIONS)
    assert 0 <= partition < controls.PARTITIONS
    ref = Ref(partition, "order", key)
    makers = ("actor", "log", "snap", "parked", "parked_bodies", "observations")
    found = {getattr(_KEYS, maker)(ref) for maker in makers}
    found.add(_KEYS.unique(partition, "order", key))
    assert len(found) == len(makers) + 1
    for name in found:
        name.encode()
        # The hash tag is what stands between the first brace and the next closing one.
        assert re.fullmatch(r"\{shop\.[0-9]+\}:[a-z-]+:order:[^{}:]+", name, re.DOTALL)
        assert name.startswith(_KEYS.tag(partition))
    assert not found & {getattr(_OTHER, maker)(ref) for maker in makers}
    return found
