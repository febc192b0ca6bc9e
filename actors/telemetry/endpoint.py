"""Endpoint: /metrics, /health and /ready of a worker over HTTP, on threads of its own.

It answers from what is in memory, so no question holds up a lane. It is meant for those who look after the workers, not
for the world: it has no passwords in it, but names of workflows and addresses of servers.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from holdfast.actors.telemetry.health import Health

log = logging.getLogger(__name__)

#: How long one who asks may take to say what, and how many may do so at once.
REQUEST_S = 5.0
REQUESTS_MAX = 16
#: How often a port that is taken is tried again: the process before may be about to let go of it.
AGAIN_S = 1.0

#: What makes the page of all metrics: by what the asker accepts, its content type and its text.
Page = Callable[[str], tuple[str, bytes]]

NO_METRICS = (
    b"no metrics: install opentelemetry-exporter-prometheus, as in pip install 'holdfast[prometheus]', "
    b"and leave OTEL_METRICS_EXPORTER unset or have prometheus in it\n"
)


class Endpoint:
    """Answers on one port."""

    def __init__(self, host: str, port: int, health: Health, page: Page | None) -> None:
        """Take what to say.

        Args:
            host, port: Where to listen; port 0 takes any that is free.
            health: What /health and /ready say.
            page: What /metrics says; None where there is nothing that could.
        """
        self._host = host
        self._port = port
        self._health = health
        self._page = page
        self._server: _Server | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-endpoint", daemon=True)

    @property
    def port(self) -> int | None:
        """Where it listens; None while it does not."""
        server = self._server
        return None if server is None else int(server.server_address[1])

    def start(self) -> None:
        """Begin to answer, as soon as the port can be had."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._stopping.set()
        server = self._server
        if server is not None:
            server.shutdown()
        if self._thread.ident is not None:
            self._thread.join(REQUEST_S)

    def _run(self) -> None:
        said = False
        while not self._stopping.is_set():
            try:
                self._server = _Server((self._host, self._port), self._answer)
            except (OSError, OverflowError) as error:
                if not said:
                    facts = {
                        "host": self._host,
                        "port": self._port,
                        "error": str(error),
                        "do": "free it, or name another with --metrics-port and --metrics-host",
                    }
                    log.error("metrics and health cannot be served here; trying again", extra=facts)
                said = True
                self._stopping.wait(AGAIN_S)
                continue
            log.info(
                "metrics and health are served", extra={"host": self._host, "port": self._server.server_port}
            )
            with self._server:
                self._server.serve_forever(poll_interval=0.1)
            return

    def _answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Return the answer to a question: status, content type and text."""
        if path in ("/health", "/ready"):
            report = self._health.report()
            well = report["healthy" if path == "/health" else "ready"]
            return 200 if well else 503, "application/json", json.dumps(report).encode() + b"\n"
        if path != "/metrics":
            return 404, "text/plain", b"there are /metrics, /health and /ready\n"
        if self._page is None:
            return 501, "text/plain", NO_METRICS
        return 200, *self._page(accept)


class _Server(ThreadingHTTPServer):
    """A server that takes only so many at once."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], answer: Callable[[str, str], tuple[int, str, bytes]]
    ) -> None:
        self.answer = answer
        self._places = threading.BoundedSemaphore(REQUESTS_MAX)
        super().__init__(address, _Request)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever asked has gone away."""


class _Request(BaseHTTPRequestHandler):
    timeout = REQUEST_S
    server: _Server

    def do_GET(self) -> None:
        try:
            status, kind, text = self.server.answer(
                self.path.partition("?")[0], self.headers.get("Accept", "")
            )
        except Exception as error:  # noqa: BLE001 - a metric that cannot be read must not end the answers
            log.warning("cannot answer", extra={"path": self.path, "error": repr(error)})
            status, kind, text = 500, "text/plain", b"this failed; the worker's log says why\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_HEAD = do_GET  # noqa: N815 - as above

    def version_string(self) -> str:
        return "holdfast"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Say nothing of every question."""
