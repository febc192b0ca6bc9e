"""
A worker that cannot keep its promises does not start, and says in one line what to change.
"""

import re
from pathlib import Path

import msgspec
import pytest

from holdfast import PartitionsMismatch, Settings, SettingsError, SetupError, Supervisor, Unavailable, connect
from tests.flow.house import APP, ROOT, House
from tests.flow.shop import NextLedger, Post, app
from tests.support.processes import eventually
from tests.support.servers import RedisServer


def refused(settings: Settings, folder: Path, app_path: str = APP) -> str:
    """
    Start a worker, wait until it says that a restart would not help, and return its log.
    """
    log = folder / "refused.log"
    with Supervisor(app_path, settings, folder=ROOT, log_file=log) as supervisor:
        assert supervisor.failed.wait(40), log.read_text()
        with pytest.raises(SetupError):
            supervisor.check()
        assert 0 == supervisor.restarts
    lines = [line for line in log.read_text().splitlines() if "cannot start" in line]
    assert 1 == len(lines), log.read_text()
    return lines[0]


def test_another_number_of_partitions(home: House, tmp_path: Path) -> None:
    """A worker and a client with another N refuse to run and name both; what was sent before is decided after all."""
    home.client.send(Post("a", "s", 0))
    other = msgspec.structs.replace(home.settings, partitions=7)

    assert "created with 6 partitions, but HOLDFAST_PARTITIONS is 7" in refused(other, tmp_path)
    with pytest.raises(PartitionsMismatch, match="set HOLDFAST_PARTITIONS=6"):
        connect(app, other)

    with home.crew(1):
        home.client.wait(NextLedger, "a", until=lambda state: state.count == 1)


def test_no_such_app(home: House, tmp_path: Path) -> None:
    """A worker that is given no app says what it looked for."""
    assert "no module 'nowhere'" in refused(home.settings, tmp_path, "nowhere:app")
    (tmp_path / "refused.log").unlink()
    assert "is nothing, not an App; it has app, next_app" in refused(
        home.settings, tmp_path, "tests.flow.shop:other"
    )


def test_the_append_only_file_is_off(redis_server: RedisServer, namespace: str, tmp_path: Path) -> None:
    """A worker refuses a Redis that cannot give its durability, and says which setting to change."""
    redis_server.client().config_set("appendonly", "no")
    settings = Settings.of(redis_url=redis_server.url, namespace=namespace)

    assert "Run CONFIG SET appendonly yes" in refused(settings, tmp_path)


def test_a_wrong_password(redis_server: RedisServer, namespace: str, tmp_path: Path) -> None:
    """A worker that is refused says so, without the password, and does not try for ever."""
    redis_server.client().config_set("requirepass", "the-right-one")
    url = redis_server.url.replace("redis://", "redis://:the-wrong-one@")
    settings = Settings.of(redis_url=url, namespace=namespace)

    line = refused(settings, tmp_path)

    assert "refuses the user or password in HOLDFAST_REDIS_URL" in line
    assert "the-wrong-one" not in line


def test_rabbitmq_refuses_the_password(redis_url: str, amqp_url: str, namespace: str, tmp_path: Path) -> None:
    """A worker that RabbitMQ refuses says so, without the password."""
    url = amqp_url.replace("guest:guest", "guest:the-wrong-one")
    settings = Settings.of(redis_url=redis_url, amqp_url=url, namespace=namespace)

    line = refused(settings, tmp_path)

    assert "refuses the user or password in HOLDFAST_AMQP_URL" in line
    assert "the-wrong-one" not in line


def test_a_server_that_is_away_is_tried_again(
    redis_server: RedisServer, namespace: str, tmp_path: Path
) -> None:
    """A worker that cannot reach Redis is started again until it can, and then decides what was sent before."""
    settings = Settings.of(redis_url=redis_server.url, namespace=namespace, partitions=4)
    with connect(app, settings) as client:
        client.send(Post("a", "s", 0))
    redis_server.stop()
    log = tmp_path / "worker.log"

    with Supervisor(APP, settings, folder=ROOT, log_file=log) as supervisor:
        eventually(lambda: log.exists() and "cannot start yet: Redis at" in log.read_text())
        assert not supervisor.failed.is_set()
        redis_server.start()
        with connect(app, settings) as client:
            client.wait(NextLedger, "a", until=lambda state: state.count == 1)


def test_absent_servers_are_named() -> None:
    """A client that reaches nobody says whom it looked for, and a URL of the wrong kind is refused before that."""
    with pytest.raises(Unavailable, match=re.escape("Redis at redis://127.0.0.1:1/0 does not answer")):
        connect(app, Settings.of(redis_url="redis://127.0.0.1:1/0"))
    with pytest.raises(
        SettingsError, match=re.escape("HOLDFAST_REDIS_URL is 'http://127.0.0.1'; it must look like")
    ):
        connect(app, Settings.of(redis_url="http://127.0.0.1"))


def test_an_absent_rabbitmq_is_named(redis_url: str, namespace: str) -> None:
    """A client that does not reach RabbitMQ says so."""
    settings = Settings.of(redis_url=redis_url, amqp_url="amqp://127.0.0.1:1/", namespace=namespace)
    with pytest.raises(Unavailable, match=re.escape("RabbitMQ at amqp://127.0.0.1:1/ cannot be reached")):
        connect(app, settings)
