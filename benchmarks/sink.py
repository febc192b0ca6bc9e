"""The sink: an OTLP/HTTP collector that takes everything and keeps nothing, as a process of its own.

    python -m benchmarks.sink

prints its address, and takes until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from benchmarks.ground import ROOT


class Sink(NamedTuple):
    """A sink that runs."""

    url: str
    pid: int


@contextmanager
def sink() -> Iterator[Sink]:
    """Run one.

    Raises:
        RuntimeError: It did not start.
    """
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        url = process.stdout.readline().strip()
        if not url:
            message = "the sink did not start"
            raise RuntimeError(message)
        try:
            yield Sink(url, process.pid)
        finally:
            process.stdin.close()


class _Handler(BaseHTTPRequestHandler):
    #: Connections stay open, as those of a real collector do.
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    """Take until the standard input ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
