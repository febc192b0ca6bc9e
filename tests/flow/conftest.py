"""
Houses on both transports: one for a test that does things to its workers, and one for the tests of a file to share.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.house import CALM, House, house, quick, shared_house

TRANSPORTS = ["rabbitmq", "redis"]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """
    What carries the commands.
    """
    return str(request.param)


@pytest.fixture
def home(transport: str, redis_url: str, amqp_url: str, namespace: str, tmp_path: Path) -> Iterator[House]:
    """
    A house of the test's own, without workers yet.
    """
    settings = quick(namespace, redis_url, amqp_url if transport == "rabbitmq" else "")
    with house(settings, tmp_path) as it:
        yield it


@pytest.fixture
def calm(transport: str, redis_url: str, amqp_url: str, namespace: str, tmp_path: Path) -> Iterator[House]:
    """
    As `home`, for a test in which nobody dies.
    """
    settings = quick(namespace, redis_url, amqp_url if transport == "rabbitmq" else "", **CALM)
    with house(settings, tmp_path) as it:
        yield it


@pytest.fixture(scope="module", params=TRANSPORTS)
def busy(
    request: pytest.FixtureRequest, redis_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """
    A house with a worker that the tests of a file share; each keeps to keys of its own.
    """
    folder = tmp_path_factory.mktemp("busy")
    amqp_url = amqp_url if request.param == "rabbitmq" else ""
    with shared_house(folder, redis_url, amqp_url, **CALM) as it, it.crew(1):
        yield it
