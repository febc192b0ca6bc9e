"""Facts: where and with what it was measured. Figures without them say nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pika
import redis

from benchmarks.ground import ROOT, Ground
from benchmarks.rows import Row

#: Packages whose version may make a difference.
PACKAGES = ("holdfast", "dramatiq", "pika", "redis", "hiredis", "msgspec")
#: Neither what is written about a benchmark nor what it writes itself changes what it measures.
WRITTEN = ("*.md", "benchmarks/results")


def facts(where: Ground) -> Row:
    """Return the facts of this machine, these servers and this code, as a row whose `what` is facts."""
    return {
        "system": "environment",
        "what": "facts",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{_processor()}, {platform.machine()}",
        "cores": os.cpu_count() or 0,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "redis": _redis(where),
        "rabbitmq": _rabbitmq(where),
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


def _commit() -> str:
    try:
        name = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", *(f":!{path}" for path in WRITTEN))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name} and changes" if changed else name


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.processor() or "unknown processor")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _redis(where: Ground) -> str:
    with redis.Redis.from_url(where.redis_url) as client:
        info: Any = client.info("server")
        return str(info["redis_version"])


def _rabbitmq(where: Ground) -> str:
    connection: Any = pika.BlockingConnection(pika.URLParameters(where.amqp_url))
    try:
        said = connection._impl.server_properties
        return f"{_text(said['version'])} on {_text(said['platform'])}"
    finally:
        connection.close()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
