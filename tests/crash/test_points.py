"""
A worker is struck between every two steps that a command passes: nothing is lost, doubled or reordered.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.runtime.faults import Point
from tests.crash.strike import ENV_MARK, ENV_POINT, ENV_SIGNAL
from tests.flow.house import House, accounts, house, quick
from tests.flow.senders import Senders
from tests.flow.shop import NextLedger
from tests.flow.test_foreign import post, publish
from tests.support.processes import eventually

PRELOAD = "tests.crash.strike"

#: The points that every command passes, and the snapshot, which every few records pass.
ON_THE_WAY = [
    Point.RECEIVED,
    Point.OPENED,
    Point.DECIDED,
    Point.COMMITTED,
    Point.SNAPSHOT,
    Point.BARRIER_PASSED,
    Point.REPLIED,
    Point.ACKED,
]


@pytest.fixture
def home(redis_url: str, amqp_url: str, namespace: str, tmp_path: Path) -> Iterator[House]:
    """
    A house on RabbitMQ whose instances are snapshotted often.
    """
    with house(quick(namespace, redis_url, amqp_url, snapshot_every=5), tmp_path) as it:
        yield it


def armed(monkeypatch: pytest.MonkeyPatch, mark: Path, point: Point, number: signal.Signals) -> None:
    """
    Have the workers that are started from now on be struck at a point.
    """
    for name, value in ((ENV_POINT, point), (ENV_SIGNAL, number.name), (ENV_MARK, str(mark))):
        monkeypatch.setenv(name, str(value))


def struck(mark: Path) -> int:
    """
    Wait until a worker was struck, and return its process id.
    """
    eventually(lambda: mark.exists() and mark.read_text() != "", 40)
    return int(mark.read_text())


@pytest.mark.parametrize("point", ON_THE_WAY)
def test_a_worker_dies_between_two_steps(
    home: House, point: Point, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One of two workers is killed at a point, under load: what it had in its hands is decided once, in order, and
    callers are told what the logs say.
    """
    mark = tmp_path / "mark"
    armed(monkeypatch, mark, point, signal.SIGKILL)

    with home.crew(2, preload=PRELOAD) as crew:
        with Senders(home.client, accounts("a", 12), callers=2) as senders:
            struck(mark)
            eventually(lambda: crew.restarts == 1)
            home.await_progress(50)
        home.check(senders, at_least=50)


@pytest.mark.parametrize("point", [Point.DECIDED, Point.COMMITTED, Point.BARRIER_PASSED])
def test_a_worker_sleeps_past_its_lease(
    home: House, point: Point, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One of two workers is stopped at a point for so long that the other takes everything over, and goes on where it
    was: what it still wants to write is refused, nothing is doubled, and it takes up its share again.
    """
    mark = tmp_path / "mark"
    armed(monkeypatch, mark, point, signal.SIGSTOP)

    with home.crew(2, preload=PRELOAD) as crew:
        with Senders(home.client, accounts("a", 12), callers=1) as senders:
            pid = struck(mark)
            sleeper = next(member.id for member in home.members() if member.pid == pid)
            home.await_shared(1, without=[sleeper])
            home.await_progress(50)
            os.kill(pid, signal.SIGCONT)
            home.await_shared(2)
            home.await_progress(50)
        home.check(senders, at_least=100)
        assert 0 == crew.restarts


def test_a_worker_dies_in_a_handover(home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A worker that hands partitions over to one that joins is killed when they are drained and not yet given up.
    """
    mark = tmp_path / "mark"
    armed(monkeypatch, mark, Point.HANDOVER_DRAINED, signal.SIGKILL)

    with home.crew(1, preload=PRELOAD) as crew, Senders(home.client, accounts("a", 12), callers=1) as senders:
        home.await_progress(50)
        with home.crew(1):
            struck(mark)
            eventually(lambda: crew.restarts == 1)
            home.await_shared(2)
            home.await_progress(50)
        home.check(senders, at_least=100)


def test_a_worker_dies_at_the_door(home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The worker that has sent a foreign message on dies before it acknowledges it: the message is decided once.
    """
    mark = tmp_path / "mark"
    armed(monkeypatch, mark, Point.INGRESS_REPUBLISHED, signal.SIGKILL)

    with home.crew(1, preload=PRELOAD) as crew:
        for number in range(3):
            publish(home, post("door", number, message_id=f"door-{number}"))
        struck(mark)
        eventually(lambda: crew.restarts == 1)
        publish(home, post("door", 3, message_id="door-3"))
        eventually(lambda: home.decided() >= 4)
        home.await_shared(1)

    records = home.client.history(NextLedger, "door")
    assert [f"door-{number}" for number in range(4)] == [record.command_id for record in records]
    home.check_empty()
