"""
Houses on both transports.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.house import House, house, quick


@pytest.fixture(params=["rabbitmq", "redis"])
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
