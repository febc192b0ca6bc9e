"""
The lane of a projection: what it does when the server had forgotten a partition.
"""

from collections.abc import Sequence

from holdfast.actors import wiring
from holdfast.actors.projections import ProjectionLane, ProjectionPorts
from holdfast.runtime.app import App
from holdfast.runtime.config import Settings
from holdfast.runtime.feed import Reader
from holdfast.runtime.loss import Known, Loss
from holdfast.runtime.projection import CheckpointStore, Projection, ProjectionContext, on
from tests import controls


class Sales(Projection):
    """
    A read model of nothing.
    """

    name = "sales"
    source = controls.Order

    def __init__(self) -> None:
        self.store = CheckpointStore()

    @on(controls.OrderPlaced)
    def placed(self, event: controls.OrderPlaced, ctx: ProjectionContext) -> None: ...


class Sentinel:
    """
    Finds out who answers when it is asked to, and remembers what it was to compare.
    """

    def __init__(self) -> None:
        self.changes = self.met = 0
        self.compared: list[Known] = []

    def epoch(self) -> int:
        return self.met

    def refresh(self) -> int:
        self.met = self.changes
        return self.met

    def compare(self, known: Sequence[Known]) -> list[Loss]:
        self.compared += known
        return []


class Bench:
    """
    A lane on ports in memory that has applied one record.
    """

    def __init__(self, namespace: str) -> None:
        app = App(workflows=[controls.Order], projections=[Sales()])
        self.settings = Settings.of(
            redis_url="memory://", namespace=namespace, partitions=controls.PARTITIONS
        )
        self.ports = wiring.open_ports(self.settings)
        self.sentinel, ports, definition = Sentinel(), self.ports, app.projections[0]
        model = wiring.open_read_model(self.settings, definition)
        given = (ports.feed, ports.parking, ports.dead_letters, model, ports.journal, ports.close)
        self.lane = ProjectionLane(
            definition,
            "m-1",
            ProjectionPorts(*given, self.sentinel),
            partitions=controls.PARTITIONS,
            batch_max=10,
        )
        self.known = Known(controls.ref(), 1, "c-1")
        self.lane.assign(self.known.ref.partition)
        self.lane.take(0.0)
        self.recent = self.lane._tracks[1].applier.recent
        self.recent[self.known.ref] = self.known

    def readers(self) -> int:
        """
        Return in how many partitions the projection is registered.
        """
        return len(self.ports.feed.behind(Reader("sales", 1)))

    def forget(self) -> None:
        """
        Have the server forget the readers.
        """
        self.ports.feed.remove(Reader("sales", 1), [self.known.ref.partition])


def test_readers_of_what_was_forgotten_are_registered_again() -> None:
    """
    And what was applied before is no loss to be told of, where the same server answers.
    """
    bench = Bench("renewed-here")
    bench.forget()
    bench.lane.take(0.0)
    assert bench.readers() == 0

    bench.lane.renew(bench.known.ref.partition)
    bench.lane.take(0.0)

    assert (1, [], {}) == (bench.readers(), bench.sentinel.compared, dict(bench.recent))
    bench.lane.close()


def test_another_server_is_asked_for_what_was_applied_before_it_is_forgotten() -> None:
    """
    Though nobody met it until then: after a failover the steward may be the first to notice.
    """
    bench = Bench("renewed-there")
    bench.sentinel.changes = 1
    bench.lane.renew(bench.known.ref.partition)
    bench.lane.take(0.0)

    assert [bench.known] == bench.sentinel.compared
    assert bench.readers() == 1
    bench.lane.close()
