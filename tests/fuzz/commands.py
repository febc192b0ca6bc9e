"""
Commands: what reaches an instance in an envelope that can be read, and the turn that deals with it.
"""

from typing import Any

import msgspec

from holdfast.brokers.memory import MemoryAnswers, MemoryJournal, MemoryServer
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.codec import encode
from holdfast.runtime.control import TARGETS
from holdfast.runtime.message import Envelope
from holdfast.runtime.ports import Delivery
from holdfast.runtime.turn import Limits, Turn
from tests import controls
from tests.fuzz.draw import Draw

_APP = controls.app()
#: Small, so that a record can be over it where its command is not.
_PAYLOAD_BYTES_MAX = 1_024
_TAGS = tuple(kind.__struct_config__.tag for kind in TARGETS)

SEEDS = [
    b"\x00\x00" + encode(controls.PlaceOrder("o-1")),
    b"\x01\x00\x10" + b"because" * 3,
    b"\x01\x02\x10" + b"because" * 3,
    b"\x02\x40" + b"long" * 30,
    b"\x00\x00" + b"\x81\xa1a" * 500,
]


def check(data: bytes) -> None:
    """
    Whatever a command says, its turn comes to an end: it is done with, once, and its neighbours are decided.
    """
    draw = Draw(data)
    server = MemoryServer(controls.PARTITIONS)
    answers = MemoryAnswers(server)
    limits = Limits(payload_bytes_max=_PAYLOAD_BYTES_MAX, patience_s=0.0)
    turn = Turn(
        _APP,
        MemoryJournal(server),
        answers,
        answers,
        owner="me",
        clock=ManualClock(),
        partitions=controls.PARTITIONS,
        limits=limits,
    )
    partition = controls.ref().partition
    assert len(turn.run([_delivery("first", controls.PlaceOrder("o-1"))]).done) == 1
    batch = [_delivery(f"c-{number}", _payload(draw)) for number in range(draw.below(3) + 1)]
    last = _delivery("last", controls.CancelOrder("o-1"))
    result = turn.run([*batch, last])
    if result.deferred:
        result.done += turn.run(result.deferred).done
    assert sorted(map(id, [*batch, last])) == sorted(map(id, result.done))
    for letter in result.dead:
        assert letter.partition == partition
        # What is kept beside the bytes that came does not grow with them.
        assert len(encode(letter)) - len(letter.body) <= 50_000


def _delivery(command_id: str, content: Any) -> Delivery:
    payload = content if isinstance(content, bytes) else encode(content)
    envelope = Envelope(command_id, "order", "o-1", payload, reply_to="me/1")
    return Delivery(controls.ref().partition, encode(envelope), 0, command_id)


def _payload(draw: Draw) -> Any:
    kind = draw.below(4)
    if kind == 0:
        return draw.take(draw.below(2_000))
    values: dict[str, Any] = {"type": draw.pick(_TAGS)}
    if kind == 1:
        values["reason"] = _storable(draw.text()) * draw.pick((1, 20, 1_000))
    elif kind == 2:
        values |= {name: draw.number() % 2**64 for name in ("resume_at_ms", "resume_after_ms")}
    else:
        values = {"type": draw.pick(("PlaceOrder", "CancelOrder", "ConfirmPayment", "Nonsense"))}
        values |= {"order_id": "o-1", "amount": draw.number() % 2**63, "reason": _storable(draw.text())}
    return msgspec.msgpack.encode(values)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
