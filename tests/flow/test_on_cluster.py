"""
The most telling flow tests of each pool, on a Redis Cluster of three primaries.

All of them run there with HOLDFAST_TEST_REDIS=cluster.
"""

import pytest

from tests.flow.test_clients import test_many_at_once_on_an_event_loop
from tests.flow.test_effects import desk, either, rabbit_desk, test_many, test_results_come_back
from tests.flow.test_load import test_killed_workers_lose_double_and_reorder_nothing
from tests.flow.test_projections import (
    library,
    test_a_rebuild_takes_over_under_load,
    test_a_worker_dies_between_write_and_position,
)
from tests.flow.test_runs import test_a_seat_has_one_guest, test_pausing_under_load_loses_and_reorders_nothing
from tests.flow.test_timers import (
    ringing,
    test_timers_are_replaced_and_cancelled,
    test_timers_come_in_their_order,
)

__all__ = [
    "desk",
    "either",
    "library",
    "rabbit_desk",
    "ringing",
    "test_a_rebuild_takes_over_under_load",
    "test_a_seat_has_one_guest",
    "test_a_worker_dies_between_write_and_position",
    "test_killed_workers_lose_double_and_reorder_nothing",
    "test_many",
    "test_many_at_once_on_an_event_loop",
    "test_pausing_under_load_loses_and_reorders_nothing",
    "test_results_come_back",
    "test_timers_are_replaced_and_cancelled",
    "test_timers_come_in_their_order",
]


@pytest.fixture(scope="session")
def redis_url(cluster_url: str) -> str:
    """
    Whatever these tests do to a Redis they do to a cluster.
    """
    return cluster_url
