"""
Desks with servers and workers.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import Client, Settings
from tests.cli import shop
from tests.cli.desk import working


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    An empty folder to work in, from which apps can be loaded.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def settings(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """
    Settings in the environment, for a namespace of the test's own.
    """
    name(monkeypatch, redis_url=redis_url, namespace=namespace)
    return Settings.from_environment()


@pytest.fixture
def office(settings: Settings) -> Iterator[Client]:
    """
    A post office with a worker, on those settings.
    """
    with working(shop.app, settings) as client:
        yield client


def name(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """
    Put settings into the environment; quick ones, unless they say otherwise.
    """
    quick = {"partitions": "4", "heartbeat_ms": "50", "member_ttl_ms": "1500"}
    for field, value in (quick | values).items():
        monkeypatch.setenv(f"HOLDFAST_{field.upper()}", value)
