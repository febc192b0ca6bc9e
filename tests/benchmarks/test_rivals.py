"""
The rivals: who is measured, who is skipped and why, what their drivers say, and that nothing of them stays.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.ground import Ground, ground
from benchmarks.rivals import Rival, Row, available, known
from benchmarks.rivals.crew import Crew, family
from benchmarks.rivals.driver import Driver, DriverError, answer_in
from benchmarks.rivals.on_postgres import Dbos
from benchmarks.rivals.on_restate import Restate
from benchmarks.rivals.places import READY, not_installed, python_of
from benchmarks.rivals.queues import Celery, PlainDramatiq
from benchmarks.rivals.stand import carried_on
from benchmarks.rivals.tally import Mark, Tally
from tests.conftest import need
from tests.support.processes import eventually, gone
from tests.support.servers import find_postgres, find_rabbit, find_redis

DRIVERS = Path(__file__).parents[2] / "benchmarks" / "rivals" / "drivers"


class Absent:
    """
    A rival that cannot run.
    """

    name = "absent"

    def missing(self) -> str | None:
        return "it is not of this world"

    def transitions(self, where: Ground, commands: int, keys: int) -> list[Row]:
        raise AssertionError

    def processes(self, where: Ground, count: int) -> list[Row]:
        raise AssertionError

    def timers(self, where: Ground, count: int) -> list[Row]:
        raise AssertionError

    def recovery(self, where: Ground, count: int) -> list[Row]:
        raise AssertionError


def test_what_cannot_run_is_skipped_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A rival that cannot run here is left out, and whoever asked for it is told why.
    """
    plain = PlainDramatiq(confirms=False)
    rivals: dict[str, Rival] = {"absent": Absent(), "dramatiq": plain}
    assert [plain] == available(["absent", "dramatiq"], rivals)
    assert "absent is skipped: it is not of this world\n" == capsys.readouterr().err


def test_an_unknown_name_is_refused() -> None:
    """
    A name that no rival has is a mistake, not a rival to skip.
    """
    with pytest.raises(LookupError, match=r"no rival 'celary'.* dramatiq"):
        available(["celary"])


def test_names_are_those_of_the_rows() -> None:
    """
    Each rival is asked for by the name that its rows bear.
    """
    assert {name: rival.name for name, rival in known().items()} == {name: name for name in known()}


def test_packages_that_are_not_there_are_told_of(tmp_path: Path) -> None:
    """
    Without its folder a rival says how to get it, also when an installation was broken off; it fetches nothing itself.
    """
    assert "scripts/make-rival celery" in str(Celery(confirms=False, rivals=tmp_path).missing())
    assert "scripts/make-rival restate" in str(Restate(tmp_path).missing())
    if find_postgres() is not None:
        assert "scripts/make-rival dbos" in str(Dbos(tmp_path).missing())
    python = python_of("celery", tmp_path)
    python.parent.mkdir(parents=True)
    python.touch()
    assert not_installed("celery", tmp_path) is not None
    (tmp_path / "celery" / READY).touch()
    assert not_installed("celery", tmp_path) is None
    assert Celery(confirms=False, rivals=tmp_path).missing() is None


def test_a_restate_without_its_server_is_missing(tmp_path: Path) -> None:
    """
    The packages alone do not make a Restate.
    """
    python = python_of("restate", tmp_path)
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "restate" / READY).touch()
    assert "its server is not in what npm installed" == Restate(tmp_path).missing()


def test_answers_are_told_from_chatter() -> None:
    """
    What libraries print is no answer, and a failure is not taken for one.
    """
    assert {"began": 1.5} == answer_in('{"began": 1.5}\n')
    for chatter in ("", "\n", "WARNING: {not json}\n", "17\n", "[1]\n", '"words"\n', "null\n"):
        assert answer_in(chatter) is None
    with pytest.raises(DriverError, match="ValueError: no such key"):
        answer_in('{"error": "ValueError: no such key"}\n')


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Driver]:
    """
    A driver that chats, answers, fails and dies.
    """
    script = tmp_path / "echo.py"
    script.write_text(
        f"import os, sys\nsys.path.insert(0, {str(DRIVERS)!r})\nimport post\n"
        "class Echo:\n"
        "    def back(self, **said): print('by the way'); return said\n"
        "    def fail(self): raise ValueError('it cannot be done')\n"
        "    def die(self): sys.stderr.write('farewell'); sys.stderr.flush(); os._exit(3)\n"
        "post.serve(Echo())\n"
    )
    with Driver([sys.executable, str(script)], {}, tmp_path / "log") as driver:
        yield driver


def test_a_driver_is_asked_and_answers(echo: Driver) -> None:
    """
    A failure is told to whoever asked, and the driver goes on; its death is told with its last words.
    """
    assert {"count": 3} == echo.ask("back", count=3)
    with pytest.raises(DriverError, match="ValueError: it cannot be done"):
        echo.ask("fail")
    assert {"count": 4} == echo.ask("back", count=4)
    with pytest.raises(DriverError, match="farewell"):
        echo.ask("die")


def test_a_driver_ends_with_its_owner(echo: Driver) -> None:
    """
    It ends with its input, which the death of its owner closes too.
    """
    pid = echo.pid
    echo.__exit__(None, None, None)
    assert gone(pid)
    echo.__enter__()


def test_a_tally_is_what_was_marked(tmp_path: Path) -> None:
    """
    Marks of several writers are read in their order, and none after the tally was cleared.
    """
    tally = Tally(tmp_path / "tally")
    code = f"import sys; sys.path.insert(0, {str(DRIVERS)!r}); import post; post.tally().mark(7, 2, 1.5)"
    crew = Crew(
        [[sys.executable, "-c", code]] * 2, {"RIVAL_TALLY": str(tally.path)}, tmp_path, tmp_path / "log"
    )
    with crew:
        eventually(lambda: tally.count() == 2)
    assert [Mark(1.5, 7, 2)] * 2 == tally.marks()
    tally.clear()
    assert [] == tally.marks()


def test_waiting_for_the_dead_is_given_up(tmp_path: Path) -> None:
    """
    When a worker has ended, what it said is shown instead of waiting for what it would have done.
    """
    tally = Tally(tmp_path / "tally")
    command = [sys.executable, "-c", "raise SystemExit('out of patience')"]
    with (
        Crew([command], {}, tmp_path, tmp_path / "log") as crew,
        pytest.raises(RuntimeError, match="out of patience"),
    ):
        tally.await_count(1, alive=crew.check)


@pytest.mark.parametrize("how", ["stop", "kill", "pause"])
def test_nothing_stays_of_a_crew(tmp_path: Path, how: str) -> None:
    """
    What workers forked goes with them, however they end, also when they were frozen.
    """
    code = "import os, time; os.fork(); os.fork(); time.sleep(600)"
    with Crew([[sys.executable, "-c", code]], {}, tmp_path, tmp_path / "log") as crew:
        eventually(lambda: len(family(crew.pids[0])) == 4)
        pids = family(crew.pids[0])
        if how == "pause":
            crew.pause()
        elif how == "kill":
            before = time.time()
            assert before <= crew.kill() <= time.time()
    eventually(lambda: all(gone(pid) or _is_zombie(pid) for pid in pids))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_what_became_of_the_interrupted() -> None:
    """
    Those begun before the kill are told from those that began after, steps done twice and the lost are counted.
    """
    marks = [Mark(1.0, 0, 1), Mark(1.1, 0, 2), Mark(1.2, 0, 3), Mark(1.3, 1, 1), Mark(1.4, 2, 1)]
    marks += [
        Mark(2.5, 1, 1),
        Mark(2.6, 1, 2),
        Mark(3.0, 1, 3),
        Mark(3.5, 3, 1),
        Mark(3.6, 3, 2),
        Mark(4.0, 3, 3),
    ]
    assert {
        "in_flight": 2,
        "first_s": 0.5,
        "carried_on_s": 1.0,
        "all_done_s": 2.0,
        "steps_twice": 1,
        "not_completed": 1,
    } == carried_on(marks, 2.0, 4)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_plain_dramatiq_is_measured_on_real_servers() -> None:
    """
    Every measurement yields its rows, and each says what is guaranteed.
    """
    need("redis-server", find_redis())
    need("rabbitmq-server", find_rabbit())
    rival = PlainDramatiq(confirms=True)
    with ground() as where:
        rows = [*rival.transitions(where, 20, 5), *rival.processes(where, 10), *rival.timers(where, 10)]
        rows += rival.recovery(where, 50)
    assert [
        "submitted and applied",
        "one alone, answered",
        "queue full",
        "processes of 3 effects",
        "one process alone",
        "timers at one instant",
        "processes after SIGKILL",
    ] == [row["what"] for row in rows]
    assert {"dramatiq-confirmed"} == {row["system"] for row in rows}
    assert all("publisher confirms" in str(row["guarantees"]) for row in rows)
    assert all(float(row["per_second"]) > 0 for row in rows if "per_second" in row)
    assert all(0 < float(row["p50_ms"]) <= float(row["p99_ms"]) for row in rows[1:5:3])
    assert 10 == rows[5]["timers"]
