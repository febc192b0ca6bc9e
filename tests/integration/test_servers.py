"""
The private servers of the tests do what crash tests ask of them.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pika
import pika.exceptions
import pytest
import redis

from tests.conftest import remove_keys, remove_queues
from tests.support.processes import eventually, gone
from tests.support.servers import RabbitServer, RedisServer

OWNER = """
import sys, time
from pathlib import Path
from tests.support.servers import RedisServer
print(RedisServer(Path(sys.argv[1])).start().pid, flush=True)
time.sleep(600)
"""


def test_redis_keeps_its_data_over_a_crash(redis_server: RedisServer) -> None:
    """
    A Redis that syncs every write and is killed comes back on the same port with what it had confirmed.
    """
    redis_server.config["appendfsync"] = "always"
    redis_server.restart()
    url = redis_server.url
    with redis_server.client() as client:
        client.set("kept", "yes")
    redis_server.kill()

    with pytest.raises(redis.ConnectionError), redis_server.client() as client:
        client.ping()

    redis_server.start()

    assert url == redis_server.url
    with redis_server.client() as client:
        assert client.get("kept") == "yes"


def test_redis_settings_can_be_overridden(tmp_path: Path) -> None:
    """
    What Holdfast wants is the default, and a test can have it otherwise.
    """
    with RedisServer(tmp_path, maxmemory_policy="allkeys-lru") as server, server.client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("stream-node-max-bytes") == {"stream-node-max-bytes": "256"}


def test_a_paused_redis_answers_later(redis_server: RedisServer) -> None:
    """
    A pause keeps connections open and answers nothing; afterwards work goes on.
    """
    with redis_server.client() as patient, redis_server.client() as hasty:
        hasty.connection_pool.connection_kwargs["socket_timeout"] = 0.2
        before = patient.client_id()
        redis_server.pause()

        with pytest.raises(redis.TimeoutError):
            hasty.ping()

        redis_server.cont()

        assert before == patient.client_id()


def test_a_paused_redis_can_be_stopped(redis_server: RedisServer) -> None:
    """
    Stopping does not wait for a server that cannot hear.
    """
    pid = redis_server.pid
    redis_server.pause()
    redis_server.stop()

    assert gone(pid)


def test_servers_die_with_a_killed_test_process(tmp_path: Path) -> None:
    """
    A test process that is killed leaves no server behind.
    """
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        pid = int(owner.stdout.readline())
    owner.send_signal(signal.SIGKILL)
    owner.wait()

    eventually(lambda: gone(pid))


@pytest.mark.slow
def test_rabbit_keeps_confirmed_messages_over_a_crash(rabbit_server: RabbitServer) -> None:
    """
    A RabbitMQ that is killed comes back on the same port with its queues and confirmed messages, and leaves no epmd.
    """
    url = rabbit_server.url
    connection = rabbit_server.connect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})
    channel.basic_publish("", "kept", b"1", pika.BasicProperties(delivery_mode=2), mandatory=True)
    epmd = rabbit_server.epmd_pid
    rabbit_server.kill()
    with pytest.raises(pika.exceptions.AMQPError):
        channel.queue_declare("kept", passive=True)

    assert gone(epmd)

    rabbit_server.start()

    assert url == rabbit_server.url
    with rabbit_server.connect() as connection:
        _, _, body = next(connection.channel().consume("kept", inactivity_timeout=60))
        assert body == b"1"


def test_the_shared_servers_answer(redis_url: str, amqp_url: str, namespace: str) -> None:
    """
    A test that asks for the shared servers gets them, and a namespace of its own.
    """
    with redis.Redis.from_url(redis_url) as client:
        client.set(f"{{{namespace}.0}}:x", "1")
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        connection.channel().queue_declare(f"{namespace}.ingress", durable=True)

    assert len(namespace) == 9
    assert not [name for name in os.environ if name.startswith("HOLDFAST_")]


def test_a_namespace_leaves_nothing_behind(redis_url: str, amqp_url: str, namespace: str) -> None:
    """
    Clean-up removes the namespace's own keys and queues, and nobody else's.
    """
    other = f"{namespace}x"
    with (
        redis.Redis.from_url(redis_url, decode_responses=True) as client,
        pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection,
    ):
        channel = connection.channel()
        for name in (namespace, other):
            client.mset({f"{{{name}.3}}:log:order:1": "1", f"{{{name}}}:meta": "1"})
            channel.queue_declare(f"{name}.commands.3", durable=True)
            channel.exchange_declare(f"{name}.commands", durable=True)

        remove_keys(redis_url, namespace)
        remove_queues(amqp_url, namespace)

        left = set(client.scan_iter(f"*{namespace}*"))
        assert left == {f"{{{other}.3}}:log:order:1", f"{{{other}}}:meta"}
        channel.queue_declare(f"{other}.commands.3", passive=True)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            channel.queue_declare(f"{namespace}.commands.3", passive=True)

        remove_keys(redis_url, other)
        remove_queues(amqp_url, other)
