"""
The app of the projection tests: the ledger of shop.py, and a projection that writes down every event that it is given.

So the read model alone shows whether an event was missed, doubled or overtaken. Where it is kept is said in the
environment: BOOKS_STORE is a URL for SQLAlchemy, `redis`, or `file:<path>` for lines in a file with checkpoints alone.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from holdfast import (
    App,
    CheckpointStore,
    Projection,
    ProjectionContext,
    RedisStore,
    Retry,
    SqlStore,
    on,
)
from holdfast.runtime.projection import Store
from tests.flow.shop import Closed, Ledger, Posted

ENV_STORE = "BOOKS_STORE"
#: Names a file; while it is there, events of the sender `poison` cannot be applied.
ENV_POISON = "BOOKS_POISON"

metadata = sa.MetaData()
lines = sa.Table(
    "lines",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("account", sa.Text, index=True),
    sa.Column("event", sa.Text),
)
totals = sa.Table(
    "totals",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
)


def place() -> str:
    return os.environ.get(ENV_STORE, "")


def store() -> Store:
    if place() == "redis":
        return RedisStore()
    if place().startswith("file:") or not place():
        return CheckpointStore()
    return SqlStore(place(), metadata)


class Books(Projection):
    name = "books"
    source = Ledger
    retry = Retry(attempts=3, first=0.05)

    def __init__(self) -> None:
        self.store = store()

    @on(Posted)
    def posted(self, event: Posted, ctx: ProjectionContext) -> None:
        if event.sender == "poison" and Path(os.environ.get(ENV_POISON, "/nowhere")).exists():
            message = f"cannot swallow {event.number}"
            raise LookupError(message)
        note(ctx)

    def deleted(self, ctx: ProjectionContext) -> None:
        strike_out(ctx)

    @on(Closed)
    async def closed(self, event: Closed, ctx: ProjectionContext) -> None:
        note(ctx)


def strike_out(ctx: ProjectionContext) -> None:
    if place() == "redis":
        ctx.tx.pipe.delete(ctx.tx.key(f"lines:{ctx.key}"))
        ctx.tx.pipe.hdel(ctx.tx.key("totals"), ctx.key)
    elif ctx.tx is not None:
        for kind in (lines, totals):
            table = ctx.tx.table(kind)
            ctx.tx.execute(sa.delete(table).where(table.c.account == ctx.key))


def note(ctx: ProjectionContext) -> None:
    if place() == "redis":
        ctx.tx.pipe.rpush(ctx.tx.key(f"lines:{ctx.key}"), ctx.event_id)
        ctx.tx.pipe.hincrby(ctx.tx.key("totals"), ctx.key, 1)
    elif ctx.tx is None:
        with Path(place().removeprefix("file:")).open("a") as file:
            file.write(f"{ctx.key} {ctx.event_id}\n")
    else:
        ctx.tx.execute(sa.insert(ctx.tx.table(lines)), {"account": ctx.key, "event": ctx.event_id})
        table = ctx.tx.table(totals)
        changed = ctx.tx.execute(
            sa.update(table).where(table.c.account == ctx.key).values(count=table.c.count + 1)
        )
        if not changed.rowcount:
            ctx.tx.execute(sa.insert(table), {"account": ctx.key, "count": 1})


class Reading:
    """
    What a test reads the books with, as any reader of the read model would.
    """

    def __init__(self, client: Any, redis_client: Any) -> None:
        self.client = client
        self.redis = redis_client

    def books(self) -> dict[str, list[str]]:
        """
        Return the event ids by account, in the order in which they were applied.
        """
        found: dict[str, list[str]] = {}
        for account, event in self._lines():
            found.setdefault(account, []).append(event)
        return found

    def _lines(self) -> Iterator[tuple[str, str]]:
        if place() == "redis":
            pattern = self.client.projections.key("books", "lines:*")
            for key in self.redis.scan_iter(match=pattern):
                account = key.decode().rpartition(":")[2]
                yield from ((account, one.decode()) for one in self.redis.lrange(key, 0, -1))
        elif place().startswith("file:"):
            for line in Path(place().removeprefix("file:")).read_text().splitlines():
                account, _, event = line.partition(" ")
                yield account, event
        else:
            engine = sa.create_engine(place(), poolclass=sa.pool.NullPool)
            with engine.connect() as connection:
                found = connection.execute(sa.text("SELECT account, event FROM lines ORDER BY id"))
                yield from ((account, event) for account, event in found)

    def totals(self) -> dict[str, int]:
        """
        Return how many events each account has, as the handlers counted them.
        """
        if place() == "redis":
            found = self.redis.hgetall(self.client.projections.key("books", "totals"))
            return {name.decode(): int(count) for name, count in found.items()}
        if place().startswith("file:"):
            return dict(Counter(account for account, _ in self._lines()))
        engine = sa.create_engine(place(), poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            found = connection.execute(sa.text("SELECT account, count FROM totals"))
            return {account: count for account, count in found}  # noqa: C416 - rows are no pairs to mypy


app = App(workflows=[Ledger], projections=[Books()])
#: What is deployed when the books are no longer wanted.
bare_app = App(workflows=[Ledger])
