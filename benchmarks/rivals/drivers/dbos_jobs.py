"""DBOS: workflows of one transaction that adds one to a row, of three steps, of a timer.

A worker process runs as
    python dbos_jobs.py NUMBER
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

import post
import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, SQLAlchemyDatasource

QUEUE = "work"
#: Who sleeps keeps its place in a queue, so this one has places for all.
ALARMS = "alarms"
#: Each process has this many threads at work, and so many connections to each of the two schemas.
AT_ONCE = 8
#: How often a process looks into the queue, and how much it takes at most. By default it looks once a second; looking
#: fifty times a second takes a seventh of a core while there is nothing to do.
LOOK_S = 0.1
TAKEN = 128
URL = os.environ["RIVAL_POSTGRES_URL"]
tally = post.tally()

_ADD = sa.text(
    "INSERT INTO counters VALUES (:key, 1) ON CONFLICT (key) DO UPDATE SET value = counters.value + 1"
)


def launch(executor: str, *, listens: bool) -> None:
    """Be an executor of this name."""
    config: DBOSConfig = {
        "name": "rival",
        "system_database_url": URL,
        "sys_db_pool_size": AT_ONCE,
        "executor_id": executor,
        "application_version": "1",
        "log_level": "WARNING",
        "max_executor_threads": AT_ONCE,
    }
    DBOS(config=config)
    if not listens:
        DBOS.listen_queues([])
    DBOS.launch()
    DBOS.register_queue(
        QUEUE, worker_concurrency=TAKEN, polling_interval_sec=LOOK_S, on_conflict="always_update"
    )
    DBOS.register_queue(ALARMS, polling_interval_sec=LOOK_S, on_conflict="always_update")


source = SQLAlchemyDatasource.create(URL, engine_kwargs={"pool_size": AT_ONCE, "max_overflow": 0})


@source.transaction(isolation_level="READ COMMITTED")
def add(counter: str) -> None:
    """Add one to a row, and record in the same transaction that this was done."""
    source.sql_session().execute(_ADD, {"key": counter})


@DBOS.workflow(name="increment")
def increment(counter: str) -> None:
    """Add one to a counter, exactly once."""
    add(counter)
    tally.mark()


@DBOS.step(name="step")
def step(number: int, at: int) -> None:
    """Do a step of a process, that is nothing."""
    tally.mark(number, at)


@DBOS.workflow(name="process")
def process(number: int) -> None:
    """Do three steps."""
    for at in range(1, post.STEPS + 1):
        step(number, at)


@DBOS.workflow(name="ring")
async def ring(number: int, due: float) -> None:
    """Sleep in a coroutine, durably, then ring: the alarm's own number becomes one higher."""
    await DBOS.sleep_async(max(0.0, due - time.time()))
    await asyncio.to_thread(add, f"alarm:{number}")
    tally.mark(number)


if __name__ == "__main__":
    launch(f"worker-{sys.argv[1]}", listens=True)
    threading.Event().wait()
