"""
Settings for a namespace of the test's own.
"""

import pytest

from holdfast import Settings
from tests.flow.house import CALM, quick


@pytest.fixture
def settings(redis_url: str, namespace: str) -> Settings:
    """
    Settings on a Redis alone.
    """
    return quick(namespace, redis_url, **CALM)
