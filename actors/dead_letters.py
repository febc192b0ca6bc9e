"""The desk where a person deals with dead letters."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from holdfast.runtime import faults
from holdfast.runtime.app import App
from holdfast.runtime.clock import Clock, SystemClock
from holdfast.runtime.codec import check_size, decode_envelope, encode, encode_envelope
from holdfast.runtime.dead_letter import DeadLetter, lengthened
from holdfast.runtime.errors import Undecodable, UsageError
from holdfast.runtime.faults import Point
from holdfast.runtime.feed import Reader
from holdfast.runtime.ingress import translate
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import TAG_FIELD
from holdfast.runtime.ports import DeadLetters, Delivery, Parking, Publisher
from holdfast.runtime.record import EffectEntry

_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)

log = logging.getLogger(__name__)

#: Dead letters that one call deals with, unless it says otherwise.
MANY = 10_000


@dataclass(frozen=True, slots=True)
class Means:
    """What it takes to send dead letters again."""

    publisher: Publisher
    partitions: int
    #: None where nothing needs to be read: then nothing can be edited.
    app: App | None = None
    #: None where there are no projections to have events tried again.
    parking: Parking | None = None
    payload_bytes_max: int = 1024 * 1024
    clock: Clock = field(default_factory=SystemClock)


class DeadLetterDesk:
    """Lists, shows, retries, edits and discards dead letters of every kind."""

    def __init__(self, dead_letters: DeadLetters, means: Means) -> None:
        self._dead_letters = dead_letters
        self._means = means

    def list(
        self,
        *,
        workflow: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        message_type: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Return dead letters that pass all filters, newest first."""
        return self._dead_letters.list(
            workflow=workflow, key=key, kind=kind, message_type=message_type, since=since, limit=limit
        )

    def count(
        self,
        *,
        workflow: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        message_type: str | None = None,
        since: datetime | None = None,
    ) -> int:
        """Return how many dead letters pass all filters."""
        return self._dead_letters.count(
            workflow=workflow, key=key, kind=kind, message_type=message_type, since=since
        )

    def get(self, id: str) -> DeadLetter | None:  # noqa: A002 - the field's name
        """Return one dead letter, or None if there is none of this id."""
        return self._dead_letters.get(id)

    def retry(self, id: str, *, first: bool = True) -> bool:  # noqa: A002 - the field's name
        """Send a dead letter's work again, and then forget the letter; False if there is none.

        What was done to it travels with it: should it fail again, its new letter has the whole history. A crash in
        between sends it twice: it still has its id, so it is decided once. Where its instance is paused, it goes before
        all that waits there, unless `first` is false.

        Raises:
            UsageError: It is nothing that could be sent again as it is.
            PublishFailed: It was not confirmed; the dead letter is still there.
        """
        letter = self._dead_letters.get(id)
        return letter is not None and self._again(letter, "retried", first=first)

    def edit(self, id: str, content: dict[str, Any] | bytes) -> bool:  # noqa: A002 - the field's name
        """Send a dead letter's work again with other content, and then forget the letter; False if there is none.

        Args:
            id: Which.
            content: The fields of the message as plain values, or as JSON. Without a `type` it stays of its type.

        Raises:
            UsageError: It does not fit the workflow's classes, or the letter has no content that could be edited.
            PublishFailed: It was not confirmed; the dead letter is still there.
        """
        letter = self._dead_letters.get(id)
        if letter is None:
            return False
        if self._means.app is None:
            message = "without the app nothing can be edited: its classes say what fits"
            raise UsageError(message)
        edited = self._edited(self._means.app, letter, _plain(content))
        what = f"edited (it was {len(letter.body):,} bytes) and retried"
        return self._again(edited, what, first=True)

    def discard(self, id: str) -> bool:  # noqa: A002 - the field's name
        """Forget a dead letter; False if there is none.

        What a projection parked stays parked until it is retried or skipped.
        """
        return self._dead_letters.remove(id)

    def retry_all(self, *, limit: int = MANY, **filters: Any) -> int:
        """Retry the dead letters that pass all filters of `list`, oldest first, and return how many those were.

        What `retry` would refuse stays where it is, and is not counted.

        Raises:
            PublishFailed: As for `retry`; those before it were retried.
        """
        found = self._dead_letters.list(limit=limit, **filters)
        # Of several for one instance none may go before the others: they go in the order in which they were given up.
        several = Counter((letter.workflow, letter.key) for letter in found)
        count = 0
        for letter in reversed(found):
            try:
                count += self._again(letter, "retried", first=several[letter.workflow, letter.key] == 1)
            except UsageError as error:
                log.warning(
                    "dead letter was not retried", extra={"dead_letter": letter.id, "error": str(error)}
                )
        return count

    def discard_all(self, *, limit: int = MANY, **filters: Any) -> int:
        """Forget the dead letters that pass all filters of `list`, and return how many those were."""
        found = self._dead_letters.list(limit=limit, **filters)
        return sum(self._dead_letters.remove(letter.id) for letter in found)

    def _again(self, letter: DeadLetter, what: str, *, first: bool) -> bool:
        history = lengthened(letter, self._means.clock.now(), what)
        if letter.kind == "effect":
            entry = _read(_effect_decoder.decode, letter)
            return self._dead_letters.revive(letter.id, replace(entry, history=history))
        if letter.kind == "projection":
            return self._retried(letter)
        if letter.kind not in ("command", "timer") or not letter.command_id:
            message = f"dead letter {letter.id} holds no command that could be sent again: {letter.error}"
            raise UsageError(message)
        envelope = _read(decode_envelope, letter)
        body = encode_envelope(replace(envelope, history=history, first=first))
        self._means.publisher.publish(letter.partition, body).result()
        faults.reach(Point.DEAD_LETTER_SENT)
        return self._dead_letters.remove(letter.id)

    def _retried(self, letter: DeadLetter) -> bool:
        """Have an event tried again; its letter goes when it was applied, and at once if nothing is parked there."""
        reader, parking = Reader.of(letter), self._means.parking
        if reader is None or parking is None:
            message = f"dead letter {letter.id} can be retried with `holdfast projections retry`"
            raise UsageError(message)
        (ordered,) = parking.order(reader, [Ref(letter.partition, letter.workflow, letter.key)], "retry")
        if not ordered:
            self._dead_letters.remove(letter.id)
        return ordered

    def _edited(self, app: App, letter: DeadLetter, content: dict[str, Any]) -> DeadLetter:
        if letter.kind == "ingress":
            return self._translated(app, letter, content)
        values = {TAG_FIELD: letter.message_type} | content
        if letter.kind == "effect":
            entry = _read(_effect_decoder.decode, letter)
            effects = app.definition(entry.workflow).effects
            if effects is None:
                message = f"{entry.workflow} has no effects"
                raise UsageError(message)
            payload = self._payload(effects.convert(values, strict=False), letter)
            return replace(letter, body=encode(replace(entry, payload=payload)))
        if letter.kind not in ("command", "timer"):
            message = f"dead letter {letter.id} is of the kind {letter.kind!r}, which has no content to edit"
            raise UsageError(message)
        envelope = _read(decode_envelope, letter)
        definition = app.definition(envelope.workflow)
        (command,) = found = definition.commands.convert(values, strict=False)
        key = definition.key_of(command)
        if key != envelope.key:
            message = f"the edited command is for {key!r}, but the dead letter belongs to {envelope.key!r}"
            raise UsageError(message)
        return replace(letter, body=encode_envelope(replace(envelope, payload=self._payload(found, letter))))

    def _payload(self, found: Sequence[Any], letter: DeadLetter) -> bytes:
        (message,) = found
        return check_size(
            encode(message), f"the content of dead letter {letter.id}", self._means.payload_bytes_max
        )

    def _translated(self, app: App, letter: DeadLetter, content: dict[str, Any]) -> DeadLetter:
        """Make a command of a foreign message that now says what it should have said."""
        means = self._means
        attributes = {"message_id": letter.command_id} if letter.command_id else {}
        delivery = Delivery(letter.partition, msgspec.json.encode(content), 0, None, attributes=attributes)
        ref, envelope = translate(app, delivery, means.clock.now(), means.partitions, means.payload_bytes_max)
        return replace(
            letter,
            kind="command",
            partition=ref.partition,
            body=encode_envelope(envelope),
            command_id=envelope.id,
        )


def _plain(content: dict[str, Any] | bytes) -> dict[str, Any]:
    """Return content as plain values.

    Raises:
        UsageError: It is no JSON object.
    """
    try:
        found = msgspec.json.decode(content) if isinstance(content, bytes) else content
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        message = f"the content is no JSON: {error}"
        raise UsageError(message) from error
    if not isinstance(found, dict):
        message = "the content must be an object with the message's fields"
        raise UsageError(message)
    return found


def _read(decode: Callable[[bytes], Any], letter: DeadLetter) -> Any:
    try:
        return decode(letter.body)
    except (msgspec.DecodeError, UnicodeError, RecursionError, Undecodable) as error:
        message = f"the bytes of dead letter {letter.id} cannot be read, so it cannot be sent again: {error}"
        raise UsageError(message) from error
