"""Worker: what runs in each process that dramatiq's master starts.

    python -m dramatiq holdfast.actors.worker:boot --processes 1 --threads N

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

from holdfast.actors.logs import use_fields
from holdfast.actors.partitions import process_lives
from holdfast.actors.pools import POOLS, worker_broker
from holdfast.runtime.app import App
from holdfast.runtime.config import Settings
from holdfast.runtime.dead_letter import sentence_of
from holdfast.runtime.errors import HoldfastError, SetupError, UsageError

log = logging.getLogger(__name__)

#: The exit code that says that a restart would not help (EX_CONFIG of sysexits.h).
EXIT_CONFIG = 78
#: How often a worker looks whether those who look after it are still there.
PARENT_STEP_S = 0.5

ENV_APP = "HOLDFAST_WORKER_APP"
ENV_LANES = "HOLDFAST_WORKER_LANES"
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
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as above
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
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


def _place_of(error: Exception) -> str:
    """Return where an error was raised, as far as it is known."""
    if isinstance(error, SyntaxError):
        return ""  # it says so itself
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def boot() -> None:
    """Make the broker of this process and hand it to dramatiq."""
    use_fields()
    _watch_parents()
    try:
        preload = os.environ.get(ENV_PRELOAD)
        if preload:
            importlib.import_module(preload)
        app = load_app(os.environ[ENV_APP])
        broker = worker_broker(
            app,
            Settings.from_environment(),
            pools=os.environ.get(ENV_POOLS, ",".join(POOLS)).split(","),
            lanes=int(os.environ.get(ENV_LANES, "2")),
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
                return

    threading.Thread(target=watch, name="holdfast-parents", daemon=True).start()
