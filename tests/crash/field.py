"""
Field: a house whose workers run mills and can be struck at any named point, and the checker at the end.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import redis

from holdfast import Client, UsageError, connect
from holdfast.actors import supervisor
from holdfast.runtime.errors import DataDeleted
from holdfast.runtime.faults import Point
from tests.chaos import mill
from tests.chaos.history import History, Op
from tests.chaos.load import KINDS, Load
from tests.chaos.mill import Hopper, Milling
from tests.chaos.plant import hush, read_errands, read_lines
from tests.crash.strike import ENV_FOLDER, order
from tests.flow.house import ROOT, House, nothing_wrong, shared_house
from tests.support.processes import eventually

APP = "tests.chaos.mill:app"
WORKERS = 3
#: Seconds that anything may take on a very busy machine: far more than it should.
PATIENCE_S = 100.0
#: Seconds between two looks at what takes its time.
STEP_S = 0.2

#: What a program of the user's does that retries a dead letter.
RETRY = "import sys, tests.crash.strike; from tests.chaos.mill import app; from holdfast import connect\n"
RETRY += "with connect(app) as client: client.dead_letters.retry(sys.argv[1])"


class Field:
    """
    Workers that can be struck, and what their tests ask of them.
    """

    def __init__(self, home: House, client: Client, folder: Path, store: str) -> None:
        self.home = home
        self._store = store
        self.client = client
        self.folder = folder
        self._redis = redis.Redis.from_url(home.settings.redis_url, decode_responses=True)
        self._load: Load | None = None

    def close(self) -> None:
        """
        Let everybody go on who was stopped, strike nobody any more, and leave.
        """
        for path in self.folder.glob("*.SIG*"):
            if path.suffix in (".SIGKILL", ".SIGSTOP"):
                path.unlink(missing_ok=True)
            else:
                self.wake(int(path.suffix[1:]))
        self._redis.close()

    # -- strikes

    def strike(
        self, point: Point, number: signal.Signals, provoke: Callable[[], object] = lambda: None
    ) -> int:
        """
        Strike the next worker that comes to a point, do what brings one there, and return its process id.
        """
        before = self._struck(point, number)
        answered = self._answered()
        order(self.folder, point, number).touch()
        until = time.monotonic() + PATIENCE_S
        while not (found := self._struck(point, number) - before):
            if time.monotonic() > until:
                order(self.folder, point, number).unlink(missing_ok=True)
                members = [member.pid for member in self.home.members()]
                pytest.fail(
                    f"nobody came to {point}; {self._answered() - answered} commands were answered meanwhile, and "
                    f"workers {members} live"
                )
            provoke()
            with contextlib.suppress(AssertionError):
                eventually(lambda: self._struck(point, number) != before, 3)
        return int(found.pop().rpartition(".")[2])

    def _answered(self) -> int:
        return self._load.acknowledged if self._load is not None else 0

    def _struck(self, point: Point, number: signal.Signals) -> set[str]:
        return {path.name for path in self.folder.glob(f"{point}.{number.name}.*")}

    def kill(self, load: Load, points: Sequence[Point], provoke: Callable[[], object] = lambda: None) -> None:
        """
        Kill a worker at each point in turn; each time others go on.
        """
        for point in points:
            self.strike(point, signal.SIGKILL, provoke)
            self.await_more(load, 10)

    def kill_at_all(self, points: Sequence[Point], provoke: Callable[[], object]) -> None:
        """
        Kill a worker at each of these points, in whatever order they are come to.
        """
        for point in points:
            order(self.folder, point, signal.SIGKILL).touch()
        until = time.monotonic() + PATIENCE_S
        while left := [point for point in points if order(self.folder, point, signal.SIGKILL).exists()]:
            assert time.monotonic() < until, f"nobody came to {left}"
            provoke()
            with contextlib.suppress(AssertionError):
                eventually(lambda left=left: not order(self.folder, left[0], signal.SIGKILL).exists(), 3)  # type: ignore[misc]  # bound at once

    def stop(self, load: Load, points: Sequence[Point]) -> None:
        """
        Stop workers at points, as many at once as there are points, until others have their work; then let them go on.
        """
        home = self.home
        # Looked at before: soon after a strike its worker is not among the living any more.
        ids = {member.pid: member.id for member in home.await_shared(WORKERS)}
        pids: list[int] = []
        try:
            for point in points:
                pids.append(self.strike(point, signal.SIGSTOP))  # noqa: PERF401 - who was stopped goes on, whatever happens
            sleepers = [ids[pid] for pid in pids]
            home.await_shared(WORKERS - len(points), without=sleepers)
            self.await_more(load, 20)
        finally:
            for pid in pids:
                self.wake(pid)
        assert set(sleepers) <= {member.id for member in home.await_shared(WORKERS)}
        self.await_more(load, 20)

    @staticmethod
    def wake(pid: int) -> None:
        """
        Let a worker go on that was stopped.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def replace_a_worker(self) -> None:
        """
        Kill a worker: whoever comes in its place begins anew, and is handed partitions of the others.
        """
        members = self.home.members()
        if len(members) == WORKERS:
            with contextlib.suppress(ProcessLookupError):
                os.kill(members[0].pid, signal.SIGKILL)

    def refused(self, pid: int) -> bool:
        """
        Say whether the journal has refused a commit of a worker.
        """
        return (self.folder / f"refused.{pid}").exists()

    # -- mills

    def load(self, name: str, *, mills: int = 8, callers: int = 2, kinds: Sequence[str] = KINDS) -> Load:
        """
        Return a load on mills of its own.
        """
        keys = [f"{name}-{number}" for number in range(mills)]
        self._load = Load(
            self.client,
            keys,
            seed=f"{name}-",
            callers=callers,
            wardens=0,
            per_key=self.home.per_key,
            kinds=kinds,
        )
        return self._load

    @staticmethod
    def await_more(load: Load, count: int) -> None:
        """
        Wait until so much more is acknowledged.
        """
        until = load.acknowledged + count
        eventually(lambda: load.acknowledged >= until, PATIENCE_S)

    def check(self, load: Load, *, at_least: int = 20) -> None:
        """
        Wait until all that was asked is done, and hold it against the record of who asked.
        """
        assert load.end(PATIENCE_S), "senders were never answered"
        last = load.probe(PATIENCE_S)
        until = time.monotonic() + PATIENCE_S
        while found := self.history(load, last).wrongs():
            if time.monotonic() > until:
                break
            time.sleep(STEP_S)
        nothing_wrong(found)
        assert load.acknowledged >= at_least, "too little happened to prove anything"

    def history(self, load: Load, last: Sequence[Op]) -> History:
        """
        Return what is known of a load's mills.
        """
        # Before the logs: what comes in between is missed in the lines, and found in the next look.
        lines = read_lines(self.folder, self._store, self.client, self._redis)
        letters = self.client.dead_letters.list(kind="command", limit=1_000)
        return History(
            load.ops,
            dict(self.client.histories(Milling, load.keys)),
            dead={letter.command_id for letter in letters},
            errands=[
                one for one in read_errands(self.folder) if one.mark.startswith(f"{load.keys[0][:-2]}-")
            ],
            lines={key: lines.get(key, []) for key in load.keys},
            last=last,
        )

    # -- hoppers

    def gone(self, hopper: str) -> bool:
        """
        Say whether the data of a hopper were deleted, with all that it left behind.
        """
        records = self.client.history(Hopper, hopper)
        if [record.control.verb for record in records if record.control] != ["delete-data"]:
            return False
        with pytest.raises(DataDeleted):
            self.client.state(Hopper, hopper)
        return not self.client.timers(Hopper, hopper)

    # -- the read model

    def rebuild(self) -> None:
        """
        Have the read model built anew, unless it is being built already.
        """
        with contextlib.suppress(UsageError):
            self.client.projections.rebuild("board")

    def settled(self) -> bool:
        """
        Say whether there is one generation of the read model.
        """
        return len([one for one in self.client.projections.list() if one.name == "board"]) == 1

    # -- programs

    def retry(self, letter: str) -> int:
        """
        Have a program of its own retry a dead letter, and return how it ended.
        """
        environment = {
            **os.environ,
            **self.home.settings.to_environment(),
            ENV_FOLDER: str(self.folder),
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.run([sys.executable, "-c", RETRY, letter], env=environment, check=False).returncode


@contextlib.contextmanager
def open_field(folder: Path, redis_url: str, amqp_url: str, store: str) -> Iterator[Field]:
    """
    Open a field with its workers, whose instances are snapshotted often.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FOLDER, str(folder))
        patch.setenv(mill.ENV_FOLDER, str(folder))
        patch.setenv(mill.ENV_STORE, store)
        # Here they die all the time: whoever looks after them need not wait longer each time.
        patch.setattr(supervisor, "PAUSE_MAX_S", 0.1)
        # A member that is silent for this long is taken for dead, whatever the machine is busy with.
        times = {"member_ttl_ms": 800, "lease_ms": 800, "snapshot_every": 5}
        with shared_house(folder, redis_url, amqp_url, **times) as home:
            with (
                connect(mill.app, home.settings) as client,
                home.crew(WORKERS, APP, preload="tests.crash.strike"),
            ):
                field = Field(home, client, folder, store)
                try:
                    yield field
                    hush(client, PATIENCE_S)
                finally:
                    field.close()
                # What was in the hands of the dead comes again, although it is decided: somebody must be there to take it.
                eventually(lambda: client.pending() == 0, PATIENCE_S)
            home.check_empty()
