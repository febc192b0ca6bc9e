"""How many events a second does a projection apply, by where its read model is? How soon can one read one's write?

Run it as
    python -m benchmarks.projection [--events 20000] [--keys 1000] [--stores checkpoints,redis,sqlite,postgresql] [--json]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import click
import dramatiq
import sqlalchemy as sa

from benchmarks.counter import Counter, Increment, Incremented
from benchmarks.ground import Ground, ground, quantile
from benchmarks.shown import Row, show
from benchmarks.stage import crew, fresh
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

#: Commands of which each is executed, waited for and read, one after another.
ALONE = 200

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


def run(store: Store, name: str, settings: Settings, events: int, keys: int, single: int) -> list[Row]:
    """Measure one store: from the logs, from the feed, one write that is waited for, and a rebuild."""
    app, rows = App(workflows=[Counter], projections=[Counts(store)]), list[Row]()

    def send(client: Client, times: int) -> None:
        with crew("benchmarks.counter:app", settings, pools=("command",)):
            client.send_many(Increment(f"k{number % keys}") for number in range(events))
            for key in range(keys):
                _counted(client, f"k{key}", times * (events // keys + (key < events % keys)))

    def measured(what: str) -> None:
        began = time.perf_counter()
        with serving(app, settings, "projection"):
            caught_up(client)
            took = time.perf_counter() - began
            rows.append(_rate(name, what, events, took))

    with connect(app, settings) as client:
        send(client, 1)
        measured("from the logs")
        send(client, 2)
        measured("from the feed")
        with (
            crew("benchmarks.counter:app", settings, pools=("command",)),
            serving(app, settings, "projection"),
        ):
            caught_up(client)
            _readable(client)  # when that is back, both sides serve
            rows.append(_latency(name, "one alone, readable", [_readable(client) for _ in range(single)]))
            rows += rebuilt(name, client, 2 * events + single + 1)
    return rows


def _counted(client: Client, key: str, want: int) -> None:
    client.wait(Counter, key, until=lambda state: state.value >= want, timeout=300)


def rebuilt(name: str, client: Client, events: int) -> list[Row]:
    """Rebuild a read model from the logs, beside the live one, which goes on; one write at a time is waited for meanwhile."""
    desk = client.projections
    began, times = time.perf_counter(), list[float]()
    new = desk.rebuild("counts")
    while new not in [one.generation for one in desk.lag("counts") if one.state == "live"]:
        times.append(_readable(client))
    took = time.perf_counter() - began
    return [
        _rate(name, "rebuilt beside the live one", events + len(times), took),
        _latency(name, "one alone during the rebuild", times),
    ]


def _readable(client: Client) -> float:
    """Write, wait until that can be read, and return how long it took, in milliseconds."""
    began = time.perf_counter()
    client.wait_for("counts", client.execute(Increment("alone"), timeout=60), timeout=60)
    return (time.perf_counter() - began) * 1000


def _rate(name: str, what: str, events: int, seconds: float) -> Row:
    return {
        "system": name,
        "what": what,
        "events": events,
        "seconds": round(seconds, 2),
        "per_second": round(events / seconds),
    }


def _latency(name: str, what: str, times: Sequence[float]) -> Row:
    return {
        "system": name,
        "what": what,
        "events": len(times),
        "p50_ms": round(quantile(times, 0.5), 2),
        "p99_ms": round(quantile(times, 0.99), 2),
    }


STORES = ("checkpoints", "redis", "sqlite", "postgresql")


def measure(
    where: Ground, events: int, keys: int, single: int = ALONE, stores: Sequence[str] = STORES
) -> list[Row]:
    """Measure each store in a namespace of its own."""
    rows: list[Row] = []
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:

        def postgresql() -> Store:
            server = PostgresServer()
            stack.callback(server.close)
            return SqlStore(server.start().url, metadata)

        makers: dict[str, Callable[[], Store]] = {
            "checkpoints": CheckpointStore,
            "redis": RedisStore,
            "sqlite": lambda: SqlStore(f"sqlite:///{folder}/read.db", metadata),
            "postgresql": postgresql,
        }
        for name in stores:
            with fresh(where.redis_url, where.amqp_url) as settings:
                rows += run(makers[name](), name, settings, events, keys, single)
    return rows


@click.command()
@click.option("--events", default=20_000, show_default=True)
@click.option("--keys", default=1_000, show_default=True)
@click.option("--alone", default=ALONE, show_default=True, help="Writes of which each is waited for.")
@click.option("--stores", default=",".join(STORES), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a table.")
def main(events: int, keys: int, alone: int, stores: str, as_json: bool) -> None:
    """Measure events per second, from the logs and from the feed, of a rebuild, and the latency of one."""
    with ground() as where:
        show("projection", measure(where, events, keys, alone, stores.split(",")), as_json=as_json)


if __name__ == "__main__":
    main()
