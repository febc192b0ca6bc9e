"""
Foreign: what other programs put into the ingress queue, with what they say beside the body.
"""

import json
from collections.abc import Sequence
from concurrent.futures import Future

import msgspec

from holdfast.actors.doorman import DOOR, DoorBatch, Doorman
from holdfast.brokers.memory import MemoryDeadLetters, MemoryServer
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.mailbox import sort
from holdfast.runtime.ports import Delivery
from tests import controls
from tests.fuzz.draw import Draw

_APP = controls.app()
_PAYLOAD_BYTES_MAX = 4_096
_TYPES = ("", "application/json", "application/msgpack", "text/plain; charset=utf-8", "text/html")

SEEDS = [
    b"\x00\x01\x00\x00\x00" + json.dumps({"type": "PlaceOrder", "order_id": "o-1"}).encode(),
    b"\x00\x02\x00\x00\x00" + msgspec.msgpack.encode({"type": "PlaceOrder", "order_id": "o-1"}),
    b"\x00\x00\x00\x00\x00" + b'{"a":' * 2_000,
    b"\x01\x0a\x03holdfast.commands.\xb2",
]


class Told:
    """
    A consumer that has nothing more, and a publisher that confirms at once and remembers.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []
        self.acked: list[Delivery] = []
        self.crowded = False

    def publish(self, partition: int, body: bytes) -> Future[None]:
        self.sent.append((partition, body))
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acked += deliveries

    def assign(self, partition: int) -> None: ...
    def revoke(self, partition: int) -> None: ...
    def give_back(self, deliveries: Sequence[Delivery]) -> None: ...
    def close(self) -> None: ...

    def outstanding(self, partition: int) -> int:
        return 0

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        return []


def check(data: bytes) -> None:
    """
    Each message at the door is sent on as a command that its partition can read, or becomes a dead letter, and is
    acknowledged.
    """
    draw = Draw(data)
    told, server = Told(), MemoryServer(controls.PARTITIONS)
    doorman = Doorman(
        _APP,
        told,
        told,
        MemoryDeadLetters(server),
        ManualClock(),
        lambda: None,
        queues=(0, 1),
        partitions=controls.PARTITIONS,
        payload_bytes_max=_PAYLOAD_BYTES_MAX,
        batch_max=10,
        patience_s=0.0,
    )
    queue = draw.below(2)
    attributes = {
        "content_type": draw.pick((*_TYPES, draw.text(20))),
        "message_id": draw.text(200),
        "type": draw.pick(("", "order", draw.text(20))),
        "traceparent": draw.text(60),
        "x-first-death-queue": draw.pick(("test.commands.1", f"test.commands.{draw.text(12)}")),
        "x-first-death-reason": draw.text(20),
    }
    # What a broker hands on is text, whatever was sent.
    attributes = {name: text.encode("utf-8", "replace").decode() for name, text in attributes.items()}
    delivery = Delivery(queue, draw.rest(), 0, 1, attributes=attributes)
    doorman.assign(DOOR)
    batch = DoorBatch([delivery])
    doorman.work(batch)
    doorman.settle(batch)

    assert [delivery] == told.acked
    assert 1 == len(told.sent) + len(server.dead)
    for partition, body in told.sent:
        found = sort(_APP, [Delivery(partition, body, 0, 1)], controls.PARTITIONS)
        (letter,) = found.mailboxes[0].letters
        assert letter.broken is None
        assert letter.stalled is None
        assert len(body) < 2 * _PAYLOAD_BYTES_MAX
        assert decode_envelope(body).id
    for dead in server.dead.values():
        assert 0 <= dead.partition < controls.PARTITIONS
        msgspec.msgpack.decode(msgspec.msgpack.encode(dead))
