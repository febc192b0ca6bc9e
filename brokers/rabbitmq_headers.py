"""Headers: what a sender wrote beside a message, read so that nothing he wrote can harm whoever reads it.

pika makes a Python value of every header, and fails where there is none: a date after the year 9999, an infinite
number, tables inside tables inside tables. It fails in the middle of its connection, which then breaks, and the message
is delivered again, to fail again. Here such a message is read once more, with those headers alone that we look at.

    content header   class id 2 | weight 2 | body size 8 | flags 2 | properties in the order of their flags
    headers table    size 4 | (name: length 1, text | kind 1 | value) ...
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import pika
from pika import frame, spec

#: How large a value of a fixed size is, by its kind.
_SIZES = (
    dict.fromkeys("tbB", 1) | dict.fromkeys("Uus", 2) | dict.fromkeys("Iif", 4) | dict.fromkeys("LldT", 8)
)
_SIZES |= {"D": 5, "V": 0}
#: Kinds that are whole numbers, and how they are laid out.
_INTEGERS = {
    "b": ">b",
    "B": ">B",
    "U": ">h",
    "u": ">H",
    "s": ">h",
    "I": ">i",
    "i": ">I",
    "l": ">q",
    "L": ">q",
}
#: Kinds that say how long they are.
_LONG = "SxAF"

_FRAME_HEAD = struct.Struct(">BHL")
_CONTENT_HEAD = struct.Struct(">HHQ")
_SIZE = struct.Struct(">I")
#: Of the properties only the content type and the encoding come before the headers.
_BEFORE = (pika.BasicProperties.FLAG_CONTENT_TYPE, pika.BasicProperties.FLAG_CONTENT_ENCODING)


def properties_in(data: bytes) -> pika.BasicProperties:
    """Return what can be read of a message's properties; `data` are its flags and all that follows them."""
    for read in (pika.BasicProperties().decode, _without_the_unreadable):
        with suppress(Exception):  # every kind of value fails in a way of its own
            found: pika.BasicProperties = read(data)
            return found
    return pika.BasicProperties()  # not even what surrounds the headers is as it should be


def _without_the_unreadable(data: bytes) -> pika.BasicProperties:
    (flags,) = struct.unpack_from(">H", data)
    start = 2
    for flag in _BEFORE:
        if flags & flag:
            start += 1 + data[start]
    if not flags & pika.BasicProperties.FLAG_HEADERS:
        return pika.BasicProperties()
    (size,) = _SIZE.unpack_from(data, start)
    end = start + _SIZE.size + size
    found: pika.BasicProperties = pika.BasicProperties().decode(data[:start] + _SIZE.pack(0) + data[end:])
    found.headers = _simple(data[start + _SIZE.size : end])
    return found


def _simple(table: bytes) -> dict[str, Any]:
    """Return the texts and whole numbers of a table, up to where it cannot be read."""
    found: dict[str, Any] = {}
    at = 0
    try:
        while at < len(table):
            name = table[at + 1 : at + 1 + table[at]].decode("utf-8", "replace")
            at += 1 + table[at]
            kind, at = chr(table[at]), at + 1
            if kind in _LONG:
                (size,) = _SIZE.unpack_from(table, at)
                at += _SIZE.size
                if kind == "S":
                    found[name] = table[at : at + size].decode("utf-8", "replace")
            else:
                size = _SIZES[kind]
                if kind in _INTEGERS:
                    found[name] = struct.unpack_from(_INTEGERS[kind], table, at)[0]
            at += size
    except (struct.error, IndexError, KeyError):
        pass  # what was read so far is all that there is
    return found


def content_header_in(buffer: bytes) -> tuple[int, frame.Header] | None:
    """Return the size of the first frame and the content header in it, or None where it is no content header."""
    if len(buffer) < _FRAME_HEAD.size:
        return None
    kind, channel, size = _FRAME_HEAD.unpack_from(buffer)
    end = _FRAME_HEAD.size + size + 1
    payload = buffer[_FRAME_HEAD.size : end - 1]
    if kind != spec.FRAME_HEADER or len(buffer) < end or size < _CONTENT_HEAD.size + 2:
        return None
    _, _, body_size = _CONTENT_HEAD.unpack_from(payload)
    return end, frame.Header(channel, body_size, properties_in(payload[_CONTENT_HEAD.size :]))
