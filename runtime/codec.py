"""Bytes to messages and back: msgpack by msgspec, with upcasters for what older code wrote and a limit on size.

A message is stored as a msgpack map whose field `type` is its class's tag.
The fast path decodes straight into the classes of today. Only what does not fit them takes the slow path, where an
upcaster may turn the plain values of an old message into messages of today.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from holdfast.runtime.cipher import check_open, check_record_open
from holdfast.runtime.errors import (
    Ending,
    HistoryError,
    PayloadTooLarge,
    Undecodable,
    UnknownType,
    Unopened,
    UsageError,
    message_of,
)
from holdfast.runtime.message import TAG_FIELD, Envelope, Message, tag_of
from holdfast.runtime.record import Entry

M = TypeVar("M")

#: An upcaster may lead to another old message; more steps than this is a cycle.
UPCASTS_MAX = 100

_encoder = msgspec.msgpack.Encoder()
_json_encoder = msgspec.json.Encoder()
_envelope_decoder = msgspec.msgpack.Decoder(Envelope)
_plain_decoder = msgspec.msgpack.Decoder()

encode = _encoder.encode


def encode_envelope(envelope: Envelope) -> bytes:
    """Return an envelope as it travels."""
    return _encoder.encode(envelope)


def decode_envelope(body: bytes) -> Envelope:
    """Return the envelope in a message body.

    Raises:
        Undecodable: The bytes are no envelope.
    """
    try:
        return _envelope_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"no Holdfast envelope: {error}"
        raise Undecodable(message) from error


def check_size(payload: bytes, what: str, limit: int) -> bytes:
    """Return the payload if it is within the limit.

    Raises:
        PayloadTooLarge: With the name of the message, its size and the limit.
    """
    if len(payload) > limit:
        message = (
            f"{what} is {len(payload):,} bytes; the limit is {limit:,}. "
            "Keep large data elsewhere and send a reference to it, or raise HOLDFAST_PAYLOAD_BYTES_MAX"
        )
        raise PayloadTooLarge(message)
    return payload


def encode_message(message: Message, what: str, limit: int) -> bytes:
    """Return a message's bytes, when they are within the limit and can be read back.

    Python lets a field hold anything. What its class could not be made of again is found here, where it was made, and
    not by whoever reads it.

    Args:
        message: A command or an effect.
        what: Its name for errors.
        limit: The most bytes.

    Raises:
        UsageError: A field holds something that does not fit its type.
        PayloadTooLarge: It is over the limit.
    """
    kind = type(message)
    try:
        payload = _encoder.encode(message)
        _decoder_of(kind).decode(payload)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        text = f"{what} cannot be read back as {kind.__qualname__}: {error}"
        raise UsageError(text) from error
    return check_size(payload, what, limit)


@functools.cache
def _decoder_of(kind: type[Message]) -> msgspec.msgpack.Decoder[Message]:
    return msgspec.msgpack.Decoder(kind)


class MessageCodec(Generic[M]):
    """Encodes and decodes one union of message classes."""

    def __init__(
        self, owner: str, classes: tuple[type[msgspec.Struct], ...], upcasters: Mapping[str, Any]
    ) -> None:
        self._owner = owner
        #: The classes as one type.
        self.union: Any = functools.reduce(operator.or_, classes)
        self._upcasters = upcasters
        self.by_tag = {tag_of(kind): kind for kind in classes}
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(self.union)

    def encode(self, message: M) -> bytes:
        """Return the message as msgpack."""
        return _encoder.encode(message)

    def decode(self, payload: bytes) -> M:
        """Return the message in these bytes.

        Raises:
            UnknownType: No class of today has this tag, and no upcaster leads to one.
            Undecodable: The bytes are no msgpack, or the fields do not fit the class.
        """
        try:
            return self._decoder.decode(payload)
        except msgspec.ValidationError as error:
            plain = self._plain(payload)
            found = self.convert(plain, error)
            if len(found) != 1:
                message = f"an upcaster of {self._owner} made {len(found)} messages of one command; it must make one"
                raise Undecodable(message) from error
            return found[0]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            check_open(payload, f"a message for {self._owner}")
            message = f"a message for {self._owner} is no msgpack: {error}"
            raise Undecodable(message) from error

    def convert(self, plain: Any, cause: Exception | None = None, *, strict: bool = True) -> list[M]:
        """Return plain values as messages, through the upcasters where they are needed; `strict` as in msgspec.

        Raises:
            UnknownType, Undecodable: As for `decode`.
        """
        todo: list[Any] = [plain]
        done: list[M] = []
        for _ in range(UPCASTS_MAX):
            if not todo:
                return done
            values = todo.pop(0)
            tag = values.get(TAG_FIELD) if isinstance(values, dict) else None
            if not isinstance(tag, str):
                message = f"a message for {self._owner} has no `{TAG_FIELD}` that names it"
                raise Undecodable(message) from cause
            if tag in self.by_tag:
                try:
                    done.append(msgspec.convert(values, self.union, strict=strict))
                except (msgspec.ValidationError, RecursionError) as error:
                    message = f"{tag} for {self._owner}: {error}"
                    raise Undecodable(message) from error
            elif tag in self._upcasters:
                todo[:0] = self._upcast(tag, values)
            else:
                known = ", ".join(sorted(self.by_tag)) or "none"
                message = f"{self._owner} has no message {tag!r} (it has: {known})"
                raise UnknownType(message) from cause
        message = f"the upcasters of {self._owner} do not come to an end at {tag!r}"
        raise Undecodable(message) from cause

    def _upcast(self, tag: str, values: dict[str, Any]) -> list[Any]:
        try:
            made = self._upcasters[tag](values)
        except (Ending, KeyboardInterrupt):  # of a client whose user has enough
            raise
        except BaseException as error:
            message = f"the upcaster of {self._owner} for {tag!r} failed: {type(error).__name__}: {message_of(error)}"
            raise Undecodable(message) from error
        return made if isinstance(made, list) else [made]

    def _plain(self, payload: bytes) -> Any:
        try:
            return _plain_decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = f"a message for {self._owner} is no msgpack: {error}"
            raise Undecodable(message) from error


class EntryCodec(Generic[M]):
    """Encodes and decodes the log's entries of one workflow."""

    def __init__(self, owner: str, events: MessageCodec[M]) -> None:
        self._owner = owner
        self._events = events
        union: Any = events.union
        self._decoder: msgspec.msgpack.Decoder[Entry[M]] = msgspec.msgpack.Decoder(Entry[union])
        self._raw_decoder: msgspec.msgpack.Decoder[Entry[Any]] = msgspec.msgpack.Decoder(Entry[Any])

    def decode(self, data: bytes, *where: object) -> Entry[M]:
        """Return the entry in these bytes; the words of `where` name it in errors, and are put together only then.

        Raises:
            HistoryError: The entry cannot be read by the code of today.
        """
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._decode_slowly(data, " ".join(map(str, where)))

    def _decode_slowly(self, data: bytes, where: str) -> Entry[M]:
        if not data:
            message = f"{where} is none: that entry of the log was not written by Holdfast. Look at it, and restore the log"
            raise HistoryError(message)
        try:
            check_record_open(data, "the payload")
            raw = self._raw_decoder.decode(data)
            events = [event for plain in raw.events for event in self._events.convert(plain)]
        except Unopened as error:
            message = f"{where} cannot be read by this process: {error}"
            raise HistoryError(message) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Undecodable) as error:
            message = (
                f"{where} cannot be read by this code: {error}. "
                "Add the missing event class or an upcaster for it, or run the code that wrote it"
            )
            raise HistoryError(message) from error
        return msgspec.structs.replace(raw, events=tuple(events))
