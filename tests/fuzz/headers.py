"""
Headers: what a sender says beside the body of a message, as the broker hands it on.
"""

import struct
from typing import Any

import pika
from pika import frame, spec

from holdfast.brokers.rabbitmq_headers import content_header_in, properties_in
from holdfast.brokers.rabbitmq_line import delivered
from tests.fuzz.draw import Draw


def table(*fields: tuple[str, bytes, bytes]) -> bytes:
    """
    Return a table of headers: (name, kind, the bytes of the value).
    """
    inside = b"".join(bytes((len(name),)) + name.encode() + kind + value for name, kind, value in fields)
    return struct.pack(">I", len(inside)) + inside


def properties(headers: bytes, message_id: str = "m-1") -> bytes:
    """
    Return the properties of a message with these headers and an id, as they travel.
    """
    flags = pika.BasicProperties.FLAG_HEADERS | pika.BasicProperties.FLAG_MESSAGE_ID
    return struct.pack(">H", flags) + headers + bytes((len(message_id),)) + message_id.encode()


def nested(depth: int) -> bytes:
    """
    Return tables inside tables.
    """
    inside = table()
    for _ in range(depth):
        inside = table(("a", b"F", inside))
    return inside


#: Headers that a broker takes and that have no form in Python, or one that is not meant.
WICKED = {
    "a date after the last": table(("when", b"T", b"\xff" * 8)),
    "an infinite number": table(("many", b"d", struct.pack(">d", float("inf")))),
    "no number": table(("many", b"f", struct.pack(">f", float("nan")))),
    "tables in tables": table(("deep", b"F", nested(2_000))),
    "a count that is text": table(("x-delivery-count", b"S", struct.pack(">I", 3) + b"abc")),
    "a count that is a table": table(("x-delivery-count", b"F", table())),
    "a huge count": table(("x-delivery-count", b"l", struct.pack(">q", 2**62))),
    "a queue that is none": table(("x-first-death-queue", b"S", struct.pack(">I", 6) + b"a.\xc2\xb2.9")),
    "a queue of digits": table(
        ("x-first-death-queue", b"S", struct.pack(">I", 5_002) + b"a." + b"9" * 5_000)
    ),
}

SEEDS = [bytes((0,)) + properties(headers) for headers in WICKED.values()] + [b"\x01\x02", b"\x02abc"]


def check(data: bytes) -> None:
    """
    Properties are read, all of them or what can be read, and a delivery is made of them; nothing fails.
    """
    draw = Draw(data)
    given = draw.rest() if draw.below(2) else properties(table(*_fields(draw)), "m-1")
    found = properties_in(given)
    _delivery(found, redelivered=len(data) % 2 == 1)

    header = struct.pack(">HHQ", spec.Basic.INDEX, 0, 7) + given
    framed = struct.pack(">BHL", spec.FRAME_HEADER, 1, len(header)) + header + bytes((spec.FRAME_END,))
    size, made = content_header_in(framed + b"more") or (0, None)
    if len(given) >= 2:
        assert size == len(framed)
        assert isinstance(made, frame.Header)
        assert made.body_size == 7
    assert content_header_in(framed[:-1]) is None


def _fields(draw: Draw) -> list[tuple[str, bytes, bytes]]:
    names = ("x-delivery-count", "traceparent", "x-first-death-queue", "other")
    return [
        (
            draw.pick(names),
            draw.pick([bytes((kind,)) for kind in b"tbBUusIiLlfdDSxATFVq"]),
            draw.take(draw.below(20)),
        )
        for _ in range(draw.below(5))
    ]


def _delivery(found: Any, *, redelivered: bool) -> None:
    delivery = delivered(0, b"body", found, 1, 1_024, redelivered=redelivered)
    assert type(delivery.redeliveries) is int, "what is kept of it could not be stored"
    assert 0 <= delivery.redeliveries <= 2**31
    assert redelivered or delivery.redeliveries == 0
    for value in (delivery.attributes or {}).values():
        assert isinstance(value, str)
