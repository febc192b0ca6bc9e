"""The crew: Holdfast's workers for one measurement, in a namespace of its own, and the client that gives them work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.ground import ROOT, Ground
from benchmarks.stage import fresh
from holdfast import App, Client, Settings, Supervisor, connect


@contextmanager
def namespace(where: Ground, app: App, *, rabbitmq: bool = True) -> Iterator[Client]:
    """Connect to a fresh namespace, with commands over RabbitMQ or over Redis, and remove it in the end."""
    with (
        fresh(where.redis_url, where.amqp_url if rabbitmq else "") as settings,
        connect(app, settings) as client,
    ):
        yield client


@contextmanager
def crew(
    where: Ground, settings: Settings, app: str, *, processes: int = 1, pools: Sequence[str] = ()
) -> Iterator[None]:
    """Run workers, each serving all pools unless some are named. What they log is shown only if they fail.

    They keep what Python compiles, as an installation has it: a worker that compiled all of it at each start would be
    0.4 s longer about it.

    Args:
        where: Its `environment` is added to theirs.
        settings: The namespace.
        app: As module:name.
        processes: How many.
        pools: Which kinds of work.
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        log = Path(folder) / "workers.log"
        given: dict[str, Any] = {"pools": pools} if pools else {}
        with mock.patch.dict(os.environ, where.environment):
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            workers = Supervisor(app, settings, processes=processes, folder=ROOT, log_file=log, **given)
        try:
            with workers:
                yield
                workers.check()
        except Exception as error:
            error.add_note(f"the workers said: {log.read_text(errors='replace')[-2000:]}")
            raise
