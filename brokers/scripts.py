"""The Lua scripts by name, and the call that runs many of them in one round trip."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import Enum
from importlib import resources
from typing import Any, NamedTuple

import msgspec
import redis

from holdfast.brokers.redis_link import RedisLink, unavailable


class Script(Enum):
    """Every script; each is the file of its name in `lua/`."""

    OPEN = "open"
    COMMIT = "commit"
    SNAPSHOT = "snapshot"
    RELEASE = "release"
    CLAIM = "claim"
    YIELD = "yield"
    BEAT = "beat"
    UNCLAIMED = "unclaimed"
    REFUSE = "refuse"
    READ = "read"
    BEGIN = "begin"
    FINISH = "finish"
    LET_GO = "let_go"
    PUT_OFF = "put_off"
    ACQUIRE = "acquire"
    FIRE = "fire"
    FEED_REGISTER = "feed_register"
    FEED_READ = "feed_read"
    FEED_ACKNOWLEDGE = "feed_acknowledge"
    FEED_BEHIND = "feed_behind"
    FEED_TRIM = "feed_trim"
    FEED_REMOVE = "feed_remove"
    PARK = "park"
    ORDER = "order"
    GENERATIONS = "generations"
    APPLIED = "applied"
    WITHDRAW = "withdraw"
    REVIVE = "revive"
    TRIM = "trim"
    CLAIM_UNIQUE = "claim_unique"
    SETTLE_UNIQUE = "settle_unique"
    LOOK = "look"
    REWRAP = "rewrap"
    NAME_TIMERS = "name_timers"

    def __init__(self, name: str) -> None:
        self.source = (resources.files("holdfast.brokers.lua") / f"{name}.lua").read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class TimerCall(msgspec.Struct, frozen=True):
    """A timer as commit.lua reads it; `data` is where in ARGV its bytes are."""

    name: str
    due_ms: int
    delay_ms: int
    data: int


class ParkCall(msgspec.Struct, frozen=True):
    """A command to keep, as commit.lua reads it."""

    id: str
    data: int
    first: bool


class DeadCall(msgspec.Struct, frozen=True):
    """A dead letter as commit.lua reads it."""

    id: str
    at_ms: int
    data: int


class MoreCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """What few commits ask for; see `Commit`. What is not asked for is left out, and costs nothing."""

    #: Where in KEYS the keys for it begin.
    keys: int
    parks: Sequence[ParkCall] | None = None
    parks_max: int | None = None
    unparks: Sequence[str] | None = None
    reason: str | None = None
    unique: str | None = None
    until: int | None = None
    #: Where in ARGV the snapshot is that stays.
    wipe: int | None = None
    dead: Sequence[DeadCall] | None = None
    #: With `wipe`: which instance, and where in ARGV what takes the place of its data key is.
    scope: str | None = None
    secret: int | None = None


class CommitOne(msgspec.Struct, frozen=True, omit_defaults=True):
    """A commit as commit.lua reads it; `entries` and `effects` are where in ARGV their bytes are.

    The bytes travel beside it, since the msgpack of Redis's Lua knows text but no binary.
    """

    workflow: str
    key: str
    seq: int
    head: str
    token: int
    entries: Sequence[int]
    new_head: str
    was: str
    run_state: str
    effects: Sequence[int]
    cancels: Sequence[str]
    timers: Sequence[TimerCall]
    more: MoreCall | None = None
    #: For each effect its name, if it is to begin, else nothing.
    begins: Sequence[str] | None = None
    #: Names of refused commands, each with where in ARGV its answer is; and of those that may have been refused.
    refusals: Sequence[tuple[str, int]] | None = None
    unless: Sequence[str] | None = None


class CommitCall(msgspec.Struct, frozen=True):
    """The argument of commit.lua."""

    owner: str
    lease_ms: int
    leases: bool
    #: How long refusals are remembered.
    refusals_ms: int
    commits: Sequence[CommitOne]


class Call(NamedTuple):
    """One script with its keys and arguments."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes | int]


def run(link: RedisLink, calls: Sequence[Call]) -> list[Any]:
    """Run scripts in one round trip and return their replies.

    A server that does not know a script (a new one, or one that was restarted) is given all of them, and only the
    calls that it refused are made again, with their source: a script that did run is never run twice.

    Raises:
        Unavailable: The server did not answer, or refused a call.
    """
    with unavailable(link):
        replies = _known(link, calls)
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        if unknown:
            again = _unknown(link, [calls[index] for index in unknown])
            for index, reply in zip(unknown, again, strict=True):
                replies[index] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
    return replies


def _known(link: RedisLink, calls: Sequence[Call]) -> list[Any]:
    if len(calls) == 1:
        return [_single(link, calls[0])]
    pipe = link.client.pipeline(transaction=False)
    for script, keys, args in calls:
        pipe.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
    return pipe.execute(raise_on_error=False)


def _unknown(link: RedisLink, calls: Sequence[Call]) -> list[Any]:
    pipe = link.client.pipeline(transaction=False)
    if link.cluster is not None:
        # Each of its servers learns a script by its first call there.
        for script, keys, args in calls:
            pipe.execute_command("EVAL", script.source, len(keys), *keys, *args)
        return pipe.execute(raise_on_error=False)
    for script in Script:
        pipe.script_load(script.source)
    for script, keys, args in calls:
        pipe.execute_command("EVAL", script.source, len(keys), *keys, *args)
    return pipe.execute(raise_on_error=False)[len(Script) :]


def _single(link: RedisLink, call: Call) -> Any:
    try:
        return link.client.execute_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
    except redis.exceptions.ResponseError as error:
        return error
