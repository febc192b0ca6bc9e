"""
Houses on both transports: one for a test that does things to its workers, and one for the tests of a file to share.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import AsyncClient, Client
from tests.flow.house import CALM, PATIENCE_S, House, house, quick, shared_house

TRANSPORTS = ["rabbitmq", "redis"]


#: What a client waits for, where the test does not say for how long.
ASYNC_VERBS = ("execute", "wait", "wait_for")
VERBS = (*ASYNC_VERBS, "pause", "resume", "cancel", "delete_data")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Clients wait for answers as long as tests do: the few seconds of a user are no time where any process may stand still.
    """
    for kind, verbs in ((Client, VERBS), (AsyncClient, ASYNC_VERBS)):
        for verb in verbs:
            monkeypatch.setitem(getattr(kind, verb).__kwdefaults__, "timeout", PATIENCE_S)


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """
    What carries the commands.
    """
    return str(request.param)


@pytest.fixture
def home(transport: str, redis_url: str, amqp_url: str, namespace: str, tmp_path: Path) -> Iterator[House]:
    """
    A house of the test's own, without workers yet.
    """
    settings = quick(namespace, redis_url, amqp_url if transport == "rabbitmq" else "")
    with house(settings, tmp_path) as it:
        yield it


@pytest.fixture
def calm(transport: str, redis_url: str, amqp_url: str, namespace: str, tmp_path: Path) -> Iterator[House]:
    """
    As `home`, for a test in which nobody dies.
    """
    settings = quick(namespace, redis_url, amqp_url if transport == "rabbitmq" else "", **CALM)
    with house(settings, tmp_path) as it:
        yield it


@pytest.fixture(scope="module", params=TRANSPORTS)
def busy(
    request: pytest.FixtureRequest, redis_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """
    A house with a worker that the tests of a file share; each keeps to keys of its own.
    """
    folder = tmp_path_factory.mktemp("busy")
    amqp_url = amqp_url if request.param == "rabbitmq" else ""
    with shared_house(folder, redis_url, amqp_url, **CALM) as it, it.crew(1):
        yield it
