"""
Office: a house whose workers run errands, and what its tests ask of it.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from holdfast import Client, DeadLetter, Supervisor, connect
from holdfast.actors import wiring
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink
from holdfast.runtime.effect_queue import PendingEffect
from tests.contract.worlds import fire
from tests.flow.errands import ENV_FOLDER, Call, Errand, Run, app, calls
from tests.flow.house import PATIENCE_S, House, shared_house
from tests.support.processes import eventually

APP = "tests.flow.errands:app"
FIRE_STEP_S = 0.05


class Office:
    """
    A house, a client that knows errands, and the folder where handlers leave their lines.
    """

    def __init__(self, home: House, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self.client: Client = connect(app, home.settings)
        self._ports = wiring.open_ports(home.settings)
        self._stopping = threading.Event()
        self._firing = threading.Thread(target=self._fire, daemon=True)
        self._firing.start()

    def close(self) -> None:
        self._stopping.set()
        self._firing.join()
        self.client.close()
        self._ports.close()

    def _fire(self) -> None:
        """
        Do for effects what a timer pool does.
        """
        keys = Keys(self.home.settings.namespace)
        with RedisLink(self.home.settings) as link:
            while not self._stopping.wait(FIRE_STEP_S):
                with contextlib.suppress(redis.exceptions.RedisError):  # the test may have killed it
                    for partition in range(self.home.settings.partitions):
                        fire(link.client, keys, partition)

    @contextlib.contextmanager
    def crew(self, processes: int = 1, **others: Any) -> Iterator[Supervisor]:
        """
        Run workers of both pools.
        """
        with self.home.crew(processes, APP, pools=("command", "effect"), **others) as supervisor:
            yield supervisor

    def ask(self, errand: str, kind: str, how: str, count: int = 1) -> None:
        """
        Have an errand ask for effects.
        """
        self.client.send(Run(errand, kind, how, count))

    def ask_at_once(self, *asked: Run) -> None:
        """
        Have several errands ask for effects, with nothing between them.
        """
        self.client.send_many(asked)

    def notes(self, errand: str, count: int) -> list[str]:
        """
        Wait until an errand has noted so much beside what it was asked, and return that.
        """

        def found() -> list[str]:
            state = self.client.state(Errand, errand)
            return [note for note in state.notes if note != "asked"] if state else []

        eventually(lambda: len(found()) >= count, PATIENCE_S)
        return found()

    def calls(self, errand: str) -> list[Call]:
        """
        Return the calls of handlers for an errand.
        """
        return calls(self.folder, errand)

    def letters(self, errand: str) -> list[DeadLetter]:
        """
        Return the dead letters of an errand's effects.
        """
        return self.client.dead_letters.list(workflow="errand", key=errand, kind="effect")

    def letter(self, errand: str) -> DeadLetter:
        """
        Return the one dead letter of an errand's effects; the errand may have been told before it is written.
        """
        eventually(lambda: bool(self.letters(errand)), PATIENCE_S)
        (letter,) = self.letters(errand)
        return letter

    def pending(self) -> list[PendingEffect]:
        """
        Return what waits and runs.
        """
        return [
            line
            for partition in range(self.home.settings.partitions)
            for line in self._ports.effects.pending(partition, 1_000)
        ]

    def await_idle(self) -> None:
        """
        Wait until every effect is finished.
        """
        eventually(lambda: self.pending() == [], PATIENCE_S)


@contextlib.contextmanager
def office(folder: Path, redis_url: str, amqp_url: str = "", **others: Any) -> Iterator[Office]:
    """
    Open an office without workers.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, ENV_FOLDER, str(folder))
        with shared_house(folder, redis_url, amqp_url, **others) as home:
            it = Office(home, folder)
            try:
                yield it
            finally:
                it.close()
