"""
`holdfast doctor`: each finding against a private server that is set up wrongly in just that way.
"""

import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika
import pytest

from holdfast import Client, DeadLetter, Settings, connect
from holdfast.actors import wiring
from holdfast.brokers import embedded, rabbitmq_checkup, redis_checkup
from holdfast.brokers.durability import has_waitaof
from holdfast.brokers.finding import Finding, Status
from holdfast.brokers.redis_link import RedisLink
from holdfast.brokers.redis_membership import RedisMembership
from tests import controls
from tests.cli import shop
from tests.cli.conftest import name
from tests.cli.desk import APP, NOWHERE, run
from tests.support.processes import eventually
from tests.support.servers import RedisServer


@pytest.fixture
def server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """
    A private server that the settings name.
    """
    name(monkeypatch, redis_url=redis_server.url)
    return redis_server


def examine(*args: str, code: int = 0) -> dict[str, Finding]:
    """
    Return the findings by what was looked at.
    """
    found = run("doctor", "--json", *args, code=code).json["findings"]
    findings = [Finding(**(values | {"status": Status(values["status"])})) for values in found]
    assert len({finding.check for finding in findings}) == len(findings)
    for finding in findings:
        assert bool(finding.remedy) == (finding.status is not Status.OK), "each problem has its remedy"
    return {finding.check: finding for finding in findings}


def configure(server: RedisServer, **settings: str | int) -> None:
    """
    Change settings of a running server.
    """
    with server.client() as client:
        for setting, value in settings.items():
            client.config_set(setting.replace("_", "-"), value)


def test_a_server_as_it_should_be(server: RedisServer) -> None:
    """
    Nothing but that nobody works yet; and looking changes nothing.
    """
    found = examine()

    assert {check for check, finding in found.items() if finding.status is not Status.OK} == {"workers"}
    assert {
        "redis",
        "durability",
        "eviction",
        "memory",
        "stream-nodes",
        "clock",
        "rights",
        "partitions",
        "encryption",
        "backlog",
        "workers",
        "dead-letters",
    } == set(found)
    assert "is new; it will have 4" in found["partitions"].found
    with server.client() as client:
        assert client.dbsize() == 0


def test_for_people(server: RedisServer) -> None:
    """
    A line for each thing that was looked at, and a line with the remedy under each that is not well.
    """
    configure(server, maxmemory_policy="allkeys-lru")

    said = run("doctor", code=1).out.splitlines()

    index = next(index for index, line in enumerate(said) if line.startswith("ERROR   eviction "))
    assert "run CONFIG SET maxmemory-policy noeviction" in said[index + 1]
    assert any(line.startswith("ok      redis ") for line in said)
    assert any(line.startswith("warning workers ") for line in said)


@pytest.mark.parametrize(
    ("settings", "check", "status", "found", "remedy"),
    [
        ({"appendonly": "no"}, "durability", "error", "needs the append-only file", "CONFIG SET appendonly yes"),
        ({"appendfsync": "no"}, "durability", "error", "has appendfsync no", "CONFIG SET appendfsync everysec"),
        ({"maxmemory_policy": "volatile-ttl"}, "eviction", "error", "volatile-ttl", "maxmemory-policy noeviction"),
        ({"stream_node_max_bytes": 4096}, "stream-nodes", "warning", "an idle instance costs 4.3 KB", "stream-node-max-bytes 256"),
        ({"stream_node_max_bytes": 0}, "stream-nodes", "warning", "stream-node-max-bytes 0", "stream-node-max-bytes 256"),
        ({"stream_node_max_bytes": 64}, "stream-nodes", "warning", "stream-node-max-bytes 64", "stream-node-max-bytes 256"),
        ({"maxmemory": 500_000}, "memory", "error", "used of", "give Redis more memory"),
    ],
)  # fmt: skip
def test_a_setting_that_is_wrong(
    settings: dict[str, Any], check: str, status: str, found: str, remedy: str, server: RedisServer
) -> None:
    """
    Each is found, with what to do about it; an error makes the exit code 1.
    """
    configure(server, **settings)

    finding = examine(code=1 if status == "error" else 0)[check]

    assert finding.status == status
    assert found in finding.found
    assert remedy in finding.remedy


def test_memory_that_is_getting_scarce(server: RedisServer) -> None:
    """
    It is told while there is still time to do something about it.
    """
    with server.client() as client:
        configure(server, maxmemory=int(int(client.info("memory")["used_memory"]) / 0.85))

    finding = examine()["memory"]

    assert finding.status is Status.WARNING
    assert finding.found.endswith(", maxmemory")


@pytest.mark.parametrize(
    ("durability", "status", "found"),
    [
        ("memory", "warning", "a restart of Redis may lose everything"),
        ("everysec", "ok", "everysec, and the server gives it"),
        ("fsync", "error", "needs appendfsync always, or Redis 7.2"),
        ("replicated(2)", "error", "needs 2 connected replicas; Redis at"),
    ],
)
def test_durability_is_held_against_the_configured_one(
    durability: str, status: str, found: str, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The same server is right for one level and wrong for another.
    """
    with RedisLink(Settings.from_environment()) as link:
        if durability == "fsync" and has_waitaof(link):
            status, found = "ok", "fsync, and the server gives it"
    name(monkeypatch, durability=durability)

    finding = examine(code=1 if status == "error" else 0)["durability"]

    assert finding.status == status
    assert found in finding.found


def test_a_replica_is_the_wrong_server(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It takes no writes; the remedy names its primary.
    """
    with RedisServer(tmp_path, replicaof=f"127.0.0.1 {server.port}") as replica:
        name(monkeypatch, redis_url=replica.url)

        finding = examine(code=1)["role"]

    assert finding.status is Status.ERROR
    assert f"127.0.0.1:{server.port}" in finding.remedy


def test_a_server_that_hides_its_settings(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Managed servers often do: what can be known without is told, and what cannot is a warning.
    """
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
    name(monkeypatch, redis_url=redis_server.url)

    found = examine()

    assert found["durability"].status is Status.OK
    assert found["eviction"].status is Status.OK
    assert "the server does not tell" in found["stream-nodes"].found


def test_a_user_without_rights(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What he may not do is an error with a remedy, and what he may is still looked at.
    """
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "clerk", "on", ">sesame", "~*", "&*", "+@all", "-config", "-time"
        )
    name(monkeypatch, redis_url=server.url.replace("://", "://clerk:sesame@"))

    found = examine(code=1)

    assert found["eviction"].status is Status.OK
    assert found["clock"].status is Status.ERROR
    assert "let this user run INFO, CONFIG GET, COMMAND and TIME" in found["clock"].remedy
    assert "it ended early" in found["checkup"].found
    assert not any("sesame" in text for finding in found.values() for text in finding)


def test_a_user_who_would_be_stopped_in_a_script(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What the scripts run and he may not is named, with what gives him the right; so are keys that he may not touch.
    """
    name(monkeypatch, redis_url=server.url.replace("://", "://clerk:sesame@"))
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "clerk", "on", ">sesame", "~*", "&*", "+@all", "-zadd", "-xadd"
        )
        found = examine(code=1)["rights"]
        assert "user 'clerk' may not run XADD, ZADD on keys of" in found.found
        assert "ACL SETUSER clerk +xadd +zadd" in found.remedy

        client.execute_command("ACL", "SETUSER", "clerk", "+zadd", "+xadd", "-acl")
        found = examine()["rights"]
        assert (Status.WARNING, True) == (found.status, "ZADD" in found.remedy)


@pytest.mark.parametrize(
    ("url", "found", "remedy"),
    [
        (
            NOWHERE,
            "Redis at redis://:***@127.0.0.1:1/0 does not answer",
            "start Redis, or correct HOLDFAST_REDIS_URL",
        ),
        ("wrong", "refuses the user or password", "correct HOLDFAST_REDIS_URL"),
    ],
)
def test_a_redis_that_cannot_be_asked(
    url: str, found: str, remedy: str, server: RedisServer, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    That is the one thing to say of it; RabbitMQ is looked at all the same.
    """
    wrong = server.url.replace("://", "://:sesame@") if url == "wrong" else url
    configure(server, requirepass="open")
    name(monkeypatch, redis_url=wrong, amqp_url=amqp_url)

    findings = examine(code=1)

    assert list(findings) == ["redis", "rabbitmq"]
    assert found in findings["redis"].found
    assert remedy in findings["redis"].remedy
    assert "sesame" not in str(findings)
    assert findings["rabbitmq"].status is Status.OK


def test_another_number_of_partitions(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is an error that names both numbers; the rest is looked at with the stored one.
    """
    run("dead", "list")
    name(monkeypatch, partitions="7")

    finding = examine(code=1)["partitions"]

    assert "was created with 4, but HOLDFAST_PARTITIONS is 7" in finding.found
    assert "set HOLDFAST_PARTITIONS=4" in finding.remedy


def test_workers_and_their_partitions(office: Client) -> None:
    """
    Who serves what; not well until every partition is served.
    """
    eventually(lambda: examine()["workers"].status is Status.OK)

    assert "1 serve the command pool (process" in examine()["workers"].found
    assert ": 4 of 4 partitions)" in examine()["workers"].found


def test_workers_of_another_app(settings: Settings) -> None:
    """
    Whoever serves partitions and does not know a workflow of the app has its commands wait: it is told which and where.
    """
    link = RedisLink(settings)
    membership, pools = RedisMembership(settings, link), ("command",)
    for member, knows in (
        ("ours", ("letter", "parcel", "van")),
        ("theirs", ("letter", "loan")),
        ("silent", ()),
    ):
        membership.beat(controls.member(member, pools), 60_000, knows=knows)
    for partition, member in enumerate(("ours", "theirs", "theirs", "silent")):
        membership.claim(partition, "command", member, ["ours", "theirs", "silent"])
    link.close()

    finding = examine(APP)["apps"]

    assert (
        Status.WARNING,
        "process 4711 of another app or version serves partition 1, 2 and does not know: parcel",
    ) == (
        finding.status,
        finding.found,
    )
    assert "HOLDFAST_NAMESPACE" in finding.remedy
    assert "apps" not in examine()


def test_work_that_waits_and_work_that_was_given_up(settings: Settings) -> None:
    """
    The backlog is counted, and so are dead letters; with nobody to work both are worth a warning.
    """
    with connect(shop.app, settings) as client:
        client.send_many([shop.Post("p-1", 1), shop.Post("p-1", 2)])
    ports = wiring.open_ports(settings)
    ports.dead_letters.add([DeadLetter("1.x", "command", 1, b"", "", "", 1, 1)])
    ports.close()

    found = examine()

    assert found["backlog"].found.startswith("2 messages wait; most in partition ")
    assert "nobody serves the command pool; 2 commands wait" in found["workers"].found
    assert found["dead-letters"].found == "1"
    assert "holdfast dead list" in found["dead-letters"].remedy


@pytest.mark.parametrize(
    ("app", "status", "found"),
    [
        (APP, "ok", f"{APP} has parcel (4 commands), letter (1 commands)"),
        ("tests.cli.shop:nothing", "error", "'nothing' in tests.cli.shop is nothing, not an App"),
        ("shop", "error", "names no app"),
    ],
)
def test_the_app_is_looked_at_too(app: str, status: str, found: str, settings: Settings) -> None:
    """
    One that does not load is an error among the others.
    """
    finding = examine(app, code=1 if status == "error" else 0)["app"]

    assert finding.status == status
    assert found in finding.found


# -- without servers


def test_nothing_yet(folder: Path) -> None:
    """
    Where no server is named and nothing was kept, it says what would be used, and starts nothing for it.
    """
    found = examine()

    assert list(found) == ["embedded"]
    assert "will keep its data in .holdfast" in found["embedded"].found
    assert list(folder.iterdir()) == []


def test_no_server_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    On a bare machine it is a warning that says what to install.
    """
    monkeypatch.setattr(embedded, "_candidates", lambda: iter(()))

    finding = examine()["embedded"]

    assert finding.status is Status.WARNING
    assert "nothing will survive" in finding.found
    assert "Install redis-server" in finding.remedy


def test_a_private_server(folder: Path) -> None:
    """
    The embedded server is as it must be, out of the box.
    """
    run("send", "holdfast.demo.orders:app", "PackOrder", '{"order_id":"o-1"}')

    found = examine()

    assert {check for check, finding in found.items() if finding.status is not Status.OK} == {"workers"}
    assert "with its data in" in found["embedded"].found


def test_a_folder_that_cannot_be_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Data without a server to read them are an error, not a fresh start.
    """
    (folder / ".holdfast" / "appendonlydir").mkdir(parents=True)
    monkeypatch.setattr(embedded, "_candidates", lambda: iter(()))

    assert "Install redis-server" in examine(code=1)["embedded"].found


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is fine for tests, so it is no error; but nobody should believe that it lasts.
    """
    name(monkeypatch, redis_url="memory://")

    assert "nothing will survive it" in examine()["redis"].found


# -- RabbitMQ


@pytest.fixture
def rabbit(settings: Settings, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """
    RabbitMQ beside Redis, for a namespace of the test's own.
    """
    name(monkeypatch, amqp_url=amqp_url)
    return amqp_url


def declare(url: str, queue: str, **how: Any) -> None:
    """
    Have somebody else declare a queue before us.
    """
    connection = pika.BlockingConnection(pika.URLParameters(url))
    connection.channel().queue_declare(queue, **({"durable": True} | how))
    connection.close()


def test_queues_that_are_missing_are_declared(rabbit: str, namespace: str) -> None:
    """
    All is well then, and a second look finds them as they are.
    """
    for _ in range(2):
        found = examine()
        assert {check for check, finding in found.items() if finding.status is not Status.OK} == {"workers"}
        assert found["queues"].found == "6 declared, durable, one active consumer each"
        assert found["queue-types"].found == "quorum"
        assert found["delivery-limit"].found == "100"
        assert found["dead-lettering"].found == f"at least once, to {namespace}.dead"
        assert found["rabbitmq"].found.startswith("RabbitMQ 3.")
        assert found["queue-rights"].found == "user 'guest' may declare, write and read all that is needed"


def test_queues_of_other_kinds_are_adopted_with_warnings(rabbit: str, namespace: str) -> None:
    """
    Whatever about an existing queue is not as it should be is found out and told, with how to mend it.
    """
    quorum = {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-overflow": "reject-publish"}
    better = quorum | {
        "x-dead-letter-exchange": f"{namespace}.dead",
        "x-dead-letter-strategy": "at-least-once",
    }
    declare(rabbit, f"{namespace}.commands.0", arguments={"x-message-ttl": 1_000})
    declare(rabbit, f"{namespace}.commands.1", arguments=quorum)
    declare(rabbit, f"{namespace}.commands.2", arguments=better | {"x-delivery-limit": 3})
    declare(rabbit, f"{namespace}.dead", arguments=quorum | {"x-max-length": 5})

    found = {check: finding for check, finding in examine().items() if finding.status is Status.WARNING}

    zero, one, two = (f"{namespace}.commands.{partition}" for partition in range(3))
    assert [*found] == ["queues", "queue-types", "delivery-limit", "dead-lettering", "workers"]
    assert set(found["queues"].found.split("; ")) == {
        f"{zero}: x-message-ttl is 1000",
        f"{zero}: x-single-active-consumer is none",
        f"{namespace}.dead: x-max-length is 5",
    }
    assert found["queue-types"].found == f"{zero}: x-queue-type is classic"
    assert set(found["delivery-limit"].found.split("; ")) == {
        f"{zero}, {one}: x-delivery-limit is none",
        f"{two}: x-delivery-limit is 3",
    }
    assert set(found["dead-lettering"].found.split("; ")) == {
        f"{zero}, {one}: x-dead-letter-exchange is none",
        f"{zero}, {one}: x-dead-letter-strategy is none",
        f"{zero}: x-overflow is none",
    }
    assert "let these queues run empty, delete them" in found["queue-types"].remedy


def test_a_queue_that_cannot_be_used(rabbit: str, namespace: str) -> None:
    """
    Messages in it would not survive, so it is an error, and so is every command.
    """
    declare(rabbit, f"{namespace}.commands.1", durable=False)

    finding = examine(code=1)["queues"]

    assert "with another durable" in finding.found


@pytest.mark.parametrize(
    ("user", "found", "remedy"),
    [
        ("guest:sesame", "refuses the user or password", "correct HOLDFAST_AMQP_URL"),
        ("", "cannot be reached", "start RabbitMQ, or correct HOLDFAST_AMQP_URL"),
    ],
)
def test_a_rabbitmq_that_cannot_be_asked(
    user: str, found: str, remedy: str, settings: Settings, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    That is the one thing to say of it; Redis is looked at all the same.
    """
    parts = urlsplit(amqp_url)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{user}@{host}")) if user else "amqp://me:sesame@127.0.0.1:1/"
    name(monkeypatch, amqp_url=url)

    findings = examine(code=1)

    assert found in findings["rabbitmq"].found
    assert findings["rabbitmq"].remedy == remedy
    assert findings["redis"].status is Status.OK
    assert "sesame" not in str(findings)


@pytest.mark.parametrize("what", ["silent", "redis"])
def test_a_rabbitmq_that_does_not_answer(
    what: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A port where somebody listens who is no RabbitMQ, or one that hangs: the list goes on behind it. Who sends is told
    the same, and so is a worker, when it has waited for as long as it was told to.
    """
    monkeypatch.setattr("holdfast.brokers.rabbitmq_loop.CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] if what == "silent" else urlsplit(settings.redis_url).port
        name(monkeypatch, amqp_url=f"amqp://me:sesame@127.0.0.1:{port}/")

        findings = examine(code=1)
        sent = run("send", APP, "Post", '{"parcel_id":"p-1","grams":1}', code=1)
        began = time.monotonic()
        served = run("worker", APP, "--patience", "2", code=1)

    assert "accepted the connection, but did not answer" in findings["rabbitmq"].found
    assert "is this a RabbitMQ?" in findings["rabbitmq"].found
    assert {"workers", "dead-letters"} < set(findings)
    assert "is this a RabbitMQ?" in sent.sentence
    assert time.monotonic() - began >= 2
    assert "trying again" in served.err
    assert "is this a RabbitMQ?" in served.err.splitlines()[-1]
    assert "sesame" not in f"{findings}{sent}{served}"


def test_a_redis_url_that_leads_to_rabbitmq(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What answers in another tongue may be another server.
    """
    name(monkeypatch, redis_url=f"redis://127.0.0.1:{urlsplit(amqp_url).port}/0")

    finding = examine(code=1)["redis"]

    assert "as reply type byte" in finding.found or "Protocol Error" in finding.found
    assert finding.found.endswith("is this a Redis?")


def test_a_backlog_in_rabbitmq(rabbit: str, namespace: str) -> None:
    """
    Commands that wait, and foreign messages, are counted by queue.
    """
    run("send", APP, "Post", '{"parcel_id":"p-1","grams":1}')
    connection = pika.BlockingConnection(pika.URLParameters(rabbit))
    for _ in range(2):
        connection.channel().basic_publish("", f"{namespace}.ingress", b"{}")
    connection.close()

    eventually(lambda: examine()["backlog"].found == f"3 messages wait; most in {namespace}.ingress: 2")


# -- what no server here can be made to show


@pytest.mark.parametrize(
    ("skew_s", "status"),
    [
        (0.0, "ok"),
        (0.5, "ok"),
        (-0.5, "ok"),
        (2.0, "warning"),
        (-2.0, "warning"),
        (90.0, "error"),
        (-90.0, "error"),
    ],
)
def test_clocks_that_are_apart(skew_s: float, status: str, settings: Settings) -> None:
    """
    A second is worth a warning, a minute is an error; it says which of the two is ahead.
    """
    with RedisLink(settings) as link:
        found = redis_checkup.examine_server(settings, link, lambda: time.time() - skew_s)
        finding = next(one for one in found if one.check == "clock")

    assert finding.status == status
    if abs(skew_s) > 0.1:
        assert ("ahead of" if skew_s > 0 else "behind") in finding.found


@pytest.mark.parametrize(
    ("facts", "status", "found"),
    [
        ({"redis_version": "6.0.16"}, "warning", "Redis 6.0.16 at here is older than 6.2"),
        ({"redis_version": "6.2.0"}, "ok", "Redis 6.2.0 at here"),
        ({"redis_version": "10.0.1"}, "ok", "Redis 10.0.1 at here"),
        (
            {"redis_version": "7.2.4", "valkey_version": "8.1.0"},
            "ok",
            "Valkey 8.1.0 (as Redis 7.2.4) at here",
        ),
        ({}, "warning", "Redis unknown"),
    ],
)
def test_versions_of_redis(facts: dict[str, Any], status: str, found: str) -> None:
    """
    One that is too old, or does not say, is worth a warning; Valkey is called by its name.
    """
    finding = redis_checkup._version(facts, "here")

    assert finding.status == status
    assert found in finding.found


@pytest.mark.parametrize(("version", "status"), [("3.8.2", "warning"), ("3.10.0", "ok"), ("4.1.0", "ok")])
def test_versions_of_rabbitmq(
    version: str, status: str, settings: Settings, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Before 3.10 quorum queues could lose dead letters.
    """
    oldest = (4, 0) if version == "3.8.2" else (3, 0)
    monkeypatch.setattr(rabbitmq_checkup, "OLDEST", oldest if version != "4.1.0" else (3, 10))
    name(monkeypatch, amqp_url=amqp_url)

    assert rabbitmq_checkup.examine_server(Settings.from_environment()).status == status


def test_an_append_only_file_that_cannot_be_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A full disk is an error: nothing that is confirmed would survive.
    """
    facts = {"aof_enabled": 1, "aof_last_write_status": "err", "aof_last_bgrewrite_status": "ok"}
    monkeypatch.setattr(redis_checkup, "info", lambda _link, _section: facts)

    with RedisLink(settings) as link:
        (finding,) = redis_checkup._aof(link)

    assert finding.status is Status.ERROR
    assert finding.found == "aof_last_write_status: not ok"
