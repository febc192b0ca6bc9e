"""
The worlds that every suite runs in.
"""

from collections.abc import Iterator

import pytest

from tests.contract.transports import Carrier, memory_carrier, rabbit_carrier, redis_carrier
from tests.contract.worlds import MemoryWorld, RedisWorld, World


@pytest.fixture(params=["memory", "redis"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """
    Every technology that has the ports of the journal's side, one after another.
    """
    if request.param == "memory":
        yield MemoryWorld()
    else:
        yield request.getfixturevalue("redis_world")


@pytest.fixture
def redis_world(redis_url: str, namespace: str) -> Iterator[RedisWorld]:
    """
    The ports on Redis, for what only Redis can do.
    """
    world = RedisWorld(redis_url, namespace)
    yield world
    world.close()


@pytest.fixture(params=["memory", "redis", "rabbitmq"])
def carrier(request: pytest.FixtureRequest) -> Iterator[Carrier]:
    """
    Every technology that carries commands, one after another.
    """
    if request.param == "memory":
        yield memory_carrier()
    else:
        yield request.getfixturevalue(f"{request.param}_carrier")


@pytest.fixture(name="redis_carrier")
def _redis_carrier(redis_url: str, namespace: str) -> Iterator[Carrier]:
    """
    Commands over Redis Streams.
    """
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
