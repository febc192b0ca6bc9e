"""
A namespace that is emptied under its workers, as by FLUSHALL or a failover to a server that has nothing of it: what
they serve is theirs again within heartbeats, read models and schedules live on, and it is said once.
"""

from pathlib import Path

import pytest

from holdfast import Accepted, App, Schedule, connect
from holdfast.brokers import redis_namespace
from holdfast.brokers.redis_link import RedisLink
from holdfast.runtime.ports import POOLS
from tests.flow import books
from tests.flow.house import CALM, PATIENCE_S, house, quick
from tests.flow.shop import Ledger, Post
from tests.flow.test_projections import EVERYTHING, Library, await_readers, prepare
from tests.support.processes import eventually
from tests.support.servers import RedisServer

APP = "tests.flow.test_emptied:app"
SAID = "the namespace was emptied"

app = App(
    workflows=[Ledger],
    projections=[books.Books()],
    schedules=[Schedule(name="yearly", cron="@yearly", command=lambda tick: Post(f"{tick}", "tick", 0))],
)


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_everything_lives_on_in_a_namespace_that_was_emptied(
    kind: str,
    amqp_url: str,
    namespace: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Partitions are claimed, readers registered and schedules set again, and the number of partitions is kept again.
    """
    prepare(kind, tmp_path, request, monkeypatch, namespace)
    with RedisServer(tmp_path / "redis") as server:
        settings = quick(namespace, server.url, amqp_url, **CALM)
        with house(settings, tmp_path) as home, home.crew(2, APP), connect(app, settings) as client:
            library = Library(home, client, tmp_path)
            await_readers(library)
            eventually(lambda: client.schedules.get("yearly") is not None, PATIENCE_S)
            client.execute(Post("before", "me", 0), timeout=PATIENCE_S)
            client.wait_for("books", EVERYTHING, timeout=PATIENCE_S)
            membership = home._ports.membership
            served = [membership.owners(pool) for pool in POOLS]

            moved = home.said().count("partition handed over")
            server.client().flushall()
            eventually(lambda: [membership.owners(pool) for pool in POOLS] == served, PATIENCE_S)
            eventually(lambda: client.schedules.get("yearly") is not None, PATIENCE_S)
            await_readers(library)
            after = client.execute(Post("after", "me", 0), timeout=PATIENCE_S)
            assert isinstance(after, Accepted)
            client.wait_for("books", after, timeout=PATIENCE_S)

            assert {"after": ["ledger/after/1.0"]}.items() <= library.reading.books().items()
            with RedisLink(settings) as link:
                assert settings.partitions == redis_namespace.stored_partitions(settings, link)
            eventually(lambda: home.said().count(SAID) >= len(home.members()), PATIENCE_S)
            assert home.said().count(SAID) == len(home.members())
            assert moved == home.said().count("partition handed over")
            library.reading.redis.close()
