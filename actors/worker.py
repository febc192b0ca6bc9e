"""Worker: what runs in each process that dramatiq's master starts.

    python -m holdfast.actors.master holdfast.actors.worker:boot --processes 1 --threads N

`Supervisor` gives it what it needs in the environment: the settings, and HOLDFAST_WORKER_* for what to run.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import sys
import threading
import traceback

import dramatiq

from holdfast.actors.logs import asked_for, secrets_of, use_fields
from holdfast.actors.partitions import process_lives
from holdfast.actors.pools import POOLS, worker_broker
from holdfast.actors.telemetry.telemetry import telemetry_of
from holdfast.actors.tracing.setup import set_up
from holdfast.actors.tracing.tracing import tracing_of
from holdfast.runtime.app import App
from holdfast.runtime.config import Settings
from holdfast.runtime.dead_letter import sentence_of
from holdfast.runtime.errors import HoldfastError, SetupError, UsageError

log = logging.getLogger(__name__)

#: The exit code that says that a restart would not help (EX_CONFIG of sysexits.h).
EXIT_CONFIG = 78
#: Python's own (700, 10, 10) are for small programs. A worker makes tens of thousands of objects a second and keeps
#: thousands of cached instances, which the collector would go through again and again: 20 to 25% of a worker's time.
GC_THRESHOLDS = (20_000, 20, 50)
#: How often a worker looks whether those who look after it are still there, and how much longer than a stop may take it
#: waits until it ends by force.
PARENT_STEP_S = 0.5
PARENT_GRACE_S = 7.0

ENV_APP = "HOLDFAST_WORKER_APP"
ENV_LANES = "HOLDFAST_WORKER_LANES"
#: Which of the processes of one supervisor this is.
ENV_NUMBER = "HOLDFAST_WORKER_NUMBER"
#: The pools to serve, with commas between them.
ENV_POOLS = "HOLDFAST_WORKER_POOLS"
ENV_SUPERVISOR = "HOLDFAST_WORKER_SUPERVISOR"
#: A module to import before the app: how the crash tests arm their fault points.
ENV_PRELOAD = "HOLDFAST_WORKER_PRELOAD"


def load_app(path: str) -> App:
    """Return the app at `module:name`; the current folder is searched first.

    Raises:
        UsageError: There is no such app; the message says what was looked for.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        message = f"{path!r} names no app; write module:name, as in shop.orders:app"
        raise UsageError(message)
    if module_name.startswith(".") or "/" in module_name:
        raise UsageError(_file_named(path))
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as above
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name == module_name and module_name.endswith(".py"):
            message = _file_named(path)
        elif error.name is not None and (
            module_name == error.name or module_name.startswith(error.name + ".")
        ):
            message = f"there is no module {error.name!r} in this folder or installed (looking for the app {path!r})"
        else:
            message = f"the module {module_name!r} cannot be imported: {error}"
        raise UsageError(message) from error
    except HoldfastError:
        raise
    except Exception as error:
        message = f"the module {module_name!r} cannot be imported: {sentence_of(error)}{_place_of(error)}"
        raise UsageError(message) from error
    found = getattr(module, name, None)
    if not isinstance(found, App):
        apps = sorted(n for n, value in vars(module).items() if isinstance(value, App))
        hint = f"it has {', '.join(apps)}" if apps else "it has no App at all: app = App(workflows=[...])"
        what = "nothing" if found is None else f"a {type(found).__name__}"
        message = f"{name!r} in {module_name} is {what}, not an App; {hint}"
        raise UsageError(message)
    return found


def _file_named(path: str) -> str:
    """Return what to write in place of a path that names a file, or a module relative to nothing."""
    place, _, name = path.partition(":")
    parts = [part for part in place.removesuffix(".py").split("/") if part not in ("", ".")]
    if place.startswith("/") or ".." in parts:
        return f"{path!r} names a file; go to its folder and write its module, {parts[-1].lstrip('.')}:{name}"
    return f"{path!r} names a file; write its module, {'.'.join(parts).lstrip('.')}:{name}"


def _place_of(error: Exception) -> str:
    """Return where an error was raised, as far as it is known."""
    if isinstance(error, SyntaxError):
        return ""  # it says so itself
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def boot() -> None:
    """Make the broker of this process and hand it to dramatiq."""
    wanted, terminal = asked_for(os.environ)
    use_fields(wanted, terminal)
    _watch_parents()
    try:
        preload = os.environ.get(ENV_PRELOAD)
        if preload:
            importlib.import_module(preload)
        app = load_app(os.environ[ENV_APP])
        settings = Settings.from_environment()
        use_fields(settings.log_format, terminal, secrets_of(settings))
        # In this process and not in the master: the threads of an exporter do not survive a fork.
        exporting = set_up()
        telemetry = telemetry_of(app, settings, int(os.environ.get(ENV_NUMBER, "0")))
        telemetry.start()
        broker = worker_broker(
            app,
            settings,
            tracing=tracing_of(settings),
            pools=os.environ.get(ENV_POOLS, ",".join(POOLS)).split(","),
            lanes=int(os.environ.get(ENV_LANES, "2")),
            telemetry=telemetry,
            exporting=exporting,
        )
    except (SetupError, UsageError) as error:
        log.critical("cannot start: %s", error)
        sys.exit(EXIT_CONFIG)
    except HoldfastError as error:
        log.critical("cannot start yet: %s", error)
        sys.exit(1)
    dramatiq.set_broker(broker)
    # What was made until now stays for good: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()


def _drain_s() -> float:
    """Return how long a stop may take."""
    try:
        return Settings.from_environment().drain_s
    except SetupError:
        return 0.0


def _watch_parents() -> None:
    """Stop in good order when the master or the supervisor is gone, rather than run on unattended."""
    master = os.getppid()
    supervisor = int(os.environ.get(ENV_SUPERVISOR, "0"))
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(PARENT_STEP_S):
            if os.getppid() != master or (supervisor and not process_lives(supervisor)):
                log.warning("stopping: the process that looks after this one is gone")
                # One signal, not two: the master passes it on, and at the second one dramatiq kills without draining.
                os.kill(master if os.getppid() == master else os.getpid(), signal.SIGTERM)
                # Whatever keeps it from that: nobody would end it.
                ended.wait(_drain_s() + PARENT_GRACE_S)
                log.critical("ending at once: this process does not stop in good order")
                os._exit(1)

    threading.Thread(target=watch, name="holdfast-parents", daemon=True).start()
