"""Bearings: for which instance and command user code runs right now, so that every log line can say so.

What is borne is what the caller has at hand: an envelope, or the context of a handler. Nothing is made for it, so
bearing costs next to nothing, and a line pays for what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from holdfast.runtime.effect import EffectContext
from holdfast.runtime.message import Envelope
from holdfast.runtime.projection import ProjectionContext

Bearer = Envelope | EffectContext | ProjectionContext

_current: ContextVar[Bearer | None] = ContextVar("holdfast_bearings", default=None)

#: Have what runs from here on in this context be for something, or with None for nothing.
bear = _current.set
#: Return for what this context runs.
bearer = _current.get


def call_for(whom: Bearer, call: Callable[..., Any], *args: Any) -> Any:
    """Call something that runs for something, and be as before when it has ended."""
    token = _current.set(whom)
    try:
        return call(*args)
    finally:
        _current.reset(token)


def bearings() -> dict[str, str | int]:
    """Return as facts of a log line for which instance and command this runs; nothing where it is for none."""
    match _current.get():
        case Envelope() as envelope:
            return {"workflow": envelope.workflow, "key": envelope.key, "command_id": envelope.id}
        case EffectContext() as context:
            return {
                "workflow": context.workflow,
                "key": context.key,
                # The id of an effect begins with that of the command that asked for it.
                "command_id": context.effect_id.rpartition(":")[0],
                "effect_id": context.effect_id,
                "attempt": context.attempt,
            }
        case ProjectionContext() as context:
            return {
                "workflow": context.workflow,
                "key": context.key,
                "command_id": context.command_id,
                "seq": context.seq,
            }
        case _:
            return {}
