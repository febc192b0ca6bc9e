"""Draughtsman: a workflow as a state machine, and where in it an instance is, from the code and from the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from holdfast.actors.reader import Reader, not_deleted
from holdfast.runtime.backlog import RETRY, Backlog, Scheduled, read_name
from holdfast.runtime.cipher import tag_in
from holdfast.runtime.clock import from_ms
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.definition import Definition
from holdfast.runtime.diagram import Machine, Place, merge
from holdfast.runtime.errors import Undecodable
from holdfast.runtime.exploration import Trail, explore
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import describe
from holdfast.runtime.record import EffectEntry

#: Scheduled things that are looked through for those of one instance, and unfinished effects of each partition.
LOOK_MAX = 10_000
EFFECTS_MAX = 1_000

_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)


def machine_of(definition: Definition, examples: Iterable[Any] = ()) -> Machine:
    """Return all that can be found out about a workflow without an instance."""
    return explore(definition, examples)


def live(
    definition: Definition,
    key: str,
    reader: Reader,
    backlog: Backlog,
    *,
    history: bool = False,
    examples: Iterable[Any] = (),
) -> tuple[Machine, Place] | None:
    """Return a workflow's machine, with what an instance's log adds to it, and where the instance is in it.

    Args:
        definition: The workflow.
        key: The instance.
        reader: Reads its log.
        backlog: Has what it waits for.
        history: Whether only what it went through is wanted.
        examples: Commands to be tried too.

    Returns None where there is no such instance. Where the beginning of its log was deleted, the way goes on from the
    snapshot.

    Raises:
        DataDeleted: The instance's data was deleted, and nothing of its state is left.
        HistoryError: The log cannot be read by the code of today.
    """
    actor = reader.look(definition.type, key)
    if not actor.seq:
        return None
    not_deleted(actor)
    trail = _trail(definition, key, reader)
    machine = trail.machine()
    if not history:
        machine = merge(explore(definition, examples), trail.path, lambda status: status in trail.terminal)
    timers, effects = _pending(actor.ref, backlog)
    place = Place(str(actor.ref), trail.status, tuple(trail.path), timers, effects, str(actor.run_state))
    return machine, place


def _trail(definition: Definition, key: str, reader: Reader) -> Trail:
    """Return the way that an instance went, as far as its log and its snapshot tell."""
    trail = Trail(definition)
    base = reader.base(definition.type, key)
    records = reader.history(definition.type, key, 0, None)
    if base.seq:
        events = [event for record in records if record.seq <= base.seq for event in record.events]
        trail.resume(base.seq, base.state, describe(events[-1]) if events else "")
    trail.follow(record for record in records if record.seq > base.seq)
    return trail


def _pending(ref: Ref, backlog: Backlog) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what an instance waits for, one line each: timers, and effects."""
    effects = [
        effect_in(one.entry)
        for one in backlog.effects(EFFECTS_MAX)
        if (one.entry.workflow, one.entry.key) == (ref.workflow, ref.key)
    ]
    timers = []
    for one, data in scheduled_for(backlog, backlog.scheduled(LOOK_MAX, [ref.partition]), ref):
        at = from_ms(one.due_ms).isoformat(sep=" ", timespec="seconds")
        if one.name.startswith(RETRY):
            effects.append(f"{effect_in(read_effect(data))}, again at {at}")
        else:
            name = read_name(one.name)
            timers.append(
                f"{command_in(data)} at {at}{f' ({name.timer})' if name and not _is_id(name) else ''}"
            )
    return tuple(timers), tuple(effects)


def _is_id(name: Any) -> bool:
    """Return whether a timer without a key is meant: it is named after its command, which tells people nothing."""
    timer: str = name.timer
    return ":t" in timer


def scheduled_for(
    backlog: Backlog, scheduled: Sequence[Scheduled], ref: Ref
) -> list[tuple[Scheduled, bytes]]:
    """Return those of one instance with their payloads."""
    mine = [
        one
        for one in scheduled
        if one.name.startswith(RETRY)
        or ((name := read_name(one.name)) and (name.workflow, name.key) == (ref.workflow, ref.key))
    ]
    found = [(one, data) for one, data in zip(mine, backlog.payloads(mine), strict=True) if data is not None]
    return [
        (one, data)
        for one, data in found
        if not one.name.startswith(RETRY)
        or ((entry := read_effect(data)).workflow, entry.key) == (ref.workflow, ref.key)
    ]


def read_effect(data: bytes) -> EffectEntry:
    """Return an effect as it is stored; one that cannot be read belongs to nobody."""
    try:
        return _effect_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return EffectEntry("", "", "", 0, b"", 0)


def command_in(envelope: bytes) -> str:
    """Return the name of the command in an envelope."""
    try:
        return tag_in(decode_envelope(envelope).payload) or "?"
    except Undecodable:
        return "?"


def effect_in(entry: EffectEntry) -> str:
    """Return the name of an effect."""
    return tag_in(entry.payload) or "?"
