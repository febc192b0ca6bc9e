"""Restate: a server of its own, from npm, that calls services which run here."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection

from benchmarks.ground import Ground
from benchmarks.rivals.crew import Crew
from benchmarks.rivals.driver import Driver, DriverError
from benchmarks.rivals.places import DRIVERS, RIVALS, not_installed, python_of
from benchmarks.rivals.stand import Measured, Stand, environment
from benchmarks.rivals.tally import Tally
from tests.support.servers import free_ports

START_S_MAX = 60.0
_GUARANTEES = (
    "the call, its steps and the object's state are in Restate's log and store, calls of a key one after the other, state "
    "changed exactly once, a step at least once; the log is written without waiting for the disk"
)


class Restate(Measured):
    """One node, and a process of services for each core."""

    name = "restate"

    def __init__(self, rivals: Path = RIVALS) -> None:
        self._rivals = rivals

    def missing(self) -> str | None:
        """Say whether its packages and its server are there."""
        if (why := not_installed("restate", self._rivals)) is not None:
            return why
        return None if self._binary() else "its server is not in what npm installed"

    def _binary(self) -> Path | None:
        modules = self._rivals / "restate" / "node" / "node_modules" / "@restatedev"
        return next(iter(sorted(modules.glob("restate-server-*/bin/restate-server"))), None)

    @contextmanager
    def opened(self, where: Ground) -> Iterator[Stand]:
        """Start a server, and make the services known to it."""
        python = str(python_of("restate", self._rivals))
        binary = self._binary()
        assert binary is not None, "ask `missing` first"
        ingress, admin, node, services = free_ports(4)
        with tempfile.TemporaryDirectory(prefix="holdfast-rival-") as name:
            folder = Path(name)
            tally, log = Tally(folder / "tally"), folder / "log"
            env = environment(folder, "", where, RIVAL_INGRESS_PORT=str(ingress), RIVAL_ADMIN_PORT=str(admin))
            server = Crew(
                [[str(binary), "--no-logo"]],
                env | _settings(folder, ingress, admin, node),
                folder,
                folder / "server.log",
            )
            command = [python, "-m", "hypercorn", "restate_services:app", "--bind", f"127.0.0.1:{services}"]
            command += ["--workers", str(os.cpu_count() or 1), "--worker-class", "uvloop"]
            with server, Driver([python, str(DRIVERS / "restate_drive.py")], env, log) as driver:
                _await_port(admin, server)
                _await_port(ingress, server)

                def crew() -> Crew:
                    return Crew([command], env, DRIVERS, log)

                with crew() as first:
                    _await_port(services, first)
                    _register(driver, services)
                yield Stand(
                    name=self.name,
                    guarantees=_GUARANTEES,
                    driver=driver,
                    crew=crew,
                    tally=tally,
                    servers=server.pids,
                    frozen=True,
                )


def _settings(folder: Path, ingress: int, admin: int, node: int) -> dict[str, str]:
    return {
        "RESTATE_BASE_DIR": str(folder / "data"),
        "RESTATE_NODE_NAME": "rival",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_BIND_PORT": str(node),
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_ADMIN__DISABLE_WEB_UI": "true",
        # Nobody is told that it runs.
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "warn",
        # Services that are away are looked for again soon; the defaults are half a second and a minute.
        "RESTATE_DEFAULT_RETRY_POLICY__INITIAL_INTERVAL": "100ms",
        "RESTATE_DEFAULT_RETRY_POLICY__MAX_INTERVAL": "1s",
        # Like Redis with appendfsync everysec: what the power takes is not waited for.
        "RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC": "true",
        "RESTATE_BIFROST__LOCAL__ROCKSDB_DISABLE_WAL_FSYNC": "true",
    }


def _await_port(port: int, crew: Crew) -> None:
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until:
        with suppress(OSError):
            create_connection(("127.0.0.1", port), timeout=1).close()
            return
        crew.check()
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port}")


def _register(driver: Driver, port: int) -> None:
    """Make the services known; right after its start the server may not be ready to hear of them."""
    until = time.monotonic() + START_S_MAX
    while True:
        try:
            driver.ask("register", port=port)
        except DriverError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return
