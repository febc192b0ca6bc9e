"""
Desk: where a test sits and types commands, here or in processes of their own.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dramatiq
import msgspec
from click.testing import CliRunner

from holdfast import App, Client, Settings, connect
from holdfast.actors.pools import worker_broker
from holdfast.cli import main
from tests.support.processes import eventually

ROOT = Path(__file__).parent.parent.parent
APP = "tests.cli.shop:app"
ORDERS = "holdfast.demo.orders:app"
#: Where nobody listens.
NOWHERE = "redis://:sesame@127.0.0.1:1/0"


class Said(NamedTuple):
    """
    What a command said.
    """

    out: str
    err: str

    @property
    def json(self) -> Any:
        """
        Return the one JSON document.
        """
        return msgspec.json.decode(self.out)

    @property
    def lines(self) -> list[Any]:
        """
        Return the JSON lines.
        """
        return [msgspec.json.decode(line) for line in self.out.splitlines()]

    @property
    def sentence(self) -> str:
        """
        Return the one sentence on standard error.
        """
        (line,) = self.err.splitlines()
        assert line.startswith("holdfast: ")
        return line.removeprefix("holdfast: ")


def run(*args: str, code: int = 0, stdin: str | bytes | None = None) -> Said:
    """
    Run a command in this process; see that it ends with this exit code and without a traceback.
    """
    result = CliRunner().invoke(main, args, input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return Said(result.stdout, result.stderr)


class Running:
    """
    A command in a process of its own.
    """

    def __init__(self, args: tuple[str, ...], folder: Path, script: str, **environ: str) -> None:
        self._log = folder / f"{args[0]}-{os.urandom(3).hex()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", script, *args],
                cwd=folder,
                env={"HOLDFAST_LOG_FORMAT": "text"} | os.environ | {"PYTHONPATH": str(ROOT)} | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        """
        Return what it has said until now.
        """
        return self._log.read_text(errors="replace")

    def await_words(self, words: str, count: int = 1) -> None:
        """
        Wait until it has said something so often.
        """
        eventually(lambda: self.said().count(words) >= count or self.process.poll() is not None, 40)
        assert self.said().count(words) >= count, self.said()

    def await_end(self, code: int = 0) -> str:
        """
        Wait until it ends, see that it does so with this exit code, and return what it said.
        """
        found = self.process.wait(100)
        said = self.said()
        assert found == code, said
        assert "Traceback" not in said
        return said

    def signal(self, number: int) -> None:
        """
        Send it a signal.
        """
        self.process.send_signal(number)


SCRIPT = "from holdfast.cli import main; main()"
#: As on a machine without any Redis server.
BARE_SCRIPT = "import holdfast.brokers.embedded as e; e._candidates = lambda: iter(()); " + SCRIPT


@contextlib.contextmanager
def running(*args: str, folder: Path, script: str = SCRIPT, **environ: str) -> Iterator[Running]:
    """
    Run a command in a process of its own, which ends with the test.
    """
    it = Running(args, folder, script, **environ)
    try:
        yield it
    finally:
        sys.stdout.write(it.said())  # shown by pytest when the test failed
        if it.process.poll() is None:
            it.process.terminate()
            try:
                it.process.wait(60)
            except subprocess.TimeoutExpired:
                it.process.kill()
                it.process.wait()


@contextlib.contextmanager
def working(app: App, settings: Settings) -> Iterator[Client]:
    """
    Serve an app on a thread of this process, and yield a client of it.
    """
    broker = worker_broker(app, settings, lanes=1)
    worker = dramatiq.Worker(broker, worker_threads=broker.threads, worker_timeout=50)
    worker.start()
    try:
        with connect(app, settings) as client:
            yield client
    finally:
        worker.stop()
        broker.close()
