"""
Projections on real servers: whatever dies, each event is in the read model exactly once and in order.
"""

import contextlib
import signal
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from holdfast import Accepted, Client, Duplicate, ReplyTimeout, UsageError, connect
from holdfast.actors import wiring
from holdfast.brokers.keys import Keys
from holdfast.runtime.faults import Point
from holdfast.runtime.feed import Reader
from holdfast.runtime.keys import Ref, partition_of
from tests.crash.strike import ENV_FOLDER, order
from tests.flow import books
from tests.flow.house import PATIENCE_S, House, house, quick, shared_house
from tests.flow.shop import Close, Ledger, Post
from tests.support.processes import eventually
from tests.support.servers import PostgresServer, RedisServer, redis_client

APP = "tests.flow.books:app"
#: What position-less outcomes wait for: all that is in the feeds now.
EVERYTHING: Accepted[object] = Accepted(0, ())


class Library:
    """
    A house with books, and a client that knows them.
    """

    def __init__(self, home: House, client: Client, folder: Path) -> None:
        self.home = home
        self.client = client
        self.folder = folder
        self.reading = books.Reading(client, redis_client(home.settings.redis_url))

    def post(self, keys: Sequence[str], count: int, sender: str = "me") -> None:
        """
        Send so many commands to each key.
        """
        self.client.send_many(Post(key, sender, number) for number in range(count) for key in keys)

    def await_decided(self, keys: Sequence[str], count: int) -> None:
        """
        Wait until each key has so many records.
        """
        for key in keys:
            self.client.wait(Ledger, key, until=lambda state: state.count >= count, timeout=PATIENCE_S)

    def check(self, keys: Sequence[str], count: int) -> None:
        """
        See that each key's events are in the read model once and in order.
        """
        self.await_decided(keys, count)
        self.client.wait_for("books", EVERYTHING, timeout=PATIENCE_S)
        found = self.reading.books()
        expected = {key: [f"ledger/{key}/{seq}.0" for seq in range(1, count + 1)] for key in keys}

        assert expected == {key: found.get(key) for key in keys}
        sums = self.reading.totals()
        assert dict.fromkeys(keys, count) == {key: sums.get(key) for key in keys}

    @contextlib.contextmanager
    def strike(self, point: Point) -> Iterator[None]:
        """
        Kill the next worker that comes to a point, and wait until one has.
        """
        before = len(list(self.folder.glob(f"{point}.SIGKILL.*")))
        order(self.folder, point, signal.SIGKILL).touch()
        yield
        eventually(lambda: len(list(self.folder.glob(f"{point}.SIGKILL.*"))) > before, PATIENCE_S)

    def close(self) -> None:
        self.client.close()
        self.reading.redis.close()


def await_readers(library: Library) -> None:
    """
    Wait until the feed of every partition is read.
    """
    ports = wiring.open_ports(library.home.settings)
    try:
        everywhere = library.home.settings.partitions
        eventually(lambda: len(ports.feed.behind(Reader("books", 1))) == everywhere, PATIENCE_S)
    finally:
        ports.close()


def keys_of(prefix: str, count: int = 8) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def prepare(
    kind: str, folder: Path, request: pytest.FixtureRequest, patch: pytest.MonkeyPatch, namespace: str
) -> None:
    """
    Say in the environment where the books are kept.
    """
    where = {"sqlite": f"sqlite:///{folder}/books.db", "file": f"file:{folder}/books.txt", "redis": "redis"}
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        where[kind] = server.database(namespace)
    patch.setenv(books.ENV_STORE, where[kind])
    patch.setenv(books.ENV_POISON, str(folder / "poison"))
    patch.setenv(ENV_FOLDER, str(folder))
    patch.setattr(books.app.projections[0].projection, "store", books.store())


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "redis"])
def library(
    request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    """
    Two workers on each kind of store, that can be struck; shared by the tests of this file.
    """
    folder = tmp_path_factory.mktemp("library")
    with pytest.MonkeyPatch.context() as patch:
        prepare(request.param, folder, request, patch, f"b{uuid.uuid4().hex[:8]}")
        with (
            shared_house(folder, redis_url, member_ttl_ms=800) as home,
            home.crew(2, APP, preload="tests.crash.strike"),
        ):
            library = Library(home, connect(books.app, home.settings), folder)
            # Outcomes have positions from the moment on that somebody reads the feed.
            await_readers(library)
            yield library
            library.close()


@pytest.mark.parametrize("point", [Point.PROJECTION_WRITTEN, Point.POSITION_STORED])
def test_a_worker_dies_between_write_and_position(library: Library, point: Point) -> None:
    """
    A worker is killed when the handlers have written and nothing is stored, or when all is stored and nobody was told,
    again and again under load: each event is in the read model exactly once, in order, and so are sums over it.
    """
    keys = keys_of(point)
    for round_ in range(2):
        with library.strike(point):
            library.post(keys, 10, f"round-{round_}")
    library.check(keys, 20)


def test_one_reads_what_one_has_written(library: Library) -> None:
    """
    `wait_for` returns when the outcome's event is there, `def` handler or `async def`; for a duplicate too.
    """
    outcome = library.client.execute(Post("own", "me", 1), id="own-1", timeout=PATIENCE_S)
    # Where the first answer was lost, with a worker that was taken for dead, this is the second.
    outcome = outcome.first if isinstance(outcome, Duplicate) else outcome
    assert isinstance(outcome, Accepted)
    assert outcome.position
    library.client.wait_for(books.Books, outcome, timeout=PATIENCE_S)
    assert ["ledger/own/1.0"] == library.reading.books()["own"]

    again = library.client.execute(Post("own", "me", 1), id="own-1", timeout=PATIENCE_S)
    library.client.wait_for("books", again, timeout=PATIENCE_S)
    closed = library.client.execute(Close("own", "me", 2), timeout=PATIENCE_S)
    library.client.wait_for("books", closed, timeout=PATIENCE_S)
    assert ["ledger/own/1.0", "ledger/own/2.0"] == library.reading.books()["own"]


def test_deleted_data_leaves_the_read_model(library: Library) -> None:
    """
    When an instance's data is deleted the read model is told, and can forget it too.
    """
    library.post(["forgotten", "kept"], 2)
    library.check(["forgotten", "kept"], 2)
    outcomes = [
        library.client.cancel(Ledger, "forgotten", timeout=PATIENCE_S),
        library.client.delete_data(Ledger, "forgotten", timeout=PATIENCE_S),
    ]
    first = [one.first if isinstance(one, Duplicate) else one for one in outcomes]
    assert [Accepted] * 2 == [type(outcome) for outcome in first]
    library.client.wait_for("books", outcomes[1], timeout=PATIENCE_S)

    assert {"kept"} == library.reading.books().keys() & {"forgotten", "kept"}
    assert {"kept"} == library.reading.totals().keys() & {"forgotten", "kept"}


def test_a_poison_event_parks_its_key_alone(library: Library) -> None:
    """
    The key of an event that fails is tried again, then parked and listed; others go on, and so does it when retried.
    """
    poison = library.folder / "poison"
    poison.touch()
    good = keys_of("good", 4)
    library.post(["bad"], 2)
    library.post(["bad"], 1, "poison")
    library.post([*good, "bad"], 3)
    library.check(good, 3)
    desk = library.client.projections

    eventually(lambda: any(one.given_up for _, one in desk.parked("books", key="bad")), PATIENCE_S)
    ((_, parked),) = desk.parked("books")
    assert ("ledger", "bad", 3, 0, "Posted", "handler", 3) == (
        parked.workflow,
        parked.key,
        parked.seq,
        parked.index,
        parked.event,
        parked.kind,
        parked.attempts,
    )
    assert "LookupError: cannot swallow 0" == parked.error
    assert ["ledger/bad/1.0", "ledger/bad/2.0"] == library.reading.books()["bad"]
    letters = library.client.dead_letters
    (letter,) = letters.list(kind="projection")
    assert ("bad", "Posted", parked.error, 3) == (
        letter.key,
        letter.message_type,
        letter.error,
        letter.attempts,
    )
    assert b"poison" in letter.body

    assert letters.retry(letter.id)
    eventually(lambda: all(one.at_ms > letter.at_ms for one in letters.list(kind="projection")), PATIENCE_S)
    poison.unlink()
    assert 1 == desk.retry("books", "ledger", "bad")
    eventually(lambda: not desk.parked("books"), PATIENCE_S)
    eventually(lambda: not letters.retry(letter.id))
    library.check(["bad"], 6)


def test_a_poison_event_can_be_skipped(library: Library) -> None:
    """
    That event is left out for good, and all others of the key are applied.
    """
    poison = library.folder / "poison"
    poison.touch()
    library.post(["worse"], 1)
    library.post(["worse"], 1, "poison")
    library.post(["worse"], 1)
    desk = library.client.projections
    eventually(lambda: any(one.given_up for _, one in desk.parked("books", key="worse")), PATIENCE_S)

    assert desk.skip("books", "ledger", "worse")
    eventually(lambda: not desk.parked("books"), PATIENCE_S)
    poison.unlink()
    library.client.wait_for("books", EVERYTHING, timeout=PATIENCE_S)

    assert ["ledger/worse/1.0", "ledger/worse/3.0"] == library.reading.books()["worse"]
    assert not desk.skip("books", "ledger", "worse")


def test_a_rebuild_takes_over_under_load(library: Library) -> None:
    """
    The read model is built anew beside the live one while commands go on, and takes its place when it has drawn level;
    what it has is the same, and the old one is cleared away.
    """
    keys = keys_of("load", 12)
    library.post(keys, 20)
    generation = library.client.projections.rebuild("books")
    for round_ in range(3):
        library.post(keys, 10, f"more-{round_}")

    def live() -> list[tuple[int, str]]:
        return [(one.generation, one.state) for one in library.client.projections.lag("books")]

    eventually(lambda: live() == [(generation, "live")], PATIENCE_S)
    library.post(keys, 5, "after")
    library.check(keys, 55)
    (status,) = library.client.projections.lag("books")
    assert (100.0, 0, 0) == (status.percent, status.records, status.parked)


# -- each with a house of its own


@pytest.fixture
def stage(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Library]:
    """
    A house on a Redis of its own, without workers yet; the parameter says where the books are, and how durable all is.
    """
    kind, _, durability = request.param.partition("+")
    prepare(kind, tmp_path, request, monkeypatch, namespace)
    if durability == "fsync":
        redis_server.client().config_set("appendfsync", "always")
    settings = quick(namespace, redis_server.url, durability=durability or "everysec")
    with house(settings, tmp_path) as home:
        library = Library(home, connect(books.app, settings), tmp_path)
        yield library
        library.close()


@pytest.mark.parametrize("stage", ["postgresql"], indirect=True)
def test_a_database_goes_away_and_comes_back(stage: Library, postgres: PostgresServer) -> None:
    """
    While it is away commands are decided, what waits is visible as lag and nothing is parked; then all of it is applied.
    """
    keys = keys_of("away")
    with stage.home.crew(2, APP):
        stage.post(keys, 5)
        stage.check(keys, 5)
        postgres.stop()
        try:
            stage.post(keys, 10, "meanwhile")
            stage.await_decided(keys, 15)
            (status,) = stage.client.projections.lag("books")
            assert (status.records, status.parked) == (80, 0)
            with pytest.raises(ReplyTimeout, match="'books' was not that far"):
                stage.client.wait_for("books", EVERYTHING, timeout=0.1)
            assert status.seconds > 0
        finally:
            postgres.start()
        stage.check(keys, 15)
        assert [] == stage.client.projections.parked("books")


@pytest.mark.parametrize("stage", ["sqlite+fsync"], indirect=True)
def test_redis_is_killed_and_comes_back(stage: Library, redis_server: RedisServer) -> None:
    """
    With every commit on disk before it is acknowledged, nothing is missed or doubled.
    """
    keys = keys_of("killed")
    with stage.home.crew(2, APP):
        stage.post(keys, 20)
        stage.await_decided(keys[:1], 1)
        redis_server.kill()
        redis_server.start()
        eventually(lambda: stage.home.shared_by(2), PATIENCE_S)
        stage.check(keys, 20)


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
def test_a_new_projection_begins_with_what_is_there(stage: Library, redis_server: RedisServer) -> None:
    """
    Instances from before it existed are applied from their logs, whole, while new commands come in; until then nothing
    is written to a feed. What everybody has read is trimmed. Taken out of the app and removed, it leaves nothing.
    """
    old, new = keys_of("old", 120), keys_of("new")
    keys, redis_client = Keys(stage.home.settings.namespace), redis_server.client()
    partitions = range(stage.home.settings.partitions)

    def fed() -> int:
        return sum(int(redis_client.xlen(keys.feed(partition))) for partition in partitions)

    with stage.home.crew(1, "tests.flow.books:bare_app"):
        stage.post(old, 4)
        stage.await_decided(old, 4)
        assert 0 == fed()
    with stage.home.crew(2, APP):
        stage.post([*old[:20], *new], 4, "meanwhile")
        stage.check(old[20:], 4)
        stage.check(new, 4)
        stage.check(old[:20], 8)
        stage.post(new, 250, "more")
        stage.check(new, 254)
        eventually(lambda: fed() < 1_200, PATIENCE_S)
        with pytest.raises(UsageError, match="'books' is in the app"):
            stage.client.projections.remove("books")
    with connect(books.bare_app, stage.home.settings) as client:
        (status,) = client.projections.list()
        assert ("books", False, 0) == (status.name, status.known, status.records)
        client.projections.remove("books")
        assert [] == client.projections.list()
        with pytest.raises(UsageError, match="'books' is no projection of this app"):
            client.projections.remove("books")
    assert 0 == fed()
    assert 0 == sum(int(redis_client.exists(keys.readers(p), keys.reading(p))) for p in partitions)


@pytest.mark.parametrize("stage", ["file"], indirect=True)
def test_checkpoints_alone_are_at_least_once(stage: Library) -> None:
    """
    A worker killed between a handler and its checkpoint has the event applied again, under the same id: whoever leaves
    out ids that he knows has each once and in order. And so a kill there is one that would show in the other tests.
    """
    keys = keys_of("again", 3)
    with stage.home.crew(2, APP, preload="tests.crash.strike"):
        with stage.strike(Point.PROJECTION_WRITTEN):
            stage.post(keys, 10)
        stage.await_decided(keys, 10)
        stage.client.wait_for("books", EVERYTHING, timeout=PATIENCE_S)
    found = stage.reading.books()

    assert {key: [f"ledger/{key}/{seq}.0" for seq in range(1, 11)] for key in keys} == {
        key: list(dict.fromkeys(found[key])) for key in keys
    }
    assert sum(map(len, found.values())) > 30


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
def test_what_a_log_no_longer_has_is_told(stage: Library, redis_server: RedisServer) -> None:
    """
    A rebuild that would miss records parks the instance and says which are gone; skipped, it goes on behind them. The
    rebuilt read model does not take over before.
    """
    with stage.home.crew(1, APP):
        stage.post(["short", "whole"], 6)
        stage.check(["short", "whole"], 6)
        found = stage.client.instances(Ledger).instances
        assert len(found) == 2
        ref = Ref(partition_of("ledger", "short", stage.home.settings.partitions), "ledger", "short")
        log = Keys(stage.home.settings.namespace).log(ref)
        assert 3 == redis_server.client().xdel(log, "1-0", "2-0", "3-0")
        desk = stage.client.projections
        assert 2 == desk.rebuild("books")
        eventually(lambda: bool(desk.parked("books")), PATIENCE_S)
        with pytest.raises(UsageError, match="is being rebuilt already, as generation 2"):
            desk.rebuild("books")

        ((generation, parked),) = desk.parked("books")
        assert (2, "gone", True) == (generation, parked.kind, parked.given_up)
        assert "records 1 to 3 of ledger/short are no longer in its log" in parked.error
        assert desk.skip("books", "ledger", "short")
        eventually(lambda: [one.state for one in desk.lag("books")] == ["live"], PATIENCE_S)
    assert [f"ledger/short/{seq}.0" for seq in (4, 5, 6)] == stage.reading.books()["short"]
