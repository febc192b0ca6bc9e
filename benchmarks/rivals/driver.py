"""A rival's client: a script in the rival's own environment that is asked in lines of JSON and answers in such."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self


class DriverError(Exception):
    """A driver has failed, or has not answered."""


def answer_in(line: str) -> dict[str, Any] | None:
    """
    Return the answer in a line of a driver's output; None if it is something that a library printed.

    Raises:
        DriverError: the driver says that it has failed.
    """
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    if "error" in found:
        raise DriverError(str(found["error"]))
    return found


class Driver:
    """
    The script, for as long as this is entered. It ends with its input, so it does not outlive whoever asks it.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self._command, self._env, self._log = list(command), dict(env), log
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """The script's process id."""
        assert self._process is not None, "the driver is not running"
        return self._process.pid

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Have something done, and return what the script says about it."""
        self.tell(do, **arguments)
        return self.hear()

    def tell(self, do: str, **arguments: object) -> None:
        """Have something begun; `hear` says what came of it."""
        assert self._process is not None, "the driver is not running"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise DriverError(self._ended()) from None

    def hear(self) -> dict[str, Any]:
        """Return the next answer."""
        assert self._process is not None, "the driver is not running"
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if (found := answer_in(line)) is not None:
                return found
        raise DriverError(self._ended())

    def _ended(self) -> str:
        return f"the driver has ended; its last words:\n{self._log.read_text(errors='replace')[-2000:]}"

    def __enter__(self) -> Self:
        self._errors = self._log.open("ab")
        self._process = subprocess.Popen(
            self._command,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._errors is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
        self._process = None
