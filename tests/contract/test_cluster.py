"""
What only a cluster does: slots move, and calls find them.
"""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.crc import key_slot

from holdfast.brokers.durability import Barrier
from holdfast.brokers.redis_answers import RedisAnswers
from holdfast.brokers.redis_link import RedisLink
from holdfast.runtime.config import Durability
from holdfast.runtime.errors import NotDurable, Unavailable
from tests import controls
from tests.contract.worlds import RedisWorld, log_of, write
from tests.support.processes import eventually
from tests.support.servers import ClusterNode, RedisCluster

REF = controls.ref()


#: More than select() can name.
FILES = 1_100


class Moving:
    """
    A slot on its way from one server to another.
    """

    def __init__(self, cluster: RedisCluster, key: str) -> None:
        self.slot = key_slot(key.encode())
        self.source = cluster.primary_of(key)
        self.target = next(node for node in cluster.primaries if node is not self.source)
        self._nodes = cluster.nodes

    def begin(self) -> None:
        self._say(self.target, "IMPORTING", self._id(self.source))
        self._say(self.source, "MIGRATING", self._id(self.target))

    def move_keys(self) -> None:
        with self.source.client() as client:
            for key in client.execute_command("CLUSTER GETKEYSINSLOT", self.slot, 1_000):
                client.execute_command("MIGRATE", "127.0.0.1", self.target.port, key, 0, 60_000)

    def end(self) -> None:
        for node in (self.target, self.source):
            self._say(node, "NODE", self._id(self.target))

    def _say(self, node: ClusterNode, what: str, whom: str) -> None:
        with node.client() as client:
            client.execute_command("CLUSTER SETSLOT", self.slot, what, whom)

    @staticmethod
    def _id(node: ClusterNode) -> str:
        with node.client() as client:
            return str(client.execute_command("CLUSTER MYID"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """
    A cluster of which a test may move slots.
    """
    with RedisCluster(tmp_path, replicas=0) as found:
        yield found


def test_a_partition_moves_to_another_server(cluster: RedisCluster) -> None:
    """
    While its slot is on its way, what is not there is asked for at the other server, and scripts over both are refused
    without having written; when it has arrived, everything is there and goes on.
    """
    world = RedisWorld(cluster.url)
    journal, desk = world.journal(), world.desk()
    view = write(journal, REF, "c-1")
    moving = Moving(cluster, world.keys.actor(REF))
    moving.begin()

    assert [None] == desk.recall([(REF.partition, "x")])
    assert [1] == desk.begin([(REF.partition, "y")])
    assert [2] == desk.begin([(REF.partition, "y")])
    with pytest.raises(Unavailable, match="Multiple keys request"):
        write(journal, view, "c-2")
    moving.move_keys()
    moving.end()

    eventually(lambda: _written(world, "c-2"))
    assert ["c-2" in str(log_of(world.journal(), REF)[-1]), 2] == [True, len(log_of(journal, REF))]
    assert [3] == desk.begin([(REF.partition, "y")])
    world.close()


def test_a_wait_follows_its_stream(cluster: RedisCluster) -> None:
    """
    Who waits for a stream that moves meanwhile is woken, and finds it in its new place.
    """
    world = RedisWorld(cluster.url)
    key = world.keys.commands(0)
    world.client.xadd(key, {"m": "1"})
    moving = Moving(cluster, key)
    with RedisLink(world.settings) as link:
        assert 1 == len(link.read_streams({key: "0-0"}, 10, 100))
        found: Any = world.client.xrevrange(key, count=1)
        last = found[0][0].decode()
        assert [] == link.read_streams({key: last}, 10, 50)
        moving.begin()
        moving.move_keys()
        moving.end()
        world.client.xadd(key, {"m": "2"})

        def comes() -> bool:
            try:
                return len(link.read_streams({key: last}, 10, 1_000)) == 1
            except Exception:
                return False

        eventually(comes)
        assert 1 == link.changes
    world.close()


def test_a_wait_in_a_process_with_many_files(cluster: RedisCluster) -> None:
    """
    However many files and lines a process has open, it can wait for streams.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Beside what this process has open already.
    wanted = FILES + 200 + len(list(Path("/proc/self/fd").iterdir()))
    if limits[1] != resource.RLIM_INFINITY and limits[1] < wanted:
        pytest.skip("this system lets no process open that many files")
    world = RedisWorld(cluster.url)
    key = world.keys.commands(0)
    with contextlib.ExitStack() as opened:
        if limits[0] != resource.RLIM_INFINITY and limits[0] < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, limits[1]))
            opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for _ in range(FILES):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        with RedisLink(world.settings) as link:
            assert [] == link.read_streams({key: "0-0"}, 10, 50)
            world.client.xadd(key, {"m": "1"})
            assert 1 == len(link.read_streams({key: "0-0"}, 10, 10_000))
            (line,) = link._watch._lines.values()  # type: ignore[union-attr]  # it has waited
            assert FILES < line.connection._sock.fileno()
    world.close()


def test_a_server_that_a_key_has_left_is_asked_once(cluster: RedisCluster) -> None:
    """
    A single call that is led to another server has the map looked up: the next one goes there at once, and whoever has
    to doubt what he knew is told.
    """
    with RedisLink(RedisWorld(cluster.url).settings) as link:
        key = f"{{{link.settings.namespace}.0}}:x"
        link.client.set(key, "1")
        moving = Moving(cluster, key)
        moving.begin()
        moving.move_keys()
        moving.end()

        assert b"1" == link.client.get(key)
        assert 1 == link.changes
        assert link.cluster is not None
        assert ("127.0.0.1", moving.target.port) == link.cluster.address_of(key)
        before = _moved(moving.source)
        assert b"1" == link.client.get(key)
        assert before == _moved(moving.source)


def test_what_was_found_has_to_last_as_what_was_written(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A refusal whose barrier failed is found by the next try, which writes nothing: it is answered all the same, so its
    server is asked again.
    """
    monkeypatch.setattr("holdfast.brokers.durability.BARRIER_TIMEOUT_MS", 50)
    settings = msgspec.structs.replace(
        RedisWorld(cluster.url).settings, durability=Durability.parse("replicated(1)")
    )
    with RedisLink(settings) as link:
        answers, barrier = RedisAnswers(settings, link), Barrier(settings, link, waitaof=False)
        answers.remember([(0, "c-1", b"no")])
        with pytest.raises(NotDurable):
            barrier.take()
        barrier.take()  # nothing was done since

        assert [b"no"] == answers.recall([(0, "c-1")])
        with pytest.raises(NotDurable):
            barrier.take()


def _moved(node: ClusterNode) -> int:
    """
    Return how many calls a server has led elsewhere.
    """
    with node.client() as client:
        found: Any = client.info("errorstats")
    return int(found.get("errorstat_MOVED", {"count": 0})["count"])


def _written(world: RedisWorld, command_id: str) -> bool:
    journal = world.journal()
    try:
        write(journal, journal.read([REF])[0], command_id)
    except Unavailable:
        return False
    return True
