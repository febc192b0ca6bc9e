"""Mailbox: a batch of deliveries, read and sorted by instance.

What cannot be read at all becomes a dead letter at once; it has no instance to wait behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.runtime.app import App
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.control import decode_control
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HoldfastError, PayloadTooLarge, Undecodable, UnknownType
from holdfast.runtime.keys import Ref, check_key, partition_of
from holdfast.runtime.message import Envelope
from holdfast.runtime.ports import Delivery

#: The longest id of a command that is decided: every record has it. Those that Holdfast makes are shorter.
ENVELOPE_ID_CHARS_MAX = 1_000


@dataclass(slots=True)
class Letter:
    """One command of a mailbox: the delivery it came in, and what was read from it."""

    index: int
    delivery: Delivery
    envelope: Envelope
    command: Any = None
    #: Why it cannot be decided by this process now: its type is not known (yet).
    stalled: UnknownType | None = None
    #: Why it can never be decided.
    broken: Exception | None = None
    #: Whether it was kept while its instance was paused: the delivery is made up, and there is nothing to acknowledge.
    parked: bool = False
    #: How often `decide` was asked about it.
    tries: int = 0
    #: Its dead letter, where that is written together with what else became of its mailbox.
    dead: DeadLetter | None = None


@dataclass(slots=True)
class Mailbox:
    """The commands of one instance in a batch, in order."""

    ref: Ref
    #: None when this process does not know the workflow.
    definition: Definition | None
    letters: list[Letter] = field(default_factory=list)


@dataclass(slots=True)
class Sorted:
    """A batch by instance, and the deliveries of which nothing could be read."""

    mailboxes: list[Mailbox]
    unreadable: list[tuple[int, Delivery, HoldfastError]]


def whole(delivery: Delivery) -> bytes:
    """Return the body of a message, if all of it is there.

    Raises:
        PayloadTooLarge: It was so large that only its beginning was kept.
    """
    if delivery.whole:
        message = (
            f"the message is {delivery.whole:,} bytes, more than any may have; only its first {len(delivery.body):,} "
            "were kept. Send it anew with a reference to its data, or raise HOLDFAST_PAYLOAD_BYTES_MAX before"
        )
        raise PayloadTooLarge(message)
    return delivery.body


def sort(app: App, deliveries: Sequence[Delivery], partitions: int) -> Sorted:
    """Read every delivery and put it into its instance's mailbox, keeping the order."""
    boxes: dict[Ref, Mailbox] = {}
    unreadable: list[tuple[int, Delivery, HoldfastError]] = []
    for index, delivery in enumerate(deliveries):
        try:
            envelope = decode_envelope(whole(delivery))
            if not envelope.id:
                message = f"a command for {envelope.workflow}/{envelope.key} has no id, so it could not be told from others"
                raise Undecodable(message)
            if len(envelope.id) > ENVELOPE_ID_CHARS_MAX:
                message = f"the id of a command is {len(envelope.id):,} characters long; the limit is {ENVELOPE_ID_CHARS_MAX:,}"
                raise Undecodable(message)
            key = check_key(envelope.key, "the envelope")
            partition = partition_of(envelope.workflow, key, partitions)
            if partition != delivery.partition:
                message = (
                    f"{envelope.workflow}/{key} belongs to partition {partition} of {partitions}, but this came in "
                    f"{delivery.partition}; send to the ingress queue and let Holdfast find the partition"
                )
                raise Undecodable(message)
        except HoldfastError as error:
            unreadable.append((index, delivery, error))
            continue
        ref = Ref(partition, envelope.workflow, key)
        letter = Letter(index, delivery, envelope)
        box = boxes.get(ref)
        if box is None:
            box = boxes[ref] = Mailbox(ref, None)
            try:
                box.definition = app.definition(ref.workflow)
            except UnknownType as error:
                letter.stalled = error
        box.letters.append(letter)
        if box.definition is None:
            letter.stalled = letter.stalled or box.letters[0].stalled
            continue
        _read(box.definition, letter)
    return Sorted(list(boxes.values()), unreadable)


def parked_letter(definition: Definition, ref: Ref, body: bytes) -> Letter:
    """Return a command that was kept while its instance was paused, as if it had just come in."""
    letter = Letter(-1, Delivery(ref.partition, body, 0, None), decode_envelope(body), parked=True)
    _read(definition, letter)
    return letter


def _read(definition: Definition, letter: Letter) -> None:
    """Read a letter's command: one of the workflow, or else one that every instance understands."""
    payload = letter.envelope.payload
    try:
        letter.command = definition.commands.decode(payload)
    except UnknownType as error:
        letter.command = decode_control(payload)
        letter.stalled = error if letter.command is None else None
    except Exception as error:  # noqa: BLE001 - an upcaster is user code and may raise anything
        letter.broken = error
