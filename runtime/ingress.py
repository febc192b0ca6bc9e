"""Ingress: what other programs send, made into envelopes.

A foreign message is the command itself, as JSON or msgpack: a map with `type`, the command's name, and its fields.
The AMQP property `type` names the workflow where two have a command of that name; `message_id` is the command id.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from holdfast.runtime.app import App
from holdfast.runtime.clock import to_ms
from holdfast.runtime.codec import check_size, encode
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import Ending, HoldfastError, KeyRefused, Undecodable, message_of
from holdfast.runtime.ids import ID_BYTES_MAX, new_id
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.mailbox import whole
from holdfast.runtime.message import TAG_FIELD, Envelope, describe
from holdfast.runtime.ports import Delivery

_MSGPACK = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
_JSON = ("application/json", "text/json", "text/plain")


def translate(
    app: App, delivery: Delivery, now: datetime, partitions: int, payload_bytes_max: int
) -> tuple[Ref, Envelope]:
    """Return the instance and the envelope of a foreign message.

    Raises:
        Undecodable, UnknownType, KeyRefused, PayloadTooLarge: It cannot become a command; the message says why.
    """
    attributes = delivery.attributes or {}
    check_size(whole(delivery), "the message", payload_bytes_max)
    values = _values(delivery.body, attributes.get("content_type", ""))
    tag = values.get(TAG_FIELD) if isinstance(values, dict) else None
    if not isinstance(tag, str):
        message = (
            f"the message must be a map with `{TAG_FIELD}`, the name of a command, and the command's fields"
        )
        raise Undecodable(message)
    workflow = attributes.get("type")
    definition = app.definition(workflow) if workflow else app.definition_for_tag(tag)
    found = definition.commands.convert(values, strict=False)
    if len(found) != 1:
        message = (
            f"an upcaster of {definition.name} made {len(found)} messages of one command; it must make one"
        )
        raise Undecodable(message)
    command_id = attributes.get("message_id") or new_id()
    if len(command_id.encode(errors="surrogatepass")) > ID_BYTES_MAX:
        message = f"the message_id is longer than {ID_BYTES_MAX} bytes: {command_id[:40]!r}..."
        raise Undecodable(message)
    key = _key(definition, found[0])
    payload = check_size(_payload(found[0], tag), tag, payload_bytes_max)
    envelope = Envelope(
        command_id,
        definition.type,
        key,
        payload,
        to_ms(now),
        trace=attributes.get("traceparent"),
    )
    return Ref(partition_of(definition.type, key, partitions), definition.type, key), envelope


def _key(definition: Definition, command: Any) -> str:
    try:
        return definition.key_of(command)
    except (HoldfastError, Ending):
        raise
    except BaseException as error:
        message = (
            f"the key of {describe(command)} cannot be told: {type(error).__name__}: {message_of(error)}"
        )
        raise KeyRefused(message) from error


def _payload(command: Any, tag: str) -> bytes:
    try:
        return encode(command)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        message = f"{tag} cannot be stored: {error}"
        raise Undecodable(message) from error


def _values(body: bytes, content_type: str) -> Any:
    kind = content_type.partition(";")[0].strip().lower()
    if kind and kind not in (*_MSGPACK, *_JSON):
        message = f"content type {kind!r} is neither application/json nor application/msgpack"
        raise Undecodable(message)
    # Without a word from the sender the first byte tells: a JSON object begins with a brace, a msgpack map never does.
    as_json = kind in _JSON if kind else body.lstrip()[:1] == b"{"
    try:
        return msgspec.json.decode(body) if as_json else msgspec.msgpack.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        expected = "JSON" if as_json else "msgpack" if kind else "JSON object and no msgpack"
        message = f"the message is no {expected}: {error}"
        raise Undecodable(message) from error
