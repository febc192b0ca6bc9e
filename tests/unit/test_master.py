"""
The master: what its worker tells it, and what it hears when that is killed.
"""

import gc
import logging
import multiprocessing
import os
import signal
import time
from typing import Any

import pytest
from dramatiq import cli

from holdfast.actors import master
from holdfast.actors.master import Booted

FORK: Any = multiprocessing.get_context("fork")


def test_what_was_said_is_heard() -> None:
    """
    Also by who listens only later.
    """
    booted = Booted()
    worker = FORK.Process(target=booted.set)
    worker.start()
    worker.join()

    assert booted.wait(60)


def test_who_dies_before_it_says_so_is_not_waited_for() -> None:
    """
    The master goes on at once, and finds the worker dead.
    """
    booted = Booted()
    worker = FORK.Process(target=time.sleep, args=(600,))
    worker.start()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    began = time.monotonic()

    assert not booted.wait(600)
    assert time.monotonic() - began < 60
    worker.join()


def test_who_says_nothing_is_waited_for_as_long_as_one_has_time() -> None:
    """
    It may boot for longer than that.
    """
    booted = Booted()
    worker = FORK.Process(target=time.sleep, args=(600,))
    worker.start()

    assert not booted.wait(0.01)
    worker.kill()
    worker.join()


def test_a_worker_waits_for_no_master() -> None:
    """
    What nobody hears any more can be said all the same.
    """
    booted = Booted()
    worker = FORK.Process(target=booted.set)
    booted._hears.close()
    worker.start()
    worker.join(60)

    assert 0 == worker.exitcode
    booted._says.close()


def test_dramatiq_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    And everything else of multiprocessing as it is, for itself and for nobody else.
    """
    seen: list[Any] = []
    monkeypatch.setitem(vars(cli), "multiprocessing", multiprocessing)
    monkeypatch.setattr(cli, "main", lambda: seen.append(vars(cli)["multiprocessing"]))
    monkeypatch.setattr(gc, "disable", lambda: None)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    monkeypatch.setattr(master, "use_fields", lambda *_: None)

    assert 0 == master.run()
    (given,) = seen
    assert (Booted, multiprocessing.Pipe) == (given.Event, given.Pipe)
    assert not isinstance(multiprocessing.Event(), Booted)
