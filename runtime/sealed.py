"""Sealed: every port that payloads go through, wrapped so that what leaves the process is encrypted.

Nothing else knows of it: the heart works on payloads as they are, the adapters store bytes as they come. Where no keys
are set, nothing is wrapped, and it costs nothing.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
from msgspec.structs import replace

from holdfast.runtime.backlog import read_name
from holdfast.runtime.cipher import (
    NOWHERE,
    Cipher,
    Place,
    is_sealed,
    open_record,
    seal_record,
    tag_in,
)
from holdfast.runtime.codec import decode_envelope, encode, encode_envelope
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.effect_queue import PendingEffect, PutOff, Ticket, Waiting
from holdfast.runtime.errors import HoldfastError, NotDurable, PublishFailed, Unavailable, Undecodable
from holdfast.runtime.feed import NO_ORDERS, FeedEntry, Order, ParkedKey, Reader
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.message import Envelope
from holdfast.runtime.observation import Observation
from holdfast.runtime.outcome import Answer
from holdfast.runtime.ports import Commit, CommitResult, Delivery, Held, Opened
from holdfast.runtime.record import EffectEntry, Snapshot, TimerEntry
from holdfast.runtime.timers import Due, Fired

_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)
_answer_decoder = msgspec.msgpack.Decoder(Answer)
_letter_decoder = msgspec.msgpack.Decoder(tuple[bytes, str, str, tuple[str, ...]])
_refusal_decoder = msgspec.msgpack.Decoder(tuple[str, bytes])


class _Port:
    """A port whose other verbs are those of the one behind it."""

    def __init__(self, inner: Any, cipher: Cipher, partitions: int) -> None:
        self._inner = inner
        self._cipher = cipher
        self._partitions = partitions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _ref(self, workflow: str, key: str) -> Ref:
        """Return an instance; of what names none, a place of the namespace's own."""
        if not workflow or not key:
            return NOWHERE
        return Ref(partition_of(workflow, key, self._partitions), workflow, key)

    # -- commands on their way

    def _envelope(self, body: bytes) -> tuple[Envelope, Ref] | None:
        try:
            envelope = decode_envelope(body)
            return envelope, self._ref(envelope.workflow, envelope.key)
        except (Undecodable, UnicodeEncodeError):
            return None

    def _seal_body(self, body: bytes) -> bytes:
        found = self._envelope(body)
        if found is None:
            return body
        envelope, ref = found
        place = Place(ref, "command", envelope.id)
        return encode_envelope(
            replace(envelope, payload=self._cipher.seal(place, envelope.payload, tag_in(envelope.payload)))
        )

    def _open_bodies(self, bodies: Sequence[bytes]) -> list[bytes]:
        found = [self._envelope(body) for body in bodies]
        self._cipher.prepare(one[1] for one in found if one is not None and is_sealed(one[0].payload))
        return [
            body if one is None or not is_sealed(one[0].payload) else self._open_body(*one)
            for body, one in zip(bodies, found, strict=True)
        ]

    def _open_body(self, envelope: Envelope, ref: Ref) -> bytes:
        payload = self._cipher.open(Place(ref, "command", envelope.id), envelope.payload)
        return encode_envelope(replace(envelope, payload=payload))

    # -- effects

    def _seal_effect(self, entry: EffectEntry) -> EffectEntry:
        place = Place(self._ref(entry.workflow, entry.key), "effect", entry.id)
        return replace(entry, payload=self._cipher.seal(place, entry.payload, tag_in(entry.payload)))

    def _open_effect(self, entry: EffectEntry) -> EffectEntry:
        if not is_sealed(entry.payload):
            return entry
        place = Place(self._ref(entry.workflow, entry.key), "effect", entry.id)
        return replace(entry, payload=self._cipher.open(place, entry.payload))

    # -- dead letters

    def _seal_letter(self, letter: DeadLetter) -> DeadLetter:
        """Return a dead letter of which all that somebody wrote is in the body, encrypted."""
        if self._still_sealed(letter):
            # It is given up because it could not be opened, and its instance may have no key at all any more.
            return self._with_history(letter, self._cipher.seal_text)
        place = Place(self._ref(letter.workflow, letter.key), "dead-letter", letter.id)
        whole = encode((letter.body, letter.error, letter.traceback, letter.history))
        return replace(letter, body=self._cipher.seal(place, whole), error="", traceback="", history=())

    @staticmethod
    def _with_history(letter: DeadLetter, change: Callable[[Place, str], str]) -> DeadLetter:
        place = Place(NOWHERE, "note", letter.id)
        return replace(letter, history=tuple(change(place, line) for line in letter.history))

    def _still_sealed(self, letter: DeadLetter) -> bool:
        found = self._envelope(letter.body)
        return found is not None and is_sealed(found[0].payload)

    def _open_letter(self, letter: DeadLetter) -> DeadLetter:
        if not is_sealed(letter.body):
            return self._with_open_body(self._with_history(letter, self._cipher.open_text))
        place = Place(self._ref(letter.workflow, letter.key), "dead-letter", letter.id)
        found = self._cipher.open(place, letter.body)
        if is_sealed(found):
            return replace(letter, body=found, error="encrypted, and this process cannot open it")
        body, error, traceback, history = _letter_decoder.decode(found)
        return self._with_open_body(
            replace(letter, body=body, error=error, traceback=traceback, history=history)
        )

    def _with_open_body(self, letter: DeadLetter) -> DeadLetter:
        if letter.kind not in {"command", "timer"}:
            return letter
        (body,) = self._open_bodies([letter.body])
        return letter if body == letter.body else replace(letter, body=body)


class SealedJournal(_Port):
    """The journal, and the outbox that it shows."""

    def open(self, refs: Sequence[Ref], owner: str) -> list[Opened | Held]:
        """Open instances, and what is recorded of them."""
        found: list[Opened | Held] = self._inner.open(refs, owner)
        self._cipher.prepare(refs)
        return [self._opened(one) if isinstance(one, Opened) else one for one in found]

    def read(self, refs: Sequence[Ref], *, snapshots: bool = True) -> list[Opened]:
        """Read instances."""
        found: list[Opened] = self._inner.read(refs, snapshots=snapshots)
        self._cipher.prepare(refs)
        return [self._opened(one) for one in found]

    def _opened(self, opened: Opened) -> Opened:
        ref = opened.ref
        snapshot = opened.snapshot
        if snapshot is not None:
            state = self._cipher.open(Place(ref, "state", snapshot.seq), snapshot.state)
            snapshot = replace(snapshot, state=state)
        tail = self._open_records(ref, opened.tail)
        return Opened(
            ref,
            opened.seq,
            opened.head,
            opened.token,
            opened.run_state,
            snapshot,
            tail,
            opened.parked,
            opened.reason,
            opened.unique,
        )

    def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
        """Write commits with everything in them encrypted; what was decided stays as it is."""
        self._cipher.prepare(commit.ref for commit in commits)
        results: list[CommitResult] = self._inner.commit([self._sealed(commit) for commit in commits], owner)
        self._cipher.forget(commit.ref for commit in commits if commit.wipe is not None)
        return results

    def _sealed(self, commit: Commit) -> Commit:
        ref, cipher = commit.ref, self._cipher
        wipe, secret = commit.wipe, b""
        if wipe is not None:
            # What is left of the state belongs to the new data key, so that has to be known first.
            secret = cipher.renewed(ref)
            wipe = replace(wipe, state=cipher.seal_with(secret, Place(ref, "state", wipe.seq), wipe.state))
        return dataclasses.replace(
            commit,
            entries=[
                seal_record(cipher, ref, seq, entry)
                for seq, entry in enumerate(commit.entries, commit.seq + 1)
            ],
            effects=[self._seal_effect(effect) for effect in commit.effects],
            timers=[replace(timer, envelope=self._seal_body(timer.envelope)) for timer in commit.timers],
            parks=[park._replace(body=self._seal_body(park.body)) for park in commit.parks],
            wipe=wipe,
            dead=[self._seal_letter(letter) for letter in commit.dead],
            refusals=[
                (name, seal_refusal(cipher, Place(ref, "refusal", name), answer))
                for name, answer in commit.refusals
            ],
            secret=secret,
        )

    def snapshot(self, snapshots: Sequence[tuple[Ref, Snapshot]]) -> None:
        """Keep snapshots."""
        self._inner.snapshot(
            [
                (ref, replace(one, state=self._cipher.seal(Place(ref, "state", one.seq), one.state)))
                for ref, one in snapshots
            ]
        )

    def entries(self, ref: Ref, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return a stretch of a log."""
        return self._open_records(ref, self._inner.entries(ref, after, limit))

    def follow(self, ref: Ref, after: int, limit: int, timeout_s: float) -> list[tuple[int, bytes]]:
        """Wait for a log to grow."""
        return self._open_records(ref, self._inner.follow(ref, after, limit, timeout_s))

    def _open_records(self, ref: Ref, found: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        return [(seq, open_record(self._cipher, ref, seq, data)) for seq, data in found]

    def entry(self, wanted: Sequence[tuple[Ref, int]]) -> list[bytes | None]:
        """Return single entries."""
        self._cipher.prepare(ref for ref, _ in wanted)
        return [
            None if data is None else open_record(self._cipher, ref, seq, data)
            for (ref, seq), data in zip(wanted, self._inner.entry(wanted), strict=True)
        ]

    def parked(self, refs: Sequence[Ref], limit: int) -> list[list[tuple[str, bytes]]]:
        """Return what is kept for paused instances."""
        found: list[list[tuple[str, bytes]]] = self._inner.parked(refs, limit)
        return [
            list(zip((id_ for id_, _ in kept), self._open_bodies([body for _, body in kept]), strict=True))
            for kept in found
        ]

    def effects(self, partition: int, limit: int) -> list[EffectEntry]:
        """Show effects."""
        return [self._open_effect(entry) for entry in self._inner.effects(partition, limit)]

    def timers(self, partition: int, limit: int) -> list[tuple[int, TimerEntry]]:
        """Show timers."""
        found: list[tuple[int, TimerEntry]] = self._inner.timers(partition, limit)
        bodies = self._open_bodies([timer.envelope for _, timer in found])
        return [
            (due, replace(timer, envelope=body)) for (due, timer), body in zip(found, bodies, strict=True)
        ]


class SealedEffects(_Port):
    """The outbox as a queue."""

    def arrivals(self, after: Mapping[int, str], limit: int, timeout_s: float) -> list[Waiting]:
        """Wait for effects."""
        found: list[Waiting] = self._inner.arrivals(after, limit, timeout_s)
        entries = [self._read(one.data) for one in found]
        self._cipher.prepare(self._ref(one.workflow, one.key) for one in entries if one is not None)
        return [
            one if entry is None else one._replace(data=encode(self._open_effect(entry)))
            for one, entry in zip(found, entries, strict=True)
        ]

    def restore(self, ticket: Ticket, data: bytes) -> None:
        """Put an effect back."""
        entry = self._read(data)
        self._inner.restore(ticket, data if entry is None else encode(self._seal_effect(entry)))

    def put_off(self, delays: Sequence[PutOff], owner: str) -> list[bool]:
        """Put effects off; why they failed is as secret as what they are about."""
        found: list[bool] = self._inner.put_off(
            [
                one._replace(
                    note=replace(
                        one.note, error=self._cipher.seal_text(_note(self, one.ticket), one.note.error)
                    )
                )
                for one in delays
            ],
            owner,
        )
        return found

    def pending(self, partition: int, limit: int) -> list[PendingEffect]:
        """Show what waits and runs."""
        return [
            one._replace(error=self._cipher.open_text(_note(self, one), one.error))
            for one in self._inner.pending(partition, limit)
        ]

    @staticmethod
    def _read(data: bytes) -> EffectEntry | None:
        try:
            return _effect_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


def _note(port: _Port, one: Ticket | PendingEffect) -> Place:
    return Place(port._ref(one.workflow, one.key), "note", one.id)


class SealedTimers(_Port):
    """Timers that are due."""

    def fire(self, partitions: Sequence[int], owner: str, limit: int) -> list[Fired]:
        """Move what is due, and return what waits to be sent."""
        found: list[Fired] = self._inner.fire(partitions, owner, limit)
        for fired in found:
            bodies = self._open_bodies([due.body for due in fired.due])
            fired.due[:] = [
                Due(due.partition, due.id, body, due.due_ms)
                for due, body in zip(fired.due, bodies, strict=True)
            ]
        return found


class SealedFeed(_Port):
    """The feed, and what projections have parked. Records whose data was deleted come without their events."""

    def read(
        self, reader: Reader, after: Mapping[int, str], limit: int, owner: str
    ) -> dict[int, list[FeedEntry] | None]:
        """Return entries of the feed."""
        found: dict[int, list[FeedEntry] | None] = self._inner.read(reader, after, limit, owner)
        self._cipher.prepare(one.ref for entries in found.values() for one in entries or ())
        return {
            partition: None
            if entries is None
            else [one._replace(data=self._record(one.ref, one.seq, one.data)) for one in entries]
            for partition, entries in found.items()
        }

    def records(self, wanted: Sequence[tuple[Ref, int]], limit: int) -> list[list[tuple[int, bytes]]]:
        """Return stretches of logs."""
        self._cipher.prepare(ref for ref, _ in wanted)
        found: list[list[tuple[int, bytes]]] = self._inner.records(wanted, limit)
        return [
            [(seq, self._record(ref, seq, data)) for seq, data in entries]
            for (ref, _), entries in zip(wanted, found, strict=True)
        ]

    def _record(self, ref: Ref, seq: int, data: bytes) -> bytes:
        return open_record(self._cipher, ref, seq, data, forgetting=True)

    def park(
        self, reader: Reader, parked: Sequence[ParkedKey], done: Mapping[Ref, Order] = NO_ORDERS
    ) -> None:
        """Keep parked keys."""
        self._inner.park(reader, [self._told(one, self._cipher.seal_text) for one in parked], done)

    def parked(self, reader: Reader, partitions: Sequence[int]) -> list[tuple[ParkedKey, Order]]:
        """Return parked keys."""
        return [
            (self._told(one, self._cipher.open_text), order)
            for one, order in self._inner.parked(reader, partitions)
        ]

    @staticmethod
    def _told(one: ParkedKey, change: Callable[[Place, str], str]) -> ParkedKey:
        place = Place(one.ref, "parked", one.seq)
        return replace(one, error=change(place, one.error), traceback=change(place, one.traceback))


def seal_refusal(cipher: Cipher, place: Place, data: bytes) -> bytes:
    """Return a refusal with what it says encrypted."""
    answer = _answer_decoder.decode(data)
    return encode(
        replace(answer, reason="", details=cipher.seal(place, encode((answer.reason, answer.details))))
    )


class SealedAnswers(_Port):
    """Answers on their way, and refusals that are remembered."""

    def remember(self, refusals: Sequence[tuple[int, str, bytes]]) -> None:
        """Keep refusals."""
        self._inner.remember(
            [(p, name, seal_refusal(self._cipher, self._place(name), answer)) for p, name, answer in refusals]
        )

    def recall(self, wanted: Sequence[tuple[int, str]]) -> list[bytes | None]:
        """Return refusals; one that cannot be opened is still a refusal."""
        found: list[bytes | None] = self._inner.recall(wanted)
        return [
            None if data is None else self._recalled(name, data)
            for (_, name), data in zip(wanted, found, strict=True)
        ]

    def _recalled(self, name: str, data: bytes) -> bytes:
        answer = _answer_decoder.decode(data)
        if not is_sealed(answer.details):
            return data
        told = self._cipher.open(self._place(name), answer.details)
        if is_sealed(told):
            return encode(
                replace(answer, reason="it was refused; why is encrypted, and cannot be opened", details=b"")
            )
        reason, details = _refusal_decoder.decode(told)
        return encode(replace(answer, reason=reason, details=details))

    def _place(self, name: str) -> Place:
        """Return where a refusal belongs: its name is the instance's scope and the command's id."""
        found = read_name(name)
        return Place(self._ref(found.workflow, found.key) if found else NOWHERE, "refusal", name)

    def reply(self, answers: Sequence[tuple[str, bytes]]) -> None:
        """Send answers."""
        self._inner.reply(
            [(address, self._cipher.seal(answer_place(address), answer)) for address, answer in answers]
        )


def answer_place(address: str) -> Place:
    """Return where an answer belongs: whoever waits for it knows it by its address, which no other wait has."""
    return Place(NOWHERE, "answer", address)


class SealedDeadLetters(_Port):
    """What was given up on."""

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters."""
        self._inner.add([self._seal_letter(letter) for letter in letters])

    def list(self, **wanted: Any) -> list[DeadLetter]:
        """Return dead letters."""
        return [self._open_letter(letter) for letter in self._inner.list(**wanted)]

    def get(self, id: str) -> DeadLetter | None:  # noqa: A002 - the field's name
        """Return one dead letter."""
        found: DeadLetter | None = self._inner.get(id)
        return None if found is None else self._open_letter(found)

    def revive(self, id: str, entry: EffectEntry) -> bool:  # noqa: A002 - the field's name
        """Put an effect back into the outbox."""
        return bool(self._inner.revive(id, self._seal_effect(entry)))


class SealedObservations(_Port):
    """What came to instances."""

    def observe(self, seen: Sequence[tuple[Ref, Observation]]) -> None:
        """Keep observations."""
        self._inner.observe([(ref, self._sealed(ref, one)) for ref, one in seen])

    def observations(self, ref: Ref, limit: int) -> list[Observation]:
        """Return observations."""
        return [self._opened(ref, one) for one in self._inner.observations(ref, limit)]

    def _sealed(self, ref: Ref, one: Observation) -> Observation:
        place = Place(ref, "observation", one.command_id)
        payload = self._cipher.seal(place, one.payload, tag_in(one.payload))
        return replace(one, payload=payload, reason=self._cipher.seal_text(place, one.reason))

    def _opened(self, ref: Ref, one: Observation) -> Observation:
        place = Place(ref, "observation", one.command_id)
        payload = self._cipher.open(place, one.payload)
        if is_sealed(payload):
            # It may have come to us as it could not be opened: then it is encrypted as a command.
            payload = self._cipher.open(Place(ref, "command", one.command_id), payload)
        return replace(one, payload=payload, reason=self._cipher.open_text(place, one.reason))


class SealedPublisher(_Port):
    """Commands on their way out.

    A command to an instance that this process has not met costs a round trip to Redis, and a barrier where commits need
    one: a broker keeps what a lost data key would make unreadable.
    """

    def __init__(self, inner: Any, cipher: Cipher, partitions: int, close: Callable[[], None]) -> None:
        super().__init__(inner, cipher, partitions)
        self._close = close

    def publish(self, partition: int, body: bytes) -> Future[None]:
        """Send a message."""
        try:
            sealed = self._seal_body(body)
        except HoldfastError as error:
            failed: Future[None] = Future()
            away = isinstance(error, Unavailable | NotDurable)
            failed.set_exception(PublishFailed(f"nothing was sent: {error}") if away else error)
            return failed
        found: Future[None] = self._inner.publish(partition, sealed)
        return found

    def close(self) -> None:
        """Stop."""
        self._inner.close()
        self._close()


class SealedConsumer(_Port):
    """Commands on their way in; what cannot be opened stays as it is, and is kept back by whoever reads it."""

    def __init__(self, inner: Any, cipher: Cipher, partitions: int, close: Callable[[], None]) -> None:
        super().__init__(inner, cipher, partitions)
        self._close = close
        #: What was taken and could not be opened for want of Redis: it comes first the next time.
        self._kept: list[Delivery] = []
        self._pause = threading.Event()

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Return what has arrived."""
        self._kept = self._kept or self._inner.take(limit, timeout_s)
        found = self._kept
        try:
            bodies = self._open_bodies([one.body for one in found])
        except Unavailable:
            self._pause.wait(timeout_s)
            return []
        for delivery, body in zip(found, bodies, strict=True):
            delivery.body = body
        self._kept = []
        return found

    def close(self) -> None:
        """Stop."""
        self._inner.close()
        self._close()


class SealedTransport(_Port):
    """The transport; each publisher and each consumer has a cipher of its own."""

    def __init__(
        self, inner: Any, cipher: Callable[[], tuple[Cipher, Callable[[], None]]], partitions: int
    ) -> None:
        self._inner = inner
        self._make = cipher
        self._partitions = partitions

    def publisher(self) -> SealedPublisher:
        """Return a publisher."""
        return SealedPublisher(self._inner.publisher(), *self._own())

    def consumer(self, owner: str = "") -> SealedConsumer:
        """Return a consumer."""
        return SealedConsumer(self._inner.consumer(owner), *self._own())

    def doorman(self) -> SealedConsumer:
        """Return a consumer of foreign messages."""
        return SealedConsumer(self._inner.doorman(), *self._own())

    def _own(self) -> tuple[Cipher, int, Callable[[], None]]:
        cipher, close = self._make()
        return cipher, self._partitions, close
