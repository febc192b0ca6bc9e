"""
Durability: a level is given as it is named, or refused with a sentence that says what to do.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from holdfast.brokers import durability
from holdfast.brokers.memory import MemoryJournal, MemoryServer
from holdfast.brokers.redis_journal import RedisJournal
from holdfast.brokers.redis_link import RedisLink
from holdfast.runtime.config import Durability, Settings
from holdfast.runtime.errors import DurabilityUnavailable, NotDurable, Unavailable
from tests import controls
from tests.contract.threads import begin
from tests.contract.worlds import write
from tests.support.processes import SECONDS_MAX, eventually
from tests.support.servers import RedisServer

REF = controls.ref()

Journals = Callable[[RedisServer, str], RedisJournal]


@pytest.fixture
def journals() -> Iterator[Journals]:
    """
    Make journals on servers at a durability level, as the wiring does.
    """
    links = []

    def make(server: RedisServer, level: str) -> RedisJournal:
        settings = _settings(server, level)
        link = RedisLink(settings)
        links.append(link)
        return RedisJournal(settings, link, durability.barrier(settings, link))

    yield make
    for link in links:
        link.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """
    A primary and its connected replica.
    """
    with (
        RedisServer(tmp_path / "primary", repl_diskless_sync_delay=0) as primary,
        # A replica with an AOF does not heed SIGTERM while it writes its first one.
        RedisServer(tmp_path / "replica", appendonly="no") as replica,
    ):
        follow(replica, primary)
        yield primary, replica


def follow(replica: RedisServer, primary: RedisServer) -> None:
    """
    Make a server the connected replica of another.
    """
    with replica.client() as client, primary.client() as other:
        client.replicaof("127.0.0.1", primary.port)
        eventually(lambda: other.info("replication").get("slave0", {}).get("state") == "online")


def _settings(server: RedisServer, level: str) -> Settings:
    return controls.settings(redis_url=server.url, durability=level)


# -- levels that are given


def test_memory_promises_nothing() -> None:
    """
    The barrier of the ports in memory always passes.
    """
    journal = MemoryJournal(MemoryServer(controls.PARTITIONS))
    write(journal, REF, "c-1")
    journal.barrier()


@pytest.mark.parametrize(
    ("level", "config"),
    [
        ("memory", {"appendonly": "no"}),
        ("memory", {"appendonly": "yes"}),
        ("everysec", {"appendonly": "yes", "appendfsync": "everysec"}),
        ("everysec", {"appendonly": "yes", "appendfsync": "always"}),
        ("fsync", {"appendonly": "yes", "appendfsync": "always"}),
    ],
)
def test_a_level_that_the_server_gives(
    tmp_path: Path, journals: Journals, level: str, config: dict[str, str]
) -> None:
    """
    On a server that is set up for it a level is accepted, and its barrier passes after every batch.
    """
    with RedisServer(tmp_path, **config) as server:
        journal = journals(server, level)
        journal.barrier()
        view = write(journal, REF, "c-1")
        journal.barrier()
        write(journal, view, "c-2")
        journal.barrier()

        with RedisLink(_settings(server, level)) as link:
            assert durability.shortfall(Durability.parse(level), link) is None


def test_fsync_survives_a_kill(tmp_path: Path, journals: Journals) -> None:
    """
    After the barrier of fsync a kill of the server loses nothing.
    """
    with RedisServer(tmp_path, appendfsync="always") as server:
        journal = journals(server, "fsync")
        view = write(journal, REF, "c-1")
        journal.barrier()
        server.kill()
        server.start()

        assert 2 == write(journal, view, "c-2").seq


def test_replicas_have_the_writes(pair: tuple[RedisServer, RedisServer], journals: Journals) -> None:
    """
    After the barrier of replicated(1) the replica has all that was written, and goes on alone.
    """
    primary, replica = pair
    journal = journals(primary, "replicated(1)")
    view = write(journal, REF, "c-1")
    for number in range(2, 30):
        view = write(journal, view, f"c-{number}")
        eventually(lambda: _passes(journal))
        assert number == journals(replica, "memory").read([REF])[0].seq

    primary.kill()
    with replica.client() as client:
        client.replicaof("NO", "ONE")

    assert 30 == write(journals(replica, "memory"), view, "c-30").seq


# -- levels that are refused


@pytest.mark.parametrize(
    ("level", "config", "words"),
    [
        (
            "everysec",
            {"appendonly": "no"},
            ["appendonly no", "CONFIG SET appendonly yes", "HOLDFAST_DURABILITY=memory"],
        ),
        ("everysec", {"appendfsync": "no"}, ["appendfsync no", "CONFIG SET appendfsync everysec"]),
        ("fsync", {"appendonly": "no"}, ["appendonly no", "CONFIG SET appendonly yes"]),
        (
            "fsync",
            {"appendfsync": "everysec"},
            ["appendfsync everysec", "CONFIG SET appendfsync always", "7.2"],
        ),
        ("fsync", {"appendfsync": "no"}, ["appendfsync no", "CONFIG SET appendfsync always"]),
        ("replicated(1)", {}, ["needs 1 connected replicas", "has 0", "HOLDFAST_DURABILITY"]),
        ("replicated(3)", {}, ["needs 3 connected replicas", "has 0"]),
    ],
)
def test_a_level_that_the_server_does_not_give(
    tmp_path: Path, journals: Journals, level: str, config: dict[str, str], words: list[str]
) -> None:
    """
    A level is refused at the start where the server is not set up for it; the sentence says what to change, and where.
    """
    with RedisServer(tmp_path, **config) as server, RedisLink(_settings(server, level)) as link:
        if level == "fsync" and config.get("appendonly") != "no" and durability.has_waitaof(link):
            pytest.skip("this server can wait for its AOF")
        with pytest.raises(DurabilityUnavailable) as caught:
            journals(server, level)
        sentence = str(caught.value)

        assert sentence == durability.shortfall(Durability.parse(level), link)
        assert [] == [word for word in [*words, f"durability {level}", server.url] if word not in sentence]


def test_what_the_sentence_says_helps(tmp_path: Path, journals: Journals) -> None:
    """
    After the change that a refusal asks for the level is given.
    """
    with RedisServer(tmp_path, appendonly="no") as server, server.client() as client:
        with pytest.raises(DurabilityUnavailable):
            journals(server, "fsync")
        client.config_set("appendonly", "yes")
        client.config_set("appendfsync", "always")
        write(journals(server, "fsync"), REF, "c-1")
        # While it writes its first AOF it does not heed SIGTERM.
        server.kill()


def test_too_few_replicas_are_refused(pair: tuple[RedisServer, RedisServer], journals: Journals) -> None:
    """
    One replica is not two.
    """
    with pytest.raises(DurabilityUnavailable, match=r"needs 2 connected replicas.* has 1"):
        journals(pair[0], "replicated(2)")


@pytest.mark.parametrize("level", ["everysec", "fsync"])
def test_a_server_that_hides_its_configuration(tmp_path: Path, journals: Journals, level: str) -> None:
    """
    Where CONFIG is not allowed, as on managed servers, it counts what the server says of its AOF.
    """
    with RedisServer(tmp_path) as server, server.client() as client:
        client.acl_setuser(
            "default", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", "-config"]
        )
        if level == "everysec":
            write(journals(server, level), REF, "c-1")
        else:
            with pytest.raises(DurabilityUnavailable, match="appendfsync always"):
                journals(server, level)


# -- barriers that are not reached


def test_a_replica_that_is_stuck_is_noticed(
    pair: tuple[RedisServer, RedisServer], journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A replica that does not answer in time breaks the barrier with a sentence; when it goes on the barrier passes again.
    """
    monkeypatch.setattr(durability, "BARRIER_TIMEOUT_MS", 300)
    primary, replica = pair
    journal = journals(primary, "replicated(1)")
    view = write(journal, REF, "c-1")
    eventually(lambda: _passes(journal))
    replica.pause()
    view = write(journal, view, "c-2")
    start = time.monotonic()
    with pytest.raises(NotDurable, match="only 0 of 1 replicas have the writes"):
        journal.barrier()
    waited = time.monotonic() - start
    replica.cont()
    eventually(lambda: _passes(journal))

    assert 0.2 < waited < 60
    assert 2 == journals(replica, "memory").read([REF])[0].seq


def test_a_barrier_covers_what_a_broken_connection_wrote(
    pair: tuple[RedisServer, RedisServer], journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A barrier on a fresh connection waits for what was written over the one before: it does not pass for want of writes.
    """
    monkeypatch.setattr(durability, "BARRIER_TIMEOUT_MS", 300)
    primary, replica = pair
    journal = journals(primary, "replicated(1)")
    replica.pause()
    write(journal, REF, "c-1")
    with primary.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)

    assert not _passes(journal)

    replica.cont()
    eventually(lambda: _passes(journal))


def _passes(journal: RedisJournal) -> bool:
    """
    Take the barrier, again where the connection is found broken, and say whether it was reached.
    """
    while True:
        try:
            journal.barrier()
        except NotDurable:
            return False
        except Unavailable:
            continue
        return True


def test_a_barrier_without_its_server(
    pair: tuple[RedisServer, RedisServer], journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A server that goes away while the barrier is waited for is Unavailable: nobody is told that it passed.
    """
    monkeypatch.setattr(durability, "BARRIER_TIMEOUT_MS", 9_000)
    primary, replica = pair
    journal = journals(primary, "replicated(1)")
    replica.pause()
    write(journal, REF, "c-1")
    waiting = begin(journal.barrier)

    def waits(client: redis.Redis) -> bool:
        nonlocal waiting
        if waiting.done():  # unseen
            waiting = begin(journal.barrier)
        return any(one["cmd"] == "wait" for one in client.client_list())

    with primary.client() as client:
        eventually(lambda: waits(client))
    primary.kill()

    with pytest.raises(Unavailable):
        waiting.result(SECONDS_MAX)
