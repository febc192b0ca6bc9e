"""Master: dramatiq's master process, with log lines of our form.

    python -m holdfast.actors.master holdfast.actors.worker:boot --processes 1 --threads N

The worker process that it forks has the same log handler; `boot` gives it the form that the settings ask for.

The worker tells its master over a pipe that it has booted. dramatiq has an Event of multiprocessing's for that, whose lock
lies in shared memory: a worker that is killed with the lock in its hands, as it says that it has booted, leaves a master
that waits for ever, deaf to signals, and a master that is killed leaves such a worker. A pipe ends with whoever holds it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import sys
from types import ModuleType
from typing import Any

from dramatiq import cli

from holdfast.actors.logs import asked_for, use_fields


class Booted:
    """Says that a worker has booted: as much of an Event as dramatiq uses, and it uses one once."""

    def __init__(self) -> None:
        self._hears, self._says = multiprocessing.Pipe(duplex=False)

    def set(self) -> None:
        """Say so, in the worker; waits for nobody, and nobody need hear it."""
        with contextlib.suppress(BrokenPipeError):
            self._says.send_bytes(b"booted")
        self._says.close()
        self._hears.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait in the master until the worker says so, and return whether it did; ends with the worker as well."""
        self._says.close()
        try:
            if self._hears.poll(timeout):
                self._hears.recv_bytes()
                return True
        except EOFError:
            pass
        finally:
            self._hears.close()
        return False


class _Multiprocessing(ModuleType):
    """What dramatiq's master knows as multiprocessing."""

    Event = Booted

    def __getattr__(self, name: str) -> Any:
        return getattr(multiprocessing, name)


def run() -> int:
    """Run the master, until it is told to end."""
    # The worker imports most of what it needs: nothing of that is ever garbage, and looking for some took a tenth of
    # its start. `boot` has it looked for again.
    gc.disable()
    # dramatiq sets up nothing where there is a handler.
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    use_fields(*asked_for(os.environ))
    vars(cli)["multiprocessing"] = _Multiprocessing("multiprocessing")
    return int(cli.main() or 0)


if __name__ == "__main__":
    sys.exit(run())
