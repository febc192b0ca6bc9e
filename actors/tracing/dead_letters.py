"""Spans of what is given up on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from holdfast.actors.tracing import names
from holdfast.actors.tracing.context import origin
from holdfast.actors.tracing.tracing import Tracing, harmless, instance
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.errors import HoldfastError
from holdfast.runtime.ports import DeadLetters
from holdfast.runtime.record import EffectEntry

#: Letters that are remembered, so that one which is written again has one span.
TOLD_MAX = 1_000


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """What is needed of a record; see `Entry`."""

    command_id: str
    command: str
    at_ms: int
    token: int
    events: msgspec.Raw
    cause: str | None = None
    trace: str | None = None


_record_decoder = msgspec.msgpack.Decoder(_Record)
_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)


def trace_of_record(data: bytes) -> tuple[str | None, int]:
    """Return the trace of a record, and when it was decided."""
    try:
        found = _record_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None, 0
    return found.trace, found.at_ms


def _trace_of(letter: DeadLetter) -> tuple[str | None, int]:
    """Return the trace of what was given up on, and when that was asked for."""
    try:
        if letter.kind in ("command", "timer"):
            envelope = decode_envelope(letter.body)
            return envelope.trace, envelope.sent_ms
        if letter.kind == "effect":
            entry = _effect_decoder.decode(letter.body)
            return entry.trace, entry.at_ms
    except (HoldfastError, msgspec.DecodeError, UnicodeError, RecursionError):
        return None, 0
    return trace_of_record(letter.body) if letter.kind == "projection" else (None, 0)


@harmless
def bury(tracing: Tracing, letter: DeadLetter, now_ms: int, trace: str | None = None) -> None:
    """Trace that something became a dead letter, in the trace of what was tried last, or else of what asked for it."""
    text, since_ms = (trace, now_ms) if trace is not None else _trace_of(letter)
    came = origin(text, since_ms, now_ms)
    if came.dropped:
        return
    span = tracing.start(names.BURY, letter.kind, came.parent, came.links, kept=bool(came.links))
    if not span.is_recording():
        return
    span.set_attributes(
        {
            names.DEAD_LETTER: letter.id,
            names.DEAD_LETTER_KIND: letter.kind,
            names.ATTEMPT: letter.attempts,
        }
    )
    if letter.workflow:
        span.set_attributes(instance(letter.workflow, letter.key))
    if letter.command_id:
        span.set_attribute(names.MESSAGE_ID, letter.command_id)
    tracing.failed(span, *parts_of(letter.error))
    span.end()


def parts_of(error: str) -> tuple[str, str]:
    """Return the type and the message of an error that was kept as a sentence."""
    kind, _, message = error.partition(": ")
    return kind if message and kind.isidentifier() else "DeadLetter", message or error


class TracedDeadLetters:
    """The index of dead letters, with a span for each that is put into it."""

    def __init__(self, inner: DeadLetters, tracing: Tracing, now_ms: Callable[[], int]) -> None:
        self._inner = inner
        self._tracing = tracing
        self._now_ms = now_ms
        self._told: OrderedDict[tuple[str, int], None] = OrderedDict()

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; one with a known id replaces it."""
        self._inner.add(letters)
        for letter in letters:
            told = (letter.id, letter.attempts)
            if told not in self._told:
                self._told[told] = None
                bury(self._tracing, letter, self._now_ms())
        while len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
