"""
Projections without any server: an app of one process has its read models as well.
"""

import threading
import uuid

from holdfast import App, Projection, ProjectionContext, Retry, Settings, connect, on
from holdfast.actors import wiring
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
        for outcome in [client.execute(Add(f"k-{number % 3}", number)) for number in range(10)]:
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


class Slow(Sums):
    """
    Whoever builds it anew is held up at each event until the test lets that go on.
    """

    name = "slow"

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.goes_on = threading.Semaphore(0)

    @on(Added)
    def added(self, event: Added, ctx: ProjectionContext) -> None:
        if ctx.rebuilding:
            self.begun.set()
            assert self.goes_on.acquire(timeout=90)
        else:
            super().added(event, ctx)


def test_the_live_one_goes_on_while_another_is_built() -> None:
    """
    A rebuild walks through all logs, batch after batch: in between the live generation gets its events, so that
    reading what one has written does not wait for the end of the walk.
    """
    slow = Slow()
    partitions, keys = 8, 64
    settings = Settings.of(redis_url="memory://", namespace=f"t{uuid.uuid4().hex[:8]}", partitions=partitions)
    with connect(App(workflows=[Counter], projections=[slow]), settings) as client:
        for outcome in [client.execute(Add(f"k-{number}", 1)) for number in range(keys)]:
            client.wait_for(slow, outcome)

        assert 2 == client.projections.rebuild(Slow)
        assert slow.begun.wait(40)
        outcome = client.execute(Add("new", 1))
        # About as much as three of the eight batches that the walk has.
        slow.goes_on.release(3 * keys // partitions)
        try:
            client.wait_for(slow, outcome, timeout=40)
            assert 1 == slow.sums["new"]
            assert "building" in [one.state for one in client.projections.lag("slow")]
        finally:
            slow.goes_on.release(10 * keys)
        eventually(
            lambda: [(one.generation, one.state) for one in client.projections.lag("slow")] == [(2, "live")]
        )


def test_a_feed_does_not_grow_with_workers_that_live_shortly() -> None:
    """
    What everybody has read is forgotten by whoever serves the partition next, however little each of them read.
    """
    settings = Settings.of(redis_url="memory://", namespace=f"t{uuid.uuid4().hex[:8]}", partitions=1)
    kept = []
    for _ in range(3):
        with connect(App(workflows=[Counter], projections=[Sums()]), settings) as client:
            client.wait_for("sums", client.execute(Add("k", 1)))
            for _ in range(20):
                outcome = client.execute(Add("k", 1))
            client.wait_for("sums", outcome)
            kept.append(len(wiring.memory_server(settings).feeds[0]))

    assert 20 <= min(kept)
    assert max(kept) <= 22  # the last one that was read stays
