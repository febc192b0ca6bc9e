"""
What a chaos run looks at beside the logs.
"""

import time

from tests.chaos.history import SLACK_MS
from tests.chaos.plant import standstills
from tests.support.servers import RedisServer

#: Keeps Redis busy for longer than it takes on any machine to be noticed.
BUSY = "local sum = 0 for number = 1, 150000000 do sum = sum + 1 end return 1"


def test_it_is_known_when_redis_was_long_in_a_script(redis_server: RedisServer) -> None:
    """
    Times of what was written meanwhile prove nothing; those of before and after do.
    """
    with redis_server.client() as client:
        began_ms = time.time() * 1_000
        client.eval(BUSY, 0, b"\xff")
        ended_ms = time.time() * 1_000
        still = standstills(client)

    assert ended_ms - began_ms > SLACK_MS
    assert any(
        since < began_ms and began_ms + SLACK_MS < until <= since + ended_ms - began_ms + 2_000
        for since, until in still
    )
