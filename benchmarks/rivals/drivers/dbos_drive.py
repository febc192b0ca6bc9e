"""Submits to DBOS: into its queue for the worker processes, or, one at a time, to the executor in this very process."""

from __future__ import annotations

import os
import sys

import dbos_jobs as jobs
import post
import sqlalchemy as sa
from dbos import DBOSClient


class Driver:
    """A client of the database, and an executor that serves no queue."""

    def __init__(self) -> None:
        with jobs.source.engine.begin() as connection:
            connection.execute(
                sa.text("CREATE TABLE IF NOT EXISTS counters (key text PRIMARY KEY, value bigint NOT NULL)")
            )
        jobs.launch("client", listens=False)
        self._client = DBOSClient(system_database_url=jobs.URL, system_database_pool_size=2)

    def increments(self, count: int, keys: int) -> dict[str, object]:
        """Submit increments over so many keys."""
        return post.sent(lambda number: self._enqueue("increment", f"k{number % keys}"), count)

    def increments_answered(self, count: int) -> dict[str, object]:
        """Call one at a time, here."""
        return post.timed(lambda _: jobs.increment("alone"), count)

    def processes(self, count: int) -> dict[str, object]:
        """Submit workflows of three steps."""
        return post.sent(lambda number: self._enqueue("process", number), count)

    def processes_answered(self, count: int) -> dict[str, object]:
        """Call one at a time, here."""
        return post.timed(jobs.process, count)

    def timers(self, count: int, at: float) -> dict[str, object]:
        """Enqueue workflows that sleep until an instant."""
        return post.sent(lambda number: self._enqueue("ring", number, at, queue=jobs.ALARMS), count)

    def total(self) -> dict[str, object]:
        """Say what all counters add up to."""
        with jobs.source.engine.begin() as connection:
            found = connection.execute(
                sa.text("SELECT sum(value) FROM counters WHERE key LIKE 'k%'")
            ).scalar()
        return {"total": int(found or 0)}

    def _enqueue(self, workflow: str, *args: object, queue: str = jobs.QUEUE) -> None:
        self._client.enqueue({"workflow_name": workflow, "queue_name": queue, "app_version": "1"}, *args)


if __name__ == "__main__":
    post.serve(Driver())
    sys.stdout.flush()
    os._exit(0)  # its threads would wait for whatever still runs
