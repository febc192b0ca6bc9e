"""
Servers that are short of memory, and queues that are full, under load: work waits and goes on by itself, nothing is lost
and nothing is done twice.
"""

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from holdfast import ReplyTimeout, Supervisor, Unavailable, connect
from tests.flow.alarms import Alarm, Arm
from tests.flow.alarms import app as alarms_app
from tests.flow.house import CALM, PATIENCE_S, ROOT, House, accounts, house, quick
from tests.flow.office import APP, Office, office
from tests.flow.senders import Senders
from tests.flow.shop import NextLedger, Post, next_app
from tests.support.processes import eventually
from tests.support.servers import RabbitServer, RedisServer

#: A share of the memory that every node has more of.
NO_MEMORY, MEMORY = "0.0001", "0.8"


@pytest.fixture(params=["rabbitmq", "redis"])
def tight(
    request: pytest.FixtureRequest, redis_server: RedisServer, amqp_url: str, namespace: str, tmp_path: Path
) -> Iterator[House]:
    """
    A house on a Redis of its own, whose memory the test may take away.
    """
    settings = quick(namespace, redis_server.url, amqp_url if request.param == "rabbitmq" else "")
    with house(settings, tmp_path) as it:
        yield it


def give(client: redis.Redis, more: int) -> None:
    """
    Let Redis have so many bytes more than it uses; -1 for as many as it wants.
    """
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", 0 if more < 0 else used + more)


def test_a_redis_that_is_full_again_and_again(tight: House, redis_server: RedisServer) -> None:
    """
    Redis runs into its limit at any moment of what workers and senders do, and stays there for longer than a worker is
    believed to live. Every script is carried out as a whole or not at all, and all goes on when there is memory.
    """
    choice = random.Random(7)
    with tight.crew(2), redis_server.client() as client:
        with Senders(tight.client, accounts("a", 20), per_key=tight.per_key, callers=1) as senders:
            tight.await_progress()
            for _ in range(30):
                give(client, choice.randrange(50_000))
                time.sleep(choice.uniform(0.02, 0.2))
                if choice.random() < 0.3:
                    give(client, -1)
                    time.sleep(choice.uniform(0.02, 0.1))
            give(client, 0)
            time.sleep(2 * tight.settings.member_ttl_ms / 1000)
            give(client, -1)
            tight.await_progress()
        tight.check(senders, at_least=200)
        tight.await_shared(2)
    tight.check_empty()


def test_what_a_caller_sees_of_a_full_redis(tight: House, redis_server: RedisServer) -> None:
    """
    A caller is told in a sentence that nothing was decided in time, or that Redis is full; with memory again the same
    id is decided once.
    """
    with tight.crew(1), redis_server.client() as client:
        tight.client.execute(Post("b", "s", 1), timeout=PATIENCE_S)
        client.config_set("maxmemory", 1)
        with pytest.raises(Unavailable) as caught:
            tight.client.execute(Post("b", "s", 2), id="again", timeout=1.0)
        assert isinstance(caught.value, ReplyTimeout) or "is full" in str(caught.value)
        eventually(lambda: "is full: it has reached its maxmemory" in tight.said(), PATIENCE_S)
        give(client, -1)
        tight.client.execute(Post("b", "s", 2), id="again", timeout=PATIENCE_S)
        tight.await_logs(b=2)

    assert [1, 2] == tight.numbers("b")


def test_commands_come_in_while_redis_is_full(
    redis_server: RedisServer, amqp_url: str, namespace: str, tmp_path: Path
) -> None:
    """
    A client that comes while Redis takes no writes is let in: what it sends over RabbitMQ waits there and is decided
    when there is memory, and what there is can be read.
    """
    settings = quick(namespace, redis_server.url, amqp_url)
    with house(settings, tmp_path) as home, redis_server.client() as client, home.crew(1):
        home.client.execute(Post("b", "s", 1), timeout=PATIENCE_S)
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) // 2)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("any", "thing")
        with connect(next_app, settings) as late:
            late.send(Post("b", "s", 2))
            assert [1] == [
                event.number for record in late.history(NextLedger, "b") for event in record.events
            ]
            assert late.state(NextLedger, "b") is not None
            assert [] == late.dead_letters.list()
        give(client, -1)
        home.await_logs(b=2)

    assert [1, 2] == home.numbers("b")


@contextlib.contextmanager
def apart(home: House, app: str, pool: str) -> Iterator[None]:
    """
    Have a pool in a process of its own, so that what it sends goes through RabbitMQ.
    """
    given: dict[str, Any] = {"folder": ROOT, "log_file": home.log, "settings": home.settings, "processes": 1}
    with Supervisor(app, pools=("command",), **given), Supervisor(app, pools=(pool,), **given):
        yield


@pytest.fixture
def blockable(redis_url: str, rabbit_server: RabbitServer, tmp_path: Path) -> Iterator[Office]:
    """
    An office on a RabbitMQ of its own, whose workers do not wait long for anything.
    """
    with office(tmp_path, redis_url, rabbit_server.url, send_wait_s=1.0, effect_threads=4, **CALM) as it:
        yield it


def test_results_wait_out_an_alarm(blockable: Office, rabbit_server: RabbitServer) -> None:
    """
    RabbitMQ is out of memory while effects run, for longer than their workers wait: their results are sent again until
    they are taken, and each is noted once.
    """
    count = 40
    blockable.ask("alarm", "thread", "ok", count)
    rabbit_server.ctl("set_vm_memory_high_watermark", NO_MEMORY)
    # What is in the queues is delivered all the same; what a worker sends is not taken, but for the first message.
    with apart(blockable.home, APP, "effect"):
        eventually(lambda: len(blockable.calls("alarm")) >= count, PATIENCE_S)
        time.sleep(3.0)
        assert len(blockable.notes("alarm", 0)) < count
        rabbit_server.ctl("set_vm_memory_high_watermark", MEMORY)
        blockable.notes("alarm", count)
        blockable.await_idle()

    assert ["ok 1"] * count == blockable.notes("alarm", 0)
    assert count == len(blockable.calls("alarm"))
    assert [] == blockable.letters("alarm")


def test_results_wait_for_room_in_a_queue(blockable: Office, rabbit_server: RabbitServer) -> None:
    """
    The partitions' queues are full, and nobody empties them for a while: what they refuse is sent again, and lost is
    nothing.
    """
    count, home = 400, blockable.home
    given: dict[str, Any] = {"folder": ROOT, "log_file": home.log, "settings": home.settings}
    with Supervisor(APP, processes=1, pools=("command",), **given):
        blockable.ask("full", "thread", "ok", count)
        eventually(lambda: len(blockable.pending()) == count, PATIENCE_S)
    eventually(lambda: home.members() == [], PATIENCE_S)
    queues = f"^{home.settings.namespace}[.]commands[.]"
    rabbit_server.ctl("set_policy", "full", queues, '{"max-length": 5}', "--apply-to", "queues")
    with Supervisor(APP, processes=1, pools=("effect",), **given):
        eventually(lambda: len(blockable.calls("full")) >= count, PATIENCE_S)
        time.sleep(3.0)
        assert len(blockable.pending()) > 0, "the queue was never full"
        with Supervisor(APP, processes=1, pools=("command",), **given):
            noted = blockable.notes("full", count)
            blockable.await_idle()

    assert ["ok 1"] * count == noted
    assert [] == blockable.letters("full")


def test_timers_wait_out_an_alarm(
    redis_url: str, rabbit_server: RabbitServer, namespace: str, tmp_path: Path
) -> None:
    """
    Timers that are due while RabbitMQ takes nothing ring when it does again, each once.
    """
    settings = quick(namespace, redis_url, rabbit_server.url, send_wait_s=1.0)
    keys = [f"t-{number}" for number in range(30)]
    with house(settings, tmp_path) as home, connect(alarms_app, settings) as client:
        client.send_many(Arm(key, "x", after_ms=200) for key in keys)
        rabbit_server.ctl("set_vm_memory_high_watermark", NO_MEMORY)
        with apart(home, "tests.flow.alarms:app", "timer"):
            for key in keys:
                client.wait(Alarm, key, until=lambda _: True, timeout=PATIENCE_S)
            time.sleep(3.0)
            ringing = [client.state(Alarm, key) for key in keys]
            assert sum(len(state.rang) for state in ringing if state is not None) < len(keys)
            rabbit_server.ctl("set_vm_memory_high_watermark", MEMORY)
            for key in keys:
                client.wait(Alarm, key, until=lambda state: len(state.rang) >= 1, timeout=PATIENCE_S)
            time.sleep(0.5)

        states = [client.state(Alarm, key) for key in keys]
        assert [("x",)] * len(keys) == [state.rang for state in states if state is not None]


def test_one_worker_and_producers_that_are_faster(calm: House) -> None:
    """
    Ten thousand commands of ten kilobytes wait while their worker takes some at a time: it holds a few of them and not
    all, and the sender no more than it may.
    """
    count, home = 10_000, calm
    home.client.send_many(Post(f"p-{number % 50}", "x" * 10_000, number) for number in range(count))
    with home.crew(1):
        eventually(lambda: home.decided() >= count, 90)
        (member,) = home.members()
        status = Path(f"/proc/{member.pid}/status").read_text()
        peak_mb = (
            next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) // 1024
        )

    # All of them together are a hundred megabytes, before they were decoded, decided and encoded again.
    assert peak_mb < 300
