"""
Desks with servers and workers.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import Client, Settings
from holdfast.cli import runs, send
from tests.cli import shop
from tests.cli.desk import working
from tests.support.processes import SECONDS_MAX


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Have commands that wait for an outcome do so as long as tests do, where they are not told how long.
    """
    monkeypatch.setattr(send, "TIMEOUT_S", SECONDS_MAX)
    for command in (runs.pause, runs.resume, runs.cancel, runs.delete_data):
        (option,) = [one for one in command.params if one.name == "timeout"]
        monkeypatch.setattr(option, "default", SECONDS_MAX)


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
    Put settings into the environment; unless they say otherwise, those with which workers notice each other quickly, but
    who stands still for some seconds is not taken for dead: what it holds would be handed out, and tried, once more.
    """
    usual = {"partitions": "4", "heartbeat_ms": "50", "member_ttl_ms": "60000", "lease_ms": "60000"}
    for field, value in (usual | values).items():
        monkeypatch.setenv(f"HOLDFAST_{field.upper()}", value)
