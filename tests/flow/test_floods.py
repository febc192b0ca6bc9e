"""
Floods of what nobody can use: garbage, giants, depths, names that nobody knows and headers that have no form in Python.

No worker dies of it, none grows without bounds, all of it ends as dead letters, and the commands beside it go on.
"""

import contextlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from holdfast import Command
from holdfast.brokers.care import KEPT_BYTES
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink
from holdfast.runtime.codec import encode
from holdfast.runtime.keys import partition_of
from tests.flow.house import CALM, House, accounts, shared_house
from tests.flow.shop import Post
from tests.fuzz.headers import WICKED, properties
from tests.support.processes import eventually

#: Seconds that a flood may take to be dealt with.
FLOOD_S = 90.0
MB = 1024 * 1024


class Raw(pika.BasicProperties):
    """
    Properties of a message as bytes, whatever these say.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def encode(self) -> list[bytes]:
        return [self._data]


@pytest.fixture(scope="module", params=["rabbitmq", "redis"])
def shore(
    request: pytest.FixtureRequest, redis_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """
    A house with one worker, which serves everything and must live through all of this file.
    """
    amqp_url = amqp_url if request.param == "rabbitmq" else ""
    with (
        shared_house(tmp_path_factory.mktemp("shore"), redis_url, amqp_url, patience_s=1.0, **CALM) as it,
        it.crew(1) as crew,
    ):
        yield it
        eventually(lambda: it.client.pending() == 0, FLOOD_S)
        assert 0 == crew.restarts


class Sea:
    """
    What reaches a house from outside: anything, into any queue.
    """

    def __init__(self, home: House) -> None:
        self._home = home
        self._namespace = home.settings.namespace
        self.count = 0

    @property
    def has_a_door(self) -> bool:
        return bool(self._home.settings.amqp_url)

    @contextlib.contextmanager
    def open(self) -> Iterator["Sea"]:
        """
        Connect; what was published when it ends is confirmed.
        """
        if not self.has_a_door:
            with RedisLink(self._home.settings) as link:
                self._redis = link.client
                yield self
            return
        connection = pika.BlockingConnection(pika.URLParameters(self._home.settings.amqp_url))
        self._channel: Any = connection.channel()
        yield self
        # Behind everything that was published: when it is answered that has arrived.
        self._channel.queue_declare(f"{self._namespace}.ingress", passive=True)
        connection.close()

    def into_partition(self, partition: int, body: bytes) -> None:
        self.count += 1
        if self.has_a_door:
            self._channel.basic_publish("", f"{self._namespace}.commands.{partition}", body)
        else:
            self._redis.xadd(Keys(self._namespace).commands(partition), {"m": body})

    def at_the_door(
        self, body: bytes, given: pika.BasicProperties | None = None, queue: str = "ingress"
    ) -> None:
        self.count += 1
        self._channel.basic_publish("", f"{self._namespace}.{queue}", body, given)


def flooded(home: House, sea: Sea, before: int) -> None:
    """
    Wait until all that came is dealt with: as many dead letters as there were messages.
    """
    eventually(lambda: home.client.dead_letters.count() >= before + sea.count, FLOOD_S)
    assert before + sea.count == home.client.dead_letters.count()


def peak_mb(home: House) -> int:
    """
    Return the most memory that the worker ever had.
    """
    (member,) = home.members()
    status = Path(f"/proc/{member.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


def neighbours(prefix: str, home: House, number: int) -> list[Command]:
    """
    Return a command to an instance of each of many keys, in all partitions.
    """
    keys = accounts(prefix, 30)
    assert {partition_of("ledger", key, home.settings.partitions) for key in keys} == set(
        range(home.settings.partitions)
    )
    return [Post(key, "s", number) for key in keys]


def unhurt(home: House, prefix: str, count: int) -> None:
    """
    Wait until the commands of neighbours are decided, each once and in order.
    """
    home.await_logs(**dict.fromkeys(accounts(prefix, 30), count))
    assert {tuple(range(count))} == {tuple(home.numbers(key)) for key in accounts(prefix, 30)}


def test_garbage(shore: House) -> None:
    """
    Thousands of messages of random bytes, in all queues, and commands among them.
    """
    before, sea, choice = shore.client.dead_letters.count(), Sea(shore), random.Random(4)
    shore.client.send_many(neighbours("garbage", shore, 0))
    with sea.open():
        for number in range(3_000):
            body = choice.randbytes(choice.randrange(200))
            if sea.has_a_door and number % 3 == 0:
                sea.at_the_door(body)
            else:
                sea.into_partition(number % shore.settings.partitions, body)
    shore.client.send_many(neighbours("garbage", shore, 1))

    unhurt(shore, "garbage", 2)
    flooded(shore, sea, before)


def test_names_that_nobody_knows(shore: House) -> None:
    """
    Thousands of commands of unknown types and workflows. A deploy might bring some of them, so the first are waited for;
    but not each of them anew, or the queues would stand still for hours.
    """
    before, sea = shore.client.dead_letters.count(), Sea(shore)
    partitions = shore.settings.partitions
    shore.client.send_many(neighbours("unknown", shore, 0))
    with sea.open():
        for number in range(3_000):
            workflow, tag = ("ledger", f"Nonsense{number}") if number % 2 else (f"nonsense-{number}", "Post")
            if sea.has_a_door and number % 3 == 0:
                sea.at_the_door(
                    json.dumps({"type": tag, "account": "a"}).encode(), pika.BasicProperties(type=workflow)
                )
                continue
            payload = encode({"type": tag, "account": "a", "sender": "s", "number": 1})
            envelope = [f"u-{number}", workflow, f"unknown-{number}", payload]
            sea.into_partition(partition_of(workflow, f"unknown-{number}", partitions), encode(envelope))
    shore.client.send_many(neighbours("unknown", shore, 1))

    unhurt(shore, "unknown", 2)
    flooded(shore, sea, before)


def test_depths(shore: House) -> None:
    """
    Messages that are a hundred thousand levels deep, and messages that say that they are huge and are not.
    """
    before, sea = shore.client.dead_letters.count(), Sea(shore)
    depth = 100_000
    bodies = [
        b"\x91" * depth,
        b"\x81\xa1a" * depth,
        b'{"a":' * depth,
        b"[" * depth,
        b'{"type":"Post","account":' + b"[" * depth,
        b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100,
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        encode(["d-1", "ledger", "deep", b"\x84\xa4type\xa4Post\xa7account" + b"\x91" * depth]),
    ]
    key = "deep"
    partition = partition_of("ledger", key, shore.settings.partitions)
    with sea.open():
        for body in bodies:
            if sea.has_a_door:
                sea.at_the_door(body)
                sea.at_the_door(body, pika.BasicProperties(content_type="application/json"))
            sea.into_partition(partition, body)
    shore.client.send(Post(key, "s", 1))

    shore.await_logs(deep=1)
    flooded(shore, sea, before)


def test_giants(shore: House) -> None:
    """
    Messages over the limit, over the size of a frame, and of a hundred megabytes: of the largest only the beginning is
    kept, which says what it was. The worker's memory stays within a few times the largest.
    """
    before, sea = shore.client.dead_letters.count(), Sea(shore)
    limit = shore.settings.payload_bytes_max
    partition = partition_of("ledger", "giant", shore.settings.partitions)
    sizes = [limit + 1, 2 * MB, *[20 * MB] * 10, 100 * MB]
    with sea.open():
        for number, size in enumerate(sizes):
            if sea.has_a_door and number % 2:
                head = b'{"type": "Post", "account": "giant", "sender": "'
                sea.at_the_door(head + b"x" * (size - len(head)))
            else:
                # An array that is no envelope, of as many empty arrays as there is room for: each becomes 56 bytes.
                sea.into_partition(partition, b"\xdd" + (size - 5).to_bytes(4, "big") + b"\x90" * (size - 5))
    shore.client.send(Post("giant", "s", 1))

    shore.await_logs(giant=1)
    flooded(shore, sea, before)
    letters = shore.client.dead_letters.list(limit=len(sizes))
    giants = [letter for letter in letters if "more than any may have" in letter.error]
    assert {f"the message is {size:,} bytes" for size in sizes if size >= 2 * MB} == {
        found[0] for letter in giants if (found := re.search(r"the message is [0-9,]+ bytes", letter.error))
    }
    assert all(len(letter.body) == KEPT_BYTES for letter in giants)
    assert peak_mb(shore) < 700


def test_headers_without_a_form(shore: House) -> None:
    """
    Headers that pika cannot read: the message is read without them. Those that senders forge count for nothing.
    """
    sea = Sea(shore)
    if not sea.has_a_door:
        pytest.skip("only AMQP has headers")
    before = shore.client.dead_letters.count()
    good = b'{"type": "Post", "account": "wicked", "sender": "s", "number": %d}'
    # Numbers that are none RabbitMQ itself does not take.
    wicked = [headers for name, headers in WICKED.items() if "number" not in name]
    with sea.open():
        for number, headers in enumerate(wicked):
            sea.at_the_door(good % number, Raw(properties(headers, f"w-{number}")))
        sea.count = 0
        for headers in wicked:
            sea.at_the_door(b"garbage", Raw(properties(headers)))
            sea.at_the_door(b"garbage", Raw(properties(headers)), "dead")
            sea.at_the_door(b"garbage", Raw(properties(headers)), "commands.0")
    shore.await_logs(wicked=len(wicked))

    assert list(range(len(wicked))) == shore.numbers("wicked")
    flooded(shore, sea, before)


def test_many_keys(shore: House) -> None:
    """
    Tens of thousands of instances in one worker: it keeps some of them at hand and not all, so the second half of them
    makes it hardly larger than the first.
    """
    keys = [f"many-{number}" for number in range(40_000)]
    half = len(keys) // 2
    done = shore.decided()
    shore.client.send_many(Post(key, "s", 0) for key in keys[:half])
    eventually(lambda: shore.decided() >= done + half, FLOOD_S)
    middle = peak_mb(shore)
    shore.client.send_many(Post(key, "s", 0) for key in keys[half:])
    eventually(lambda: shore.decided() >= done + len(keys), FLOOD_S)

    assert peak_mb(shore) - middle < 60
    assert [0] == shore.numbers(keys[-1])
