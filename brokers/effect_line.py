"""An effect as tools show it, made of what the outbox has."""

from __future__ import annotations

import msgspec

from holdfast.runtime.cipher import tag_in
from holdfast.runtime.effect_queue import Note, PendingEffect
from holdfast.runtime.record import EffectEntry

_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)


def line_of(
    partition: int,
    data: bytes,
    begun: tuple[int, int, str],
    note: Note | None,
    due_ms: int = 0,
) -> PendingEffect:
    """Return an effect as tools show it: what is in the outbox, or is due to come back into it."""
    count, since_ms, owner = begun
    note = note or Note("")
    try:
        entry = _effect_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return PendingEffect(partition, "", "", "", "", "waiting", count, since_ms)
    state = (note.reason if due_ms else "") or ("running" if owner else "waiting")
    since = since_ms if state == "running" else (note.at_ms or entry.at_ms)
    return PendingEffect(
        partition,
        entry.workflow,
        entry.key,
        entry.id,
        tag_in(entry.payload),
        state,
        count,
        since,
        due_ms,
        owner,
        note.error,
    )
