"""
Secrets: wrapped data keys beside the instances. The first one that is kept counts, and none is replaced unseen.
"""

import base64
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast import Settings
from holdfast.actors import wiring
from holdfast.brokers.memory import MemoryServer
from holdfast.brokers.memory_secrets import MemorySecrets
from holdfast.brokers.redis_link import RedisLink
from holdfast.brokers.redis_secrets import RedisSecrets
from holdfast.runtime.cipher import NOWHERE, Cipher, Place, Secrets, is_sealed
from holdfast.runtime.config import Durability
from holdfast.runtime.errors import HoldfastError, NotDurable
from holdfast.runtime.keys import Ref
from tests.contract.pairs import Pair
from tests.support.processes import eventually
from tests.support.servers import RedisServer

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


# -- a server that is lost


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """
    A pair of its own for each test, for payloads that are encrypted.
    """
    with (
        RedisServer(tmp_path / "a") as primary,
        RedisServer(tmp_path / "b", repl_diskless_sync_delay=0) as replica,
    ):
        found = Pair(primary, replica)
        keys = f"k1:{base64.b64encode(bytes(32)).decode()}"
        found.settings = msgspec.structs.replace(found.settings, encryption_keys=keys)
        try:
            yield found
        finally:
            found.close()


def opens(settings: Settings, place: Place, data: bytes) -> bool:
    """
    Say whether another process can read what was encrypted.
    """
    cipher, close = wiring.open_cipher(settings)
    try:
        return not is_sealed(cipher.open(place, data))
    finally:
        close()


def seals(cipher: Cipher, place: Place) -> bool:
    """
    Say whether something can be encrypted, as it can once the server is back.
    """
    try:
        cipher.seal(place, b"x")
    except HoldfastError:
        return False
    return True


def test_nothing_is_encrypted_with_a_key_that_another_server_lacks(pair: Pair) -> None:
    """
    A replica that had not yet got a data key is promoted: whoever has it puts it there before he goes on, or nobody
    could read what he writes once he is gone.
    """
    cipher, close = wiring.open_cipher(pair.settings)
    one, other = Place(ONE, "record", 1), Place(OTHER, "record", 1)
    pair.part()
    before = cipher.seal(one, b"before")
    pair.fail_over()
    eventually(lambda: seals(cipher, other))
    after = cipher.seal(one, b"after")
    close()

    assert [True, True] == [opens(pair.settings, one, data) for data in (before, after)]


def test_a_key_that_another_process_made_meanwhile_stands(pair: Pair) -> None:
    """
    Where the instance has got another data key since, that is the one to write with.
    """
    cipher, close = wiring.open_cipher(pair.settings)
    one, other = Place(ONE, "record", 1), Place(OTHER, "record", 1)
    pair.part()
    cipher.seal(one, b"before")
    pair.fail_over()
    rival, close_rival = wiring.open_cipher(pair.settings)
    eventually(lambda: seals(rival, one))
    eventually(lambda: seals(cipher, other))
    after = cipher.seal(one, b"after")
    close()

    assert b"after" == rival.open(one, after)
    close_rival()


def test_a_new_key_is_as_durable_as_what_it_encrypts(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With `replicated(1)` nothing is sent under a data key that only one server has: neither by whoever made it, nor by
    another who found it there.
    """
    monkeypatch.setattr("holdfast.brokers.durability.BARRIER_TIMEOUT_MS", 100)
    settings = msgspec.structs.replace(pair.settings, durability=Durability.parse("replicated(1)"))
    place = Place(ONE, "command", "c-1")
    cipher, close = wiring.open_cipher(settings)
    # Where the replica stood still for longer than the barrier waits, the next try finds the key there.
    eventually(lambda: seals(cipher, place))
    pair.part()
    with pytest.raises(NotDurable):
        cipher.seal(Place(OTHER, "command", "c-2"), b"x")
    close()
    cipher, close = wiring.open_cipher(settings)
    with pytest.raises(HoldfastError):
        cipher.seal(Place(OTHER, "command", "c-2"), b"x")
    close()
