"""
Strike: what workers import before their app, so that a test can strike one of them at a named point.

The test puts an order into a folder: a file called `<point>.<signal>`. The first worker that comes to the point takes
the order away, by renaming it to `<point>.<signal>.<moment>.<its process id>`, and sends itself the signal. A rename
has one winner, so each order strikes once, however many workers there are and however often they are started again.

Workers also note in `refused.<process id>` when the journal refuses a commit of theirs, and do often what they do seldom.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from holdfast.actors import caretaker, projections
from holdfast.brokers.redis_journal import RedisJournal
from holdfast.runtime import faults
from holdfast.runtime.ports import Commit, CommitResult, Committed

ENV_FOLDER = "STRIKE_FOLDER"
SIGNALS = (signal.SIGKILL, signal.SIGSTOP)
#: Far longer than it takes until all threads of a process are stopped.
STOPPING_S = 0.1


def order(folder: Path, point: faults.Point, number: signal.Signals) -> Path:
    """
    Return the file that orders a strike.
    """
    return folder / f"{point}.{number.name}"


def striker(folder: Path, point: faults.Point) -> Callable[[], None]:
    """
    Return what a worker does at a point.
    """
    orders = [(order(folder, point, number), number) for number in SIGNALS]
    mine = f".{os.getpid()}"

    def strike() -> None:
        for path, number in orders:
            with contextlib.suppress(FileNotFoundError):
                # Named after the moment too: one worker may be struck twice.
                path.rename(f"{path}.{time.monotonic_ns()}{mine}")
                os.kill(os.getpid(), number)
                # Another thread may be the one that is told first: this one would go on for as long as that takes.
                time.sleep(STOPPING_S)

    return strike


def watch_commits(folder: Path) -> None:
    """
    Strike at DECIDED when something is to be committed, so that a strike there always has a commit behind it; and have
    the journal's refusals noted.
    """
    commit, strike = RedisJournal.commit, striker(folder, faults.Point.DECIDED)

    def watched(self: RedisJournal, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
        if any(one.entries for one in commits):
            strike()
        results = commit(self, commits, owner)
        if not all(isinstance(result, Committed) for result in results):
            (folder / f"refused.{os.getpid()}").touch()
        return results

    RedisJournal.commit = watched  # type: ignore[method-assign]  # in this worker only


def hurry() -> None:
    """
    Do at once what a worker otherwise does after a minute, or after a thousand records.
    """
    caretaker.PAUSE_S = caretaker.PAUSE_BUSY_S = 0.2
    projections.TRIM_EVERY = 20


if ENV_FOLDER in os.environ:
    hurry()
    the_folder = Path(os.environ[ENV_FOLDER])
    for each in set(faults.Point) - {faults.Point.DECIDED}:
        faults.arm(each, striker(the_folder, each))
    watch_commits(the_folder)
