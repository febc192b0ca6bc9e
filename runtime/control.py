"""Controls: the commands that every instance understands, whatever its workflow.

They travel, are decided and are recorded like the workflow's own commands, but against the table of legal moves and
never by the workflow's code: so they work where `decide` does not.
"""

from __future__ import annotations

import msgspec

from holdfast.runtime.instance import RunState
from holdfast.runtime.message import Command

#: What the names of built-in messages begin with; no workflow's own may.
RESERVED = "holdfast."

#: What the timer that ends a pause is called within its instance.
RESUME_TIMER = "holdfast.resume"


class Pause(Command, frozen=True, tag="holdfast.Pause"):
    """Keep later commands, in order, until the instance is resumed."""

    reason: str = ""
    #: When it is resumed without being asked, in milliseconds since 1970; 0 for never.
    resume_at_ms: int = 0
    #: The same as a delay from the commit, used where the time is not given.
    resume_after_ms: int = 0


class Resume(Command, frozen=True, tag="holdfast.Resume"):
    """Let a paused instance go on: first with what was kept, then with what comes."""

    reason: str = ""
    #: The command id of the one pause that is meant; empty for whichever it is.
    pause_id: str = ""


class Cancel(Command, frozen=True, tag="holdfast.Cancel"):
    """Finish an instance where it stands."""

    reason: str = ""


class DeleteData(Command, frozen=True, tag="holdfast.DeleteData"):
    """Delete everything that a finished instance has recorded."""

    reason: str = ""


Control = Pause | Resume | Cancel | DeleteData

#: What each control makes of an instance.
TARGETS: dict[type[Command], RunState] = {
    Pause: RunState.PAUSED,
    Resume: RunState.RUNNING,
    Cancel: RunState.CANCELLED,
    DeleteData: RunState.DATA_DELETED,
}

#: How each control is called in records, outcomes and on the command line.
VERBS: dict[type[Command], str] = {
    Pause: "pause",
    Resume: "resume",
    Cancel: "cancel",
    DeleteData: "delete-data",
}

_decoder: msgspec.msgpack.Decoder[Control] = msgspec.msgpack.Decoder(Control)


def decode_control(payload: bytes) -> Control | None:
    """Return the control in a command's bytes, or None if it is none that this code knows."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_reserved(tag: str) -> bool:
    """Return whether a name is kept for built-in messages."""
    return tag.startswith(RESERVED)
