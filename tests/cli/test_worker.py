"""
`holdfast worker`: real processes on real servers.
"""

import os
import signal
from pathlib import Path

import pytest

from holdfast import Settings, connect
from holdfast.actors import wiring
from holdfast.cli.ending import Failed
from holdfast.cli.serving import Signals
from holdfast.runtime.ports import Member
from tests.cli import shop
from tests.cli.conftest import name
from tests.cli.desk import APP, running
from tests.support.processes import eventually, gone
from tests.support.servers import RedisServer

#: Loads in the parent, and refuses to in a worker.
TWO_FACED = """
import os
from holdfast import WorkflowError
from tests.cli.shop import app
if "HOLDFAST_WORKER_APP" in os.environ:
    raise WorkflowError("not here")
"""


def members(settings: Settings) -> list[Member]:
    """
    Return the living workers.
    """
    ports = wiring.open_ports(settings)
    try:
        return ports.membership.living()
    finally:
        ports.close()


def the_one(settings: Settings) -> Member:
    """
    Return the one worker that there is, as soon as there is one: it may have been silent for a moment.
    """
    found: list[Member] = []

    def alone() -> bool:
        found[:] = [member for member in members(settings) if not gone(member.pid)]
        return len(found) == 1

    eventually(alone)
    return found[0]


def test_a_worker_works_and_ends_in_good_order(
    redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It says what it serves and on what, decides commands, starts a process again that was killed, and on SIGTERM hands
    everything over and ends with 0. No character of an error reaches the terminal as it is.
    """
    # Whoever was killed is missed soon.
    name(monkeypatch, redis_url=redis_url, namespace=namespace, member_ttl_ms="1500", lease_ms="1000")
    settings = Settings.from_environment()

    with (
        running("worker", APP, "--threads", "1", folder=tmp_path) as worker,
        connect(shop.app, settings) as client,
    ):
        worker.await_words(" pools of tests.cli.shop:app; commands over Redis Streams")
        client.execute(shop.Post("p-1", 5), timeout=40)
        os.kill(the_one(settings).pid, signal.SIGKILL)
        client.execute(shop.Post("p-1", 6), timeout=40)
        client.execute(shop.Stumble("p-1"), timeout=40)
        worker.await_words("became a dead letter")
        member = the_one(settings)
        worker.signal(signal.SIGTERM)
        said = worker.await_end()

    assert "worker ended and is started again" in said
    assert r"error=RuntimeError: \x1b[31mstumbled" in said
    assert "\x1b" not in said
    assert "holdfast: stopping: the workers finish what they have begun\n" in said
    assert said.endswith("holdfast: stopped\n")
    assert gone(member.pid)
    assert members(settings) == []
    with connect(shop.app, settings) as client:
        assert len(client.history(shop.Parcel, "p-1")) == 2


def test_a_reload_loses_nothing(
    settings: Settings, amqp_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Over RabbitMQ with two processes: on SIGHUP new code is loaded by new ones, and no command is lost or overtaken.
    The password is not told.
    """
    name(monkeypatch, amqp_url=amqp_url)
    settings = Settings.from_environment()

    with running("worker", APP, "--processes", "2", folder=tmp_path) as worker, connect(shop.app) as client:
        worker.await_words("2 processes serve the command ")
        client.execute(shop.Post("p-1", 1), timeout=40)
        before: set[int] = set()

        def both() -> bool:
            before.update(member.pid for member in members(settings))
            return len(before) == 2

        eventually(both, 40)
        client.send_many([shop.Post("p-1", 2) for _ in range(100)])
        worker.signal(signal.SIGHUP)
        client.send_many([shop.Post("p-1", 3) for _ in range(100)])
        eventually(lambda: all(map(gone, before)) and len(members(settings)) == 2, 40)
        client.execute(shop.Post("p-1", 4), timeout=40)
        posted = [record.events for record in client.history(shop.Parcel, "p-1")]
        worker.signal(signal.SIGINT)
        said = worker.await_end()

    assert posted == [(shop.Posted(number),) for number in [1, *[2] * 100, *[3] * 100, 4]]
    assert "reloading: the workers end in good order" in said
    assert "commands over amqp://" in said
    assert ":guest@" not in said


def test_servers_that_come_later_are_waited_for(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    After a power cut everything starts at once: the worker says what it waits for, and goes on when that is there.
    """
    redis_server.stop()
    name(monkeypatch, redis_url=redis_server.url)

    with running("worker", APP, folder=tmp_path) as worker:
        worker.await_words("does not answer: Error 111 connecting")
        redis_server.start()
        worker.await_words("1 process serves the command ")
        worker.signal(signal.SIGTERM)
        said = worker.await_end()

    assert "; trying again for 30 s" in said


def test_a_signal_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Whoever waits for servers can still be stopped.
    """
    name(monkeypatch, redis_url="redis://127.0.0.1:1/0")

    with running("worker", APP, folder=tmp_path) as worker:
        worker.await_words("trying again for")
        worker.signal(signal.SIGTERM)
        worker.await_end()


def test_a_worker_that_cannot_start_ends_them_all(settings: Settings, tmp_path: Path) -> None:
    """
    Where a restart would not help, none is tried again and again: exit code 1, and the reason is there.
    """
    (tmp_path / "two_faced.py").write_text(TWO_FACED)

    with running("worker", "two_faced:app", "--processes", "2", folder=tmp_path) as worker:
        said = worker.await_end(1)

    assert "cannot start: not here" in said
    assert said.endswith("holdfast: a worker cannot start; the lines above say why\n")


def test_the_second_signal_does_not_wait() -> None:
    """
    Who cannot wait for the end of what was begun says so again; SIGHUP in between is no reason to end.
    """
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        signal.raise_signal(signal.SIGHUP)
        assert signals.reload_wanted()
        assert not signals.reload_wanted()
        assert not signals.stop.is_set()
        signal.raise_signal(signal.SIGINT)
        assert signals.stop.is_set()
        with pytest.raises(Failed, match="stopped before all was finished"):
            signal.raise_signal(signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) is before
