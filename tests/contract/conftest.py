"""
The worlds that every suite runs in.
"""

import contextlib
from collections.abc import Iterator

import pytest

from tests.conftest import need, remove_keys
from tests.contract.proxy import Lines, Proxy
from tests.contract.transports import (
    Carrier,
    cluster_carrier,
    memory_carrier,
    rabbit_carrier,
    redis_carrier,
)
from tests.contract.worlds import MemoryWorld, RedisWorld, World
from tests.support.servers import RedisCluster, find_redis


@pytest.fixture(params=["memory", "redis", "cluster"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """
    Every technology that has the ports of the journal's side, one after another.
    """
    if request.param == "memory":
        yield MemoryWorld()
    else:
        yield request.getfixturevalue(f"{request.param}_world")


@pytest.fixture
def cluster_world(cluster_url: str, namespace: str) -> Iterator[RedisWorld]:
    """
    The ports on a Redis Cluster.
    """
    world = RedisWorld(cluster_url, namespace)
    yield world
    world.close()


@pytest.fixture
def redis_world(redis_url: str, namespace: str) -> Iterator[RedisWorld]:
    """
    The ports on Redis, for what only Redis can do.
    """
    world = RedisWorld(redis_url, namespace)
    yield world
    world.close()


@pytest.fixture(params=["memory", "redis", "cluster", "rabbitmq"])
def carrier(request: pytest.FixtureRequest) -> Iterator[Carrier]:
    """
    Every technology that carries commands, one after another.
    """
    if request.param == "memory":
        yield memory_carrier()
    else:
        yield request.getfixturevalue(f"{request.param}_carrier")


@pytest.fixture(scope="session")
def lined_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Lines]]:
    """
    A cluster whose servers are reached through lines that can be cut.
    """
    need("redis-server", find_redis())
    cluster = RedisCluster(tmp_path_factory.mktemp("lined"), replicas=0)
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(node.port)) for node in cluster.nodes]
        cluster.announce([proxy.port for proxy in proxies])
        stack.enter_context(cluster)
        yield cluster.url, Lines(proxies)


@pytest.fixture(name="cluster_carrier")
def _cluster_carrier(lined_cluster: tuple[str, Lines]) -> Iterator[Carrier]:
    """
    Commands over the streams of a cluster.
    """
    carrier = cluster_carrier(*lined_cluster)
    yield from _closed(carrier)
    remove_keys(lined_cluster[0], carrier.settings.namespace)


@pytest.fixture(name="redis_carrier")
def _redis_carrier(redis_url: str, namespace: str) -> Iterator[Carrier]:
    """
    Commands over Redis Streams, of a single server.
    """
    if redis_url.startswith("redis+cluster://"):
        pytest.skip("the suite has a carrier of its own for clusters")
    yield from _closed(redis_carrier(redis_url, namespace))


@pytest.fixture(name="rabbitmq_carrier")
def _rabbitmq_carrier(amqp_url: str, namespace: str) -> Iterator[Carrier]:
    """
    Commands over RabbitMQ.
    """
    yield from _closed(rabbit_carrier(amqp_url, namespace))


def _closed(carrier: Carrier) -> Iterator[Carrier]:
    yield carrier
    carrier.close()
    assert carrier.proxy is not None
    carrier.proxy.close()
