"""Stage: what the demonstration needs around it, set up for it and taken away afterwards."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from holdfast.actors import wiring
from holdfast.actors.client import Client, connect
from holdfast.actors.supervisor import Supervisor
from holdfast.actors.wiring import Ports
from holdfast.demo.orders import app
from holdfast.runtime.config import MEMORY_URL, Settings

APP = "holdfast.demo.orders:app"


class Ground(NamedTuple):
    """The server that everything happens on."""

    settings: Settings
    #: One sentence on what is used.
    server: str
    #: Whether there are worker processes that can be killed.
    durable: bool


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """Start a private server in a folder, under a namespace that nothing was ever sent to."""
    settings = Settings.of(data_dir=folder, namespace=f"demo-{secrets.token_hex(4)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sentence below says more
        settings, server = wiring.ground(settings)
    if settings.redis_url == MEMORY_URL:
        yield Ground(
            settings,
            "No redis-server was found: all is kept in memory, and nothing will survive.",
            durable=False,
        )
        return
    assert server is not None  # noqa: S101 - the settings name no server, so it is a private one
    try:
        yield Ground(settings, server.describe(), durable=True)
    finally:
        server.stop()


@contextmanager
def cast(settings: Settings, processes: int, log: Path) -> Iterator[tuple[Client, Ports]]:
    """Start worker processes and a client; in memory the client brings the worker along."""
    with ExitStack() as stack:
        if settings.redis_url != MEMORY_URL:
            stack.enter_context(Supervisor(APP, settings, processes=processes, log_file=log))
        client = stack.enter_context(connect(app, settings))
        ports = wiring.open_ports(settings)
        stack.callback(ports.close)
        yield client, ports
