"""Read models in SQL, through SQLAlchemy: SQLite and PostgreSQL.

What handlers write and how far each instance is applied are one database transaction. It begins by locking the rows of
its partitions, so that a worker which lost a partition finds there what its successor has done, and passes over it.

    holdfast_positions   by projection, generation and partition: the row that is locked, and where the feed was
    holdfast_applied     by projection, generation and instance: up to which record it is applied
    <table>_g<n>         the user's tables in generation n, and a view <table> of the live ones
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from holdfast.brokers.keys import escape
from holdfast.runtime.checks import said
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import SetupError, Unavailable, WorkflowError
from holdfast.runtime.feed import Stale
from holdfast.runtime.keys import Ref
from holdfast.runtime.redaction import hide_password

if TYPE_CHECKING:
    import sqlalchemy as sa

#: How long a connection attempt to PostgreSQL, and a wait for SQLite's one writer, may take.
CONNECT_TIMEOUT_S = 5
BUSY_TIMEOUT_S = 30
#: Instances that one query asks for.
INSTANCES_PER_QUERY = 500
#: What PostgreSQL calls transactions that got into each other's way: they are simply begun again.
_IN_THE_WAY = ("40001", "40P01")
#: What the databases say when they cannot write, whoever asks: connections, resources, shutdowns, standbys.
_AWAY = ("08", "25006", "53", "57")
_AWAY_WORDS = ("locked", "busy", "readonly", "disk", "unable to open")
_BACKENDS = ("sqlite", "postgresql")
#: Names an advisory lock: only one process makes tables at a time.
_TABLES_LOCK = 0x686F6C64


class SqlStore:
    """A read model in SQLite or PostgreSQL, written together with how far it goes: each event is applied exactly once.

    Args:
        url: As SQLAlchemy takes it: `sqlite:///read.db`, `postgresql+psycopg://user@host/database`.
        metadata: The tables of the read model; without foreign keys, since each generation has tables of its own.
        options: Handed on to `sqlalchemy.create_engine`.

    Handlers write with `ctx.tx.execute(...)` (or `ctx.tx.connection`) to `ctx.tx.table(revenue)`. Others read the view
    that has the table's name: it shows the live generation.

    Raises:
        SetupError: SQLAlchemy is not installed.
        WorkflowError: The URL names no database of ours, what should be tables is none, or one cannot have generations.
    """

    def __init__(self, url: str, metadata: sa.MetaData, **options: Any) -> None:
        sqlalchemy = _sqlalchemy()
        _check_url(sqlalchemy, url)
        if not isinstance(metadata, sqlalchemy.MetaData):
            own = getattr(metadata, "metadata", None)
            hint = "its .metadata" if isinstance(own, sqlalchemy.MetaData) else "a sqlalchemy.MetaData"
            message = f"SqlStore(url, metadata): the tables are {said(metadata)}; give {hint}"
            raise WorkflowError(message)
        self.url = url
        self.metadata = metadata
        self.options = options
        self._check_tables()

    def _check_tables(self) -> None:
        for table in self.metadata.tables.values():
            if table.foreign_keys:
                message = (
                    f"table {table.name!r} has a foreign key: each generation of a read model has tables of its own, "
                    "which cannot point at one another"
                )
                raise WorkflowError(message)

    def open(self, settings: Settings, projection: str) -> SqlReadModel:
        """Return the read model; called by workers."""
        self._check_tables()  # there may be more of them than when the store was made
        return SqlReadModel(self, settings.namespace, projection)


def _sqlalchemy() -> Any:
    try:
        import sqlalchemy
    except ImportError as error:
        message = "a SqlStore needs SQLAlchemy: pip install 'holdfast[sql]'"
        raise SetupError(message) from error
    return sqlalchemy


def _check_url(sa: Any, given: Any) -> None:
    """Check a URL as far as that goes without a driver, which only workers need.

    Raises:
        WorkflowError: It is none, or of a database or driver that a SqlStore does not work with.
    """
    shown = hide_password(str(given))
    example = "write sqlite:///read.db or postgresql+psycopg://user@host/database"
    try:
        url = sa.engine.make_url(given)
        backend = url.get_backend_name()
        asynchronous = backend in _BACKENDS and url.get_dialect().is_async
    except ImportError:
        return  # said when a worker opens it
    except (sa.exc.ArgumentError, ValueError):
        # Without its cause, which may quote a password that should have been escaped.
        message = f"SqlStore: {shown!r} is no URL of a database; {example}"
        raise WorkflowError(message) from None
    if backend not in _BACKENDS:
        message = f"SqlStore: {shown!r}: it keeps read models in SQLite or PostgreSQL, not in {backend!r}; {example}"
        raise WorkflowError(message)
    if asynchronous:
        message = f"SqlStore: {shown!r} names an asynchronous driver, but it works on a thread; {example}"
        raise WorkflowError(message)


class SqlTransaction:
    """What handlers of a projection with a SqlStore write with."""

    def __init__(self, connection: sa.Connection, tables: Mapping[str, sa.Table]) -> None:
        #: The connection, in the transaction of the batch. Neither commit nor roll back.
        self.connection = connection
        self._tables = tables

    def table(self, table: sa.Table) -> sa.Table:
        """Return a table of the store as it is in the generation that is written."""
        return self._tables[table.key]

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Execute a statement in the transaction of the batch."""
        return self.connection.execute(statement, parameters)


class _Writing:
    """A transaction on the database."""

    def __init__(
        self, model: SqlReadModel, connection: sa.Connection, generation: int, tables: Mapping[str, sa.Table]
    ) -> None:
        self._model = model
        self._connection = connection
        self._generation = generation
        self.tx = SqlTransaction(connection, tables)

    def seqs(self, refs: Sequence[Ref]) -> list[int]:
        """Return up to which record instances are applied."""
        with self._model.errors():
            return self._model.seqs(self._connection, self._generation, refs)

    def keep(self, seqs: Sequence[tuple[Ref, int]], positions: Mapping[int, str]) -> None:
        """Write up to which record instances are applied."""
        with self._model.errors():
            self._model.keep(self._connection, self._generation, seqs, positions)


class SqlReadModel:
    """The read model of one projection in a database."""

    exactly_once = True

    def __init__(self, store: SqlStore, namespace: str, projection: str) -> None:
        self._sa = _sqlalchemy()
        self._store = store
        self._who = {"namespace": namespace, "projection": projection}
        self._engine = _engine(self._sa, store)
        self._dialect = self._engine.dialect.name
        self._positions, self._applied = _own_tables(self._sa)
        self._tables: dict[int, dict[str, sa.Table]] = {}

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the database says into what Holdfast raises, where the database is the problem."""
        try:
            yield
        except Exception as error:
            # What a handler met in the database comes as the cause of its failure.
            for one in (error, error.__cause__):
                if isinstance(one, self._sa.exc.DBAPIError):
                    self._blame(one)
            raise

    def _blame(self, error: Any) -> None:
        state = str(getattr(error.orig, "sqlstate", None) or "")
        if state in _IN_THE_WAY:
            message = "transactions on the read model got into each other's way"
            raise Stale(message) from error
        away = self._dialect == "sqlite" and any(word in str(error.orig) for word in _AWAY_WORDS)
        if away or state.startswith(_AWAY) or error.connection_invalidated:
            message = f"the database of projection {self._who['projection']!r} does not answer: {error.orig}"
            raise Unavailable(message) from error

    def _begin(self) -> Any:
        """Return a transaction that has begun; whatever goes wrong in that is the database's."""
        try:
            return self._engine.connect()
        except self._sa.exc.DBAPIError as error:
            message = f"the database of projection {self._who['projection']!r} does not answer: {error.orig}"
            raise Unavailable(message) from error

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._begin() as connection, self.errors(), connection.begin():
            yield connection

    # -- generations

    def _tables_of(self, generation: int) -> dict[str, sa.Table]:
        found = self._tables.get(generation)
        if found is None:
            metadata = self._sa.MetaData()
            found = self._tables[generation] = {
                name: _copy(table, metadata, f"_g{generation}")
                for name, table in self._store.metadata.tables.items()
            }
        return found

    def prepare(self, generation: int, *, live: bool) -> None:
        """Create what is not there yet: our tables, the generation's, and the views of the first live one."""
        tables = list(self._tables_of(generation).values())
        with self._transaction() as connection:
            self._alone(connection)
            for table in (self._positions, self._applied, *tables):
                table.create(connection, checkfirst=True)
            if live:
                known = self._sa.inspect(connection).get_view_names()
                self._show(connection, generation, [n for n in self._store.metadata.tables if n not in known])

    def _alone(self, connection: sa.Connection) -> None:
        if self._dialect == "postgresql":
            connection.execute(self._sa.select(self._sa.func.pg_advisory_xact_lock(_TABLES_LOCK)))

    def _show(self, connection: sa.Connection, generation: int, names: Sequence[str]) -> None:
        quote = self._engine.dialect.identifier_preparer.quote
        for name in names:
            target = self._tables_of(generation)[name].name
            connection.execute(self._sa.text(f"DROP VIEW IF EXISTS {quote(name)}"))
            connection.execute(
                self._sa.text(f"CREATE VIEW {quote(name)} AS SELECT * FROM {quote(target)}")  # noqa: S608 - names of tables, quoted
            )

    def switch(self, generation: int) -> None:
        """Have the views show another generation, all at once."""
        with self._transaction() as connection:
            self._alone(connection)
            self._show(connection, generation, list(self._store.metadata.tables))

    def drop(self, generation: int) -> None:
        """Drop a generation's tables, and forget how far it went."""
        with self._transaction() as connection:
            self._alone(connection)
            for table in self._tables_of(generation).values():
                table.drop(connection, checkfirst=True)
            for own in (self._positions, self._applied):
                connection.execute(own.delete().where(*self._where(own, generation)))

    # -- writing

    def _where(self, table: sa.Table, generation: int) -> list[Any]:
        facts = self._who | {"generation": generation}
        return [table.c[name] == value for name, value in facts.items()]

    @contextmanager
    def transaction(self, generation: int, partitions: Sequence[int]) -> Iterator[_Writing]:
        """Lock the partitions, always in the same order, and write."""
        with self._transaction() as connection:
            self._lock(connection, generation, sorted(partitions))
            yield _Writing(self, connection, generation, self._tables_of(generation))

    def _lock(self, connection: sa.Connection, generation: int, partitions: Sequence[int]) -> None:
        if self._dialect == "sqlite":
            return  # BEGIN IMMEDIATE made us the only writer
        table = self._positions
        wanted = table.c.partition.in_(partitions)
        query = self._sa.select(table.c.partition).where(*self._where(table, generation), wanted)
        query = query.order_by(table.c.partition).with_for_update()
        known = set(connection.execute(query).scalars())
        missing = [p for p in partitions if p not in known]
        if missing:
            self._upsert(
                connection,
                table,
                [self._who | {"generation": generation, "partition": p, "position": "0-0"} for p in missing],
                "partition",
            )
            connection.execute(query).all()

    def seqs(self, connection: sa.Connection, generation: int, refs: Sequence[Ref]) -> list[int]:
        """Return up to which record instances are applied."""
        by_workflow: dict[str, list[str]] = defaultdict(list)
        for ref in refs:
            by_workflow[ref.workflow].append(escape(ref.key))
        table, found = self._applied, dict[tuple[str, str], int]()
        for workflow, keys in by_workflow.items():
            for start in range(0, len(keys), INSTANCES_PER_QUERY):
                some = keys[start : start + INSTANCES_PER_QUERY]
                query = self._sa.select(table.c.key, table.c.seq).where(
                    *self._where(table, generation), table.c.workflow == workflow, table.c.key.in_(some)
                )
                found.update(((workflow, key), seq) for key, seq in connection.execute(query))
        return [found.get((ref.workflow, escape(ref.key)), 0) for ref in refs]

    def keep(
        self,
        connection: sa.Connection,
        generation: int,
        seqs: Sequence[tuple[Ref, int]],
        positions: Mapping[int, str],
    ) -> None:
        """Write up to which record instances are applied, and where the feed was."""
        who = self._who | {"generation": generation}
        rows = [who | {"workflow": ref.workflow, "key": escape(ref.key), "seq": seq} for ref, seq in seqs]
        self._upsert(connection, self._applied, rows, "seq")
        places = [who | {"partition": p, "position": position} for p, position in positions.items()]
        self._upsert(connection, self._positions, places, "position")

    def _upsert(
        self, connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]], column: str
    ) -> None:
        if not rows:
            return
        insert = self._sa.dialects.postgresql if self._dialect == "postgresql" else self._sa.dialects.sqlite
        statement = insert.insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=[one.name for one in table.primary_key],
            set_={column: statement.excluded[column]},
        )
        connection.execute(statement, rows)

    def positions(self, generation: int) -> dict[int, str]:
        """Return how far the feed was read."""
        table = self._positions
        query = self._sa.select(table.c.partition, table.c.position).where(*self._where(table, generation))
        with self.errors(), self._engine.connect() as connection:
            return {int(partition): str(position) for partition, position in connection.execute(query)}

    def reachable(self) -> bool:
        """Return whether the database answers."""
        try:
            with self._engine.connect() as connection:
                connection.execute(self._sa.select(1))
        except self._sa.exc.SQLAlchemyError:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _engine(sa: Any, store: SqlStore) -> Any:
    """Return an engine for one thread."""
    import sqlalchemy.dialects.postgresql
    import sqlalchemy.dialects.sqlite  # noqa: F401 - both are used by name

    url = sa.engine.make_url(store.url)
    dialect = url.get_backend_name()
    options = dict(store.options)
    usual = {"timeout": BUSY_TIMEOUT_S} if dialect == "sqlite" else {"connect_timeout": CONNECT_TIMEOUT_S}
    try:
        options["connect_args"] = usual | options.pop("connect_args", {})
        engine = sa.create_engine(url, **({"pool_size": 2} | options))
    except (TypeError, sa.exc.ArgumentError) as error:
        message = (
            f"SqlStore(url, metadata, ...) has options that sqlalchemy.create_engine does not take: {error}"
        )
        raise WorkflowError(message) from error
    except ImportError as error:
        message = f"the driver for {url.render_as_string(hide_password=True)} is not installed: {error}"
        raise SetupError(message) from error
    if dialect == "sqlite":
        _take_over_transactions(sa, engine)
    return engine


def _take_over_transactions(sa: Any, engine: Any) -> None:
    """Begin SQLite's transactions ourselves: as a writer at once, and with changes of tables in them."""

    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", begun)


def _own_tables(sa: Any) -> tuple[Any, Any]:
    """Return the tables of our own."""
    metadata = sa.MetaData()

    def who() -> list[Any]:
        return [
            sa.Column("namespace", sa.String(40), primary_key=True),
            sa.Column("projection", sa.String(40), primary_key=True),
            sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        ]

    positions = sa.Table(
        "holdfast_positions",
        metadata,
        *who(),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.String(64), nullable=False),
    )
    applied = sa.Table(
        "holdfast_applied",
        metadata,
        *who(),
        sa.Column("workflow", sa.String(64), primary_key=True),
        # Escaped, since PostgreSQL's text knows no NUL.
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    return positions, applied


def _copy(table: Any, metadata: Any, suffix: str) -> Any:
    """Return a table as it is in a generation; what has a name in the database gets one of its own."""
    copy = table.to_metadata(metadata, name=f"{table.name}{suffix}")
    for named in (*copy.indexes, *copy.constraints):
        if named.name:
            named.name = f"{named.name}{suffix}"
    return copy
