"""
Read models: what is written and how far it goes are stored together where the store can do that.
"""

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase

from holdfast.brokers.memory import MemoryServer
from holdfast.brokers.memory_feed import MemoryCheckpoints
from holdfast.brokers.redis_read_model import RedisCheckpoints, RedisStore
from holdfast.brokers.sql_read_model import SqlStore
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import Unavailable, WorkflowError
from holdfast.runtime.feed import ReadModel, Stale
from holdfast.runtime.keys import Ref
from tests import controls
from tests.support.processes import eventually
from tests.support.servers import PostgresServer, RedisServer, redis_client

metadata = sa.MetaData()
words = sa.Table(
    "words",
    metadata,
    sa.Column("word", sa.Text, primary_key=True),
    sa.Column("size", sa.Integer, sa.CheckConstraint("size < 100", name="short"), index=True),
)

REFS = [controls.ref(key) for key in controls.KEYS]
PARTITIONS = sorted({ref.partition for ref in REFS})


@dataclass
class Shelf:
    """
    A read model, and how to write to it and read it as others do.
    """

    open: Callable[[], ReadModel]
    write: Callable[[Any, str], None]
    #: Words in the live generation.
    words: Callable[[], list[str]]
    exactly_once: bool = True

    def prepare(self, generation: int = 1, *, live: bool = True) -> None:
        """
        Prepare a generation.
        """
        model = self.open()
        model.prepare(generation, live=live)
        assert self.exactly_once == model.exactly_once
        assert model.reachable()
        model.close()

    def apply(self, word: str, ref: Ref, seq: int, generation: int = 1) -> None:
        """
        Write a word as an instance's record of this number.
        """
        model = self.open()
        with model.transaction(generation, [ref.partition]) as writing:
            writing.seqs([ref])
            self.write(writing.tx, word)
            writing.keep([(ref, seq)], {ref.partition: f"{seq}-0"})
        model.close()

    def seqs(self, refs: list[Ref], generation: int = 1) -> list[int]:
        """
        Return how far instances are.
        """
        model = self.open()
        with model.transaction(generation, sorted({ref.partition for ref in refs})) as writing:
            found = writing.seqs(refs)
        model.close()
        return found


def sql_shelf(url: str, projection: str = "books") -> Shelf:
    store = SqlStore(url, metadata)
    settings = controls.settings()

    def write(tx: Any, word: str) -> None:
        tx.execute(sa.insert(tx.table(words)), {"word": word, "size": len(word)})

    def read() -> list[str]:
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            return sorted(connection.execute(sa.text("SELECT word FROM words")).scalars())

    return Shelf(lambda: store.open(settings, projection), write, read)


def redis_shelf(settings: Settings) -> Shelf:
    def read() -> list[str]:
        model = RedisStore().open(settings, "books")
        generation = model.live()
        model.close()
        with redis_client(settings.redis_url, decode_responses=True) as client:
            found: Any = client.smembers(f"{{{settings.namespace}.model-books}}:{generation}:data:words")
            return sorted(found)

    def write(tx: Any, word: str) -> None:
        tx.pipe.sadd(tx.key("words"), word)

    return Shelf(lambda: RedisStore().open(settings, "books"), write, read)


def checkpoint_shelf(opener: Callable[[], ReadModel]) -> Shelf:
    found: list[str] = []
    return Shelf(opener, lambda _tx, word: found.append(word), lambda: sorted(found), exactly_once=False)


@pytest.fixture(params=["memory", "checkpoints", "redis", "sqlite", "postgresql"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """
    Every kind of store, one after another, with its first generation prepared.
    """
    kind = request.param
    if kind == "memory":
        server = MemoryServer(controls.PARTITIONS)
        found = checkpoint_shelf(lambda: MemoryCheckpoints(server, "books"))
    elif kind == "sqlite":
        found = sql_shelf(f"sqlite:///{tmp_path}/read.db")
    elif kind == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        found = sql_shelf(postgres.database(f"c{uuid.uuid4().hex[:8]}"))
    else:
        redis_url = request.getfixturevalue("redis_url")
        settings = controls.settings(redis_url=redis_url, namespace=request.getfixturevalue("namespace"))
        found = redis_shelf(settings)
        if kind == "checkpoints":
            found = checkpoint_shelf(lambda: RedisCheckpoints(settings, "books"))
    found.prepare()
    return found


def test_a_new_read_model_has_nothing(shelf: Shelf) -> None:
    """
    Every instance is at 0, and preparing again changes nothing.
    """
    shelf.prepare()

    assert [0] * len(REFS) == shelf.seqs(REFS)
    assert [] == shelf.words()


def test_writes_and_how_far_they_go_are_stored(shelf: Shelf) -> None:
    """
    Whatever the keys are, for many instances and partitions at once.
    """
    model = shelf.open()
    with model.transaction(1, PARTITIONS) as writing:
        assert [0] * len(REFS) == writing.seqs(REFS)
        shelf.write(writing.tx, "one")
        shelf.write(writing.tx, "two")
        writing.keep([(ref, n + 1) for n, ref in enumerate(REFS)], dict.fromkeys(PARTITIONS, "7-0"))
    model.close()

    assert list(range(1, len(REFS) + 1)) == shelf.seqs(REFS)
    assert ["one", "two"] == shelf.words()
    assert [0] == shelf.seqs([Ref(REFS[0].partition, "counter", REFS[0].key)])
    assert [0, 0] == shelf.seqs(REFS[:2], generation=2) if not shelf.exactly_once else True


def test_a_transaction_that_fails_leaves_nothing(shelf: Shelf) -> None:
    """
    Neither of how far it goes nor, where the store promises it, of what was written.
    """
    shelf.apply("before", REFS[0], 1)
    model = shelf.open()
    with pytest.raises(LookupError), model.transaction(1, PARTITIONS) as writing:
        writing.seqs([REFS[0]])
        shelf.write(writing.tx, "lost")
        writing.keep([(REFS[0], 2)], {})
        raise LookupError

    model.close()
    assert [1] == shelf.seqs([REFS[0]])
    if shelf.exactly_once:
        assert ["before"] == shelf.words()


def test_of_two_writers_one_sees_what_the_other_did(shelf: Shelf) -> None:
    """
    A worker that lost its partition writes at the same time as its successor: it waits and finds what he did, or it is
    told that it is stale. Never do both apply the same record.
    """
    if not shelf.exactly_once:
        pytest.skip("checkpoints promise at least once")
    ref, barrier = REFS[0], threading.Barrier(4)
    applied: list[int] = []

    def compete(number: int) -> None:
        model = shelf.open()
        barrier.wait(60)
        for _ in range(200):
            try:
                with model.transaction(1, [ref.partition]) as writing:
                    seq = writing.seqs([ref])[0]
                    if seq >= 20:
                        break
                    shelf.write(writing.tx, f"{seq}-{number}")
                    writing.keep([(ref, seq + 1)], {ref.partition: f"{seq}-0"})
                applied.append(seq)
            except Stale:
                continue
        model.close()

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert list(range(20)) == sorted(applied)
    assert list(range(20)) == sorted(int(word.partition("-")[0]) for word in shelf.words())


def test_checkpoints_never_go_back(shelf: Shelf) -> None:
    """
    Who comes late with an older number changes nothing, where nobody waits for anybody.
    """
    if shelf.exactly_once:
        pytest.skip("one at a time")
    shelf.apply("late", REFS[0], 5)
    shelf.apply("early", REFS[0], 3)

    assert [5] == shelf.seqs([REFS[0]])


def test_a_generation_is_built_unseen(shelf: Shelf) -> None:
    """
    Readers see the live one until the switch and the other after it; the old one can be dropped, and twice.
    """
    if not shelf.exactly_once:
        pytest.skip("the store is the user's")
    shelf.apply("old", REFS[0], 4)
    model = shelf.open()
    model.prepare(2, live=False)
    shelf.apply("new", REFS[0], 1, generation=2)

    assert ["old"] == shelf.words()
    assert ([4], [1]) == (shelf.seqs([REFS[0]]), shelf.seqs([REFS[0]], generation=2))
    for _ in range(2):
        model.switch(2)
        assert ["new"] == shelf.words()
    shelf.prepare(2)
    for _ in range(2):
        model.drop(1)
        assert ["new"] == shelf.words()
    assert [1] == shelf.seqs([REFS[0]], generation=2)
    model.close()


def test_what_the_database_refuses_is_the_handlers(tmp_path: Path) -> None:
    """
    A broken constraint is no outage: it comes out as it is, and nothing is stored.
    """
    shelf = sql_shelf(f"sqlite:///{tmp_path}/read.db")
    shelf.prepare()
    with pytest.raises(sa.exc.IntegrityError):
        shelf.apply("x" * 200, REFS[0], 1)

    assert ([], [0]) == (shelf.words(), shelf.seqs([REFS[0]]))


def test_projections_share_a_database(tmp_path: Path) -> None:
    """
    Each knows how far its own instances are.
    """
    url = f"sqlite:///{tmp_path}/read.db"
    one, other = sql_shelf(url), sql_shelf(url, "sums")
    for shelf in (one, other):
        shelf.prepare()
    one.apply("mine", REFS[0], 3)

    assert ([3], [0]) == (one.seqs([REFS[0]]), other.seqs([REFS[0]]))


def test_a_database_that_is_away_is_unavailable(tmp_path: Path) -> None:
    """
    Whoever asks for it: then the batch waits.
    """
    for url in (
        "postgresql+psycopg://nobody@127.0.0.1:1/none",
        f"sqlite:///{tmp_path}/no/such/folder/read.db",
    ):
        model = SqlStore(url, metadata).open(controls.settings(), "books")
        assert not model.reachable()
        with pytest.raises(Unavailable):
            model.prepare(1, live=True)
        with pytest.raises(Unavailable), model.transaction(1, [0]):
            pytest.fail("there is no transaction")
        model.close()


def test_a_database_that_is_locked_is_unavailable(tmp_path: Path) -> None:
    """
    Another program that writes to SQLite for long is waited for.
    """
    url = f"sqlite:///{tmp_path}/read.db"
    sql_shelf(url).prepare()
    model = SqlStore(url, metadata, connect_args={"timeout": 0.05}).open(controls.settings(), "books")
    other = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable), model.transaction(1, [0]):
            pytest.fail("there is no transaction")
    model.close()


def test_a_redis_that_dies_is_unavailable(redis_server: RedisServer) -> None:
    """
    In the middle of a transaction too; when it is back nothing of that is there.
    """
    settings = controls.settings(redis_url=redis_server.url, namespace="own")
    model = RedisStore().open(settings, "books")
    model.prepare(1, live=True)
    with pytest.raises(Unavailable), model.transaction(1, [1]) as writing:
        writing.seqs([controls.refs(1, partition=1)[0]])
        writing.tx.pipe.set(writing.tx.key("word"), "lost")
        redis_server.kill()
    assert not model.reachable()
    redis_server.start()
    eventually(model.reachable)
    with model.transaction(1, [1]) as writing:
        assert [0] == writing.seqs([controls.refs(1, partition=1)[0]])
    assert not redis_server.client().keys("*data*")
    model.close()


def test_a_full_redis_is_waited_for(redis_server: RedisServer) -> None:
    """
    A server without memory is no mistake of the handler.
    """
    model = RedisStore(redis_server.url).open(controls.settings(), "books")
    redis_server.client().config_set("maxmemory", 1)
    with pytest.raises(Unavailable), model.transaction(1, [1]) as writing:
        writing.seqs([controls.refs(1, partition=1)[0]])
        writing.tx.pipe.set(writing.tx.key("word"), "lost")
    model.close()


def test_tables_that_cannot_have_generations_are_refused() -> None:
    """
    At once, with the reason; those that were added later when the store is opened.
    """
    linked = sa.MetaData()
    sa.Table("a", linked, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table("b", linked, sa.Column("a", sa.ForeignKey("a.id"), primary_key=True))
    with pytest.raises(WorkflowError, match="table 'b' has a foreign key"):
        SqlStore("sqlite://", linked)
    later = sa.MetaData()
    store = SqlStore("sqlite://", later)
    for table in linked.tables.values():
        table.to_metadata(later)
    with pytest.raises(WorkflowError, match="table 'b' has a foreign key"):
        store.open(controls.settings(), "books")


class Base(DeclarativeBase):
    """
    Tables as SQLAlchemy's ORM declares them.
    """


@pytest.mark.parametrize(
    ("url", "tables", "words"),
    [
        ("sqlite://", None, "SqlStore(url, metadata): the tables are None; give a sqlalchemy.MetaData"),
        ("sqlite://", sa.MetaData, "the tables are the class MetaData; give a sqlalchemy.MetaData"),
        ("sqlite://", Base, "the tables are the class Base; give its .metadata"),
        ("sqlite://", [words], "; give a sqlalchemy.MetaData"),
        (
            None,
            metadata,
            "SqlStore: 'None' is no URL of a database; write sqlite:///read.db or postgresql+psycopg://",
        ),
        (5, metadata, "SqlStore: '5' is no URL of a database"),
        ("", metadata, "SqlStore: '' is no URL of a database"),
        ("read.db", metadata, "SqlStore: 'read.db' is no URL of a database"),
        (
            "postgresql://me:s3cret@host:port/x",
            metadata,
            "'postgresql://me:***@host:port/x' is no URL of a database",
        ),
        ("postgresql+nonsense://host/x", metadata, "'postgresql+nonsense://host/x' is no URL of a database"),
        ("mysql://localhost/x", metadata, "it keeps read models in SQLite or PostgreSQL, not in 'mysql'"),
        ("nonsense://localhost/x", metadata, "in SQLite or PostgreSQL, not in 'nonsense'"),
        (
            "postgresql+asyncpg://host/x",
            metadata,
            "names an asynchronous driver, but it works on a thread; write ",
        ),
    ],
)
def test_what_is_no_database_is_refused(url: Any, tables: Any, words: str) -> None:
    """
    When the store is declared, without a driver, and without a password in the message.
    """
    with pytest.raises(WorkflowError) as caught:
        SqlStore(url, tables)

    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("options", [{"pool_sise": 3}, {"connect_args": 5}])
def test_options_that_sqlalchemy_does_not_take_are_named(options: dict[str, Any]) -> None:
    """
    When the store is opened: only who opens it needs the driver.
    """
    store = SqlStore("sqlite://", metadata, **options)
    with pytest.raises(WorkflowError, match=r"has options that sqlalchemy\.create_engine does not take"):
        store.open(controls.settings(), "books")


@pytest.mark.parametrize("url", [5, None, "localhost", "http://localhost", "redis://", "memory://"])
def test_what_is_no_redis_is_refused(url: Any) -> None:
    """
    When the store is declared.
    """
    with pytest.raises(WorkflowError, match="redis://localhost:6379/0"):
        RedisStore(url)
