"""
The users shipped in deploy/: everything works under exactly their rights, and what is not theirs is refused.
"""

import base64
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import pika
import pika.exceptions
import pytest
import redis

from holdfast import Accepted, Client, Rejected, Settings, Supervisor, connect
from holdfast.actors import wiring
from holdfast.brokers.scripts import Script
from holdfast.runtime.cipher import Place
from holdfast.runtime.config import Durability
from holdfast.runtime.errors import NotDurable
from holdfast.runtime.keys import Ref
from tests.cli.conftest import name
from tests.cli.desk import ROOT, run
from tests.conftest import need
from tests.security.boxes import Box, Close, Put, Refuse, Stumble, app
from tests.support.processes import eventually
from tests.support.servers import RabbitServer, RedisServer, find_rabbit, find_redis

#: The users of the node are made with its own program, which takes seconds for each call on a busy machine.
pytestmark = pytest.mark.timeout(600)

BOXES = "tests.security.boxes:app"
DEPLOY = ROOT / "deploy"


class Guarded(NamedTuple):
    """
    Servers with the users of deploy/, for the namespaces `shop` and `shop-2`, and no other.
    """

    redis: RedisServer
    rabbit: RabbitServer

    def settings(self, user: str, namespace: str = "shop", transport: str = "rabbitmq") -> Settings:
        """
        Return the settings of a user.
        """
        who = f"{namespace}-{user}:change-me-{user}"
        amqp_url = f"amqp://{who}@127.0.0.1:{self.rabbit.port}/%2F" if transport == "rabbitmq" else ""
        return Settings.of(
            redis_url=f"redis://{who}@127.0.0.1:{self.redis.port}/0",
            amqp_url=amqp_url,
            namespace=namespace,
            partitions="4",
            heartbeat_ms="100",
            member_ttl_ms="10000",
        )


class AdminRedis(RedisServer):
    """
    The default user is off: whoever looks whether it serves needs another.
    """

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, username="admin", password="admin", decode_responses=True)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    need("redis-server", find_redis())
    need("rabbitmq-server", find_rabbit())
    folder = tmp_path_factory.mktemp("guarded")
    shipped = (DEPLOY / "redis-users.conf").read_text()
    users = [line for line in shipped.splitlines() if line.startswith("user ")]
    lines = ["user admin on >admin ~* &* +@all"]
    for namespace in ("shop", "shop-2"):
        lines += [line.replace("holdfast", namespace) for line in users if "default" not in line]
    lines += [line for line in users if "default" in line]
    (folder / "users.acl").write_text("\n".join(lines) + "\n")
    with (
        AdminRedis(folder / "redis", aclfile=str(folder / "users.acl")) as server,
        RabbitServer(folder / "rabbit") as rabbit,
    ):
        for namespace in ("shop", "shop-2"):
            given = {
                "HOLDFAST_NAMESPACE": namespace,
                "WORKER_PASSWORD": "change-me-worker",
                "CLIENT_PASSWORD": "change-me-client",
                "FOREIGN_PASSWORD": "change-me-foreign",
                "RABBITMQCTL": rabbit.ctl_script(folder),
            }
            subprocess.run(
                ["sh", str(DEPLOY / "rabbitmq-users.sh")], env=os.environ | given, check=True, timeout=500
            )
        yield Guarded(server, rabbit)


@pytest.mark.parametrize("transport", ["rabbitmq", "redis"])
def test_everything_works_with_just_these_rights(
    transport: str, guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Commands, effects and their retries, timers, read models, schedules, dead letters, pauses, deletions; all of it
    with the worker's rights, and the sending and reading with the client's. A refusal anywhere is in the log.
    """
    key = f"{transport}-1"
    worker = guarded.settings("worker", transport=transport)
    client_user = "client" if transport == "rabbitmq" else "worker"
    log = tmp_path / "log"
    connect(app, worker).close()  # declares what is missing
    with (
        Supervisor(BOXES, worker, processes=2, folder=ROOT, log_file=log),
        connect(app, guarded.settings(client_user, transport=transport)) as client,
    ):
        first = client.execute(Put(key, "a slow cup"), timeout=40)
        assert isinstance(first, Accepted)
        assert isinstance(client.execute(Refuse(key, "cat"), timeout=40), Rejected)
        client.send(Stumble(key, "stone"))
        client.wait(Box, key, until=lambda box: box.prices != () and box.reminders == 1, timeout=40)
        client.wait_for("seen", first, timeout=40)
        eventually(lambda: 1 == len(client.dead_letters.list(key=key)))
        assert client.history(Box, key)
        assert client.instances(Box).instances
        eventually(lambda: any(one.sent for one in client.schedules.list()))

        # What only reads, as the client.
        say(monkeypatch, guarded.settings(client_user, transport=transport))
        for words in (
            ("state", BOXES, "box", key),
            ("history", BOXES, "box", key),
            ("list", BOXES, "box"),
            ("dead", "list"),
            ("timers",),
            ("sizes", BOXES),
            ("observations", BOXES, "box", key),
            ("projections", "list", BOXES),
            ("projections", "lag", BOXES, "seen"),
            ("schedules", "list", BOXES),
            ("diagram", BOXES, "box", "--key", key),
        ):
            run(*words)
        # What changes something, as a worker.
        say(monkeypatch, worker)
        for verb in (Client.pause, Client.resume, Client.delete_data):
            monkeypatch.setitem(verb.__kwdefaults__ or {}, "timeout", 40.0)
        (dead,) = run("dead", "list", "--json").lines
        run("dead", "discard", dead["id"])
        run("pause", BOXES, "box", key)
        client.send(Close(key))
        run("resume", BOXES, "box", key)
        client.wait(Box, key, until=lambda box: box.closed, timeout=40)
        run("delete-data", BOXES, "box", key)
        run("projections", "rebuild", BOXES, "seen")
        run("pools")
        findings = {one["check"]: one for one in run("doctor", "--json").json["findings"]}
        assert "ok" == findings["rights"]["status"], findings["rights"]
        assert not [one for one in findings.values() if one["status"] == "error"]
    said = log.read_text()
    assert "NOPERM" not in said
    assert "does not allow" not in said
    assert "ACCESS_REFUSED" not in said


def say(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    name(
        monkeypatch,
        redis_url=settings.redis_url,
        amqp_url=settings.amqp_url,
        namespace=settings.namespace,
        partitions="4",
    )


#: Who has been given too little, by the rights that he has: to configure, write and read; and what of it is told.
NARROW = {
    "nobody": ("^$ ^$ ^$", "error", ["may not write to exchange 'shop.commands'"]),
    "sender": ("^$ ^shop[.]commands$ ^$", "warning", ["may send commands, but not serve them", "configure exchange 'shop.commands'", "read queue 'shop.commands.0'"]),
    "reader": (".* ^shop[.].*$ ^shop[.](commands([.][0-2])?|dead|ingress)$", "warning", ["read queue 'shop.commands.3'"]),
    "fixed": ("^$ ^shop[.].*$ ^shop[.].*$", "warning", ["configure exchange 'shop.commands'", "and 6 more"]),
    "unbound": (".* ^shop[.](commands|dead)$ ^shop[.].*$", "warning", ["write to queue 'shop.commands.0'"]),
}  # fmt: skip


@pytest.mark.parametrize("user", NARROW)
def test_rights_that_are_too_narrow_are_named(
    user: str, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The doctor says of each right of RabbitMQ that is missing which it is, and touches no message on the way.
    """
    rights, status, told = NARROW[user]
    worker = guarded.settings("worker")
    connect(app, worker).close()  # declares
    taken(guarded)
    with connect(app, worker) as client:
        client.send(Put(f"narrow-{user}", "a cup"))
    guarded.rabbit.ctl("add_user", user, "sesame")
    guarded.rabbit.ctl("set_permissions", user, *rights.split())
    narrow = f"amqp://{user}:sesame@127.0.0.1:{guarded.rabbit.port}/%2F"
    say(monkeypatch, msgspec.structs.replace(worker, amqp_url=narrow))

    said = run("doctor", "--json", code=1 if status == "error" else 0).json["findings"]

    (finding,) = [one for one in said if one["check"] == "queue-rights"]
    assert status == finding["status"]
    for text in told:
        assert text in finding["found"]
    assert "deploy/rabbitmq-users.sh" in finding["remedy"]
    found: list[bool] = []

    def there() -> bool:
        # What a queue says of itself may be a moment old.
        found.extend(taken(guarded))
        return bool(found)

    eventually(there)
    assert [False] == found


def taken(guarded: Guarded) -> list[bool]:
    """
    Take all that waits in the queues, and return of each message whether it was handed out before.
    """
    found = []
    with pika.BlockingConnection(pika.URLParameters(guarded.settings("worker").amqp_url)) as connection:
        channel = connection.channel()
        for queue in (*(f"shop.commands.{partition}" for partition in range(4)), "shop.ingress", "shop.dead"):
            count = channel.queue_declare(queue, passive=True).method.message_count
            if count:
                messages = islice(channel.consume(queue, auto_ack=True), count)
                found += [method.redelivered for method, _, _ in messages]
                channel.cancel()
    return found


#: What nobody may, each as a call.
REFUSED = [
    ("GET", "{shop-2.1}:x"),
    ("HSET", "{shop-2}:meta", "partitions", "1"),
    ("EVAL", "return redis.call('HGETALL', '{shop-2}:meta')", "0"),
    ("EVAL", "return redis.call('HGETALL', KEYS[1])", "1", "{shop-2}:meta"),
    ("GET", "other"),
    ("PUBLISH", "{shop-2}:replies:x", "y"),
    ("SUBSCRIBE", "{shop-2}:replies:x"),
    ("PSUBSCRIBE", "*"),
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "SET", "appendonly", "no"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "x"),
    ("SHUTDOWN",),
    ("RENAME", "{shop.1}:a", "{shop-2.1}:a"),
    ("MIGRATE", "127.0.0.1", "1", "{shop.1}:a", "0", "10"),
    ("SAVE",),
    ("BGREWRITEAOF",),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("MODULE", "LIST"),
    ("FUNCTION", "LIST"),
    ("CLIENT", "KILL", "ID", "1"),
    ("MONITOR",),
    ("DUMP", "{shop.1}:a"),
]
#: And what the client may not beside.
CLIENT_REFUSED = [
    ("XADD", "{shop.1}:log:box:b", "*", "r", "x"),
    ("HSET", "{shop.1}:actor:box:b", "seq", "9"),
    ("HSETNX", "{shop.1}:actor:box:b", "seq", "9"),
    ("EVAL", "return redis.call('HSET', KEYS[1], 'seq', 9)", "1", "{shop.1}:actor:box:b"),
    ("DEL", "{shop.1}:log:box:b"),
    ("UNLINK", "{shop}:meta"),
    ("SET", "{shop}:meta", "x"),
    ("ZADD", "{shop.1}:schedule", "1", "x"),
    ("HSET", "{shop.1}:secrets", "x", "y"),
    ("HDEL", "{shop.1}:secrets", "x"),
    ("SCAN", "0"),
]


def test_making_the_users_shows_no_password(tmp_path: Path) -> None:
    """
    Whoever lists the processes meanwhile sees names alone: the passwords go another way, also where the users are there.
    """
    for status in (0, 1):
        tool, said = tmp_path / "rabbitmqctl", tmp_path / "said"
        # It fails to add users where they are there already, as the real one does.
        tool.write_text(
            f'#!/bin/sh\necho "$@" >> {said}.args\n'
            f'case "$2" in set_permissions) ;; *) cat >> {said}.in ;; esac\n'
            f'case "$2" in add_user) exit {status} ;; esac\n'
        )
        tool.chmod(0o755)
        given = {
            "RABBITMQCTL": str(tool),
            "WORKER_PASSWORD": "sesame one",
            "CLIENT_PASSWORD": "sesame two",
            "FOREIGN_PASSWORD": "sesame three",
        }
        subprocess.run(["sh", str(DEPLOY / "rabbitmq-users.sh")], env=os.environ | given, check=True)
    asked, told = Path(f"{said}.args").read_text(), Path(f"{said}.in").read_text().split("\n")

    assert "change_password holdfast-worker" in asked
    assert "sesame" not in asked
    # Once where there were no users, and twice where adding them failed.
    assert {"sesame one": 3, "sesame two": 3, "sesame three": 3, "": 1} == Counter(told)


@pytest.mark.parametrize("user", ["worker", "client"])
def test_a_new_data_key_may_be_waited_for(
    user: str, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Who encrypts for an instance that has no data key yet may see to it that the key lasts; here it does not, for want of
    a replica, and that is what is said.
    """
    monkeypatch.setattr("holdfast.brokers.durability.BARRIER_TIMEOUT_MS", 50)
    settings = msgspec.structs.replace(
        guarded.settings(user),
        encryption_keys=f"k1:{base64.b64encode(bytes(32)).decode()}",
        durability=Durability.parse("replicated(1)"),
    )
    cipher, close = wiring.open_cipher(settings)
    with pytest.raises(NotDurable, match="only 0 of 1 replicas"):
        cipher.seal(Place(Ref(0, "box", f"{user}-new"), "command", "c-1"), b"x")
    close()


@pytest.mark.parametrize("user", ["worker", "client"])
def test_what_is_another_s_is_refused(user: str, guarded: Guarded) -> None:
    """
    Other namespaces' keys and channels, also from within a script, and everything that is for the operator.
    """
    settings = guarded.settings(user)
    for words in REFUSED + (CLIENT_REFUSED if user == "client" else []):
        with (
            redis.Redis.from_url(settings.redis_url) as client,
            pytest.raises(
                redis.exceptions.ResponseError,
                match=r"(?i)permission|NOPERM|ACL failure|can't access|can't run",
            ),
        ):
            client.execute_command(*words)
            pytest.fail(f"{user} may {words}")


def test_nobody_comes_in_without_a_name(guarded: Guarded) -> None:
    """
    The default user is off.
    """
    with redis.Redis(port=guarded.redis.port) as client, pytest.raises(redis.exceptions.AuthenticationError):
        client.ping()


@pytest.mark.parametrize(
    ("user", "may", "may_not"),
    [
        (
            "worker",
            [("shop.commands", "1"), ("", "shop.ingress")],
            [("shop-2.commands", "1"), ("amq.topic", "")],
        ),
        (
            "client",
            [("shop.commands", "1")],
            [("shop.ingress", ""), ("", "shop.commands.1"), ("shop-2.commands", "1")],
        ),
        (
            "foreign",
            [("shop.ingress", "")],
            [("shop.commands", "1"), ("", "shop.commands.1"), ("shop.dead", "")],
        ),
    ],
)
def test_who_may_publish_where(
    user: str, may: list[tuple[str, str]], may_not: list[tuple[str, str]], guarded: Guarded
) -> None:
    """
    An application reaches the partitions' queues alone, a foreign program the ingress queue alone; nobody another namespace.
    """
    for namespace in ("shop", "shop-2"):
        connect(app, guarded.settings("worker", namespace)).close()  # declares
    url = f"amqp://shop-{user}:change-me-{user}@127.0.0.1:{guarded.rabbit.port}/%2F"

    def publish(exchange: str, key: str) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(url))
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(exchange, key, b"x")
        finally:
            if connection.is_open:
                connection.close()

    for exchange, key in may:
        if exchange:
            publish(exchange, key)
    for exchange, key in may_not:
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
            publish(exchange, key)
            pytest.fail(f"{user} may publish to {exchange!r} {key!r}")


@pytest.mark.parametrize("user", ["client", "foreign"])
def test_who_only_sends_cannot_take(user: str, guarded: Guarded) -> None:
    """
    Neither reads a queue, nor empties or deletes one.
    """
    connect(app, guarded.settings("worker")).close()
    url = f"amqp://shop-{user}:change-me-{user}@127.0.0.1:{guarded.rabbit.port}/%2F"
    for action in ("basic_get", "queue_purge", "queue_delete"):
        connection = pika.BlockingConnection(pika.URLParameters(url))
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
            getattr(connection.channel(), action)("shop.commands.1")
        connection.close()


def test_every_command_of_the_scripts_is_in_the_list() -> None:
    """
    A script that learns a new command has to be allowed it.
    """
    line = next(
        line
        for line in (DEPLOY / "redis-users.conf").read_text().splitlines()
        if line.startswith("user holdfast-w")
    )
    allowed = set(re.findall(r"\+([a-z0-9|]+)", line))
    for script in Script:
        for word in re.findall(r"redis\.p?call\('([A-Z]+)'", script.source):
            assert {word.lower(), f"{word.lower()}|stream"} & allowed, f"{script.value}.lua runs {word}"
