"""Plain dramatiq on RabbitMQ, as it comes: a bare actor that adds one to a Redis key, and a pipeline of three bare steps.

It keeps no log, no state but the number, and knows no duplicates. Its workers run as dramatiq's command line has it: a
process for each core, eight threads in each.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import dramatiq
import redis
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.ground import ROOT, Ground

#: Commands that are answered one after another before anything is measured.
WARM_UP = 50
TIMEOUT_S = 300
#: How often the count is looked at: as often as Holdfast's, by benchmarks.tally.
LOOK_S = 0.005
ENV_AMQP, ENV_REDIS, ENV_PREFIX = "BENCHMARK_AMQP_URL", "BENCHMARK_REDIS_URL", "BENCHMARK_PREFIX"


class Rival:
    """The actors, seen from who sends and from the workers alike; `confirms` has each publish wait for its confirm."""

    def __init__(self, amqp_url: str, redis_url: str, prefix: str, *, confirms: bool = False) -> None:
        self.prefix = prefix
        self.broker = RabbitmqBroker(url=amqp_url, confirm_delivery=confirms)
        # An answer may be waited for longer than the usual five seconds, as while the workers start.
        self.redis = redis.Redis.from_url(redis_url, socket_timeout=None)
        client, count, queue = self.redis, f"{prefix}:all", f"{prefix}.work"

        @dramatiq.actor(broker=self.broker, queue_name=queue, max_retries=0)
        def increment(counter: str, answer_to: str | None = None) -> None:
            pipe = client.pipeline(transaction=False)
            pipe.incr(f"{prefix}:{counter}")
            pipe.incr(count)
            if answer_to is not None:
                pipe.lpush(answer_to, b"1")
            pipe.execute()

        @dramatiq.actor(broker=self.broker, queue_name=queue, max_retries=0)
        def step(answer_to: str | None = None) -> str | None:
            return answer_to

        @dramatiq.actor(broker=self.broker, queue_name=queue, max_retries=0)
        def end(answer_to: str | None = None) -> None:
            pipe = client.pipeline(transaction=False)
            pipe.incr(count)
            if answer_to is not None:
                pipe.lpush(answer_to, b"1")
            pipe.execute()

        self.increment, self.step, self.end = increment, step, end

    def begin(self, answer_to: str | None = None) -> None:
        """Start a process of three steps, each a message of its own."""
        dramatiq.pipeline(
            [self.step.message(answer_to), self.step.message(), self.end.message()], broker=self.broker
        ).run()

    @property
    def answers(self) -> str:
        """Where answers are put: a list in Redis."""
        return f"{self.prefix}:answer"

    def await_answer(self) -> None:
        """Wait for one answer; Redis wakes us."""
        if self.redis.blpop([self.answers], timeout=TIMEOUT_S) is None:
            message = "dramatiq did not answer in time"
            raise TimeoutError(message)

    def count(self) -> int:
        """Return how many were applied."""
        return int(self.redis.get(f"{self.prefix}:all") or 0)

    def await_count(self, want: int) -> None:
        """Wait until so many were applied."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.count() < want:
            if time.monotonic() > deadline:
                message = f"dramatiq applied {self.count():,} of {want:,} in time"
                raise TimeoutError(message)
            time.sleep(LOOK_S)

    def warm_up(self) -> None:
        """Have every part do what it will do, some times."""
        for _ in range(WARM_UP):
            self.increment.send("warm", self.answers)
            self.await_answer()
        self.redis.delete(f"{self.prefix}:all")

    @contextmanager
    def workers(self, where: Ground) -> Iterator[None]:
        """Run the workers."""
        found = {ENV_AMQP: where.amqp_url, ENV_REDIS: where.redis_url, ENV_PREFIX: self.prefix}
        process = subprocess.Popen(
            [sys.executable, "-m", "dramatiq", "benchmarks.rival:boot", "--threads", "8", "--skip-logging"],
            cwd=ROOT,
            env=os.environ | found,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.broker.get_declared_queues():
            self.broker.channel.queue_delete(name)
        for key in self.redis.scan_iter(match=f"{self.prefix}:*", count=1000):
            self.redis.delete(key)
        self.redis.close()
        self.broker.close()


def rival(where: Ground, *, confirms: bool = False) -> Rival:
    """Return plain dramatiq in a namespace of its own."""
    return Rival(where.amqp_url, where.redis_url, f"b{secrets.token_hex(4)}", confirms=confirms)


def boot() -> None:
    """Make the broker of a worker."""
    found = Rival(os.environ[ENV_AMQP], os.environ[ENV_REDIS], os.environ[ENV_PREFIX])
    dramatiq.set_broker(found.broker)
