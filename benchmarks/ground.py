"""The ground that a benchmark stands on: private servers with the settings of deploy/.

Redis and RabbitMQ read what deploy/redis.conf and deploy/rabbitmq.conf say, and nothing else but where to listen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.meter import Meter, attendants, cpu_seconds
from benchmarks.rows import Row, latencies, median, quantile, summary
from tests.support.servers import RabbitServer, RedisServer

__all__ = [
    "ROOT",
    "Ground",
    "Meter",
    "Row",
    "cpu_seconds",
    "ground",
    "latencies",
    "median",
    "quantile",
    "summary",
]

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Ground:
    """The servers that run, and what workers are to find in their environment."""

    redis_url: str
    amqp_url: str
    redis_pid: int
    rabbitmq_pid: int
    #: Added to the environment of Holdfast's workers, as OTEL_TRACES_SAMPLER_ARG=0.01.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: What runs beside the servers for their sake, and is no worker.
    attendants: frozenset[int] = frozenset()

    @property
    def servers(self) -> dict[str, int]:
        """The process id of each server by its name."""
        return {"redis": self.redis_pid, "rabbitmq": self.rabbitmq_pid}


@contextmanager
def ground(*, environment: Mapping[str, str] | None = None) -> Iterator[Ground]:
    """Start private servers on loopback, and stop them in the end."""
    before = attendants()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder, ExitStack() as stack:
        redis = stack.enter_context(_deployed_redis(Path(folder) / "redis"))
        rabbitmq = stack.enter_context(_DeployedRabbit(Path(folder) / "rabbitmq"))
        yield Ground(
            redis.url,
            rabbitmq.url,
            redis.pid,
            rabbitmq.pid,
            environment or {},
            attendants() - before,
        )


def _lines(file: str) -> list[str]:
    """Return the settings in a file of deploy/, one each."""
    text = (ROOT / "deploy" / file).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _deployed_redis(folder: Path) -> RedisServer:
    server = RedisServer(folder)
    server.config.clear()
    server.config.update(dict(line.split(maxsplit=1) for line in _lines("redis.conf")))
    return server


class _DeployedRabbit(RabbitServer):
    """RabbitMQ with the settings of deploy/ in place of those that tests want."""

    def _write_config(self) -> None:
        super()._write_config()
        file = self.folder / "rabbitmq.conf"
        own = [line for line in file.read_text().splitlines() if line.startswith(("listeners.", "log."))]
        file.write_text("\n".join([*own, *_lines("rabbitmq.conf"), ""]))
