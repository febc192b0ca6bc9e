"""Plain dramatiq: an actor that adds one to a Redis key, a pipeline of three, an alarm. No log, no dedup.

Its workers run as
    python -m dramatiq dramatiq_jobs:broker --threads 8 --path FOLDER
"""

from __future__ import annotations

import os

import dramatiq
import post
import redis
from dramatiq.brokers.rabbitmq import RabbitmqBroker

broker = RabbitmqBroker(
    url=os.environ["RIVAL_AMQP_URL"], confirm_delivery=os.environ.get("RIVAL_CONFIRMS") == "1"
)
dramatiq.set_broker(broker)
# An answer may be waited for longer than the usual five seconds, as while the workers start.
client = redis.Redis.from_url(os.environ["RIVAL_REDIS_URL"], socket_timeout=None)
PREFIX = os.environ["RIVAL_PREFIX"]
ANSWERS = f"{PREFIX}:answers"
tally = post.tally()


@dramatiq.actor(queue_name=f"{PREFIX}.increment", max_retries=0)
def increment(counter: str, answer: bool = False) -> None:
    """Add one to a counter; answer if somebody waits."""
    if answer:
        pipe = client.pipeline(transaction=False)
        pipe.incr(f"{PREFIX}:{counter}").lpush(ANSWERS, b"1")
        pipe.execute()
    else:
        client.incr(f"{PREFIX}:{counter}")
    tally.mark()


@dramatiq.actor(queue_name=f"{PREFIX}.step", max_retries=0)
def step(number: int, step: int, answer: bool = False) -> None:
    """Do a step of a process, that is nothing; answer after the last one if somebody waits."""
    tally.mark(number, step)
    if answer and step == post.STEPS:
        client.lpush(ANSWERS, b"1")


@dramatiq.actor(queue_name=f"{PREFIX}.ring", max_retries=0)
def ring(number: int) -> None:
    """Ring an alarm: its own number becomes one higher."""
    client.incr(f"{PREFIX}:alarm:{number}")
    tally.mark(number)
