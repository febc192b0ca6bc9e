"""
Workers whose endpoint is asked, and what it said.
"""

import contextlib
import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from holdfast import Client, Settings, connect
from tests.cli.desk import Running, running
from tests.support.processes import eventually
from tests.support.servers import free_run
from tests.telemetry import kiosk

APP = "tests.telemetry.kiosk:app"
PATIENCE_S = 40.0
#: Each process has a port of its own, behind the one before.
PROCESSES_MAX = 2


class Stand:
    """
    `holdfast worker` with an endpoint, and a client.
    """

    def __init__(self, worker: Running, client: Client, port: int) -> None:
        self.worker = worker
        self.client = client
        self.port = port

    def ask(self, path: str, number: int = 0) -> tuple[int, str]:
        """
        Return what the endpoint of a process says, as soon as it says anything: it may not listen yet, and it drops who
        takes long to ask.
        """
        said: list[tuple[int, str]] = []

        def answered() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                said.append(self._ask(path, number))
            return bool(said)

        eventually(answered, PATIENCE_S)
        return said[0]

    def _ask(self, path: str, number: int) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port + number, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def status(self, path: str, number: int = 0) -> int:
        """
        Return the status of an answer; 0 while nobody listens.
        """
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._ask(path, number)[0]
        return 0

    def report(self, path: str = "/health") -> Any:
        """
        Return what is said of health.
        """
        return json.loads(self.ask(path)[1])

    def samples(self, number: int = 0) -> Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]:
        """
        Return the metrics, by name and labels.
        """
        status, text = self.ask("/metrics", number)
        assert status == 200, text
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float:
        """
        Return one sample; -1 where there is none.
        """
        return self.samples().get(name, {}).get(tuple(sorted(labels.items())), -1.0)

    def await_value(self, value: float, name: str, **labels: str) -> None:
        """
        Wait until a sample is so.
        """
        try:
            eventually(lambda: self.value(name, **labels) == value, PATIENCE_S)
        except AssertionError:
            message = f"{name}{labels} is {self.value(name, **labels)}, not {value}"
            raise AssertionError(message) from None


@contextlib.contextmanager
def stand(settings: Settings, folder: Path, *options: str, **environ: str) -> Iterator[Stand]:
    """
    Run `holdfast worker` with an endpoint, and go on as soon as it was started.
    """
    port = free_run(PROCESSES_MAX)
    given = settings.to_environment() | {"HOLDFAST_LOG_FORMAT": "json"} | environ
    command = ("worker", APP, "--metrics-port", str(port), *options)
    with running(*command, folder=folder, **given) as worker, connect(kiosk.app, settings) as client:
        yield Stand(worker, client, port)
        sys.stdout.flush()
