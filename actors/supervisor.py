"""Supervisor: starts dramatiq's master once per worker process, and again when a worker dies.

One master would do for many processes, but when one of them dies it stops them all. One master each keeps the others
at work, and notices a death at once.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from holdfast.actors import wiring
from holdfast.actors.partitions import this_host
from holdfast.actors.pools import POOLS
from holdfast.actors.worker import (
    ENV_APP,
    ENV_LANES,
    ENV_NUMBER,
    ENV_POOLS,
    ENV_PRELOAD,
    ENV_SUPERVISOR,
    EXIT_CONFIG,
)
from holdfast.runtime.checks import is_whole, members, said
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import HoldfastError, SetupError, UsageError

log = logging.getLogger(__name__)

#: A worker that lived at least this long is started again at once; one that did not, after a growing pause.
SETTLED_S = 5.0
PAUSE_MAX_S = 5.0
#: How often dramatiq's threads look up when nothing comes in; bounds how long a clean stop takes.
DRAMATIQ_IDLE_MS = 200
#: How long a reload waits for a new worker to serve before it goes on to the next one, and how often it looks.
SERVES_S = 30.0
SERVES_STEP_S = 0.1


#: Of processes and of lanes; more is a slip of the pen.
COUNT_MAX = 1_000


@dataclass(slots=True)
class _Slot:
    """One worker process and the thread that looks after it."""

    process: subprocess.Popen[bytes] | None = None
    thread: threading.Thread | None = None
    restarts: int = 0
    #: It was told to end, to be started anew: that is no death.
    renewing: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


def _check(app: Any, settings: Any, processes: Any, pools: Any, lanes: Any, log_file: Any) -> None:
    problem = ""
    if not isinstance(app, str) or ":" not in app:
        problem = f'the app is {said(app)}; workers import it, so write module:name, as in "shop.orders:app"'
    elif not isinstance(settings, Settings):
        problem = f"the settings are {said(settings)}; write Settings(redis_url=...)"
    elif not isinstance(log_file, Path | None):
        problem = f'the log file is {said(log_file)}; write Path("workers.log")'
    for name, count in (("processes", processes), ("lanes", lanes)):
        if not is_whole(count, 1, COUNT_MAX):
            problem = problem or f"{name} is {said(count)}; it must be a whole number from 1 to {COUNT_MAX:,}"
    unknown = [pool for pool in members("Supervisor", "pools", pools, '"command"') if pool not in POOLS]
    if unknown or not pools:
        what = said(unknown[0]) if unknown else "nothing"
        problem = problem or f"there is {what} among the pools; there are: {', '.join(POOLS)}"
    if problem:
        message = f"Supervisor: {problem}"
        raise UsageError(message)


class Supervisor:
    """Runs worker processes: `with Supervisor("shop.orders:app", settings, processes=2): ...`.

    Args:
        app: The app as module:name, importable from `folder`.
        settings: Handed to the workers in their environment; must name a server.
        processes: How many worker processes.
        pools: The kinds of work that each of them serves.
        lanes: Streams of batches of the command pool per process; each has a thread, and they share its partitions.
        folder: The workers' working directory.
        log_file: Where the workers' logs go; None for this process's standard error.
        preload: A module to import in every worker before the app.

    Raises:
        UsageError: An argument is none that workers could be started with.
    """

    def __init__(
        self,
        app: str,
        settings: Settings,
        *,
        processes: int = 1,
        pools: Sequence[str] = POOLS,
        lanes: int = 2,
        folder: Path | None = None,
        log_file: Path | None = None,
        preload: str | None = None,
    ) -> None:
        _check(app, settings, processes, pools, lanes, log_file)
        self._slots = [_Slot() for _ in range(processes)]
        self._settings = settings
        self._folder = folder
        self._log_file = log_file
        self._stopping = threading.Event()
        self._reload_wanted = threading.Event()
        self.failed = threading.Event()
        #: Worker threads: one a lane, one for the ingress queue, and one for each other pool.
        self._command = [
            sys.executable,
            "-m",
            "holdfast.actors.master",
            "holdfast.actors.worker:boot",
            "--processes",
            "1",
            "--threads",
            str(lanes + len(pools)),
        ]
        drain_ms = int(settings.drain_s * 1000) + 5_000
        self._command += ["--worker-shutdown-timeout", str(drain_ms)]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")},
            **settings.to_environment(),
            "dramatiq_worker_timeout": str(DRAMATIQ_IDLE_MS),
            ENV_APP: app,
            ENV_POOLS: ",".join(pools),
            ENV_LANES: str(lanes),
            ENV_SUPERVISOR: str(os.getpid()),
        }
        if preload:
            self._environment[ENV_PRELOAD] = preload

    @property
    def restarts(self) -> int:
        """How many workers were started again after they died."""
        return sum(slot.restarts for slot in self._slots)

    def start(self) -> None:
        """Start the workers; they take partitions a moment later."""
        for number, slot in enumerate(self._slots):
            slot.thread = threading.Thread(
                target=self._look_after, args=(slot,), name=f"holdfast-supervisor-{number}", daemon=True
            )
            slot.thread.start()
        threading.Thread(target=self._reload_when_wanted, name="holdfast-reload", daemon=True).start()

    def stop(self) -> None:
        """Have every worker finish what it has begun and end; wait for that."""
        self._stopping.set()
        self._reload_wanted.set()
        for slot in self._slots:
            self._signal(slot, signal.SIGTERM)
        for slot in self._slots:
            if slot.thread is not None:
                slot.thread.join()

    def reload(self) -> None:
        """Have the workers end in good order and be started anew, one after another; return at once.

        The next one ends when the one before serves again. dramatiq's own reload is not used: it starts the
        interpreter that PATH knows as `python`, which need not be the one of this virtual environment.
        """
        self._reload_wanted.set()

    def check(self) -> None:
        """Raise if the workers cannot run at all.

        Raises:
            SetupError: A worker said that a restart would not help; its log says why.
        """
        if self.failed.is_set():
            message = "a worker cannot start; the lines above say why"
            raise SetupError(message)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _signal(self, slot: _Slot, number: signal.Signals) -> None:
        with slot.lock:
            process = slot.process
            if process is not None and process.poll() is None:
                process.send_signal(number)

    def _reload_when_wanted(self) -> None:
        while self._reload_wanted.wait() and not self._stopping.is_set():
            self._reload_wanted.clear()
            for slot in self._slots:
                self._renew(slot)

    def _renew(self, slot: _Slot) -> None:
        before = self._serving_here()
        with slot.lock:
            old, slot.renewing = slot.process, True
        self._signal(slot, signal.SIGTERM)
        until = time.monotonic() + self._settings.drain_s + SERVES_S
        while not self._stopping.wait(SERVES_STEP_S) and time.monotonic() < until:
            if slot.process is not old and self._serving_here() - before:
                return

    def _serving_here(self) -> set[str]:
        """Return the members on this machine, as far as Redis can be asked."""
        try:
            ports = wiring.open_ports(self._settings)
        except HoldfastError:
            return set()
        try:
            return {member.id for member in ports.membership.living() if member.host == this_host()}
        except HoldfastError:
            return set()
        finally:
            ports.close()

    def _look_after(self, slot: _Slot) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            began = time.monotonic()
            code = self._run(slot)
            if self._stopping.is_set():
                return
            if code == EXIT_CONFIG:
                self.failed.set()
                return
            if slot.renewing:
                slot.renewing, pause = False, 0.0
                continue
            settled = time.monotonic() - began >= SETTLED_S
            pause = 0.0 if settled else min(PAUSE_MAX_S, max(0.2, pause * 2)) if slot.restarts else 0.0
            slot.restarts += 1
            log.warning("worker ended and is started again", extra={"exit_code": code, "pause_s": pause})

    def _run(self, slot: _Slot) -> int:
        output: IO[Any] | None = self._log_file.open("ab") if self._log_file is not None else None
        try:
            with slot.lock:
                if self._stopping.is_set():
                    return 0
                slot.renewing = False
                # A session of its own: a Ctrl-C in the terminal reaches the supervisor alone, which passes it on once.
                slot.process = subprocess.Popen(
                    self._command,
                    env=self._environment | {ENV_NUMBER: str(self._slots.index(slot))},
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            return slot.process.wait()
        finally:
            if output is not None:
                output.close()
