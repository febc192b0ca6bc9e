"""
Edits: what a person makes of a dead letter, whose bytes may be anything.
"""

import json
from typing import Any

from holdfast.actors.dead_letters import DeadLetterDesk, Means
from holdfast.brokers.memory import MemoryDeadLetters, MemoryPublisher, MemoryServer
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.dead_letter import KINDS
from holdfast.runtime.errors import UsageError
from holdfast.runtime.mailbox import sort
from tests import controls
from tests.fuzz.draw import Draw

_APP = controls.app()
_BODIES = (encode_envelope(controls.envelope()), encode(controls.effect()), b"", b"{broken")
_CONTENTS: tuple[Any, ...] = (
    {"order_id": "o-1", "amount": 7},
    {"type": "PlaceOrder", "order_id": "o-1"},
    {"type": "ChargeCard", "order_id": "o-1", "amount": 1},
    {"order_id": "another"},
    {"type": ["PlaceOrder"]},
    [],
)

SEEDS = [bytes((kind, body, 1, content)) for kind in range(5) for body in range(4) for content in range(6)]


def check(data: bytes) -> None:
    """
    A letter is sent again, and forgotten, or it stays and a sentence says what does not fit.
    """
    draw = Draw(data)
    server = MemoryServer(controls.PARTITIONS)
    letters = MemoryDeadLetters(server)
    kind = draw.pick(KINDS)
    body = draw.pick((*_BODIES, draw.take(draw.below(200))))
    letter = controls.dead_letter(
        kind=kind, body=body, partition=controls.ref().partition, command_id=draw.pick(("c-1", ""))
    )
    letters.add([letter])
    means = Means(
        MemoryPublisher(server), controls.PARTITIONS, _APP, payload_bytes_max=4_096, clock=ManualClock()
    )
    desk = DeadLetterDesk(letters, means)
    content = json.dumps(draw.pick(_CONTENTS)).encode() if draw.whether() else draw.rest()
    try:
        done = desk.edit(letter.id, content) if draw.below(8) != 1 else desk.retry(letter.id)
    except UsageError:
        assert letters.get(letter.id) == letter
        return
    assert done
    assert letters.get(letter.id) is None
    for partition, queue in server.queues.items():
        found = sort(_APP, list(queue), controls.PARTITIONS)
        assert not found.unreadable, partition
        assert all(one.broken is None for box in found.mailboxes for one in box.letters)
