"""How many events a second does a projection apply, by where its read model is, and how soon can one read one's write?

Run it as
    python -m benchmarks.projections [--events 20000] [--keys 1000] [--stores checkpoints,redis,sqlite,postgresql] [--json]
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import dramatiq
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from benchmarks.counter import Counter, Increment, Incremented
from benchmarks.ground import ground, quantile
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
    Supervisor,
    connect,
    on,
)
from holdfast.actors.pools import worker_broker
from holdfast.actors.wiring import remove_namespace
from holdfast.runtime.projection import Store
from tests.support.servers import PostgresServer

ROOT = Path(__file__).parent.parent
#: Commands of which each is executed, waited for and read, one after another.
ALONE = 200

Row = dict[str, str | float]

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


def run(store: Store, name: str, settings: Settings, events: int, keys: int) -> list[Row]:
    """Measure one store: from the logs, from the feed, and one write that is waited for."""
    app, rows = App(workflows=[Counter], projections=[Counts(store)]), list[Row]()
    log = Path(tempfile.gettempdir()) / f"holdfast-bench-{os.getpid()}.log"

    def deciders() -> Supervisor:
        return Supervisor("benchmarks.counter:app", settings, pools=["command"], folder=ROOT, log_file=log)

    def send(client: Client) -> None:
        before = client.state(Counter, "k0")
        want = (before.value if before else 0) + events // keys
        client.send_many(Increment(f"k{i % keys}") for i in range(events))
        for key in range(keys):
            client.wait(Counter, f"k{key}", until=lambda state: state.value >= want, timeout=300)

    def measured(what: str) -> None:
        began = time.perf_counter()
        with serving(app, settings, "projection"):
            caught_up(client)
            rows.append(
                {"store": name, "what": what, "per_second": round(events / (time.perf_counter() - began))}
            )

    with connect(app, settings) as client:
        with deciders():
            send(client)
        measured("from the logs")
        with deciders():
            send(client)
        measured("from the feed")
        with deciders(), serving(app, settings, "projection"):
            caught_up(client)
            rows.append(alone(name, client))
    log.unlink(missing_ok=True)
    return rows


def alone(name: str, client: Client) -> Row:
    """Measure one write at a time, until one can read it."""
    times = []
    for _ in range(ALONE):
        began = time.perf_counter()
        client.wait_for("counts", client.execute(Increment("alone"), timeout=60), timeout=60)
        times.append((time.perf_counter() - began) * 1000)
    return {
        "store": name,
        "what": "one alone, readable",
        "p50_ms": round(quantile(times, 0.5), 2),
        "p99_ms": round(quantile(times, 0.99), 2),
    }


@click.command()
@click.option("--events", default=20_000, show_default=True)
@click.option("--keys", default=1_000, show_default=True)
@click.option("--stores", default="checkpoints,redis,sqlite,postgresql", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a table.")
def main(events: int, keys: int, stores: str, as_json: bool) -> None:
    """Measure events per second, from the logs and from the feed, and the latency of one."""
    rows: list[Row] = []
    with ground() as where, ExitStack() as stack, tempfile.TemporaryDirectory() as folder:

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
        for name in stores.split(","):
            settings = Settings.of(
                redis_url=where.redis_url, amqp_url=where.amqp_url, namespace=f"b{secrets.token_hex(4)}"
            )
            try:
                rows += run(makers[name](), name, settings, events, keys)
            finally:
                remove_namespace(settings)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    columns = ["store", "what", "per_second", "p50_ms", "p99_ms"]
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(row.get(name, "")) for name in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
