"""Crew: a client and worker processes in a namespace of their own, all of which are gone afterwards."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from pathlib import Path

from examples.process_log.workflow import CallRoll, CaseLog, app
from holdfast import Client, HoldfastError, ReplyTimeout, Settings, Supervisor, connect
from holdfast.actors import wiring
from holdfast.runtime.config import MEMORY_URL

#: Where workers find this package.
ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = "examples.process_log.workflow:app"

#: How long to wait before asking whether there is any use in waiting.
STEP_S = 5.0
#: How long nothing at all may happen. A worker that dies is replaced, and its work carried on, well before.
PATIENCE_S = 60.0
#: How long the first answer may take: interpreters start, and queues are declared.
START_S = 60.0


class Transport(StrEnum):
    """What carries the commands."""

    RABBITMQ = "rabbitmq"
    EMBEDDED = "embedded"


class Stuck(Exception):
    """Commands are not decided, and waiting longer would not help."""


class Crew:
    """A client, and those who decide what it sends."""

    def __init__(self, client: Client, workers: Supervisor | None) -> None:
        self.client = client
        self._workers = workers

    def call_roll(self) -> None:
        """Wait until somebody is at work.

        Raises:
            Stuck, HoldfastError: Nobody will be.
        """
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client.execute(CallRoll("roll call"), timeout=STEP_S)
            except ReplyTimeout as error:
                self._check()
                if time.monotonic() > deadline:
                    raise Stuck("no worker answers") from error
            else:
                return

    def await_recorded(self, key: str, count: int) -> None:
        """Wait until so many activities of a case are recorded.

        Raises:
            Stuck, HoldfastError: They will not be.
        """
        before, deadline = None, 0.0
        while True:
            try:
                self.client.wait(CaseLog, key, until=lambda case: case.recorded >= count, timeout=STEP_S)
            except ReplyTimeout as error:
                self._check()
                case = self.client.state(CaseLog, key)
                now = (self.client.pending(), case.recorded if case else 0)
                if now != before:
                    before, deadline = now, time.monotonic() + PATIENCE_S
                elif time.monotonic() > deadline:
                    raise Stuck(f"only {now[1]} of {count} activities of {key!r} are recorded") from error
            else:
                return

    def _check(self) -> None:
        if self._workers is not None:
            self._workers.check()
        for letter in self.client.dead_letters.list(limit=1):
            raise Stuck(f"a command of {letter.key!r} became a dead letter: {letter.error}")


@contextmanager
def hire(transport: Transport, processes: int, log_file: Path) -> Iterator[Crew]:
    """Return a crew that is at work.

    Args:
        transport: What carries the commands; for RabbitMQ the environment says where it and Redis are.
        processes: How many worker processes.
        log_file: What the workers have to say.

    Raises:
        Stuck, HoldfastError: There is none to be had.
    """
    with ExitStack() as stack:
        namespace = f"replay-{uuid.uuid4().hex[:12]}"
        if transport is Transport.RABBITMQ:
            settings = Settings.from_environment(namespace=namespace)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-")))
            settings = Settings.from_environment(
                redis_url="", amqp_url="", namespace=namespace, data_dir=folder
            )
            settings, server = wiring.ground(settings)
            if server is not None:
                stack.callback(server.stop)
        # Before anything is made, so that half of it is removed too.
        stack.callback(_remove, settings)
        client = stack.enter_context(connect(app, settings))
        workers = None
        if (
            settings.redis_url != MEMORY_URL
        ):  # there the client has its own worker, and no other process could help
            workers = Supervisor(WORKFLOW, settings, processes=processes, folder=ROOT, log_file=log_file)
            stack.enter_context(workers)
        crew = Crew(client, workers)
        crew.call_roll()
        yield crew


def _remove(settings: Settings) -> None:
    # A server that has gone away says so to whoever works with it.
    with suppress(HoldfastError):
        wiring.remove_namespace(settings)
