"""
Secrets: wrapped data keys beside the instances. The first one that is kept counts, and none is replaced unseen.
"""

from collections.abc import Iterator

import pytest

from holdfast import Settings
from holdfast.brokers.memory import MemoryServer
from holdfast.brokers.memory_secrets import MemorySecrets
from holdfast.brokers.redis_link import RedisLink
from holdfast.brokers.redis_secrets import RedisSecrets
from holdfast.runtime.cipher import NOWHERE, Secrets
from holdfast.runtime.keys import Ref

ONE, OTHER, NASTY = Ref(0, "order", "o-1"), Ref(1, "order", "o-1/2"), Ref(1, "order", "{a}:b/3/c\n")


@pytest.fixture(params=["memory", "redis"])
def secrets(request: pytest.FixtureRequest, redis_url: str, namespace: str) -> Iterator[Secrets]:
    if request.param == "memory":
        yield MemorySecrets(MemoryServer(2))
        return
    settings = Settings.of(redis_url=redis_url, namespace=namespace, partitions=2)
    with RedisLink(settings) as link:
        yield RedisSecrets(settings, link)


def test_the_first_one_counts(secrets: Secrets) -> None:
    """
    Who comes second is given what is there.
    """
    assert [None, None] == secrets.secrets([ONE, NASTY])
    assert [b"1", b"2"] == secrets.keep([(ONE, b"1"), (NASTY, b"2")])
    assert [b"1", b"3"] == secrets.keep([(ONE, b"x"), (NOWHERE, b"3")])
    assert [b"2", b"1", None, b"3"] == secrets.secrets([NASTY, ONE, OTHER, NOWHERE])


def test_replacing_what_was_read(secrets: Secrets) -> None:
    """
    Nobody overwrites what he has not seen.
    """
    secrets.keep([(ONE, b"1")])

    assert not secrets.replace(ONE, b"0", b"2")
    assert secrets.replace(ONE, b"1", b"2")
    assert not secrets.replace(OTHER, b"1", b"2")
    assert [b"2", None] == secrets.secrets([ONE, OTHER])


def test_all_are_found_again(secrets: Secrets) -> None:
    """
    Each under the instance that it is of.
    """
    secrets.keep([(ONE, b"1"), (OTHER, b"2"), (NASTY, b"3"), (NOWHERE, b"4")])

    found = {partition: sorted(secrets.all(partition)) for partition in (-1, 0, 1)}
    assert {-1: [(NOWHERE, b"4")], 0: [(ONE, b"1")], 1: sorted([(OTHER, b"2"), (NASTY, b"3")])} == found
