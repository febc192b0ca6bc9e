"""
What comes over a line to RabbitMQ is read as pika reads it, however it is cut into pieces: each channel's messages in order.
"""

from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from holdfast.brokers.rabbitmq_connection import Connection, Plain, plain_in

#: Who takes plain messages, and who does not.
TAKEN, OTHER = 1, 2


def marshalled(
    channel: int,
    tag: int,
    body: bytes,
    properties: pika.BasicProperties,
    *,
    redelivered: bool = False,
    pieces: int = 1,
) -> bytes:
    """
    Return a message as the broker writes it, its body in so many frames.
    """
    deliver = spec.Basic.Deliver(str(channel), tag, redelivered, "exchange", "key")
    written = (
        frame.Method(channel, deliver).marshal() + frame.Header(channel, len(body), properties).marshal()
    )
    step = -(-len(body) // pieces) or 1
    return written + b"".join(
        frame.Body(channel, body[start : start + step]).marshal() for start in range(0, len(body), step)
    )


PLAIN = pika.BasicProperties(delivery_mode=2)
HEADED = pika.BasicProperties(delivery_mode=2, headers={"x-delivery-count": 3})


class Line(Connection):
    """
    A connection without a server: notes by channel the bodies that came, and how.
    """

    def __init__(self) -> None:
        self.takers = {TAKEN: self._take_plain}
        self._frame_buffer = b""
        self.bytes_received = self.frames_received = 0
        self.came: dict[int, list[tuple[int, bool, bytes]]] = {}
        self.quick = 0
        self.others: list[Any] = []
        self._begun: dict[int, list[Any]] = {}

    def _take_plain(self, messages: list[Plain]) -> None:
        assert TAKEN not in self._begun, "a message overtook one that had begun"
        self.quick += len(messages)
        self.came.setdefault(TAKEN, []).extend(messages)

    def _process_frame(self, found: Any) -> None:
        self.frames_received += 1
        if isinstance(found, frame.Method) and isinstance(found.method, spec.Basic.Deliver):
            self._begun[found.channel_number] = [found.method, None, b""]
        elif isinstance(found, frame.Header):
            self._begun[found.channel_number][1] = found.body_size
        elif isinstance(found, frame.Body):
            self._begun[found.channel_number][2] += found.fragment
        else:
            self.others.append(found)
            return
        begun = self._begun[found.channel_number]
        if begun[1] == len(begun[2]):
            del self._begun[found.channel_number]
            method, _, body = begun
            self.came.setdefault(found.channel_number, []).append(
                (method.delivery_tag, method.redelivered, body)
            )

    def feed(self, data: bytes) -> None:
        self._on_data_available(data)


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[int, bytes, bool, bytes]]:
    """
    Return messages of two channels: (channel, body, redelivered, as written), some plain and some not, and heartbeats.
    """
    found = []
    for tag in range(1, draw(st.integers(0, 12)) + 1):
        channel = draw(st.sampled_from([TAKEN, TAKEN, TAKEN, OTHER]))
        body = draw(st.binary(max_size=40))
        again = draw(st.booleans())
        pieces = draw(st.sampled_from([1, 1, 1, 2]))
        properties = draw(st.sampled_from([PLAIN, PLAIN, PLAIN, HEADED, pika.BasicProperties()]))
        written = marshalled(channel, tag, body, properties, redelivered=again, pieces=pieces)
        if draw(st.integers(0, 5)) == 0:
            written += frame.Heartbeat().marshal()
        found.append((channel, body, again, written))
    return found


@given(messages(), st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_every_message_arrives_once_and_in_order(
    sent: list[tuple[int, bytes, bool, bytes]], cuts: list[int]
) -> None:
    """
    However what is read is cut into pieces.
    """
    line = Line()
    data = b"".join(written for *_, written in sent)
    at = turn = 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        line.feed(data[at : at + size])
        at, turn = at + size, turn + 1

    expected: dict[int, list[tuple[int, bool, bytes]]] = {}
    for tag, (channel, body, again, _) in enumerate(sent, 1):
        expected.setdefault(channel, []).append((tag, again, body))
    assert expected == {channel: [tuple(one) for one in came] for channel, came in line.came.items()}
    assert line._frame_buffer == b""
    assert line.bytes_received == len(data)


def test_plain_messages_never_pass_through_pika() -> None:
    """
    Also when a piece ends in the middle of one, again and again.
    """
    line = Line()
    data = b"".join(marshalled(TAKEN, tag, b"x" * 200, PLAIN) for tag in range(1, 101))
    for start in range(0, len(data), 1_000):
        line.feed(data[start : start + 1_000])

    assert line.quick == 100
    assert line.frames_received == 300


def test_after_one_of_another_shape_the_quick_way_goes_on() -> None:
    line = Line()
    line.feed(
        marshalled(TAKEN, 1, b"a", PLAIN)
        + marshalled(TAKEN, 2, b"b", HEADED)
        + marshalled(TAKEN, 3, b"c", PLAIN)
        + marshalled(TAKEN, 4, b"d", PLAIN)
    )
    assert line.quick == 3
    assert [body for _, _, body in line.came[TAKEN]] == [b"a", b"b", b"c", b"d"]


def test_without_a_taker_everything_is_pikas() -> None:
    line = Line()
    line.takers = {}
    line.feed(marshalled(TAKEN, 1, b"a", PLAIN))
    assert line.quick == 0
    assert line.came == {TAKEN: [(1, False, b"a")]}


@pytest.mark.parametrize("at", [0, 3])
@given(data=st.binary(max_size=120))
def test_any_bytes_at_all_are_no_harm(at: int, data: bytes) -> None:
    """
    What is no plain message is left to pika, wherever it stops being one.
    """
    whole = marshalled(TAKEN, 1, b"abc", PLAIN)
    run = plain_in(b"?" * at + whole + data, at, TAKEN)
    assert run.messages[0] == (1, False, b"abc")
    assert run.end >= at + len(whole)
    for end in range(len(whole)):
        assert plain_in(whole[:end], 0, TAKEN).messages == []
    for place in range(len(whole)):
        plain_in(whole[:place] + data + whole[place:], 0, TAKEN)
