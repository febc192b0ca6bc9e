"""Frames: many small messages written to a RabbitMQ connection as few large pieces of bytes.

pika hands each message to the socket as three frames of its own, each with a system call, and builds two of them anew
that hardly differ. That is most of what a publish costs. Here the frames of one batch are put together as AMQP 0-9-1
lays them out:

    method   1 | channel | size | Basic.Publish: exchange, routing key | CE     the same for all of a partition
    header   2 | channel | size | class, weight, body size, properties | CE     the same but for the body size
    body     3 | channel | size | body                                 | CE
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import pika
from pika import frame

#: Whatever was negotiated, a frame may have 4,096 bytes. What is longer takes pika's own way.
BODY_BYTES_MAX = 4_000
#: How much is handed over at a time.
PIECE_BYTES = 64 * 1024

_END = b"\xce"
_BODY_HEAD = struct.Struct(">BHI")
#: Where in a header frame the size of the body is.
_SIZE_AT, _SIZE_END = 11, 19
_SIZE = struct.Struct(">Q")


class Frames:
    """Publishes on one channel, in order."""

    def __init__(
        self, channel: Any, exchange: str, routes: Sequence[str], properties: pika.BasicProperties
    ) -> None:
        self._channel = channel
        self._exchange = exchange
        self._routes = routes
        self._properties = properties
        number = channel.channel_number
        self._methods = [
            frame.Method(
                number, pika.spec.Basic.Publish(exchange=exchange, routing_key=route, mandatory=True)
            ).marshal()
            for route in routes
        ]
        header = frame.Header(number, 0, properties).marshal()
        self._header_start, self._header_end = header[:_SIZE_AT], header[_SIZE_END:]
        # What pika itself writes frames with; a version without it gets one message at a time.
        self._write: Any = getattr(channel.connection, "_output_marshaled_frames", None)

    def publish(self, messages: Iterable[tuple[int, bytes]]) -> None:
        """Send messages: (partition, body)."""
        pieces: list[bytes] = []
        size = 0
        for partition, body in messages:
            if self._write is None or not 0 < len(body) <= BODY_BYTES_MAX:
                self._flush(pieces)
                size = 0
                self._channel.basic_publish(
                    self._exchange, self._routes[partition], body, self._properties, mandatory=True
                )
                continue
            pieces += (
                self._methods[partition],
                self._header_start,
                _SIZE.pack(len(body)),
                self._header_end,
                _BODY_HEAD.pack(pika.spec.FRAME_BODY, self._channel.channel_number, len(body)),
                body,
                _END,
            )
            size += len(body)
            if size >= PIECE_BYTES:
                self._flush(pieces)
                size = 0
        self._flush(pieces)

    def _flush(self, pieces: list[bytes]) -> None:
        if pieces:
            self._write([b"".join(pieces)])
            pieces.clear()
