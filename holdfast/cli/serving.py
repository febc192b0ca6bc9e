"""Serving: looking after worker processes until the operator has had enough."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType, TracebackType
from typing import Any, Self

from holdfast.actors import wiring
from holdfast.actors.log_json import JsonFormatter
from holdfast.actors.logs import formatter, secrets_of
from holdfast.actors.supervisor import Supervisor
from holdfast.cli.ending import Failed
from holdfast.cli.installation import opened
from holdfast.cli.notes import in_lines, note
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import Unavailable

#: How often the workers are looked after.
LOOK_S = 0.5
#: How long servers that are away are waited for at the start, and between two tries.
PATIENCE_S = 30.0
AGAIN_S = 1.0


class Signals:
    """What the operator asked for: SIGTERM and SIGINT end in good order, the second time at once; SIGHUP reloads."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._reload = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        elif self.stop.is_set():
            raise Failed("stopped before all was finished; what was not will be done again")
        else:
            self.stop.set()

    def reload_wanted(self) -> bool:
        """Return whether a reload was asked for since the last time."""
        wanted, self._reload = self._reload, False
        return wanted


def knock(settings: Settings, signals: Signals, patience_s: float = PATIENCE_S) -> None:
    """Open everything once, so that a mistake is one line here and not a worker that dies again and again.

    Raises:
        SetupError: A server refuses us, cannot give what is asked for, or was set up otherwise.
        Unavailable: One was away for too long.
    """
    deadline = time.monotonic() + patience_s
    while not signals.stop.is_set():
        try:
            with opened(settings):
                wiring.open_transport(settings)
        except Unavailable as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            note(f"{error}; trying again for {left:.0f} s")
            signals.stop.wait(min(AGAIN_S, left))
        else:
            return


def serve(supervisor: Supervisor, signals: Signals, look_after: Callable[[], None] = lambda: None) -> None:
    """Run worker processes until a signal, and then have them finish what they have begun.

    Raises:
        SetupError: The workers cannot run at all.
    """
    try:
        supervisor.start()
        while not signals.stop.wait(LOOK_S):
            supervisor.check()
            if signals.reload_wanted():
                note("reloading: the workers end in good order and are started anew")
                supervisor.reload()
            look_after()
        note("stopping: the workers finish what they have begun")
    finally:
        # On a thread, so that a second signal can still be heard.
        stopping = threading.Thread(target=supervisor.stop, daemon=True)
        stopping.start()
        while stopping.is_alive():
            stopping.join(LOOK_S)


@contextmanager
def logs_shown(settings: Settings) -> Iterator[None]:
    """Write warnings of this process to standard error, as the workers write theirs."""
    root, handler = logging.getLogger(), logging.StreamHandler(sys.stderr)
    terminal = sys.stderr.isatty()
    form = formatter(settings.log_format, secrets_of(settings), terminal=terminal)
    handler.setFormatter(form)
    # It reports each refused connection in many lines; what that comes to is said by ours.
    handler.addFilter(lambda record: not record.name.startswith("pika"))
    root.addHandler(handler)
    try:
        with in_lines() if isinstance(form, JsonFormatter) else nullcontext():
            yield
    finally:
        root.removeHandler(handler)
