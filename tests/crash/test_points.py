"""
A worker is struck between every two steps that a command passes: nothing is lost, doubled or reordered.

The workers of a transport are shared by all tests of this file; each strike meets what the ones before it left.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.runtime.faults import Point
from tests.crash.strike import ENV_FOLDER, order
from tests.flow.house import House, accounts, shared_house
from tests.flow.senders import Senders
from tests.flow.test_foreign import post, publish
from tests.support.processes import eventually

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


class Field:
    """
    A house whose workers can be struck.
    """

    def __init__(self, home: House, folder: Path) -> None:
        self.home = home
        self.folder = folder

    def strike(self, point: Point, number: signal.Signals) -> int:
        """
        Strike the next worker that comes to a point, and return its process id.
        """
        before = self._struck(point, number)
        order(self.folder, point, number).touch()
        eventually(lambda: self._struck(point, number) != before, 40)
        (name,) = self._struck(point, number) - before
        return int(name.rpartition(".")[2])

    def _struck(self, point: Point, number: signal.Signals) -> set[str]:
        return {path.name for path in self.folder.glob(f"{point}.{number.name}.*")}

    def refused(self, pid: int) -> bool:
        """
        Say whether the journal has refused a commit of a worker.
        """
        return (self.folder / f"refused.{pid}").exists()

    def senders(self, name: str) -> Senders:
        """
        Return senders and callers with keys of their own.
        """
        return Senders(self.home.client, accounts(name, 12), per_key=self.home.per_key, callers=2)


@pytest.fixture(scope="module", params=["rabbitmq", "redis"])
def field(
    request: pytest.FixtureRequest, redis_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Field]:
    """
    Three workers that can be struck, and whose instances are snapshotted often.
    """
    folder = tmp_path_factory.mktemp("field")
    amqp_url = amqp_url if request.param == "rabbitmq" else ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FOLDER, str(folder))
        # A member that is silent for this long is taken for dead, whatever the machine is busy with.
        times = {"member_ttl_ms": 800, "lease_ms": 800, "snapshot_every": 5}
        with shared_house(folder, redis_url, amqp_url, **times) as home:
            with home.crew(3, preload="tests.crash.strike"):
                yield Field(home, folder)
            home.check_empty()


@pytest.mark.parametrize("point", ON_THE_WAY)
def test_a_worker_dies_between_two_steps(field: Field, point: Point) -> None:
    """
    One of the workers is killed at a point, under load: what it had in its hands is decided once, in order, and
    callers are told what the logs say.
    """
    with field.senders(point) as senders:
        field.home.await_progress(20)
        field.strike(point, signal.SIGKILL)
        field.home.await_progress(50)
    field.home.check(senders, at_least=50)


def test_a_worker_dies_in_a_handover(field: Field) -> None:
    """
    A worker that hands partitions over is killed when they are drained and not yet given up.
    """
    with field.senders("handover") as senders:
        field.home.await_shared(3)
        # Whoever comes in its place is handed partitions of the others.
        field.home.strike_down(field.home.members()[0])
        field.strike(Point.HANDOVER_DRAINED, signal.SIGKILL)
        field.home.await_progress(50)
    field.home.check(senders, at_least=50)
    field.home.await_shared(3)


def test_a_worker_dies_at_the_door(field: Field) -> None:
    """
    The worker that has sent foreign messages on dies before it acknowledges them: each is decided once, in order.
    """
    if not field.home.settings.amqp_url:
        pytest.skip("there is no door")
    publish(field.home, *(post("door", number, f"door-{number}") for number in range(10)))
    field.home.await_logs(door=10)
    order(field.folder, Point.INGRESS_REPUBLISHED, signal.SIGKILL).touch()
    publish(field.home, *(post("door", number, f"door-{number}") for number in range(10, 20)))
    field.home.await_logs(door=20)
    publish(field.home, post("door", 20, "door-20"))
    field.home.await_logs(door=21)

    assert not order(field.folder, Point.INGRESS_REPUBLISHED, signal.SIGKILL).exists()
    assert list(range(21)) == field.home.numbers("door")


@pytest.mark.parametrize("point", [Point.RECEIVED, Point.DECIDED, Point.COMMITTED, Point.REPLIED])
def test_a_worker_sleeps_past_its_lease(field: Field, point: Point) -> None:
    """
    One of the workers is stopped at a point for so long that the others take everything over, and goes on where it
    was: what it still wants to write is refused, nothing is doubled, and it takes up its share again.
    """
    home = field.home
    home.await_shared(3)
    with field.senders(f"sleep-{point}") as senders:
        home.await_progress(20)
        pid = field.strike(point, signal.SIGSTOP)
        sleeper = next(member.id for member in home.members() if member.pid == pid)
        home.await_shared(2, without=[sleeper])
        home.await_every(senders.keys)
        os.kill(pid, signal.SIGCONT)
        home.await_shared(3)
        home.await_every(senders.keys)
    home.check(senders, at_least=50)
    assert sleeper in {member.id for member in home.members()}
    if point is Point.DECIDED:
        assert field.refused(pid)
