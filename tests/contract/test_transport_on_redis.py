"""
Commands over Redis Streams when Redis is away, full, or comes back without its data.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from holdfast.brokers import redis_transport
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink
from holdfast.brokers.redis_membership import RedisMembership
from holdfast.brokers.redis_transport import RedisTransport
from holdfast.runtime.errors import DurabilityUnavailable, PublishFailed, Unavailable
from holdfast.runtime.ports import Consumer, Delivery, Publisher
from tests import controls
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
    redis_carrier,
)
from tests.support.processes import eventually
from tests.support.servers import RedisServer


@pytest.fixture
def own(redis_server: RedisServer) -> Iterator[Carrier]:
    """
    A carrier on a server that the test may do anything to.
    """
    carrier = redis_carrier(redis_server.url)
    yield carrier
    carrier.close()
    assert carrier.proxy is not None
    carrier.proxy.close()


def _stream(carrier: Carrier, partition: int = 0) -> str:
    return Keys(carrier.settings.namespace).commands(partition)


def _publish_through(publisher: Publisher, body: bytes) -> None:
    """
    Publish, again where it fails, until the server has it.
    """

    def sent() -> bool:
        try:
            confirmed([publisher.publish(0, body)])
        except PublishFailed:
            return False
        return True

    eventually(sent)


def _take_through(consumer: Consumer, count: int) -> list[Delivery]:
    """
    Take so many messages, again where the server is away.
    """
    found: list[Delivery] = []

    def took() -> bool:
        try:
            found.extend(consumer.take(count - len(found), 0.5))
        except Unavailable:
            return False
        return len(found) == count

    eventually(took)
    return found


def test_what_is_acknowledged_costs_nothing(own: Carrier, redis_server: RedisServer) -> None:
    """
    Acknowledged entries are deleted, and nothing of them is left pending.
    """
    own.send(0, numbers(500))
    consumer = own.consumer(0)
    taken = collect(consumer, 500, ack=False)
    with redis_server.client() as client:
        assert 500 == client.xlen(_stream(own))
        consumer.ack(taken[::2])
        assert (250, 250) == (client.xlen(_stream(own)), client.xpending(_stream(own), "holdfast")["pending"])
        consumer.ack(taken)
        assert (0, 0) == (client.xlen(_stream(own)), client.xpending(_stream(own), "holdfast")["pending"])


def test_without_the_server_a_publish_fails(own: Carrier, redis_server: RedisServer) -> None:
    """
    While the server is away each publish fails with a sentence, closing does not hang, and later all goes on.
    """
    publisher, closing = own.publisher(), own.publisher()
    redis_server.stop()
    with pytest.raises(PublishFailed, match="Redis did not take the command"):
        publisher.publish(0, b"lost").result(SECONDS_MAX)
    futures = [closing.publish(0, body) for body in numbers(2_000)]
    closing.close()

    assert {PublishFailed} == {type(future.exception(0)) for future in futures}

    redis_server.start()
    _publish_through(publisher, b"kept")
    assert [b"kept"] == bodies(collect(own.consumer(0), 1))


def test_a_full_server_refuses(redis_server: RedisServer) -> None:
    """
    A server without memory takes no command, and who has waited for long enough is told so; with memory again it does.
    """
    own = redis_carrier(redis_server.url, send_wait_s=0.5)
    publisher = own.publisher()
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        futures = [publisher.publish(0, body) for body in numbers(10)]
        with pytest.raises(PublishFailed, match="maxmemory"):
            futures[-1].result(SECONDS_MAX)
        assert 0 == client.xlen(_stream(own))
        client.config_set("maxmemory", 0)
    confirmed([publisher.publish(0, b"kept")])

    assert [b"kept"] == bodies(collect(own.consumer(0), 1))
    own.close()


def test_an_acknowledgement_is_not_lost_with_the_server(own: Carrier, redis_server: RedisServer) -> None:
    """
    What is acknowledged while the server is away counts as outstanding until the server is back, and is then done with.
    """
    own.send(0, numbers(10))
    consumer = own.consumer(0)
    taken = collect(consumer, 10, ack=False)
    redis_server.stop()
    consumer.ack(taken[:5])

    assert 10 == consumer.outstanding(0)

    redis_server.start()
    own.send(0, [b"more"])
    more = _take_through(consumer, 1)

    assert 6 == consumer.outstanding(0)
    assert [b"more"] == bodies(more)

    consumer.ack(taken[5:] + more)

    assert (0, 0) == (consumer.outstanding(0), own.transport.depth(0))


def test_an_answer_that_was_lost_is_asked_for_again(own: Carrier, redis_server: RedisServer) -> None:
    """
    Messages in an answer that never came are handed out as soon as the connection is back, in order, and each once.
    """
    consumer, publisher = own.consumer(0), own.publisher()
    own.send(0, numbers(3))
    taken = collect(consumer, 3, ack=False, limit=3)
    assert isinstance(own.proxy, Proxy)
    with redis_server.client() as client:
        for body in numbers(3, 10):
            client.xadd(_stream(own), {"m": body})
        own.proxy.swallow()
        taking = begin(lambda: consumer.take(10, SECONDS_MAX))
        eventually(lambda: client.xpending(_stream(own), "holdfast")["pending"] > 3)
        lost = client.xpending(_stream(own), "holdfast")["pending"] - 3
        own.proxy.cut()
    with pytest.raises(Unavailable):
        taking.result(SECONDS_MAX)
    confirmed([publisher.publish(0, body) for body in numbers(10, 12)])
    taken += _take_through(consumer, 9)

    assert numbers(12) == bodies(taken)
    assert [0] * 3 + [1] * lost + [0] * (9 - lost) == [one.redeliveries for one in taken]

    consumer.ack(taken)
    assert [] == consumer.take(10, QUIET_S)
    assert 0 == own.transport.depth(0)


def test_a_server_that_lost_its_data_is_used_again(own: Carrier, redis_server: RedisServer) -> None:
    """
    A server that comes back empty, as without an append-only file, is read from again; what it lost is lost.
    """
    redis_server.config["appendonly"] = "no"
    redis_server.restart()
    publisher, consumer = own.publisher(), own.consumer(0, 1)
    _publish_through(publisher, b"one")
    taken = _take_through(consumer, 1)
    redis_server.restart()
    consumer.ack(taken)
    _publish_through(publisher, b"two")

    assert [b"two"] == bodies(_take_through(consumer, 1))


def test_an_idle_publisher_goes_on_after_a_restart(tmp_path: Path) -> None:
    """
    A server that was started again may lack what it was told before; what is sent to it now is there, and confirmed.
    """
    with RedisServer(tmp_path, appendfsync="always") as server:
        settings = controls.settings(redis_url=server.url, durability="fsync")
        publisher = RedisTransport(settings).publisher()
        confirmed([publisher.publish(0, b"before")])
        server.kill()
        server.restart()

        confirmed([publisher.publish(0, b"after")])
        publisher.close()

        with server.client() as client:
            found = [fields["m"] for _, fields in client.xrange(Keys(settings.namespace).commands(0))]
        # Twice where the connection was made by the very call: ids tell copies.
        assert ["before", "after"] == list(dict.fromkeys(found))


def test_what_was_deleted_is_skipped(own: Carrier, redis_server: RedisServer) -> None:
    """
    An entry that is pending and gone, as when the server died between two steps, holds up nothing.
    """
    own.send(0, numbers(6))
    first = own.consumer(0)
    taken = collect(first, 6, ack=False)
    first.close()
    with redis_server.client() as client:
        for number in (0, 3, 5):
            client.xdel(_stream(own), taken[number].tag)
    second = own.consumer(0)

    assert [b"1", b"2", b"4"] == bodies(collect(second, 3))
    own.send(0, numbers(6, 9))
    assert numbers(6, 9) == bodies(collect(second, 3))


def test_who_waits_holds_up_nothing(own: Carrier, redis_server: RedisServer) -> None:
    """
    A partition that is revoked while its consumer waits for something new is drained at once; what comes then is left
    to the next consumer.
    """
    consumer = own.consumer(0)
    assert [] == consumer.take(10, 0)
    taking = begin(lambda: consumer.take(10, 0.2))

    def waits(client: redis.Redis) -> bool:
        nonlocal taking
        if taking.done():  # unseen
            assert [] == taking.result()
            taking = begin(lambda: consumer.take(10, 0.2))
        return any(one["cmd"] == "xread" and "b" in one["flags"] for one in client.client_list())

    with redis_server.client() as client:
        eventually(lambda: waits(client))
        consumer.revoke(0)
        busy = consumer.outstanding(0)
        client.xadd(_stream(own), {"m": "late"})

    assert (0, []) == (busy, taking.result(SECONDS_MAX))
    assert [b"late"] == bodies(collect(own.consumer(0), 1))


def test_who_was_thought_dead_reads_nothing_new(own: Carrier) -> None:
    """
    A member whose partition another one has claimed reads nothing new of it, though it does not know that yet; when it
    has claimed it again it goes on.
    """
    link = RedisLink(own.settings)
    membership, both = RedisMembership(own.settings, link), ["m-1", "m-2"]
    sleeper, heir = own.transport.consumer("m-1"), own.transport.consumer("m-2")
    assert membership.claim(0, "command", "m-1", both)
    sleeper.assign(0)
    own.send(0, numbers(3))
    taken = collect(sleeper, 3, ack=False)
    assert membership.claim(0, "command", "m-2", ["m-2"])
    own.send(0, numbers(3, 6))

    assert [] == sleeper.take(10, QUIET_S)

    heir.assign(0)
    assert numbers(6) == bodies(collect(heir, 6))
    sleeper.ack(taken)
    membership.yield_(0, "command", "m-2")
    assert membership.claim(0, "command", "m-1", both)
    sleeper.assign(0)
    own.send(0, numbers(6, 9))
    assert numbers(6, 9) == bodies(collect(sleeper, 3))
    for one in (sleeper, heir, link):
        one.close()


def test_a_confirm_is_as_safe_as_the_level(own: Carrier, redis_server: RedisServer) -> None:
    """
    Where commits wait for replicas so do confirms; a publisher on a server that has none is refused.
    """
    settings = controls.settings(redis_url=redis_server.url, durability="replicated(1)")
    transport = redis_transport.RedisTransport(settings)

    with pytest.raises(DurabilityUnavailable, match="needs 1 connected replicas"):
        transport.publisher()


def test_namespaces_have_queues_of_their_own(own: Carrier, redis_server: RedisServer) -> None:
    """
    The same partition of another namespace is another queue.
    """
    other = redis_carrier(redis_server.url)
    own.send(0, [b"mine"])
    other.send(0, [b"yours"])

    assert [[b"mine"], [b"yours"]] == [bodies(collect(one.consumer(0), 1)) for one in (own, other)]
    other.close()


def test_a_taker_waits_without_asking_all_the_time(own: Carrier, redis_server: RedisServer) -> None:
    """
    An idle consumer costs the server a few commands a second, however many partitions it has.
    """
    consumer = own.consumer(*range(controls.PARTITIONS))
    assert [] == consumer.take(10, QUIET_S)
    with redis_server.client() as client:

        def commands() -> int:
            stats: Any = client.info("stats")
            return int(stats["total_commands_processed"])

        before, start = commands(), time.monotonic()
        consumer.take(10, 1)
        each_s = (commands() - before) / (time.monotonic() - start)

    assert each_s < 20


def test_a_stopped_server_is_told_from_an_empty_queue(own: Carrier, redis_server: RedisServer) -> None:
    """
    A take without the server says Unavailable, at once and again and again, and goes on when the server is back.
    """
    consumer = own.consumer(0)
    redis_server.stop()
    for _ in range(3):
        with pytest.raises(Unavailable):
            consumer.take(10, 5)
    redis_server.start()
    with redis.Redis.from_url(redis_server.url) as client:
        client.ping()
    own.send(0, [b"one"])

    assert [b"one"] == bodies(_take_through(consumer, 1))
