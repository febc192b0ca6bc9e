"""What a benchmark plays on: a namespace of its own, further servers, and waiting until something has come about."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from holdfast import Settings
from holdfast.actors.wiring import Ports, open_ports, remove_namespace
from tests.support.servers import RedisServer

ROOT = Path(__file__).parents[1]
#: How often it is looked whether something has come about.
LOOK_S = 0.02


@contextmanager
def fresh(redis_url: str, amqp_url: str = "", **settings: Any) -> Iterator[Settings]:
    """Yield settings with a namespace that nobody uses, and remove all of it in the end."""
    found = Settings.of(
        redis_url=redis_url, amqp_url=amqp_url, namespace=f"b{secrets.token_hex(4)}", **settings
    )
    try:
        yield found
    finally:
        remove_namespace(found)


@contextmanager
def asking(settings: Settings) -> Iterator[Ports]:
    """Yield ports to look with."""
    ports = open_ports(settings)
    try:
        yield ports
    finally:
        ports.close()


@contextmanager
def another_redis() -> Iterator[str]:
    """Run one more Redis with the same settings, and yield its URL."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder, RedisServer(Path(folder)) as server:
        yield server.url


def calm(redis_url: str) -> None:
    """Wait until a server is done with rewriting its file, which it begins when that has grown a lot."""
    with redis.Redis.from_url(redis_url) as client:

        def busy() -> bool:
            found: Any = client.info("persistence")
            return bool(found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])

        await_that("Redis rewrote its file", lambda: not busy())


def await_that(what: str, true: Callable[[], bool], seconds_max: float = 300, step_s: float = LOOK_S) -> None:
    """Wait until something has come about.

    Raises:
        TimeoutError: It did not in time.
    """
    deadline = time.monotonic() + seconds_max
    while not true():
        if time.monotonic() > deadline:
            message = f"not within {seconds_max:g} s: {what}"
            raise TimeoutError(message)
        time.sleep(step_s)


def await_served(ports: Ports, settings: Settings, processes: int, pool: str = "command") -> list[int]:
    """Wait until so many workers share all partitions, and return their process ids."""

    def served() -> bool:
        living = {member.id for member in ports.membership.living() if pool in member.pools}
        return len(living) == processes and living >= {*ports.membership.owners(pool)}

    await_that("every partition is served", served)
    time.sleep(2.5 * settings.heartbeat_ms / 1000)  # handovers to who came last
    await_that("every partition is served", served)
    return [member.pid for member in ports.membership.living() if pool in member.pools]


def numbers(text: str) -> list[int]:
    """Return the numbers in a text with commas between them."""
    return [int(one) for one in text.split(",")]
