"""
The client that keeps its connection: what comes in between, and what is left for the next call.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import ResponseError

from holdfast.brokers import redis_client
from holdfast.brokers.redis_link import RedisLink
from holdfast.runtime.config import Settings
from tests.contract.threads import SECONDS_MAX, begin
from tests.support.processes import eventually
from tests.support.servers import RedisServer
from tests.support.servers import redis_client as plain

ROOT = Path(__file__).parent.parent.parent

FORKS = """
import os, sys
from holdfast.brokers.redis_link import RedisLink
from holdfast.runtime.config import Settings

link = RedisLink(Settings.of(redis_url=sys.argv[1], namespace=sys.argv[2]))
link.client.ping()
child = os.fork()
name = "child" if child == 0 else "parent"
for number in range(500):
    said = link.client.echo(f"{name} {number}").decode()
    if said != f"{name} {number}":
        os._exit(3)
if child == 0:
    link.close()
    os._exit(0)
ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
link.client.ping()
sys.exit(ended)
"""


@pytest.fixture
def client(redis_url: str, namespace: str) -> Iterator[Any]:
    with RedisLink(Settings.of(redis_url=redis_url, namespace=namespace)) as link:
        yield link.client


def connections(url: str, namespace: str) -> list[str]:
    """
    Return the ids of a namespace's connections.
    """
    with plain(url) as client:
        return [one["id"] for one in client.client_list() if one["name"] == f"holdfast-{namespace}"]


def test_all_calls_go_over_one_connection(client: Any, redis_url: str, namespace: str) -> None:
    """
    Single calls and pipelines alike; only a subscription and a transaction have their own.
    """
    client.ping()
    before = connections(redis_url, namespace)
    for number in range(20):
        client.set(f"{namespace}:a", number)
        pipe = client.pipeline(transaction=False)
        assert [b"%d" % number, None] == pipe.get(f"{namespace}:a").get(f"{namespace}:b").execute()

    assert len(before) == 1
    assert before == connections(redis_url, namespace)

    together = client.pipeline(transaction=True)
    assert [1, 0] == together.delete(f"{namespace}:a").delete(f"{namespace}:a").execute()
    assert len(connections(redis_url, namespace)) == 2


def test_refusals_are_told_in_their_place(client: Any, namespace: str) -> None:
    """
    What was refused leaves nothing behind for the next call, in a pipeline and alone.
    """
    client.set(f"{namespace}:a", "text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        client.llen(f"{namespace}:a")
    pipe = client.pipeline(transaction=False)
    replies = pipe.get(f"{namespace}:a").llen(f"{namespace}:a").exists(f"{namespace}:a").execute(False)

    assert [b"text", 1] == [replies[0], replies[2]]
    assert isinstance(replies[1], ResponseError)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        pipe.llen(f"{namespace}:a").execute()
    assert [] == pipe.execute()
    assert client.get(f"{namespace}:a") == b"text"
    client.delete(f"{namespace}:a")


@pytest.mark.parametrize("together", [False, True])
def test_what_was_interrupted_answers_nobody_else(
    client: Any, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    """
    The answer to a call that its thread was torn out of is not taken for the answer to the next.
    """
    client.ping()

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client, "parse_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.pipeline(transaction=False).echo("lost").execute() if together else client.echo("lost")

    assert client.echo("mine") == b"mine"


def test_a_call_in_the_middle_of_another_has_a_connection_of_its_own(client: Any, namespace: str) -> None:
    """
    As from a signal handler, or by mistake from a second thread: neither gets the other's answer.
    """
    client.ping()
    waiting = begin(lambda: client.blpop([f"{namespace}:q"], timeout=60))
    eventually(lambda: any(one["cmd"] == "blpop" for one in client.client_list()))
    assert [b"here"] == client.pipeline(transaction=False).echo("here").execute()
    client.rpush(f"{namespace}:q", "found")

    assert waiting.result(SECONDS_MAX)[1] == b"found"


def test_many_threads_get_their_own_answers(client: Any) -> None:
    """
    A link is for one thread. Should there be two, one of them is slower, and that is all.
    """
    wrong: list[object] = []

    def ask(name: str) -> None:
        for number in range(300):
            said = client.echo(f"{name} {number}")
            if said != f"{name} {number}".encode():
                wrong.append(said)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_MAX)

    assert not wrong


def test_a_connection_that_lay_idle_is_looked_at_first(
    redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A server that was started again meanwhile is reached with no error; between calls in a row nobody looks.
    """
    with RedisLink(Settings.of(redis_url=redis_server.url, namespace=namespace)) as link:
        client: Any = link.client
        client.ping()
        redis_server.restart()
        monkeypatch.setattr(redis_client, "FRESH_S", 0.0)
        assert client.ping() is True
        monkeypatch.setattr(redis_client, "FRESH_S", 60.0)
        redis_server.restart()
        with pytest.raises(Lost):
            client.ping()
        assert client.ping() is True


def test_a_forked_process_has_its_own_connection(redis_url: str, namespace: str) -> None:
    """
    Both go on, and neither reads what was said to the other.
    """
    done = subprocess.run(
        [sys.executable, "-c", FORKS, redis_url, namespace],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
