"""
A short chaos run on each transport: every promise holds while everything around the workers fails.

`make chaos MINUTES=30` runs for longer; a run that finds something prints the seed that it can be run again with.
"""

import random
from pathlib import Path

import pytest

from tests.chaos.run import ENOUGH, chaos, say
from tests.conftest import need
from tests.support.servers import find_rabbit, find_redis

#: Seconds in which faults are made; what comes after them takes as long as it takes.
SECONDS = 12.0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("transport", "store"), [("rabbitmq", "sqlite"), ("redis", "redis")])
def test_chaos_breaks_no_promise(transport: str, store: str, tmp_path: Path) -> None:
    """
    Workers are killed, stopped and replaced, both servers die and come back, lines are cut and stalled, leases are stolen
    and clocks are wrong: nothing is lost, doubled, reordered or made up, and work goes on when it is over.
    """
    need("redis-server", find_redis())
    if transport == "rabbitmq":
        need("rabbitmq-server", find_rabbit())
    figures = chaos(tmp_path, transport, SECONDS, random.SystemRandom().randrange(1_000_000), store=store)
    say(str(figures))

    assert [] == figures.wrongs
    assert figures.faults.total() >= 3, "too little happened to prove anything"
    assert figures.accepted >= ENOUGH, "too little happened to prove anything"
