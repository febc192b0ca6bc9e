"""A rival's workers: processes, with whatever they fork, that are gone when they are to be and when we are."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from holdfast.brokers import keeper

#: How long killed processes may take to leave the process table.
_GONE_S_MAX = 10.0


def family(pid: int) -> list[int]:
    """Return a process and all that descends from it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


class Crew:
    """Commands that run while this is entered, each watched over by a keeper."""

    def __init__(
        self, commands: Sequence[Sequence[str]], env: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        self._commands, self._env, self._folder, self._log = commands, dict(env), folder, log
        self._kept: list[keeper.Kept] = []

    @property
    def pids(self) -> list[int]:
        """The process ids of the commands themselves."""
        return [one.pid for one in self._kept]

    def start(self) -> Self:
        """Start all of them."""
        for command in self._commands:
            one = keeper.keep(list(command), folder=self._folder, log=self._log, env=self._env)
            assert one is not None, "no lock was asked for"
            self._kept.append(one)
        return self

    def check(self) -> None:
        """Raise if one of them has ended."""
        if not all(one.alive() for one in self._kept):
            raise RuntimeError(
                f"a worker has ended; its last words:\n{self._log.read_text(errors='replace')[-3000:]}"
            )

    def pause(self) -> None:
        """Freeze all of them and what they forked: connections stay open, nothing is answered."""
        _send(self._family(), signal.SIGSTOP)

    def cont(self) -> None:
        """Let them go on."""
        _send(self._family(), signal.SIGCONT)

    def _family(self) -> dict[int, str]:
        pids = [pid for one in self._kept if one.alive() for pid in family(one.pid)]
        return {pid: _born(pid) for pid in pids}

    def kill(self) -> float:
        """End all of them and what they forked with SIGKILL, at once; return when that was."""
        members = self._family()
        _send(members, signal.SIGKILL)
        at = time.time()
        self.stop()
        _await_gone(members)
        return at

    def stop(self) -> None:
        """End all of them as an operator would, and what they forked and left behind by force."""
        members = self._family()
        _send(members, signal.SIGCONT)
        for one in self._kept:
            one.stop()
        self._kept = []
        _send(members, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _born(pid: int) -> str:
    """Return when a process began, so that a later one of the same id is not taken for it; nothing if it is gone or a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


def _send(members: Mapping[int, str], number: int) -> None:
    for pid, born in members.items():
        if born and _born(pid) == born:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _await_gone(members: Mapping[int, str]) -> None:
    until = time.monotonic() + _GONE_S_MAX
    while time.monotonic() < until and any(born and _born(pid) == born for pid, born in members.items()):
        time.sleep(0.002)
