"""
Frames: byte for byte what pika itself would send.
"""

from typing import Any

import pika
from pika import frame

from holdfast.brokers.rabbitmq_frames import BODY_BYTES_MAX, PIECE_BYTES, Frames

PROPERTIES = pika.BasicProperties(delivery_mode=2)
ROUTES = ["0", "1", "2"]


class Line:
    """
    A channel and its connection, which keep what is written.
    """

    channel_number = 7

    def __init__(self) -> None:
        self.connection: Any = self
        self.written: list[bytes] = []

    def _output_marshaled_frames(self, frames: list[bytes]) -> None:
        self.written += frames

    def basic_publish(
        self, exchange: str, route: str, body: bytes, properties: pika.BasicProperties, *, mandatory: bool
    ) -> None:
        assert ("commands", PROPERTIES, True) == (exchange, properties, mandatory)
        self.written.append(pikas(int(route), body))


class OtherLine(Line):
    """
    One of a pika that writes in another way.
    """

    _output_marshaled_frames = None  # type: ignore[assignment]  # as if it were not there


def pikas(partition: int, body: bytes) -> bytes:
    """
    Return a message as pika sends it.
    """
    method = pika.spec.Basic.Publish(exchange="commands", routing_key=ROUTES[partition], mandatory=True)
    frames = [frame.Method(7, method), frame.Header(7, len(body), PROPERTIES)]
    if body:
        frames.append(frame.Body(7, body))
    return b"".join(one.marshal() for one in frames)


def test_messages_are_what_pika_would_send() -> None:
    """
    Small ones, none at all, and ones that are too long to be put together with others; in order.
    """
    line = Line()
    bodies = [b"a", b"", b"x" * BODY_BYTES_MAX, b"y" * (BODY_BYTES_MAX + 1), b"\xce" * 300, b"z"]
    messages = [(number % 3, body) for number, body in enumerate(bodies)]
    Frames(line, "commands", ROUTES, PROPERTIES).publish(messages)

    assert b"".join(pikas(*message) for message in messages) == b"".join(line.written)


def test_small_messages_go_together() -> None:
    """
    In pieces of a bounded size.
    """
    line = Line()
    messages = [(1, b"x" * 100)] * 2_000
    Frames(line, "commands", ROUTES, PROPERTIES).publish(messages)

    assert b"".join(pikas(*message) for message in messages) == b"".join(line.written)
    assert 1 < len(line.written) < 10
    assert max(map(len, line.written)) < 3 * PIECE_BYTES


def test_nothing_is_written_for_nothing() -> None:
    """
    A batch of no messages leaves the connection alone.
    """
    line = Line()
    Frames(line, "commands", ROUTES, PROPERTIES).publish([])

    assert [] == line.written


def test_another_pika_sends_one_at_a_time() -> None:
    """
    Where pika no longer has what this leans on, its public way is taken.
    """
    line = OtherLine()
    Frames(line, "commands", ROUTES, PROPERTIES).publish([(0, b"a"), (1, b"b")])

    assert [pikas(0, b"a"), pikas(1, b"b")] == line.written
