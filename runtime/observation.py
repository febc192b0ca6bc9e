"""Observations: what came to an instance and what became of it, for whoever has to know. Off by default."""

import msgspec

#: How many an instance keeps; older ones go.
KEPT_MAX = 1_000


class Observation(msgspec.Struct, frozen=True, array_like=True):
    """One delivery of a command, and what became of it.

    It is stored as a msgpack array: add fields at the end, with a default.
    """

    command_id: str
    #: The type of the command; empty where that could not be read.
    command: str
    #: The command as it came, as msgpack.
    payload: bytes
    at_ms: int
    #: accepted, rejected, duplicate, completed, dead or parked.
    outcome: str
    #: Why it was rejected, parked or a dead letter.
    reason: str = ""
    #: The record of an accepted one.
    seq: int = 0
