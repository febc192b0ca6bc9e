"""DBOS: a library that keeps everything in one PostgreSQL."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ground import Ground
from benchmarks.rivals.crew import Crew
from benchmarks.rivals.driver import Driver
from benchmarks.rivals.places import DRIVERS, RIVALS, not_installed, python_of
from benchmarks.rivals.stand import Measured, Stand, environment
from benchmarks.rivals.tally import Tally
from tests.support.servers import PostgresServer, find_postgres

_GUARANTEES = (
    "workflow, its steps and the counter are rows in PostgreSQL, the counter written exactly once, a step at least once; "
    "fsync is off; one alone is called in the client's own process, many are enqueued for worker processes"
)


class Dbos(Measured):
    """DBOS with a worker process for each core, and a server of its own."""

    name = "dbos"

    def __init__(self, rivals: Path = RIVALS) -> None:
        self._rivals = rivals

    def missing(self) -> str | None:
        """Say whether its packages and a PostgreSQL are there."""
        if find_postgres() is None:
            return "PostgreSQL is not installed; `scripts/ensure-servers` installs it"
        return not_installed("dbos", self._rivals)

    @contextmanager
    def opened(self, where: Ground) -> Iterator[Stand]:
        """Start a PostgreSQL."""
        python = str(python_of("dbos", self._rivals))
        server = PostgresServer()
        with tempfile.TemporaryDirectory(prefix="holdfast-rival-") as name:
            folder = Path(name)
            tally, log = Tally(folder / "tally"), folder / "log"
            try:
                url = server.start().database("rival")
                env = environment(folder, "", where, RIVAL_POSTGRES_URL=url)
                commands = [[python, "dbos_jobs.py", str(number)] for number in range(os.cpu_count() or 1)]
                with Driver([python, str(DRIVERS / "dbos_drive.py")], env, log) as driver:
                    yield Stand(
                        name=self.name,
                        guarantees=_GUARANTEES,
                        driver=driver,
                        crew=lambda: Crew(commands, env, DRIVERS, log),
                        tally=tally,
                        servers=[server.pid],
                        lead_each_s=0.025,
                    )
            finally:
                server.close()
