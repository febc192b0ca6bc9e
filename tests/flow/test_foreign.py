"""
Programs that know nothing of Holdfast send commands to the ingress queue.
"""

import json
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from holdfast import DeadLetter, UsageError
from holdfast.runtime.keys import partition_of
from tests.flow.house import CALM, House, shared_house
from tests.flow.shop import NextLedger, Post
from tests.support.processes import eventually

#: Publishes what its standard input says, with plain pika: a line for each message, with the queue and the properties.
PUBLISH = """
import json, sys, pika
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.confirm_delivery()
for line in sys.stdin:
    message = json.loads(line)
    queue, body = message.pop("queue"), bytes.fromhex(message.pop("body"))
    channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2, **message), mandatory=True)
connection.close()
assert not [name for name in sys.modules if name.startswith("holdfast")]
"""

#: {"type": "Post", "account": "m", "sender": "s", "number": 7} as another language's msgpack would write it.
MSGPACK = bytes.fromhex("84a474797065a4506f7374a76163636f756e74a16da673656e646572a173a66e756d62657207")


@pytest.fixture(scope="module")
def door(redis_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """
    A house on RabbitMQ, where other programs can reach it, with a worker that the tests of this file share.
    """
    folder = tmp_path_factory.mktemp("door")
    with shared_house(folder, redis_url, amqp_url, patience_s=1.0, **CALM) as it, it.crew(1):
        yield it
        # Everything that was put into any queue was taken out of it.
        eventually(lambda: it.client.pending() == 0)


class Message(msgspec.Struct, omit_defaults=True):
    """
    A message of a program that knows nothing of Holdfast; without a queue it goes to the door.
    """

    body: bytes
    content_type: str = ""
    message_id: str = ""
    type: str = ""
    queue: str = ""


def publish(home: House, *messages: Message) -> None:
    """
    Have a program that knows nothing of Holdfast publish messages in order, and wait until they are confirmed.
    """
    lines = []
    for message in messages:
        queue = message.queue or f"{home.settings.namespace}.ingress"
        fields = msgspec.structs.asdict(message) | {"queue": queue, "body": message.body.hex()}
        lines.append(json.dumps({name: value for name, value in fields.items() if value or name == "body"}))
    command = [sys.executable, "-c", PUBLISH, home.settings.amqp_url]
    subprocess.run(command, input="\n".join(lines), text=True, check=True)


def post(key: str, number: int, message_id: str = "", **properties: str) -> Message:
    body = f'{{"type": "Post", "account": "{key}", "sender": "s", "number": {number}}}'
    return Message(body.encode(), message_id=message_id, **properties)


def test_json_is_decided(door: House) -> None:
    """
    JSON messages from a program that knows only pika are decided, in the order sent.
    """
    publish(door, *(post("json", number, content_type="application/json") for number in range(20)))
    door.await_logs(json=20)

    assert list(range(20)) == door.numbers("json")


def test_msgpack_is_decided(door: House) -> None:
    """
    A msgpack message is decided, and so is one that does not say what it is.
    """
    publish(door, Message(MSGPACK, content_type="application/msgpack"), Message(MSGPACK), post("m", 8))
    door.await_logs(m=3)

    assert [7, 7, 8] == door.numbers("m")


def test_a_message_id_is_decided_once(door: House) -> None:
    """
    A message that is published again under its id is recognised, at once and after the first was decided.
    """
    publish(door, post("id", 1, "import-1"), post("id", 1, "import-1"), post("id", 2, "import-2"))
    door.await_logs(id=2)
    publish(door, post("id", 1, "import-1"), post("id", 3, "import-3"))
    door.await_logs(id=3)

    assert [1, 2, 3] == door.numbers("id")
    records = door.client.history(NextLedger, "id")
    assert ["import-1", "import-2", "import-3"] == [record.command_id for record in records]


#: What is no command, and what its dead letter says of it.
NO_COMMANDS: list[tuple[Message, str]] = [
    (Message(b""), "no msgpack"),
    (Message(b"\xff\xfe garbage"), "no msgpack"),
    (Message(b"{broken"), "no JSON"),
    (Message(b'{"type": "Post", "account": "a"}'), "sender"),
    (
        Message(b'{"type": "Nonsense", "account": "a"}'),
        "no workflow of this process has a command 'Nonsense'",
    ),
    (Message(b'{"account": "a"}'), "must be a map with `type`"),
    (Message(b'{"type": "Post", "account": "", "sender": "s", "number": 1}'), "is empty"),
    (Message(b'{"type": "Post", "account": 1.5, "sender": "s", "number": 1}'), "Post for Ledger"),
    # An upcaster that raises, as user code may.
    (Message(b'{"type": "OldPost", "account": "a"}', type="ledger"), "KeyError: 'amount'"),
    (post("html", 1, content_type="text/html"), "neither application/json nor application/msgpack"),
    (post("kind", 1, type="nonsense"), "knows no workflow 'nonsense'"),
]


def await_letters(home: House, kind: str, count: int) -> dict[bytes, DeadLetter]:
    """
    Wait for so many dead letters of a kind, and return them by their bytes: what came with them may be decided before
    they are written.
    """
    eventually(lambda: len(home.client.dead_letters.list(kind=kind)) >= count)
    return {letter.body: letter for letter in home.client.dead_letters.list(kind=kind)}


def test_what_cannot_be_decided_is_kept(door: House) -> None:
    """
    Messages that are no commands become dead letters, each with its bytes and the reason, and the next one goes on.
    """
    publish(door, *(message for message, _ in NO_COMMANDS), post("next", 1))
    door.await_logs(next=1)
    letters = await_letters(door, "ingress", len(NO_COMMANDS))

    assert {message.body for message, _ in NO_COMMANDS} == set(letters)
    for message, reason in NO_COMMANDS:
        assert reason in letters[message.body].error
    with pytest.raises(UsageError, match="holds no command that could be sent again"):
        door.client.dead_letters.retry(letters[b"{broken"].id)


def test_garbage_in_a_partition_queue_is_kept(door: House) -> None:
    """
    Bytes that somebody puts straight into a partition's queue become a dead letter, and the next one goes on.
    """
    partition = partition_of("ledger", "after", door.settings.partitions)
    queue = f"{door.settings.namespace}.commands.{partition}"
    publish(door, Message(b"garbage", queue=queue), Message(b"", queue=queue))
    door.client.send(Post("after", "s", 1))
    door.await_logs(after=1)

    letters = await_letters(door, "command", 2)
    assert {b"garbage", b""} == set(letters)
    assert {(partition, "command")} == {(letter.partition, letter.kind) for letter in letters.values()}
