"""OpenTelemetry: what its traces and its metrics have in common in a worker process."""

from __future__ import annotations

import functools
import os
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from holdfast.runtime.redaction import hide_password

#: What a worker is called where OTEL_SERVICE_NAME says nothing: its spans and its metrics are found together.
SERVICE = "holdfast-worker"


def resource() -> Any:
    """Return who exports: this process, under an id of its own, unless OTEL_* variables say otherwise."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    own = {"service.name": SERVICE, "service.instance.id": _instance_id(os.getpid())}
    return Resource.create(own).merge(OTELResourceDetector().detect())


@functools.cache
def _instance_id(_pid: int) -> str:
    return str(uuid4())


def endpoint_problem(url: str) -> str:
    """Return what is wrong with the address of a collector that is spoken to over HTTP, empty where nothing is.

    Exporters find out with the first batch only.
    """
    try:
        parts = urlsplit(url.strip())
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    return "" if right else f"is {hide_password(url)!r}, which is no address; write http://localhost:4318"
