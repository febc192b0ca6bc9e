"""
Whoever looks after the workers: a reload leaves no gap, and nobody works on when he is gone.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from holdfast import Supervisor
from holdfast.runtime.ports import Member
from tests.flow.house import PATIENCE_S, ROOT, House, accounts
from tests.flow.senders import Senders
from tests.flow.slow_boot import ENV_BOOTING
from tests.support.processes import eventually, gone

#: A supervisor in a process of its own, so that it can be killed. Its settings are in its environment.
SUPERVISE = """
import sys, threading
from pathlib import Path
from holdfast import Settings, Supervisor
with Supervisor("tests.flow.shop:app", Settings.from_environment(), log_file=Path(sys.argv[1])):
    threading.Event().wait()
"""


@contextmanager
def supervised(home: House) -> Iterator[tuple[subprocess.Popen[bytes], Member]]:
    """
    Run a worker under a supervisor in a process of its own; give the two when they serve.
    """
    before = {member.id for member in home.await_shared(home.workers)}
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(home.log)],
        cwd=ROOT,
        env=os.environ | home.settings.to_environment(),
        start_new_session=True,
    )
    try:
        members = home.await_shared(len(before) + 1)
        yield process, next(member for member in members if member.id not in before)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def transport() -> str:
    """
    What carries the commands makes no difference to who looks after whom; handovers are the hardest here.
    """
    return "rabbitmq"


def test_a_reload_leaves_no_gap(calm: House) -> None:
    """
    On a reload the workers are started anew one after another, under load: at any time one of them serves, nobody is
    counted as dead, and each command is decided once, in its sender's order.
    """
    home = calm
    with home.crew(2) as crew:
        with Senders(home.client, accounts("a", 40), per_key=home.per_key, callers=1) as senders:
            home.await_progress()
            serving: list[int] = []
            # Who stood still while all this happened has seen nothing of it.
            for _ in range(10):
                old = {member.id for member in home.await_shared(2)}
                crew.reload()
                until = time.monotonic() + PATIENCE_S
                while not home.shared_by(2, without=old):
                    assert time.monotonic() < until, "the workers are not started anew"
                    serving.append(home.registered())
                if 1 in serving:
                    break
            home.await_progress()
        home.check(senders, at_least=200)
        assert min(serving) == 1
        assert crew.restarts == 0
    home.check_empty()


def test_nobody_works_on_unattended(home: House) -> None:
    """
    A worker whose supervisor is killed finishes what it has begun, hands over and ends; others serve its partitions.
    """
    with home.crew(1), Senders(home.client, accounts("a", 40), per_key=home.per_key, callers=1) as senders:
        with supervised(home) as (supervisor, worker):
            home.await_progress()
            supervisor.kill()
            home.await_shared(1, without=[worker.id])
            eventually(lambda: gone(worker.pid))
            home.await_progress()
        home.check(senders, at_least=200)
    home.check_empty()
    assert "looks after this one is gone" in home.said()


def test_a_worker_that_dies_as_it_has_booted_is_started_again(
    home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A worker says that it has booted to a master that stands still, and is killed before that has heard it: when the
    master goes on it ends, and a worker is started again.
    """
    booting = tmp_path / "booting"
    monkeypatch.setenv(ENV_BOOTING, str(booting))
    given = {"folder": ROOT, "log_file": home.log, "preload": "tests.flow.slow_boot"}
    with Supervisor("tests.flow.shop:app", home.settings, **given) as supervisor:  # type: ignore[arg-type]  # by name
        eventually(booting.exists, PATIENCE_S)
        worker, master = map(int, booting.read_text().split())
        os.kill(master, signal.SIGSTOP)
        try:
            # It serves a moment after it has booted.
            (member,) = home.await_shared(1)
            os.kill(worker, signal.SIGKILL)
        finally:
            os.kill(master, signal.SIGCONT)
        home.await_shared(1, without=[member.id])
        assert supervisor.restarts == 1
    home.check_empty()


def test_nobody_works_on_whose_master_died_as_he_booted(
    home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A worker tells its master that it has booted: where there is none any more it ends.
    """
    booting = tmp_path / "booting"
    monkeypatch.setenv(ENV_BOOTING, str(booting))
    settings = msgspec.structs.replace(home.settings, drain_s=0.5)
    given = {"folder": ROOT, "log_file": home.log, "preload": "tests.flow.slow_boot"}
    with Supervisor("tests.flow.shop:app", settings, **given) as supervisor:  # type: ignore[arg-type]  # by name
        eventually(booting.exists, PATIENCE_S)
        worker, master = map(int, booting.read_text().split())
        os.kill(master, signal.SIGKILL)
        eventually(lambda: gone(worker), PATIENCE_S)
        home.await_shared(1)
        assert supervisor.restarts == 1
    home.check_empty()


def test_the_living_carry_on_for_the_dead(home: House) -> None:
    """
    When a worker and its supervisor are killed at once, whoever is left takes over all partitions and their work.
    """
    with home.crew(1), Senders(home.client, accounts("a", 40), per_key=home.per_key, callers=1) as senders:
        with supervised(home) as (supervisor, worker):
            home.await_progress()
            # First it stands still, or between the two the worker could be started again, or end by itself.
            supervisor.send_signal(signal.SIGSTOP)
            home.strike_down(worker)
            supervisor.kill()
            home.await_shared(1, without=[worker.id])
            home.await_progress()
        home.check(senders, at_least=200)
    home.check_empty()
