"""
Projections without any server: an app of one process has its read models as well.
"""

import uuid

from holdfast import App, Projection, ProjectionContext, Retry, Settings, connect, on
from tests.controls import Add, Added, Counter
from tests.support.processes import eventually


class Sums(Projection):
    """
    Adds up; a plain object is its store.
    """

    name = "sums"
    source = Counter
    retry = Retry(attempts=2, first=0.01)

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        self.strict = True

    @on(Added)
    def added(self, event: Added, ctx: ProjectionContext) -> None:
        if event.by == 13 and self.strict:
            raise ValueError("unlucky")
        self.sums[ctx.key] = self.sums.get(ctx.key, 0) + event.by


def test_read_models_of_one_process() -> None:
    """
    One reads what one has written; a bad event parks its key; a rebuild takes over.
    """
    sums = Sums()
    settings = Settings.of(redis_url="memory://", namespace=f"t{uuid.uuid4().hex[:8]}", partitions=2)
    with connect(App(workflows=[Counter], projections=[sums]), settings) as client:
        for number in range(10):
            outcome = client.execute(Add(f"k-{number % 3}", number))
        client.wait_for(sums, outcome)
        assert {"k-0": 18, "k-1": 12, "k-2": 15} == sums.sums

        client.execute(Add("bad", 13))
        desk = client.projections
        eventually(lambda: any(one.given_up for _, one in desk.parked("sums")))
        client.execute(Add("bad", 1))
        client.wait_for(sums, client.execute(Add("k-0", 2)))
        assert {"k-0": 20, "k-1": 12, "k-2": 15} == sums.sums
        sums.strict = False
        assert 1 == desk.retry(sums)
        eventually(lambda: sums.sums.get("bad") == 14)

        assert 2 == desk.rebuild(Sums)
        eventually(lambda: [(one.generation, one.state) for one in desk.lag("sums")] == [(2, "live")])
        assert {"k-0": 40, "k-1": 24, "k-2": 30, "bad": 28} == sums.sums
        (status,) = desk.list()
        assert (0, 100.0, 0, True) == (status.records, status.percent, status.parked, status.known)
