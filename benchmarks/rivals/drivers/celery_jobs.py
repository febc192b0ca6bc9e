"""Celery: a task that adds one to a Redis key, a chain of three, an alarm. No log, no dedup, no results kept.

Its workers run as
    python -m celery --app celery_jobs worker
"""

from __future__ import annotations

import os

import post
import redis
from celery import Celery

PREFIX = os.environ["RIVAL_PREFIX"]
ANSWERS = f"{PREFIX}:answers"
app = Celery("rival", broker=os.environ["RIVAL_AMQP_URL"])
app.conf.update(
    task_default_queue=PREFIX,
    # Nothing is lost with a worker: a message is acknowledged when its task is done, and given to another otherwise.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # Nobody asks for results, so there is no backend; who waits for an answer is told through a Redis list.
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    broker_transport_options={"confirm_publish": os.environ.get("RIVAL_CONFIRMS") == "1"},
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
client = redis.Redis.from_url(os.environ["RIVAL_REDIS_URL"], socket_timeout=None)
tally = post.tally()


@app.task
def increment(counter: str, answer: bool = False) -> None:
    """Add one to a counter; answer if somebody waits."""
    if answer:
        pipe = client.pipeline(transaction=False)
        pipe.incr(f"{PREFIX}:{counter}").lpush(ANSWERS, b"1")
        pipe.execute()
    else:
        client.incr(f"{PREFIX}:{counter}")
    tally.mark()


@app.task
def step(number: int, step: int, answer: bool = False) -> None:
    """Do a step of a process, that is nothing; answer after the last one if somebody waits."""
    tally.mark(number, step)
    if answer and step == post.STEPS:
        client.lpush(ANSWERS, b"1")


@app.task
def ring(number: int) -> None:
    """Ring an alarm: its own number becomes one higher."""
    client.incr(f"{PREFIX}:alarm:{number}")
    tally.mark(number)
