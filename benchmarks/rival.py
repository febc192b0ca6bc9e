"""Plain dramatiq: a bare actor that adds one to a Redis key. It keeps no log, no state but the number, no dedup.

Its workers run as
    python -m dramatiq benchmarks.rival:broker --processes 2 --threads 8
"""

import os

import dramatiq
import redis
from dramatiq.brokers.rabbitmq import RabbitmqBroker

broker = RabbitmqBroker(
    url=os.environ["BENCHMARK_AMQP_URL"], confirm_delivery=os.environ.get("BENCHMARK_CONFIRMS") == "1"
)
dramatiq.set_broker(broker)
# An answer may be waited for longer than the usual five seconds, as while the workers start.
client = redis.Redis.from_url(os.environ["BENCHMARK_REDIS_URL"], socket_timeout=None)
PREFIX = os.environ["BENCHMARK_PREFIX"]


@dramatiq.actor(queue_name=f"{PREFIX}.increment", max_retries=0)
def increment(counter: str, answer_to: str | None = None) -> None:
    """Add one to a counter, and to the count of all; answer if somebody waits."""
    pipe = client.pipeline(transaction=False)
    pipe.incr(f"{PREFIX}:{counter}")
    pipe.incr(f"{PREFIX}:all")
    if answer_to is not None:
        pipe.lpush(answer_to, b"1")
    pipe.execute()
