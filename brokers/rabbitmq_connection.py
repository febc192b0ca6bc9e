"""pika's connection, which survives messages whose properties it cannot read, and takes plain ones many at a time.

pika makes eight objects of a delivery, copies what is left of its buffer three times, and looks for callbacks three
times: a third of what a busy worker does. What Holdfast sends comes in one shape, as AMQP 0-9-1 lays it out,

    method   1 | channel | size | Basic.Deliver: consumer tag, delivery tag, redelivered, exchange, routing key | CE
    header   2 | channel | 15   | class, weight, body size, flags: delivery mode only, 2                       | CE
    body     3 | channel | size | body                                                                         | CE

and where a channel's owner asked for it, runs of such messages are read here and handed over together. Whatever has
another shape, or is not all there yet, goes pika's own way, and so does everything of every other channel. Neither way
overtakes the other: they read one buffer, from its front, and what pika has begun on does not begin with its method.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from pika import spec
from pika.adapters.select_connection import SelectConnection

from holdfast.brokers.rabbitmq_headers import content_header_in

_FRAME_HEAD = struct.Struct(">BHL")
_DELIVER = struct.pack(">I", spec.Basic.Deliver.INDEX)
#: Behind the consumer tag, which says how long it is: the delivery tag, and whether it is handed out again.
_TAG = struct.Struct(">QB")
#: A header with the delivery mode alone, behind its channel: its size, class and weight; the body size; the rest.
_HEADER_START = struct.pack(">LHH", 15, spec.Basic.INDEX, 0)
_HEADER_END = struct.pack(">HB", 0x1000, 2) + b"\xce"
_HEADER_SIZE = _FRAME_HEAD.size + 15 + 1
_BODY_SIZE = struct.Struct(">Q")
_END = 0xCE


class Plain(NamedTuple):
    """A message without any properties but that it is to survive."""

    tag: int
    redelivered: bool
    body: bytes


class Run(NamedTuple):
    """Plain messages that follow one another."""

    messages: list[Plain]
    #: Where the last of them ends.
    end: int
    #: Whether what follows may be another, of which not all is there.
    cut: bool = False


NOTHING = Run([], 0)


class Connection(SelectConnection):
    """A connection whose channels may have takers of plain messages."""

    def __init__(self, *args: Any, **others: Any) -> None:
        #: By channel number, who takes the plain messages that come over it.
        self.takers: dict[int, Callable[[list[Plain]], None]] = {}
        super().__init__(*args, **others)

    def _on_data_available(self, data_in: bytes) -> None:
        """Do what pika does with what comes over the line, but for plain messages that somebody takes."""
        self._frame_buffer: bytes = self._frame_buffer + data_in
        while self._frame_buffer:
            if self.takers and self._take():
                return
            size, found = self._read_frame()
            if not found:
                return
            self._trim_frame_buffer(size)  # type: ignore[attr-defined]  # as below
            self._process_frame(found)  # type: ignore[attr-defined]  # as above

    def _take(self) -> bool:
        """Hand over the plain messages that the buffer begins with; return whether more must come before all else."""
        data, at = self._frame_buffer, 0
        while True:
            channel = _channel_of(data, at)
            taker = self.takers.get(channel)
            run = plain_in(data, at, channel) if taker is not None else NOTHING
            if not run.messages:
                break
            self.frames_received += 3 * len(run.messages)  # type: ignore[attr-defined]  # its types leave out what is not for everyone
            at = run.end
            assert taker is not None  # noqa: S101 - whose messages these are
            taker(run.messages)
        if at:
            self._trim_frame_buffer(at)  # type: ignore[attr-defined]  # as above
        return run.cut or at == len(data)

    def _read_frame(self) -> Any:
        try:
            return super()._read_frame()  # type: ignore[misc]  # as above
        except Exception:
            found = content_header_in(self._frame_buffer)
            if found is None:
                raise
            return found


def _channel_of(data: bytes, at: int) -> int:
    """Return the channel of the frame that begins at a place; -1 where there is none to be seen."""
    return int.from_bytes(data[at + 1 : at + 3], "big") if len(data) >= at + 3 else -1


def plain_in(data: bytes, at: int, channel: int) -> Run:
    """Return the plain messages of a channel that begin at a place, one after the other."""
    found: list[Plain] = []
    header_start = struct.pack(">BH", spec.FRAME_HEADER, channel) + _HEADER_START
    length = len(data)
    while (start := at + _FRAME_HEAD.size) + len(_DELIVER) <= length:
        kind, number, size = _FRAME_HEAD.unpack_from(data, at)
        if kind != spec.FRAME_METHOD or number != channel or not data.startswith(_DELIVER, start):
            return Run(found, at)
        # Nothing is waited for but what must come: after this a header of at least so many bytes, and so on.
        header = start + size + 1
        if length < header + len(header_start):
            return Run(found, at, cut=True)
        if data[header - 1] != _END or not data.startswith(header_start, header):
            return Run(found, at)
        body = header + _HEADER_SIZE
        if length < body:
            return Run(found, at, cut=True)
        if not data.startswith(_HEADER_END, body - len(_HEADER_END)):
            return Run(found, at)
        (body_size,) = _BODY_SIZE.unpack_from(data, header + len(header_start))
        if body_size == 0:  # and so no body at all
            return Run(found, at)
        if length < body + _FRAME_HEAD.size:
            return Run(found, at, cut=True)
        kind, number, size = _FRAME_HEAD.unpack_from(data, body)
        begin = body + _FRAME_HEAD.size
        end = begin + size
        # A body that comes in several frames is for pika to put together.
        if kind != spec.FRAME_BODY or number != channel or size != body_size:
            return Run(found, at)
        if length <= end:
            return Run(found, at, cut=True)
        if data[end] != _END:
            return Run(found, at)
        tag, redelivered = _TAG.unpack_from(data, start + len(_DELIVER) + 1 + data[start + len(_DELIVER)])
        found.append(Plain(tag, bool(redelivered), data[begin:end]))
        at = end + 1
    return Run(found, at)
