"""Submits to Celery."""

from __future__ import annotations

from datetime import UTC, datetime

import post
from celery import chain
from celery_jobs import ANSWERS, PREFIX, client, increment, ring, step


class Driver:
    """One thread that sends messages."""

    def increments(self, count: int, keys: int) -> dict[str, object]:
        """Submit increments over so many keys."""
        return post.sent(lambda number: increment.delay(f"k{number % keys}"), count)

    def increments_answered(self, count: int) -> dict[str, object]:
        """Submit one at a time."""
        return post.timed(lambda _: self._answered(lambda: increment.delay("alone", answer=True)), count)

    def processes(self, count: int) -> dict[str, object]:
        """Submit chains of three."""
        return post.sent(lambda number: self._process(number, answer=False), count)

    def processes_answered(self, count: int) -> dict[str, object]:
        """Submit one chain at a time."""
        return post.timed(lambda n: self._answered(lambda: self._process(n, answer=True)), count)

    def timers(self, count: int, at: float) -> dict[str, object]:
        """Set alarms for one instant."""
        eta = datetime.fromtimestamp(at, UTC)
        return post.sent(lambda number: ring.apply_async((number,), eta=eta), count)

    def total(self) -> dict[str, object]:
        """Say what all counters add up to."""
        keys = list(client.scan_iter(match=f"{PREFIX}:k*", count=1000))
        return {"total": sum(int(value) for value in client.mget(keys))} if keys else {"total": 0}

    @staticmethod
    def _process(number: int, *, answer: bool) -> None:
        chain(step.si(number, at, answer) for at in (1, 2, 3)).apply_async()

    @staticmethod
    def _answered(submit: object) -> None:
        submit()
        if client.blpop([ANSWERS], timeout=60) is None:
            raise TimeoutError("no answer in a minute")


if __name__ == "__main__":
    post.serve(Driver())
