"""
Programs that know nothing of Holdfast send commands to the ingress queue.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import DeadLetter
from tests.flow.house import House, house, quick
from tests.flow.shop import NextLedger
from tests.support.processes import eventually

#: Publishes one message with plain pika. Its arguments: URL, queue, body as hex, content type, message id, type.
PUBLISH = """
import sys, pika
url, queue, body, content_type, message_id, kind = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.confirm_delivery()
properties = pika.BasicProperties(
    content_type=content_type or None, message_id=message_id or None, type=kind or None, delivery_mode=2
)
channel.basic_publish("", queue, bytes.fromhex(body), properties, mandatory=True)
connection.close()
assert not [name for name in sys.modules if name.startswith("holdfast")]
"""

#: {"type": "Post", "account": "m", "sender": "s", "number": 7} as another language's msgpack would write it.
MSGPACK = bytes.fromhex("84a474797065a4506f7374a76163636f756e74a16da673656e646572a173a66e756d62657207")


@pytest.fixture
def home(redis_url: str, amqp_url: str, namespace: str, tmp_path: Path) -> Iterator[House]:
    """
    A house on RabbitMQ, where other programs can reach it, with a worker.
    """
    with house(quick(namespace, redis_url, amqp_url, patience_s=1.0), tmp_path) as it, it.crew(1):
        yield it


def publish(  # the properties of one message
    home: House, body: bytes, *, content_type: str = "", message_id: str = "", kind: str = "", queue: str = ""
) -> None:
    queue = queue or f"{home.settings.namespace}.ingress"
    arguments = [home.settings.amqp_url, queue, body.hex(), content_type, message_id, kind]
    subprocess.run([sys.executable, "-c", PUBLISH, *arguments], check=True)


def numbers(home: House, key: str) -> list[int]:
    return [event.number for record in home.client.history(NextLedger, key) for event in record.events]


def await_letter(home: House) -> DeadLetter:
    eventually(lambda: home.client.dead_letters.count() == 1)
    return home.client.dead_letters.list()[0]


def post(key: str, number: int) -> bytes:
    return f'{{"type": "Post", "account": "{key}", "sender": "s", "number": {number}}}'.encode()


def test_json_is_decided(home: House) -> None:
    """A JSON message from a program that knows only pika is decided, in the order sent."""
    for number in range(3):
        publish(home, post("j", number), content_type="application/json")

    home.client.wait(NextLedger, "j", until=lambda state: state.count == 3)

    assert [0, 1, 2] == numbers(home, "j")


def test_msgpack_is_decided(home: House) -> None:
    """A msgpack message is decided, and so is one that does not say what it is."""
    publish(home, MSGPACK, content_type="application/msgpack")
    publish(home, MSGPACK)
    publish(home, post("m", 8))

    home.client.wait(NextLedger, "m", until=lambda state: state.count == 3)

    assert [7, 7, 8] == numbers(home, "m")


def test_a_message_id_is_decided_once(home: House) -> None:
    """A message that is published again under its id is recognised."""
    publish(home, post("i", 1), message_id="import-1")
    publish(home, post("i", 1), message_id="import-1")
    publish(home, post("i", 2), message_id="import-2")

    home.client.wait(NextLedger, "i", until=lambda state: state.count == 2)

    assert [1, 2] == numbers(home, "i")
    assert ["import-1", "import-2"] == [record.command_id for record in home.client.history(NextLedger, "i")]


#: What is no command: its bytes, the properties that it comes with, and what the dead letter says of it.
NO_COMMANDS: list[tuple[bytes, dict[str, str], str]] = [
    (b"\xff\xfe garbage", {}, "no msgpack"),
    (b"{broken", {}, "no JSON"),
    (b'{"type": "Post", "account": "a"}', {}, "sender"),
    (b'{"type": "Nonsense", "account": "a"}', {}, "no workflow of this process has a command 'Nonsense'"),
    (b'{"account": "a"}', {}, "must be a map with `type`"),
    (b'{"type": "Post", "account": "", "sender": "s", "number": 1}', {}, "is empty"),
    (b'{"type": "Post", "account": 1.5, "sender": "s", "number": 1}', {}, "Post for Ledger"),
    (post("html", 1), {"content_type": "text/html"}, "neither application/json nor application/msgpack"),
    (post("kind", 1), {"kind": "nonsense"}, "knows no workflow 'nonsense'"),
]


def test_what_cannot_be_decided_is_kept(home: House) -> None:
    """
    Messages that are no commands become dead letters, each with its bytes and the reason, and the next one goes on.
    """
    for body, properties, _ in NO_COMMANDS:
        publish(home, body, **properties)
    publish(home, post("next", 1))

    home.client.wait(NextLedger, "next", until=lambda state: state.count == 1)
    letters = {letter.body: letter.error for letter in home.client.dead_letters.list()}

    assert {body for body, _, _ in NO_COMMANDS} == set(letters)
    assert [] == [(reason, letters[body]) for body, _, reason in NO_COMMANDS if reason not in letters[body]]


def test_garbage_in_a_partition_queue_is_kept(home: House) -> None:
    """Bytes that somebody puts straight into a partition's queue become a dead letter, and the next one goes on."""
    publish(home, b"garbage", queue=f"{home.settings.namespace}.commands.3")

    letter = await_letter(home)

    assert (b"garbage", 3, "command") == (letter.body, letter.partition, letter.kind)
    publish(home, post("next", 1))
    home.client.wait(NextLedger, "next", until=lambda state: state.count == 1)
