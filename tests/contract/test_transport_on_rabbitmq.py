"""
Commands over RabbitMQ when queues are gone, full or not ours, and when the broker cuts, stalls or restarts.
"""

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import pika
import pytest

from holdfast.brokers.rabbitmq import DEAD, INGRESS, RabbitTransport
from holdfast.brokers.rabbitmq_consumer import RabbitConsumer
from holdfast.brokers.rabbitmq_topology import declare, depths, remove
from holdfast.runtime.errors import Overloaded, PublishFailed, SetupError, Unavailable
from holdfast.runtime.ports import Delivery
from tests import controls
from tests.conftest import need
from tests.contract.proxy import Proxy
from tests.contract.threads import begin
from tests.contract.transports import (
    QUIET_S,
    SECONDS_MAX,
    Carrier,
    bodies,
    collect,
    confirmed,
    numbers,
    rabbit_carrier,
    rabbit_settings,
)
from tests.support.processes import eventually
from tests.support.servers import SYSTEM_PATH, RabbitServer, find_rabbit

#: What the broker itself says of a queue as Holdfast declares it.
QUORUM = {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-overflow": "reject-publish"}


@pytest.fixture
def channel(amqp_url: str) -> Iterator[Any]:
    """
    A plain channel, for what somebody else does on the broker.
    """
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """
    A broker that the tests of this file may restart.
    """
    need("rabbitmq-server", find_rabbit())
    with RabbitServer(tmp_path_factory.mktemp("own-rabbit")) as server:
        yield server


@pytest.fixture
def own(own_server: RabbitServer) -> Iterator[Carrier]:
    """
    A carrier on that broker, whose senders wait longer than that takes to come back.
    """
    carrier = rabbit_carrier(own_server.url, send_wait_s=200.0)
    yield carrier
    carrier.close()
    assert isinstance(carrier.proxy, Proxy)
    carrier.proxy.close()


def control(server: RabbitServer, *command: str) -> None:
    """
    Have the broker's own tool do something.
    """
    environ = server._environ() | {"RABBITMQ_NODENAME": "holdfast@localhost", "PATH": SYSTEM_PATH}
    tool = shutil.which("rabbitmqctl", path=f"/usr/lib/rabbitmq/bin{os.pathsep}{SYSTEM_PATH}")
    assert tool is not None
    done = subprocess.run(
        [tool, *command], env=environ, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr


# -- queues that are gone, full, or somebody else's


def test_a_queue_that_is_gone_is_told(rabbitmq_carrier: Carrier, channel: Any) -> None:
    """
    A command that no queue takes fails, with a sentence that says what to do; the others, even of the same bytes, do not.
    """
    publisher = rabbitmq_carrier.publisher()
    confirmed([publisher.publish(1, b"same")])
    channel.queue_delete(f"{rabbitmq_carrier.settings.namespace}.commands.1")
    futures = [publisher.publish(partition, b"same") for partition in (0, 1, 2, 1, 3)]
    failures = [future.exception(SECONDS_MAX) for future in futures]

    assert [None, PublishFailed, None, PublishFailed, None] == [error and type(error) for error in failures]
    assert "commands.1' or its binding is gone" in str(failures[1])
    assert "holdfast doctor" in str(failures[1])

    declare(rabbitmq_carrier.settings)
    confirmed([publisher.publish(1, b"again")])
    assert [b"again"] == bodies(collect(rabbitmq_carrier.consumer(1), 1))


def test_a_full_queue_is_told(amqp_url: str, namespace: str, channel: Any) -> None:
    """
    A command that a full queue does not take fails at once for who never waits; when there is room again the same one
    is taken.
    """
    name = f"{namespace}.commands.0"
    channel.queue_declare(name, durable=True, arguments=QUORUM | {"x-max-length": 5})
    carrier = rabbit_carrier(amqp_url, namespace, send_wait_s=0)
    publisher = carrier.publisher()
    taken: list[bytes] = []

    def full() -> bool:
        body = b"%d" % len(taken)
        try:
            error = publisher.publish(0, body).exception(SECONDS_MAX)
        except Overloaded as refusal:
            error = refusal
        if error is None:
            taken.append(body)
        return isinstance(error, Overloaded) and "full" in str(error) and "with the same id" in str(error)

    eventually(full)
    confirmed([publisher.publish(1, b"elsewhere")])
    found = bodies(collect(carrier.consumer(0), len(taken)))
    eventually(lambda: not full())

    assert taken[:-1] == found
    assert len(taken) > 5
    _end(carrier)


def test_a_queue_that_is_there_is_adopted(amqp_url: str, namespace: str, channel: Any) -> None:
    """
    A classic durable queue of our name is used as it is; the difference is reported, and nothing else is.
    """
    name = f"{namespace}.commands.2"
    channel.queue_declare(name, durable=True)
    channel.basic_publish("", name, b"before")
    carrier = rabbit_carrier(amqp_url, namespace)
    assert isinstance(carrier.transport, RabbitTransport)

    assert [name] == [difference.partition(":")[0] for difference in carrier.transport.differences]

    carrier.send(2, numbers(20))
    first = carrier.consumer(2)
    taken = collect(first, 21, ack=False)
    first.ack(taken[:6])
    eventually(lambda: first.outstanding(2) == 15)
    first.close()
    carrier.send(2, numbers(20, 30))
    found = collect(carrier.consumer(2), 25)

    assert [b"before", *numbers(20)] == bodies(taken)
    assert numbers(5, 30) == bodies(found)
    assert [True] * 15 == [one.redeliveries >= 1 for one in found[:15]]
    _end(carrier)


def test_our_own_queues_are_no_difference(rabbitmq_carrier: Carrier) -> None:
    """
    Declaring again what is there as we want it reports nothing.
    """
    assert isinstance(rabbitmq_carrier.transport, RabbitTransport)
    assert ([], []) == (rabbitmq_carrier.transport.differences, declare(rabbitmq_carrier.settings))


@pytest.mark.parametrize("what", ["queue", "exchange", "type"])
def test_what_cannot_be_used_is_refused(amqp_url: str, namespace: str, channel: Any, what: str) -> None:
    """
    A queue or exchange that would not survive a restart, or is of another kind, is refused by name with the way out.
    """
    name = f"{namespace}.commands.3" if what == "queue" else f"{namespace}.commands"
    if what == "queue":
        channel.queue_declare(name, durable=False)
    else:
        channel.exchange_declare(name, "fanout" if what == "type" else "direct", durable=what == "type")

    with pytest.raises(SetupError, match="HOLDFAST_NAMESPACE") as caught:
        RabbitTransport(rabbit_settings(amqp_url, namespace=namespace))
    assert f"'{name}'" in str(caught.value)
    assert ("type" if what == "type" else "durable") in str(caught.value)


def test_a_lost_queue_holds_up_no_other(rabbitmq_carrier: Carrier, channel: Any) -> None:
    """
    A queue that is deleted under its consumer disturbs no other partition, and is declared again by whoever serves it.
    """
    consumer, publisher = rabbitmq_carrier.consumer(0, 1), rabbitmq_carrier.publisher()
    confirmed([publisher.publish(partition, b"before") for partition in (0, 1)])
    assert 2 == len(collect(consumer, 2))
    channel.queue_delete(f"{rabbitmq_carrier.settings.namespace}.commands.0")
    for body in numbers(20):
        confirmed([publisher.publish(1, body)])
        assert [body] == bodies(collect(consumer, 1))

    eventually(lambda: publisher.publish(0, b"after").exception(SECONDS_MAX) is None, SECONDS_MAX)
    assert [b"after"] == bodies(collect(consumer, 1))


def test_a_lost_queue_of_the_doorman_is_declared_again(rabbitmq_carrier: Carrier, channel: Any) -> None:
    """
    The queue of the ingress and that of the broker's dead letters are served in the same way.
    """
    assert isinstance(rabbitmq_carrier.transport, RabbitTransport)
    namespace = rabbitmq_carrier.settings.namespace
    doorman = rabbitmq_carrier.transport.doorman()
    doorman.assign(INGRESS)
    doorman.assign(DEAD)
    channel.basic_publish("", f"{namespace}.dead", b"before")
    assert [b"before"] == bodies(collect(doorman, 1))
    for name in ("ingress", "dead"):
        channel.queue_delete(f"{namespace}.{name}")
    for name, partition in (("ingress", INGRESS), ("dead", DEAD)):
        queue = f"{namespace}.{name}"
        eventually(partial(_is_there, rabbitmq_carrier, queue))
        channel.basic_publish(queue, "", name.encode())
        assert [name.encode()] == bodies(collect(doorman, 1), partition)
    doorman.close()


def _is_there(carrier: Carrier, queue: str) -> bool:
    return depths(carrier.settings, [queue])[queue] is not None


def test_a_queue_that_cannot_be_declared_again_is_tried_for(
    rabbitmq_carrier: Carrier, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A declaration that fails ends nothing: the next look at the queue brings another.
    """
    consumer, publisher = rabbitmq_carrier.consumer(0), rabbitmq_carrier.publisher()
    assert isinstance(consumer, RabbitConsumer)
    tries, honest = list[list[int]](), consumer._declare

    def fail_first(partitions: Any) -> object:
        tries.append(list(partitions))
        if len(tries) == 1:
            message = "not just now"
            raise Unavailable(message)
        return honest(partitions)

    monkeypatch.setattr(consumer, "_declare", fail_first)
    channel.queue_delete(f"{rabbitmq_carrier.settings.namespace}.commands.0")

    eventually(lambda: publisher.publish(0, b"after").exception(SECONDS_MAX) is None, SECONDS_MAX)
    assert [b"after"] == bodies(collect(consumer, 1))
    assert [[0], [0]] == tries


def test_a_removal_takes_all_of_one_namespace(rabbitmq_carrier: Carrier, amqp_url: str) -> None:
    """
    The queues and exchanges of a namespace go, and none of another; depths say of each queue whether it is there.
    """
    other = rabbit_carrier(amqp_url)
    queues = [
        f"{rabbitmq_carrier.settings.namespace}.commands.{partition}"
        for partition in range(controls.PARTITIONS)
    ]
    other.send(0, [b"yours"])
    rabbitmq_carrier.send(1, numbers(3))
    eventually(lambda: [0, 3, 0, 0] == list(depths(rabbitmq_carrier.settings, queues).values()))
    remove(rabbitmq_carrier.settings)

    assert [None] * 4 == list(depths(rabbitmq_carrier.settings, queues).values())
    assert [b"yours"] == bodies(collect(other.consumer(0), 1))
    remove(other.settings)
    _end(other)


# -- doors


def test_a_wrong_password_is_for_the_operator(amqp_url: str, rabbitmq_carrier: Carrier) -> None:
    """
    A refused password is no passing trouble; the message names the setting and does not show the password.
    """
    url = amqp_url.replace("guest:guest@", "guest:s3cret@")
    settings = rabbit_settings(url, namespace=rabbitmq_carrier.settings.namespace)
    rabbitmq_carrier.transport._settings = settings  # type: ignore[attr-defined]  # as if it had been changed since

    for door in (
        lambda: RabbitTransport(settings),
        rabbitmq_carrier.transport.publisher,
        rabbitmq_carrier.transport.consumer,
    ):
        with pytest.raises(SetupError, match="HOLDFAST_AMQP_URL") as caught:
            door()
        assert "s3cret" not in str(caught.value)


def test_a_wrong_virtual_host_is_for_the_operator(amqp_url: str) -> None:
    """
    A virtual host that is not there is named as what is wrong.
    """
    with pytest.raises(SetupError, match="virtual host"):
        RabbitTransport(rabbit_settings(amqp_url.removesuffix("%2F") + "nowhere"))


def test_an_absent_broker_is_unavailable(rabbitmq_carrier: Carrier) -> None:
    """
    Nobody listens: that may change, so it is for trying again.
    """
    settings = rabbit_settings("amqp://guest:guest@127.0.0.1:1/")
    rabbitmq_carrier.transport._settings = settings  # type: ignore[attr-defined]  # as if it had been changed since

    for door in (
        lambda: RabbitTransport(settings),
        rabbitmq_carrier.transport.publisher,
        rabbitmq_carrier.transport.consumer,
    ):
        with pytest.raises(
            Unavailable, match=r"RabbitMQ at amqp://guest:\*\*\*@127.0.0.1:1/ cannot be reached: \S+"
        ):
            door()


@contextlib.contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """
    Something that is no RabbitMQ: it answers whatever it is told with these bytes and hangs up, or with nothing at all.
    """
    kept: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = listener.accept()
                kept.append(line)
                if answer is not None:
                    line.recv(100)
                    line.sendall(answer)
                    line.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for line in kept:
        line.close()


#: Nothing, as a Redis or a server that was stopped; a web server; a mail server; one that hangs up.
STRANGERS = [None, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"220 mail ESMTP\r\n", b""]


@pytest.mark.parametrize("answer", STRANGERS, ids=["silent", "web", "mail", "closed"])
def test_what_is_no_rabbitmq_is_told(
    answer: bytes | None, rabbitmq_carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whoever takes the connection and does not speak AMQP is as unavailable as a server that is away, and may be another.
    """
    if answer is None:
        monkeypatch.setattr("holdfast.brokers.rabbitmq_loop.CONNECT_TIMEOUT_S", 1.0)
    with listening(answer) as port:
        settings = rabbit_settings(f"amqp://guest:s3cret@127.0.0.1:{port}/")
        rabbitmq_carrier.transport._settings = settings  # type: ignore[attr-defined]  # as if it had been changed since
        for door in (
            lambda: RabbitTransport(settings),
            rabbitmq_carrier.transport.publisher,
            rabbitmq_carrier.transport.consumer,
            lambda: depths(settings, ["any"]),
        ):
            with pytest.raises(
                Unavailable,
                match=r"RabbitMQ at amqp://guest:\*\*\*@.* cannot be reached: .*accepted the connection.*is this a RabbitMQ\?",
            ) as caught:
                door()
            assert "s3cret" not in str(caught.value)


def test_a_broker_that_was_stopped_is_unavailable(
    own_server: RabbitServer, own: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The system still accepts connections for it; when it goes on, so do we.
    """
    monkeypatch.setattr("holdfast.brokers.rabbitmq_loop.CONNECT_TIMEOUT_S", 1.0)
    settings = rabbit_settings(own_server.url, namespace=own.settings.namespace)
    own_server.pause()
    try:
        with pytest.raises(Unavailable, match=r"did not answer .* is this a RabbitMQ\?"):
            RabbitTransport(settings)
    finally:
        own_server.cont()
    monkeypatch.undo()
    RabbitTransport(settings)


# -- rights


def test_who_may_not_write_is_told_at_once(own_server: RabbitServer, own: Carrier) -> None:
    """
    A command that RabbitMQ does not let this user send fails as soon as it says so, with what is missing; once it is
    given, the same publisher sends.
    """
    clerk = url_of(own_server, "clerk", "^$", "^$", "^$")
    settings = rabbit_settings(clerk, namespace=own.settings.namespace)
    publisher = RabbitTransport(settings).publisher()
    began = time.monotonic()
    for future in [publisher.publish(partition, b"x") for partition in (0, 1, 0)]:
        with pytest.raises(PublishFailed, match=r"does not allow this user to write to exchange") as caught:
            future.result(SECONDS_MAX)
        assert f"'{own.settings.namespace}.commands'" in str(caught.value)
        assert "deploy/rabbitmq-users.sh" in str(caught.value)
    assert time.monotonic() - began < 25
    control(own_server, "set_permissions", "clerk", "^$", ".*", "^$")
    eventually(lambda: publisher.publish(0, b"y").exception(SECONDS_MAX) is None, SECONDS_MAX)
    publisher.close()


def test_who_may_not_read_is_told(
    own_server: RabbitServer, own: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A worker whose user may not take from its queues says which right is missing; once it is given, it takes.
    """
    reader = url_of(own_server, "reader", "^$", "^$", "^$")
    settings = rabbit_settings(reader, namespace=own.settings.namespace)
    with caplog.at_level(logging.WARNING):
        consumer = RabbitTransport(settings).consumer()
        consumer.assign(0)
        eventually(lambda: any("does not allow this user to read" in one for one in _errors(caplog)))
    own.send(0, [b"x"])
    control(own_server, "set_permissions", "reader", "^$", "^$", ".*")

    assert [b"x"] == bodies(collect(consumer, 1))
    consumer.close()


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(getattr(record, "error", "")) for record in caplog.records]


def url_of(server: RabbitServer, user: str, *rights: str) -> str:
    """
    Return the URL of a user who has just these rights: to configure, write and read.
    """
    control(server, "add_user", user, "sesame")
    control(server, "set_permissions", user, *rights)
    return server.url.replace("guest:guest@", f"{user}:sesame@")


@pytest.mark.parametrize("size", [50, 400, 700, 1_200])
def test_a_cut_while_declaring_is_unavailable(rabbitmq_carrier: Carrier, size: int) -> None:
    """
    Wherever the line breaks while queues are declared, it is Unavailable; the next try succeeds.
    """
    assert isinstance(rabbitmq_carrier.proxy, Proxy)
    rabbitmq_carrier.proxy.cut_after(size)

    with pytest.raises(Unavailable, match="cannot be reached"):
        RabbitTransport(rabbitmq_carrier.settings)
    RabbitTransport(rabbitmq_carrier.settings)


def test_a_declaration_that_fails_in_any_way_is_tried_again(
    rabbitmq_carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    pika lets errors of every kind through: none of them ends the thread that brings the consumer back.
    """
    consumer, publisher = rabbitmq_carrier.consumer(0), rabbitmq_carrier.publisher()
    assert isinstance(consumer, RabbitConsumer)
    loop, tries = consumer._loop, list[str]()
    honest = loop._prepare

    def prepare() -> object:
        tries.append("once more")
        if len(tries) < 3:
            raise AttributeError("'NoneType' object has no attribute 'sendall'")
        return honest()

    monkeypatch.setattr(loop, "_prepare", prepare)
    assert isinstance(rabbitmq_carrier.proxy, Proxy)
    rabbitmq_carrier.proxy.cut()
    eventually(lambda: len(tries) >= 3)
    confirmed([publisher.publish(0, b"after")])

    assert [b"after"] == bodies(collect(consumer, 1))


def test_foreign_messages_bring_their_properties(rabbitmq_carrier: Carrier, channel: Any) -> None:
    """
    What another program says of its message beside the body arrives with it, and so does what the broker gave up on.
    """
    assert isinstance(rabbitmq_carrier.transport, RabbitTransport)
    namespace = rabbitmq_carrier.settings.namespace
    doorman = rabbitmq_carrier.transport.doorman()
    doorman.assign(INGRESS)
    doorman.assign(DEAD)
    said = {"content_type": "application/json", "message_id": "c-1", "type": "order"}
    properties = pika.BasicProperties(
        content_type=said["content_type"],
        message_id=said["message_id"],
        type=said["type"],
        headers={"traceparent": "00-1-2-01", "other": 1},
    )
    channel.basic_publish("", f"{namespace}.ingress", b"{}", properties)
    channel.basic_publish("", f"{namespace}.ingress", b"plain")
    found = collect(doorman, 2)
    channel.basic_publish("", f"{namespace}.commands.0", b"poison")
    method, _, _ = next(channel.consume(f"{namespace}.commands.0"))
    channel.basic_reject(method.delivery_tag, requeue=False)
    dead = collect(doorman, 1)
    doorman.close()

    assert [(INGRESS, b"{}", said | {"traceparent": "00-1-2-01"}), (INGRESS, b"plain", None)] == [
        (one.partition, one.body, one.attributes) for one in found
    ]
    assert [(DEAD, b"poison")] == [(one.partition, one.body) for one in dead]
    assert {"x-first-death-queue": f"{namespace}.commands.0", "x-first-death-reason": "rejected"} == dead[
        0
    ].attributes


def test_no_more_is_handed_out_than_allowed(amqp_url: str, namespace: str) -> None:
    """
    A consumer holds at most `prefetch` messages of a partition that it has not acknowledged.
    """
    carrier = rabbit_carrier(amqp_url, namespace, prefetch=7)
    carrier.send(0, numbers(20))
    consumer = carrier.consumer(0)
    taken = collect(consumer, 7, ack=False)

    assert [] == consumer.take(10, QUIET_S)

    consumer.ack(taken[:3])
    taken += collect(consumer, 3, ack=False)

    assert [] == consumer.take(10, QUIET_S)
    assert numbers(10) == bodies(taken)
    _end(carrier)


def test_what_was_returned_in_any_order_is_handed_out_in_its_own(
    rabbitmq_carrier: Carrier, channel: Any
) -> None:
    """
    A consumer that died with a part of what another had returned put it behind the rest; it is sorted out again.
    """
    rabbitmq_carrier.send(0, numbers(30))
    first = rabbitmq_carrier.consumer(0)
    collect(first, 30, ack=False)
    first.close()
    channel.basic_qos(prefetch_count=10)
    queue = f"{rabbitmq_carrier.settings.namespace}.commands.0"
    part = [body for _, (_, _, body) in zip(range(10), channel.consume(queue), strict=False)]
    channel.connection.close()

    assert numbers(10) == part
    assert numbers(30) == bodies(collect(rabbitmq_carrier.consumer(0), 30))


def test_revoking_twice_is_revoking_once(rabbitmq_carrier: Carrier) -> None:
    """
    A partition is not drained before the broker has said that it sends no more, however often that is asked of it.
    """
    assert isinstance(rabbitmq_carrier.proxy, Proxy)
    consumer = rabbitmq_carrier.consumer(0)
    rabbitmq_carrier.send(0, [b"one"])
    consumer.ack(collect(consumer, 1))
    eventually(lambda: consumer.outstanding(0) == 0)
    rabbitmq_carrier.proxy.hold()
    consumer.revoke(0)
    consumer.revoke(0)

    assert [] == consumer.take(10, QUIET_S)
    assert 1 == consumer.outstanding(0)

    rabbitmq_carrier.proxy.release()
    eventually(lambda: consumer.outstanding(0) == 0)


# -- lines that break


@pytest.mark.parametrize("window", [100, 4_096])
def test_what_was_on_its_way_is_sent_again(
    rabbitmq_carrier: Carrier, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """
    With thousands of messages sent or waiting a cut ends no future with an error: all arrive, each first time in order.
    """
    monkeypatch.setattr("holdfast.brokers.rabbitmq_publisher.WINDOW", window)
    assert isinstance(rabbitmq_carrier.proxy, Proxy)
    publisher, consumer = rabbitmq_carrier.publisher(), rabbitmq_carrier.consumer(0)
    futures = []
    for body in numbers(3_000):
        futures.append(publisher.publish(0, body))
        if len(futures) % 1_000 == 500:
            rabbitmq_carrier.proxy.cut()
    confirmed(futures)

    assert numbers(3_000) == _firsts(consumer, 3_000)


@pytest.mark.parametrize("lost", ["binding", "queue"])
def test_what_the_broker_forgot_is_declared_again(rabbitmq_carrier: Carrier, channel: Any, lost: str) -> None:
    """
    A broker that was killed may come back without what was declared shortly before: who takes from a queue sees to it.
    """
    carrier = rabbitmq_carrier
    assert isinstance(carrier.proxy, Proxy)
    consumer, publisher = carrier.consumer(), carrier.publisher()
    consumer.assign(2)
    confirmed([publisher.publish(2, b"before")])
    assert [b"before"] == bodies(collect(consumer, 1))
    namespace = carrier.settings.namespace
    carrier.proxy.down()
    if lost == "queue":
        channel.queue_delete(f"{namespace}.commands.2")
    else:
        channel.queue_unbind(f"{namespace}.commands.2", f"{namespace}.commands", "2")
    carrier.proxy.up()

    def went() -> bool:
        try:
            confirmed([publisher.publish(2, b"after")])
        except PublishFailed:
            return False
        return True

    eventually(went, SECONDS_MAX)
    # The line may have gone down with the acknowledgement of the first on its way.
    eventually(lambda: b"after" in bodies(consumer.take(10, 0.5)), SECONDS_MAX)


def test_a_publisher_waits_for_the_line_to_come_back(rabbitmq_carrier: Carrier) -> None:
    """
    What is published while the broker cannot be reached is sent when it can, in order.
    """
    assert isinstance(rabbitmq_carrier.proxy, Proxy)
    publisher, consumer = rabbitmq_carrier.publisher(), rabbitmq_carrier.consumer(0)
    confirmed([publisher.publish(0, b"0")])
    rabbitmq_carrier.proxy.down()
    futures = [publisher.publish(0, body) for body in numbers(1, 200)]

    assert [] == [future for future in futures if future.done()]

    rabbitmq_carrier.proxy.up()
    confirmed(futures)

    assert numbers(200) == _firsts(consumer, 200)


def test_no_confirm_in_time_is_told(amqp_url: str, namespace: str) -> None:
    """
    A message that is not taken in time fails, and what is sent after the line came back does not.
    """
    carrier = rabbit_carrier(amqp_url, namespace, send_wait_s=1.0)
    assert carrier.proxy is not None
    publisher = carrier.publisher()
    carrier.proxy.down()
    late = publisher.publish(0, b"late")

    with pytest.raises(PublishFailed, match=r"RabbitMQ cannot be reached: .* within 1 s"):
        late.result(SECONDS_MAX)

    carrier.proxy.up()

    def kept() -> bool:
        return publisher.publish(0, b"kept").exception(SECONDS_MAX) is None

    eventually(kept)
    assert b"kept" in _firsts(carrier.consumer(0), 1)
    _end(carrier)


def _firsts(consumer: Any, count: int) -> list[bytes]:
    """
    Take until so many different messages came, and return them in the order in which each first did.
    """
    found: dict[bytes, None] = {}

    def took() -> bool:
        taken: list[Delivery] = consumer.take(1_000, 0.5)
        consumer.ack(taken)
        found.update(dict.fromkeys(bodies(taken)))
        return len(found) >= count

    eventually(took, SECONDS_MAX)
    return list(found)


def _under_fire(carrier: Carrier, strike: Callable[[], None]) -> None:
    """
    Publish on two threads and consume while something happens; everything must arrive, each sender's in order.
    """
    publisher, consumer = carrier.publisher(), carrier.consumer(0)
    stop = threading.Event()

    def send(name: bytes) -> int:
        futures: list[Future[None]] = []
        while not stop.is_set():
            futures += [publisher.publish(0, b"%s %d" % (name, len(futures) + step)) for step in range(20)]
            stop.wait(0.02)
        for future in futures:
            assert future.result(250) is None
        return len(futures)

    sending = {name: begin(lambda name=name: send(name)) for name in (b"a", b"b")}  # type: ignore[misc]  # mypy cannot type a default in a lambda
    found = bodies(collect(consumer, 100))
    strike()
    found += bodies(collect(consumer, 100))
    stop.set()
    sent = {
        name: [b"%s %d" % (name, number) for number in range(one.result(250))]
        for name, one in sending.items()
    }

    def all_came() -> bool:
        taken = consumer.take(1_000, 0.5)
        consumer.ack(taken)
        found.extend(bodies(taken))
        return set(found).issuperset(body for mine in sent.values() for body in mine)

    eventually(all_came, SECONDS_MAX)
    # Some come twice: their acknowledgements were on the way.
    assert sent == {name: [body for body in dict.fromkeys(found) if body.startswith(name)] for name in sent}


@pytest.mark.slow
def test_connections_that_the_broker_closes(own: Carrier, own_server: RabbitServer) -> None:
    """
    When an operator closes all connections, publishers and consumers come back and nothing is lost or overtaken.
    """
    _under_fire(own, lambda: control(own_server, "close_all_connections", "test"))


@pytest.mark.slow
def test_a_broker_that_stalls(own: Carrier, own_server: RabbitServer) -> None:
    """
    While the broker has an alarm and takes nothing, futures wait; when it is over they end well, in order.
    """
    publisher, consumer = own.publisher(), own.consumer(0)
    confirmed([publisher.publish(0, b"0")])
    control(own_server, "set_vm_memory_high_watermark", "0.0000001")
    # The broker blocks a connection when it next publishes.
    blocked = [publisher.publish(0, body) for body in numbers(1, 100)]
    with pytest.raises(TimeoutError):
        blocked[-1].result(1)
    control(own_server, "set_vm_memory_high_watermark", "0.8")
    confirmed(blocked)

    assert numbers(100) == _firsts(consumer, 100)


@pytest.mark.slow
def test_a_broker_that_crashes(own: Carrier, own_server: RabbitServer) -> None:
    """
    Over a crash of the broker publishers and consumers go on by themselves, and nothing that was confirmed is lost.
    """

    def strike() -> None:
        own_server.kill()
        own_server.start()

    _under_fire(own, strike)


def _end(carrier: Carrier) -> None:
    carrier.close()
    assert carrier.proxy is not None
    carrier.proxy.close()
