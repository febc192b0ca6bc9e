"""How many events a second does a projection apply, by where its read model is? How soon can one read one's write?

Run it as
    python -m benchmarks.projection [--events 20000] [--keys 1000] [--stores checkpoints,redis,sqlite,postgresql] [--runs 3] [--json]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import dramatiq
import sqlalchemy as sa

from benchmarks.counter import Counter, Increment, Incremented
from benchmarks.crew import crew
from benchmarks.ground import Ground, Meter, Row, latencies
from benchmarks.report import command
from benchmarks.stage import fresh
from holdfast import (
    Accepted,
    App,
    CheckpointStore,
    Client,
    Projection,
    ProjectionContext,
    RedisStore,
    Settings,
    SqlStore,
    connect,
    on,
)
from holdfast.actors.pools import worker_broker
from holdfast.runtime.projection import Store
from tests.support.servers import PostgresServer

APP = "benchmarks.counter:app"

metadata = sa.MetaData()
counts = sa.Table(
    "counts",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)


class Counts(Projection):
    """One row, or one field, for each counter, written at each event: the simplest handler that does some work."""

    name = "counts"
    source = Counter

    def __init__(self, store: Store) -> None:
        self.store = store
        self.memory: dict[str, int] = {}

    @on(Incremented)
    def incremented(self, event: Incremented, ctx: ProjectionContext) -> None:  # noqa: ARG002 - there is nothing in it
        """Add one."""
        if isinstance(self.store, SqlStore):
            table = ctx.tx.table(counts)
            found = ctx.tx.execute(
                sa.update(table).where(table.c.key == ctx.key).values(value=table.c.value + 1)
            )
            if not found.rowcount:
                ctx.tx.execute(sa.insert(table), {"key": ctx.key, "value": 1})
        elif isinstance(self.store, RedisStore):
            ctx.tx.pipe.hincrby(ctx.tx.key("counts"), ctx.key, 1)
        else:
            self.memory[ctx.key] = self.memory.get(ctx.key, 0) + 1


@contextmanager
def serving(app: App, settings: Settings, *pools: str) -> Iterator[None]:
    """Serve some pools on threads of this process."""
    broker = worker_broker(app, settings, pools=pools, lanes=1)
    worker = dramatiq.Worker(broker, worker_threads=broker.threads, worker_timeout=50)
    worker.start()
    try:
        yield
    finally:
        worker.stop()
        broker.close()


def caught_up(client: Client) -> None:
    """Wait until the projection has everything."""
    client.wait_for("counts", Accepted(0, ()), timeout=600)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where one store is measured."""

    where: Ground
    settings: Settings
    store: Store
    name: str
    #: The store's own server, as the meter wants it.
    servers: Mapping[str, int]

    def rate(self, meter: Meter, what: str, events: int) -> Row:
        """Return how many events were applied a second, and what each cost."""
        row = meter.row(self.name, what, events)
        return row | {"events": events, "seconds": round(meter.seconds, 2)}

    def latency(self, what: str, times: Sequence[float]) -> Row:
        """Return the row of times in milliseconds."""
        return latencies(self.name, what, times) | {"events": len(times)}

    def meter(self) -> Meter:
        """Begin to measure. The lane is a thread of this process: what it uses is the client's."""
        return Meter(self.where, **self.servers)


def run(stage: Stage, events: int, keys: int, single: int) -> list[Row]:
    """Measure one store: from the logs, from the feed, one write that is waited for, and a rebuild."""
    app, rows = App(workflows=[Counter], projections=[Counts(stage.store)]), list[Row]()
    settings = stage.settings

    def send(client: Client, times: int) -> None:
        with crew(stage.where, settings, APP, pools=("command",)):
            client.send_many(Increment(f"k{number % keys}") for number in range(events))
            for key in range(keys):
                _counted(client, f"k{key}", times * (events // keys + (key < events % keys)))

    def measured(what: str) -> None:
        meter = stage.meter()
        with serving(app, settings, "projection"):
            caught_up(client)
            rows.append(stage.rate(meter, what, events))

    with connect(app, settings) as client:
        send(client, 1)
        measured("from the logs")
        send(client, 2)
        measured("from the feed")
        with crew(stage.where, settings, APP, pools=("command",)), serving(app, settings, "projection"):
            caught_up(client)
            _readable(client)  # when that is back, both sides serve
            rows.append(stage.latency("one alone, readable", [_readable(client) for _ in range(single)]))
            rows += rebuilt(stage, client, 2 * events + single + 1)
    return rows


def _counted(client: Client, key: str, want: int) -> None:
    client.wait(Counter, key, until=lambda state: state.value >= want, timeout=300)


def rebuilt(stage: Stage, client: Client, events: int) -> list[Row]:
    """Rebuild a read model from the logs, beside the live one, which goes on; one write at a time is waited for meanwhile."""
    desk = client.projections
    meter, times = stage.meter(), list[float]()
    new = desk.rebuild("counts")
    while new not in [one.generation for one in desk.lag("counts") if one.state == "live"]:
        times.append(_readable(client))
    return [
        stage.rate(meter, "rebuilt beside the live one", events + len(times)),
        stage.latency("one alone during the rebuild", times),
    ]


def _readable(client: Client) -> float:
    """Write, wait until that can be read, and return how long it took, in milliseconds."""
    began = time.perf_counter()
    client.wait_for("counts", client.execute(Increment("alone"), timeout=60), timeout=60)
    return (time.perf_counter() - began) * 1000


@dataclass(frozen=True)
class Options:
    """How much of it."""

    events: int = 20_000
    keys: int = 1_000
    #: Commands of which each is executed, waited for and read, one after another.
    alone: int = 200
    stores: str = "checkpoints,redis,sqlite,postgresql"


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure each store in a namespace of its own."""
    rows: list[Row] = []
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        for name in options.stores.split(","):
            store, servers = _store(name, folder, stack)
            settings = stack.enter_context(fresh(where.redis_url, where.amqp_url))
            stage = Stage(where, settings, store, name, servers)
            rows += run(stage, options.events, options.keys, options.alone)
    return rows


def _store(name: str, folder: str, stack: ExitStack) -> tuple[Store, dict[str, int]]:
    """Return a store, and its own server where it has one, which runs until the stack is closed."""
    match name:
        case "checkpoints":
            return CheckpointStore(), {}
        case "redis":
            return RedisStore(), {}
        case "sqlite":
            return SqlStore(f"sqlite:///{folder}/read.db", metadata), {}
        case "postgresql":
            server = PostgresServer()
            stack.callback(server.close)
            url = server.start().url
            return SqlStore(url, metadata), {"postgresql": server.pid}
    message = f"there is no store {name!r}"
    raise LookupError(message)


main = command("projection", __doc__, measure, Options)

if __name__ == "__main__":
    main()
