"""
One ground for all benchmarks under test: starting it takes longer than most of them.
"""

from collections.abc import Iterator

import pytest

from benchmarks.ground import Ground, ground
from tests.conftest import need
from tests.support.servers import find_rabbit, find_redis


@pytest.fixture(scope="session")
def where() -> Iterator[Ground]:
    """
    Servers with the settings of deploy/.
    """
    need("redis-server", find_redis())
    need("rabbitmq-server", find_rabbit())
    with ground() as found:
        yield found
