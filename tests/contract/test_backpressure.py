"""
What a sender sees while nothing is taken: RabbitMQ that is out of memory, queues and servers that are full, a process in
which too much waits. Who chose to wait waits and is served in order; who did not is told, and nothing of his was taken.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.brokers import rabbitmq_publisher, redis_transport
from holdfast.brokers.rabbitmq_publisher import RabbitPublisher
from holdfast.runtime.errors import Overloaded, PublishFailed
from holdfast.runtime.ports import Publisher
from tests.conftest import need
from tests.contract.threads import begin
from tests.contract.transports import (
    SECONDS_MAX,
    bodies,
    collect,
    confirmed,
    numbers,
    rabbit_carrier,
    redis_carrier,
)
from tests.support.processes import eventually
from tests.support.servers import RabbitServer, RedisServer, find_rabbit

#: A share of the memory that every node has more of.
NO_MEMORY, MEMORY = "0.0001", "0.8"
#: For senders that wait until a test is done with what holds them up: its tools are programs that take their time.
LONG_S = 200.0


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """
    A RabbitMQ whose alarms the tests of this file may raise.
    """
    need("rabbitmq-server", find_rabbit())
    with RabbitServer(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture
def alarmed(rabbit: RabbitServer) -> Iterator[RabbitServer]:
    """
    The same; what a test did to its memory is undone.
    """
    yield rabbit
    rabbit.ctl("set_vm_memory_high_watermark", MEMORY)


def raise_alarm(server: RabbitServer, publisher: Publisher) -> None:
    """
    Let RabbitMQ be out of memory, and go on once a publisher was told: he is, when he publishes.
    """
    server.ctl("set_vm_memory_high_watermark", NO_MEMORY)
    assert isinstance(publisher, RabbitPublisher)
    found: list[Any] = []

    def blocked() -> bool:
        with contextlib.suppress(Overloaded):  # who never waits is told where it comes in between
            if not publisher._blocked:
                found.append(publisher.publish(3, b"knock"))
        return bool(publisher._blocked)

    eventually(blocked)


def test_an_alarm_is_a_wait(alarmed: RabbitServer) -> None:
    """
    While RabbitMQ is out of memory what is sent waits, and is taken in order when there is memory again.
    """
    carrier = rabbit_carrier(alarmed.url, send_wait_s=LONG_S)
    publisher = carrier.publisher()
    raise_alarm(alarmed, publisher)
    futures = [publisher.publish(0, body) for body in numbers(500)]
    time.sleep(1.0)
    assert not any(future.done() for future in futures)

    alarmed.ctl("set_vm_memory_high_watermark", MEMORY)
    confirmed(futures)

    assert numbers(500) == bodies(collect(carrier.consumer(0), 500))
    carrier.close()


def test_an_alarm_is_told_to_who_never_waits(alarmed: RabbitServer) -> None:
    """
    Who never waits is told at once that RabbitMQ is out of memory; with memory again he is served.
    """
    carrier = rabbit_carrier(alarmed.url, send_wait_s=0)
    publisher = carrier.publisher()
    raise_alarm(alarmed, publisher)
    began = time.monotonic()
    with pytest.raises(Overloaded, match=r"out of memory or disk space\).*was not sent"):
        publisher.publish(0, b"no")
    # Who waits does so for thirty seconds, if nothing else is said.
    assert time.monotonic() - began < 25

    alarmed.ctl("set_vm_memory_high_watermark", MEMORY)
    eventually(lambda: _taken(publisher, b"yes"))

    assert b"yes" == collect(carrier.consumer(0), 1)[0].body
    carrier.close()


def test_an_alarm_that_lasts_is_told(alarmed: RabbitServer) -> None:
    """
    Who waits for a while is told why he waited, and that nothing was taken; none of it arrives later.
    """
    carrier = rabbit_carrier(alarmed.url, send_wait_s=1.0)
    publisher = carrier.publisher()
    raise_alarm(alarmed, publisher)
    errors = [publisher.publish(0, body).exception(SECONDS_MAX) for body in numbers(3)]

    assert [Overloaded] * 3 == [type(error) for error in errors]
    assert "RabbitMQ takes no messages" in str(errors[0])
    assert "not taken within 1 s" in str(errors[0])
    alarmed.ctl("set_vm_memory_high_watermark", MEMORY)
    eventually(lambda: _taken(publisher, b"yes"))
    assert [b"yes"] == bodies(collect(carrier.consumer(0), 1))
    carrier.close()


def test_a_full_queue_is_a_wait_in_order(rabbit: RabbitServer) -> None:
    """
    What a full queue refuses waits until there is room, in order and once each; other queues are not held up.
    """
    carrier = rabbit_carrier(rabbit.url, send_wait_s=LONG_S)
    namespace = carrier.settings.namespace
    rabbit.ctl(
        "set_policy", "full", f"^{namespace}[.]commands[.]0$", '{"max-length": 50}', "--apply-to", "queues"
    )
    publisher = carrier.publisher()
    futures = [publisher.publish(0, body) for body in numbers(2_000)]
    assert isinstance(publisher, RabbitPublisher)
    # All of the window was answered: what is still on its way is what finds out whether there is room again.
    eventually(lambda: 0 in publisher._held and not publisher._waiting and len(publisher._unconfirmed) <= 1)
    confirmed([publisher.publish(1, b"elsewhere")])
    assert not futures[-1].done()

    consumer = carrier.consumer(0)
    found: list[bytes] = []

    def emptied() -> bool:
        taken = consumer.take(100, 0.5)
        consumer.ack(taken)
        found.extend(bodies(taken))
        return len(found) >= 2_000

    eventually(emptied, 60)
    confirmed(futures)

    assert set(numbers(2_000)) == set(found)
    assert 2_000 == len(found)
    # What was on its way when the queue became full may have met a moment of room.
    assert sum(int(after) < int(before) for before, after in itertools.pairwise(found)) <= 2
    rabbit.ctl("clear_policy", "full")
    carrier.close()


def test_a_full_server_is_a_wait_in_order(redis_server: RedisServer) -> None:
    """
    While Redis is out of memory commands over its streams wait, and are taken in order when there is memory again.
    """
    carrier = redis_carrier(redis_server.url, send_wait_s=LONG_S)
    publisher, consumer = carrier.publisher(), carrier.consumer(0)
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        futures = [publisher.publish(0, body) for body in numbers(1_200)]
        time.sleep(1.0)
        assert not any(future.done() for future in futures)
        client.config_set("maxmemory", 0)
    confirmed(futures)

    assert numbers(1_200) == bodies(collect(consumer, 1_200))
    carrier.close()


def test_a_full_server_is_told_to_who_never_waits(redis_server: RedisServer) -> None:
    """
    Who never waits is told that Redis is full; with memory again he is served.
    """
    carrier = redis_carrier(redis_server.url, send_wait_s=0)
    publisher = carrier.publisher()
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(Overloaded, match="is full: it has reached its maxmemory"):
            publisher.publish(0, b"no").result(SECONDS_MAX)
        client.config_set("maxmemory", 0)

    assert _taken(publisher, b"yes")
    assert [b"yes"] == bodies(collect(carrier.consumer(0), 1))
    carrier.close()


@pytest.mark.parametrize("by", ["count", "bytes"])
@pytest.mark.parametrize("technology", ["rabbitmq", "redis"])
def test_a_crowded_process_makes_its_senders_wait(
    technology: str, by: str, redis_server: RedisServer, rabbit: RabbitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    No more waits in a process than there is room for, in number and in bytes: who sends more waits, and is told when
    that took too long; when the server takes messages again all that was accepted arrives.
    """
    module: Any = rabbitmq_publisher if technology == "rabbitmq" else redis_transport
    names = {
        "count": {"rabbitmq": "WAITING_MAX", "redis": "PUBLISH_QUEUE_MAX"},
        "bytes": {"rabbitmq": "WAITING_BYTES_MAX", "redis": "PUBLISH_QUEUE_BYTES_MAX"},
    }
    monkeypatch.setattr(module, names[by][technology], 20 if by == "count" else 20_000)
    monkeypatch.setattr(rabbitmq_publisher, "WINDOW", 10)
    server: Any = rabbit if technology == "rabbitmq" else redis_server
    make: Any = rabbit_carrier if technology == "rabbitmq" else redis_carrier
    carrier = make(server.url, send_wait_s=LONG_S)
    hasty = make(server.url, send_wait_s=0.2)
    publisher, other = carrier.publisher(), hasty.publisher()
    accepted: list[Any] = []

    def send() -> None:
        accepted.extend(publisher.publish(0, body.ljust(1_000)) for body in numbers(200))

    server.pause()
    try:
        sending = begin(send)
        eventually(lambda: publisher.crowded)
        with pytest.raises(Overloaded, match="wait in this process"):
            for body in numbers(100):
                other.publish(0, body.ljust(1_000))
        assert len(accepted) < 100
        assert not sending.done()
    finally:
        server.cont()
    sending.result(SECONDS_MAX)
    confirmed(accepted)

    assert numbers(200) == [body.strip() for body in bodies(collect(carrier.consumer(0), 200))]
    carrier.close()
    hasty.close()


def test_closing_ends_a_wait(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Who waits for room in a publisher that is closed is told so, and not left waiting.
    """
    monkeypatch.setattr(redis_transport, "PUBLISH_QUEUE_MAX", 1)
    carrier = redis_carrier(redis_server.url)
    publisher = carrier.publisher()
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
    errors: list[BaseException] = []

    def send() -> None:
        try:
            for body in numbers(10):
                publisher.publish(0, body)
        except PublishFailed as error:
            errors.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    eventually(lambda: publisher.crowded)
    publisher.close()
    sender.join(SECONDS_MAX)

    assert ["the publisher is closed"] == [str(error) for error in errors]
    carrier.close()


def _taken(publisher: Publisher, body: bytes) -> bool:
    try:
        return publisher.publish(0, body).exception(SECONDS_MAX) is None
    except Overloaded:
        return False
