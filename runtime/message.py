"""Messages: what users declare, and the envelope in which a command travels.

Commands, events and effects are frozen msgspec Structs, tagged by their class name in the field `type`.
"""

from typing import Any, dataclass_transform

import msgspec

TAG_FIELD = "type"


class Message(msgspec.Struct, frozen=True, tag_field=TAG_FIELD, tag=True):
    """What commands, events and effects have in common."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Command(Message, frozen=True):
    """A request to one instance. Name it in the imperative; it may be refused."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Event(Message, frozen=True):
    """A fact. Name it in the past tense; it is never refused."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Effect(Message, frozen=True):
    """Something to do in the outside world, written with the decision that asks for it."""


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A command on its way: who it is for, what it is, where it came from.

    It travels as a msgpack array, so the order of the fields is the wire format: add at the end, with a default.
    """

    #: The command's own id: however often it is delivered, it is decided once.
    id: str
    #: The workflow type and the business key: which instance it is for.
    workflow: str
    key: str
    #: The command as the codec encoded it.
    payload: bytes
    #: When it was sent, in milliseconds since 1970 by the sender's clock.
    sent_ms: int = 0
    #: Where to publish the outcome; None when nobody waits.
    reply_to: str | None = None
    #: The id of the command or record that led to this one.
    cause: str | None = None
    #: The W3C traceparent under which it was sent.
    trace: str | None = None
    #: Whether it goes before what its paused instance keeps already: it failed, and the others waited for it.
    first: bool = False
    #: What happened to it before, where it was a dead letter and was sent again: one sentence each.
    history: tuple[str, ...] = ()
    #: How many attempts the effect took that it is the result of; 0 for what is no effect's, or of older code.
    attempts: int = 0


def tag_of(kind: type[msgspec.Struct]) -> str:
    """Return the name under which a message class travels and is stored."""
    tag = kind.__struct_config__.tag
    return str(tag)


def follow(cause: Envelope, *, id: str, workflow: str, key: str, payload: bytes, sent_ms: int) -> Envelope:  # noqa: A002 - the field's name
    """Return an envelope that carries on from `cause`: it names it, and stays in its trace."""
    return Envelope(
        id=id, workflow=workflow, key=key, payload=payload, sent_ms=sent_ms, cause=cause.id, trace=cause.trace
    )


def describe(message: Any) -> str:
    """Return a message's name for errors and logs, without its contents."""
    return tag_of(type(message)) if isinstance(message, Message) else type(message).__name__
