"""
A replica takes the place of its primary under load: what the level promises is there, and what is lost is told.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import Record, Unavailable, connect
from holdfast.actors.projection_desk import ProjectionDesk
from holdfast.runtime.dead_letter import DeadLetter
from tests.contract.pairs import Pair
from tests.flow import books
from tests.flow.checker import wrongs_of_one_log
from tests.flow.house import House, accounts, house, nothing_wrong, quick
from tests.flow.senders import Senders
from tests.flow.shop import NextLedger
from tests.flow.test_projections import APP as BOOKS
from tests.flow.test_projections import Library, prepare
from tests.support.processes import eventually
from tests.support.servers import RedisCluster, RedisServer

pytestmark = pytest.mark.timeout(300)

#: Seconds that a failover under load may take on a busy machine.
PATIENCE_S = 90.0


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """
    A primary and its replica, reached at one address.
    """
    quickly = {"repl_diskless_sync_delay": 0}
    with RedisServer(tmp_path / "a") as primary, RedisServer(tmp_path / "b", **quickly) as replica:
        found = Pair(primary, replica)
        try:
            yield found
        finally:
            found.close()


def test_nothing_that_a_replica_has_confirmed_is_lost(pair: Pair, namespace: str, tmp_path: Path) -> None:
    """
    With replicated(1) the replica is cut off and then promoted, under load: all that was acknowledged is there, once
    and in order, though the former primary had taken more.
    """
    settings = quick(namespace, pair.settings.redis_url, durability="replicated(1)")
    with (
        RedisServer(tmp_path / "c", repl_diskless_sync_delay=0) as third,
        house(settings, tmp_path) as home,
        home.crew(2),
    ):
        with Senders(home.client, accounts("a", 20), per_key=home.per_key, callers=1) as senders:
            home.await_progress()
            pair.part()
            time.sleep(1)
            pair.fail_over()
            third.client().execute_command("REPLICAOF", "127.0.0.1", pair.replica.port)
            eventually(lambda: _progressed(home), PATIENCE_S)
        nothing_wrong([one.error for one in _others_than_lost(home)])
        _forget_lost(home)
        home.check(senders, at_least=150)


def test_what_is_lost_is_listed_and_never_forked(
    pair: Pair, amqp_url: str, namespace: str, tmp_path: Path
) -> None:
    """
    With everysec the replica lacks what was committed while it was cut off: each instance that lost something is
    listed, its log goes on without a gap from where it ends, and what was not committed before is decided.
    """
    settings = quick(namespace, pair.settings.redis_url, amqp_url)
    with house(settings, tmp_path) as home, home.crew(2):
        with Senders(home.client, accounts("a", 20), per_key=home.per_key) as senders:
            home.await_progress()
            pair.part()
            home.await_progress()
            pair.fail_over()
            eventually(lambda: _progressed(home), PATIENCE_S)
        senders.end()
        keys = {key for key, _ in senders.sent}
        eventually(lambda: home.client.pending() == 0, PATIENCE_S)
        logs: dict[str, list[Record[Any]]] = {}
        missing: set[str] = set()

        def told() -> bool:
            # What a worker has in its hands is in no queue any more, and not yet in a log.
            logs.update(home.client.histories(NextLedger, keys))
            missing.clear()
            missing.update(_missing(senders, logs))
            return missing <= _lost(home)

        # A worker that has handed an instance over looks whether it is still there when it has nothing else to do.
        with contextlib.suppress(AssertionError):  # then it is said below what is missing
            eventually(told, PATIENCE_S)
        letters = home.client.dead_letters.list(limit=1_000)

    nothing_wrong(
        [wrong for key, log in logs.items() for wrong in wrongs_of_one_log(key, log) if "token" not in wrong]
    )
    assert missing
    assert missing <= {letter.key for letter in letters if letter.kind == "lost"}
    assert {"lost"} == {letter.kind for letter in letters}
    assert "records are lost" in home.said()


def _missing(senders: Senders, logs: dict[str, list[Record[Any]]]) -> set[str]:
    """
    The instances whose logs lack what was sent.
    """
    recorded = {
        (key, event.sender, event.number) for key, log in logs.items() for one in log for event in one.events
    }
    return {
        key
        for (key, sender), numbers in senders.sent.items()
        for number in numbers
        if (key, sender, number) not in recorded
    }


def _lost(home: House) -> set[str]:
    return {letter.key for letter in home.client.dead_letters.list(limit=1_000) if letter.kind == "lost"}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_read_model_that_has_what_was_lost_is_told(
    restarted: bool,
    pair: Pair,
    namespace: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A read model in a database has records of an instance that its log lost: that instance is parked until a rebuild,
    whether the worker lived on or another begins after the failover. New records do not come under old numbers.
    """
    prepare("sqlite", tmp_path, request, monkeypatch, namespace)
    settings = quick(namespace, pair.settings.redis_url)
    with house(settings, tmp_path) as home, contextlib.ExitStack() as stack:
        workers = stack.enter_context(contextlib.ExitStack())
        workers.enter_context(home.crew(1, BOOKS))
        library = Library(home, connect(books.app, settings), tmp_path)
        stack.callback(library.close)
        library.post(["k", "l"], 3)
        library.check(["k", "l"], 3)
        eventually(lambda: pair.primary.client().execute_command("WAIT", 1, 5_000) == 1, PATIENCE_S)
        pair.part()
        library.post(["k"], 2)
        library.check(["k"], 5)
        if restarted:
            workers.close()
        pair.fail_over()
        if restarted:
            stack.enter_context(home.crew(1, BOOKS))
        desk = library.client.projections
        eventually(lambda: _parked(desk) == ["ahead"], PATIENCE_S)
        library.post(["k", "l"], 1, "later")
        library.check(["l"], 4)
        library.await_decided(["k"], 4)

        ((_, parked),) = desk.parked("books")
        assert ("k", True) == (parked.key, parked.given_up)
        assert [f"ledger/k/{seq}.0" for seq in range(1, 6)] == library.reading.books()["k"]
        assert 2 == desk.rebuild("books")
        eventually(lambda: [one.generation for one in desk.lag("books")] == [2], PATIENCE_S)
        assert [f"ledger/k/{seq}.0" for seq in range(1, 5)] == library.reading.books()["k"]


def _parked(desk: ProjectionDesk) -> list[str]:
    try:
        return [one.kind for _, one in desk.parked("books")]
    except Unavailable:
        return []


def test_a_primary_of_a_cluster_is_killed(namespace: str, tmp_path: Path) -> None:
    """
    A primary of a cluster is killed with SIGKILL under load and its replica promoted: with replicated(1) all that was
    acknowledged is there, once and in order, and the workers go on by themselves.
    """
    with RedisCluster(tmp_path / "cluster", node_timeout_ms=5_000) as cluster:
        settings = quick(namespace, cluster.url, durability="replicated(1)")
        key = f"{{{namespace}.0}}:x"
        with house(settings, tmp_path) as home, home.crew(2) as crew:
            with Senders(home.client, accounts("a", 20), per_key=home.per_key, callers=1) as senders:
                home.await_progress()
                former = cluster.primary_of(key)
                former.kill()
                cluster.await_primary(key, other_than=former)
                # As a replica of the new primary it makes the level possible again.
                former.start()
                eventually(lambda: _progressed(home), PATIENCE_S)
            _forget_lost(home)
            home.check(senders, at_least=150)
            assert 0 == crew.restarts


def _progressed(home: House) -> bool:
    """
    Say whether the workers are back and have decided more.
    """
    try:
        home.await_progress(50)
    except Exception:
        return False
    return True


def _others_than_lost(home: House) -> list[DeadLetter]:
    return [one for one in home.client.dead_letters.list() if one.kind != "lost"]


def _forget_lost(home: House) -> None:
    """
    Forget what was seen by workers, was lost and never acknowledged: the level does not speak of that.
    """
    home.client.dead_letters.discard_all(kind="lost")
