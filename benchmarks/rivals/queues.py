"""Plain dramatiq and Celery: both on RabbitMQ, with state, where there is any, in Redis."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from benchmarks.ground import Ground
from benchmarks.rivals.crew import Crew
from benchmarks.rivals.driver import Driver
from benchmarks.rivals.places import DRIVERS, RIVALS, not_installed, python_of
from benchmarks.rivals.stand import Measured, Stand, environment
from benchmarks.rivals.tally import Tally

#: Threads of each Celery node.
THREADS = 4
_NO_CONFIRMS = "no publisher confirms, a message can be lost on its way"
_CONFIRMS = "publisher confirms"
_REST = "work done at least once, order per key not kept, no dedup, no log; state is a number in Redis"


class OnQueues(Measured):
    """What the two have in common."""

    python: Path
    script: str

    def __init__(self, *, confirms: bool) -> None:
        self._confirms = confirms

    @abstractmethod
    def workers(self) -> list[list[str]]:
        """Return the commands of the worker processes."""

    @contextmanager
    def opened(self, where: Ground) -> Iterator[Stand]:
        """Use names of one's own on the ground's servers."""
        prefix = f"b{secrets.token_hex(4)}"
        with tempfile.TemporaryDirectory(prefix="holdfast-rival-") as name:
            folder = Path(name)
            tally, log = Tally(folder / "tally"), folder / "log"
            env = environment(folder, prefix, where, RIVAL_CONFIRMS="1" if self._confirms else "0")
            command = [str(self.python), str(DRIVERS / self.script)]
            with Driver(command, env, log) as driver, redis.Redis.from_url(where.redis_url) as client:
                yield Stand(
                    name=self.name,
                    guarantees=f"{_CONFIRMS if self._confirms else _NO_CONFIRMS}; {_REST}",
                    driver=driver,
                    crew=lambda: Crew(self.workers(), env, DRIVERS, log),
                    tally=tally,
                    servers=[where.redis_pid, where.rabbitmq_pid],
                )
                for key in client.scan_iter(match=f"{prefix}:*", count=1000):
                    client.delete(key)


class PlainDramatiq(OnQueues):
    """Dramatiq as it comes: a process for each core, eight threads in each. It is in the project's own environment."""

    python = Path(sys.executable)
    script = "dramatiq_drive.py"

    @property
    def name(self) -> str:  # type: ignore[override]  # Python reads it like the attribute that it stands for
        """How it is asked for."""
        return "dramatiq-confirmed" if self._confirms else "dramatiq"

    def missing(self) -> str | None:
        """It is a dependency of Holdfast."""
        return None

    def workers(self) -> list[list[str]]:
        """Return dramatiq's own command, which forks."""
        threads = ["--threads", "8", "--processes", str(os.cpu_count() or 1)]
        return [[str(self.python), "-m", "dramatiq", "dramatiq_jobs:broker", *threads, "--skip-logging"]]


class Celery(OnQueues):
    """Celery with late acknowledgements."""

    script = "celery_drive.py"

    def __init__(self, *, confirms: bool, rivals: Path = RIVALS) -> None:
        super().__init__(confirms=confirms)
        self._rivals = rivals
        self.python = python_of("celery", rivals)

    @property
    def name(self) -> str:  # type: ignore[override]  # as above
        """How it is asked for."""
        return "celery-confirmed" if self._confirms else "celery"

    def missing(self) -> str | None:
        """Say whether its packages are there."""
        return not_installed("celery", self._rivals)

    def workers(self) -> list[list[str]]:
        """
        Return a node for each core, with threads.

        In one try of 3,000 the forking pool of one node took 793 us of Python for each item of a full queue, this 447;
        submitted and applied, it took 957 and this 1,120.
        """
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
        command = [str(self.python), "-m", "celery", "--app", "celery_jobs", "worker", *quiet]
        pool = ["--pool", "threads", "--concurrency", str(THREADS)]
        return [[*command, *pool, "--hostname", f"{number}@rival"] for number in range(os.cpu_count() or 1)]
