"""
The program: whole logs through real servers and worker processes, and nothing left behind.
"""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest
import redis

from examples.process_log.workflow import RecordActivity
from examples.process_log.xes import Trace
from holdfast.runtime.codec import encode
from tests.conftest import need
from tests.examples.logs import ODD, ODD_COMMANDS, ODD_INSTANCES, ROOT, event, write, xml
from tests.support.processes import eventually
from tests.support.servers import find_redis, free_ports

#: Real logs, where there are any.
LOGS = Path(os.environ.get("PROCESS_LOGS") or ROOT.parent / "shared" / "data")
#: Longer than any replay takes on a busy machine.
SECONDS_MAX = 500


class Program:
    """
    The program in an environment of its own, with a folder for whatever it needs for a while.
    """

    def __init__(self, scratch: Path, servers: dict[str, str]) -> None:
        self.scratch = scratch
        self.environ = os.environ | servers | {"TMPDIR": str(scratch)}

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """
        Start the program.
        """
        return subprocess.Popen(
            [sys.executable, "-m", "examples.process_log", *map(str, arguments)],
            cwd=ROOT,
            env=self.environ,
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """
        Run the program.
        """
        process = self.start(*arguments)
        said, complained = process.communicate(timeout=SECONDS_MAX)
        return subprocess.CompletedProcess(process.args, process.returncode, said, complained)


@pytest.fixture
def alone(tmp_path: Path) -> Program:
    """
    The program without any server named.
    """
    (tmp_path / "scratch").mkdir()
    return Program(tmp_path / "scratch", {})


@pytest.fixture
def served(alone: Program, redis_url: str, amqp_url: str) -> Iterator[Program]:
    """
    The program with both servers named; it must leave nothing on them.
    """
    before = namespaces(redis_url)
    alone.environ |= {"HOLDFAST_REDIS_URL": redis_url, "HOLDFAST_AMQP_URL": amqp_url}
    yield alone
    assert before == namespaces(redis_url)


@pytest.fixture(params=["rabbitmq", "embedded"])
def program(request: pytest.FixtureRequest) -> Program:
    """
    The program on each transport, which it chooses by what is named.
    """
    if request.param == "embedded":
        need("redis-server", find_redis())
    found: Program = request.getfixturevalue("served" if request.param == "rabbitmq" else "alone")
    return found


def namespaces(redis_url: str) -> set[str]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return {
            key[1:].partition("}")[0].partition(".")[0] for key in client.scan_iter("{replay-*", count=10_000)
        }


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (0, "") == (done.returncode, done.stderr)
    (line,) = done.stdout.splitlines()
    report: dict[str, Any] = json.loads(line)
    return report


def real_log(name: str) -> Path:
    path = LOGS / name
    if not path.exists():
        pytest.skip(f"there is no {name} in {LOGS}; PROCESS_LOGS names another folder")
    return path


def test_a_log_with_every_oddity_is_replayed(program: Program, tmp_path: Path) -> None:
    """
    Whatever a log may have: every event is in its instance once, in order, and nothing stays behind.
    """
    report = report_of(program(write(tmp_path / "odd.xes", ODD), "--json"))

    names = ["log", "instances", "commands", "mismatches", "duplicates", "seconds", "per_second"]
    assert names == list(report)
    assert (ODD_INSTANCES, ODD_COMMANDS, 0, 0) == tuple(report[name] for name in names[1:5])
    assert report["seconds"] > 0
    assert report["per_second"] == pytest.approx(ODD_COMMANDS / report["seconds"], rel=0.05)
    assert [] == list(program.scratch.iterdir())


@pytest.mark.slow
def test_a_real_log_is_replayed(program: Program) -> None:
    """
    Every event of a real process is in its instance once, in order.
    """
    report = report_of(program(real_log("receipt.xes.gz"), "--json"))

    assert (1_434, 8_577) == (report["instances"], report["commands"])
    assert (0, 0) == (report["mismatches"], report["duplicates"])


@pytest.mark.slow
@pytest.mark.timeout(SECONDS_MAX + 20)
def test_a_large_real_log_is_replayed(served: Program) -> None:
    """
    So is every one of 262,200 events, by three workers that come one after another while it is sent.
    """
    report = report_of(served(real_log("bpic2012.xes.gz"), "--processes", 3, "--json"))

    assert (13_087, 262_200) == (report["instances"], report["commands"])
    assert (0, 0) == (report["mismatches"], report["duplicates"])


def test_several_logs_are_replayed_one_after_another(alone: Program, tmp_path: Path) -> None:
    """
    Each has its line, with the same names in them or not, and one that is bad does not hinder the others.
    """
    need("redis-server", find_redis())
    first = write(tmp_path / "first.xes", xml([Trace("a", [event(), event()]), Trace("b", [event()])]))
    empty = write(tmp_path / "empty.xes", xml([Trace("a", [])]), compressed=True)
    bad = write(tmp_path / "bad.xes", "<log>")

    done = alone(first, bad, empty, first, "--processes", 1)

    assert 1 == done.returncode
    assert [
        f"{path}: {counts}, 0 mismatches, 0 duplicates"
        for path, counts in (
            (first, "2 instances, 3 commands"),
            (empty, "0 instances, 0 commands"),
            (first, "2 instances, 3 commands"),
        )
    ] == [line.partition(" duplicates")[0] + " duplicates" for line in done.stdout.splitlines()]
    assert done.stderr.startswith(f"{bad}: it is not well-formed XML")
    assert 1 == len(done.stderr.splitlines())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"\x1f\x8b\x08", "cut off"),
        (b"no log", "not well-formed"),
        (b"<html/>", "no XES"),
    ],
)
def test_a_bad_file_is_one_line(alone: Program, tmp_path: Path, content: bytes | None, said: str) -> None:
    """
    A file that cannot be replayed ends the program with 1 and a sentence that names it.
    """
    path = tmp_path / "bad.xes.gz"
    if content is not None:
        path.write_bytes(content)

    done = alone(path, "--json")
    (line,) = done.stderr.splitlines()

    assert (1, "") == (done.returncode, done.stdout)
    assert line.startswith(f"{path}: ")
    assert said in line
    assert [] == list(alone.scratch.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [[], ["--json"], ["log", "--transport", "pigeon"], ["log", "--processes", "0"], ["log", "--fast"]],
)
def test_wrong_usage_ends_with_2(alone: Program, arguments: list[str]) -> None:
    """
    What the program does not understand it says, with how it is used.
    """
    done = alone(*arguments)

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("Usage: python -m examples.process_log ")


@pytest.mark.parametrize(
    ("servers", "missing"),
    [
        ({}, "HOLDFAST_AMQP_URL and HOLDFAST_REDIS_URL"),
        ({"HOLDFAST_REDIS_URL": "redis://localhost"}, "HOLDFAST_AMQP_URL,"),
        ({"HOLDFAST_AMQP_URL": "amqp://localhost"}, "HOLDFAST_REDIS_URL,"),
    ],
)
def test_rabbitmq_must_be_named(alone: Program, servers: dict[str, str], missing: str) -> None:
    """
    Asking for servers without saying where they are is wrong usage; the variables that are missing are named.
    """
    alone.environ |= servers

    done = alone("log", "--transport", "rabbitmq")

    assert 2 == done.returncode
    assert f"set {missing}" in " ".join(done.stderr.split())


def test_servers_that_are_away_are_one_line(alone: Program, tmp_path: Path, redis_url: str) -> None:
    """
    Whichever server is not there is named, and so is a variable that is wrong.
    """
    path = write(tmp_path / "log.xes", xml([Trace("a", [event()])]))
    (port,) = free_ports(1)
    away = f"amqp://guest:guest@127.0.0.1:{port}/"
    for servers, said in (
        (
            {"HOLDFAST_REDIS_URL": redis_url, "HOLDFAST_AMQP_URL": away},
            f"RabbitMQ at amqp://guest:***@127.0.0.1:{port}",
        ),
        (
            {"HOLDFAST_REDIS_URL": "ftp://there", "HOLDFAST_AMQP_URL": away},
            "HOLDFAST_REDIS_URL is 'ftp://there'",
        ),
    ):
        alone.environ |= servers

        done = alone(path)
        (line,) = done.stderr.splitlines()

        assert (1, "") == (done.returncode, done.stdout)
        assert line.startswith(f"{path}: ")
        assert said in line
        assert [] == list(alone.scratch.iterdir())


def test_a_redis_that_is_away_leaves_no_queue(alone: Program, tmp_path: Path, amqp_url: str) -> None:
    """
    Where RabbitMQ is there but Redis is not, the error names it.
    """
    path = write(tmp_path / "log.xes", xml([Trace("a", [event()])]))
    (port,) = free_ports(1)
    alone.environ |= {"HOLDFAST_REDIS_URL": f"redis://127.0.0.1:{port}/0", "HOLDFAST_AMQP_URL": amqp_url}

    done = alone(path)
    (line,) = done.stderr.splitlines()

    assert (1, "") == (done.returncode, done.stdout)
    assert f"Redis at redis://127.0.0.1:{port}/0" in line


def test_a_replay_that_is_stuck_says_why(alone: Program, tmp_path: Path) -> None:
    """
    A command that was given up ends the replay with its error; the workers' log is kept, and its end is shown.
    """
    need("redis-server", find_redis())
    limit = 1_024
    room = limit - len(encode(RecordActivity("a", "x" * 500, None, None, None))) + 500
    path = write(tmp_path / "log.xes", xml([Trace("a", [event(), event("x" * room)])]))
    alone.environ |= {"HOLDFAST_PAYLOAD_BYTES_MAX": str(limit)}

    done = alone(path)
    error, where, *tail = done.stderr.splitlines()
    (kept,) = alone.scratch.iterdir()

    assert (1, "") == (done.returncode, done.stdout)
    assert error.startswith(f"{path}: a command of 'a' became a dead letter: ")
    assert str(kept) in where
    assert tail == [f"    {line}" for line in kept.read_text().splitlines()[-len(tail) :]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_replay_leaves_nothing(
    served: Program, tmp_path: Path, redis_url: str, amqp_url: str, number: signal.Signals
) -> None:
    """
    Ctrl-C and SIGTERM in the middle of it: the workers end, and the namespace goes from both servers.
    """
    before = namespaces(redis_url)
    path = write(tmp_path / "log.xes", xml(Trace(f"{name}", [event()] * 100) for name in range(3_000)))
    process = served.start(path)
    # Instances are there: the replay is under way.
    eventually(lambda: recorded(redis_url, before) > 100, seconds_max=120)
    (namespace,) = namespaces(redis_url) - before

    process.send_signal(number)
    said, complained = process.communicate(timeout=120)

    assert (130, "", f"{path}: interrupted\n") == (process.returncode, said, complained)
    assert before == namespaces(redis_url)
    assert [] == list(served.scratch.iterdir())
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        for name in (f"{namespace}.commands.0", f"{namespace}.ingress", f"{namespace}.dead"):
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
                connection.channel().queue_declare(name, passive=True)


def recorded(redis_url: str, before: set[str]) -> int:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return sum(
            1
            for namespace in namespaces(redis_url) - before
            for _ in client.scan_iter(f"{{{namespace}.*", count=10_000)
        )


def test_progress_is_shown_on_a_terminal(alone: Program, tmp_path: Path) -> None:
    """
    Each stage has its bar on standard error if that is a terminal; standard output has only the report.
    """
    need("redis-server", find_redis())
    path = write(tmp_path / "log.xes", xml([Trace("a", [event()] * 50)]))
    ours, theirs = pty.openpty()
    alone.environ |= {"TERM": "xterm", "COLUMNS": "80"}
    process = alone.start(path, "--json", stderr=theirs)
    os.close(theirs)
    shown = b"".join(iter(lambda: read_terminal(ours), b"")).decode()
    os.close(ours)
    said, _ = process.communicate(timeout=120)

    assert 0 == process.returncode
    assert 50 == json.loads(said)["commands"]
    for stage in ("read", "send", "decide", "check"):
        assert stage in shown


def read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # how Linux says that the other end is closed
        return b""
