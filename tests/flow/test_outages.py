"""
Servers go away under load and come back: nothing that was acknowledged is lost, and work goes on by itself.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.proxy import Proxy
from tests.flow.house import House, accounts, house, quick
from tests.flow.senders import Senders
from tests.support.processes import eventually
from tests.support.servers import RabbitServer, RedisServer


@pytest.fixture
def alone(
    redis_server: RedisServer, rabbit_server: RabbitServer, namespace: str, tmp_path: Path
) -> Iterator[House]:
    """
    A house on servers of its own, with every commit on disk before it is acknowledged.
    """
    redis_server.client().config_set("appendfsync", "always")
    # A command is not given up while RabbitMQ starts, which may take long on a busy machine.
    settings = quick(namespace, redis_server.url, rabbit_server.url, durability="fsync", send_wait_s=120.0)
    with house(settings, tmp_path) as it:
        yield it


def test_redis_is_killed_and_comes_back(alone: House, redis_server: RedisServer) -> None:
    """
    Redis is killed with SIGKILL under load and started again from its append-only file, twice: with the level fsync
    everything that was acknowledged is there, once and in order.
    """
    with alone.crew(2):
        with Senders(alone.client, accounts("a", 20), callers=1) as senders:
            for _ in range(2):
                alone.await_progress()
                redis_server.kill()
                redis_server.start()
            eventually(lambda: _progressed(alone), 60)
        alone.check(senders, at_least=200)


def test_rabbitmq_stops_and_comes_back(alone: House, rabbit_server: RabbitServer) -> None:
    """
    RabbitMQ is stopped and started under load: what was not confirmed is sent again, what was not acknowledged is
    delivered again, and each command is decided once and in order.
    """
    with alone.crew(2):
        with Senders(alone.client, accounts("a", 20), callers=1) as senders:
            alone.await_progress()
            rabbit_server.stop()
            rabbit_server.start()
            alone.await_progress()
        alone.check(senders, at_least=200)


def test_connections_to_rabbitmq_are_cut(
    redis_url: str, amqp_url: str, namespace: str, tmp_path: Path
) -> None:
    """
    All connections to RabbitMQ, of senders and workers, are cut again and again in the middle of what they carry.
    """
    port = int(amqp_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        through = amqp_url.replace(f":{port}/", f":{proxy.port}/")
        with house(quick(namespace, redis_url, through), tmp_path) as home, home.crew(2):
            with Senders(home.client, accounts("a", 20), callers=1) as senders:
                for _ in range(4):
                    home.await_progress()
                    proxy.cut()
                home.await_progress()
            home.check(senders, at_least=400)


def _progressed(home: House) -> bool:
    """
    Say whether the workers are back and have decided more.
    """
    try:
        home.await_progress(50)
    except Exception:
        return False
    return True
