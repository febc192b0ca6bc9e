"""
Envelopes: bytes in a partition's queue, whoever put them there.
"""

from holdfast.runtime.codec import decode_envelope, encode, encode_envelope
from holdfast.runtime.errors import Undecodable
from holdfast.runtime.mailbox import sort
from holdfast.runtime.message import Envelope
from holdfast.runtime.ports import Delivery
from tests import controls
from tests.fuzz.draw import Draw

_APP = controls.app()

SEEDS = [
    b"\x00" + encode_envelope(controls.envelope()),
    b"\x01",
    b"\x02\x05order\x00\x03o-1",
    b"\x00" + encode(["c-1", "order", "o-1", b"\x81\xa4type\xacholdfast.Pause"]),
    b"\x00" + b"\x91" * 3_000,
    b"\x00\xdd\xff\xff\xff\xff",
]


def check(data: bytes) -> None:
    """
    An envelope is read, and reads the same when it was written again, or else Undecodable says why not. Each delivery
    of a batch ends in one place: in a mailbox, or among what cannot be read.
    """
    draw = Draw(data)
    kind = draw.below(3)
    if kind == 0:
        body = draw.rest()
    elif kind == 1:
        body = encode(["c-1", "order", "o-1", draw.rest()])
    else:
        names = [draw.text().encode("utf-8", "replace").decode() for _ in range(3)]
        body = encode(
            [*names, draw.take(100), draw.number() % 2**63, *([draw.text(8).isascii()] * draw.below(3))]
        )
    try:
        envelope: Envelope | None = decode_envelope(body)
    except Undecodable:
        envelope = None
    if envelope is not None:
        assert envelope == decode_envelope(encode_envelope(envelope))

    neighbour = controls.delivery(command_id="neighbour")
    batch = [Delivery(partition, body, 0, partition) for partition in range(controls.PARTITIONS)]
    found = sort(_APP, [neighbour, *batch], controls.PARTITIONS)
    letters = [letter.delivery for box in found.mailboxes for letter in box.letters]
    assert sorted(map(id, [neighbour, *batch])) == sorted(
        map(id, [*letters, *(delivery for _, delivery, _ in found.unreadable)])
    )
    assert neighbour in letters
