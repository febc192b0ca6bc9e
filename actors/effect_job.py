"""Job: one effect in the hands of this process, from when it was read until it is finished or let go."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import Enum, auto
from typing import Any

import msgspec

from holdfast.actors.tracing.effects import Attempt, EffectSpans
from holdfast.runtime.app import App
from holdfast.runtime.clock import Clock, SystemClock
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.effect import EffectContext, EffectTimeout, Handler, Outgoing, context_of
from holdfast.runtime.effect_queue import Ticket, Waiting
from holdfast.runtime.errors import Undecodable, UnknownType
from holdfast.runtime.limit import Want
from holdfast.runtime.message import tag_of
from holdfast.runtime.record import EffectEntry

_entry_decoder = msgspec.msgpack.Decoder(EffectEntry)

#: What the time is taken from where nothing else is said.
_MACHINE = SystemClock()


class State(Enum):
    """Where a job is."""

    #: It was read, and nobody holds it on our account.
    WAITING = auto()
    #: It is ours: it runs, or its result is on its way, or it waits for a moment before it runs again.
    HELD = auto()


class Job:
    """An effect, its attempt, and what that led to."""

    __slots__ = (
        "alone",
        "at",
        "attempt",
        "began",
        "claim",
        "clock",
        "confirms",
        "data",
        "deadline",
        "effect",
        "elsewhere",
        "entry",
        "error",
        "handler",
        "interrupt",
        "is_async",
        "letter",
        "outgoing",
        "partition",
        "permanent",
        "picked",
        "placed",
        "position",
        "publish_error",
        "span",
        "spans",
        "state",
        "tag",
        "want",
    )

    def __init__(self, waiting: Waiting, clock: Clock = _MACHINE) -> None:
        self.clock = clock
        self.partition = waiting.partition
        self.position = waiting.position
        #: Where it is in the outbox.
        self.at = (waiting.partition, waiting.position)
        self.data = waiting.data
        self.entry: EffectEntry | None = None
        self.effect: Any = None
        self.handler: Handler | None = None
        #: Whether it runs on the event loop.
        self.is_async = False
        #: The name of the effect's class, as far as it is known.
        self.tag = ""
        self.state = State.WAITING
        #: Whether it is being begun, and it is not known yet whether it is ours.
        self.picked = False
        self.attempt = 0
        #: When the attempt began, on the monotonic clock.
        self.began = 0.0
        #: The places that it needs before it begins; None where there are no limits.
        self.want: Want | None = None
        #: Whether it has them.
        self.placed = False
        #: Which living process was found to hold it; empty for none.
        self.elsewhere = ""
        #: Whether it may have killed its workers, and runs apart from others of which the same is thought.
        self.alone = False
        #: Whoever takes this says how the attempt has ended: who ran it, or who found its time was up.
        self.claim: list[None] = []
        self.deadline = math.inf
        #: Stops what runs, as well as that can be done.
        self.interrupt: Callable[[], None] | None = None
        self.error: BaseException | None = None
        self.permanent = False
        self.outgoing: list[Outgoing] = []
        self.confirms: Iterator[int] = itertools.count(1)
        self.publish_error: BaseException | None = None
        self.letter: DeadLetter | None = None
        #: What traces attempts, and the current one; None where nothing is traced.
        self.spans: EffectSpans | None = None
        self.span: Attempt | None = None

    @property
    def name(self) -> tuple[int, str, str, str]:
        """Which effect it is; only of one that was read."""
        entry = self.entry
        assert entry is not None  # noqa: S101 - it was read
        return self.partition, entry.workflow, entry.key, entry.id

    def place(self, position: str) -> None:
        """Say where in the outbox it is."""
        self.position = position
        self.at = (self.partition, position)

    @property
    def ticket(self) -> Ticket:
        """What the ports know it by."""
        entry = self.entry
        if entry is None:
            return Ticket(self.partition, self.position)
        return Ticket(self.partition, self.position, entry.workflow, entry.key, entry.id, self.attempt)

    def read(self, app: App) -> None:
        """Find out what it is and who handles it.

        Raises:
            UnknownType: This process does not know the workflow or the effect, or has no handler for it; others may.
            Undecodable: The bytes are no effect, or no longer fit its class.
        """
        try:
            if self.entry is None:
                self.entry = _entry_decoder.decode(self.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = f"the outbox has bytes that are no effect: {error}"
            raise Undecodable(message) from error
        definition = app.definition(self.entry.workflow)
        if definition.effects is None:
            message = f"{definition.name} has no effects"
            raise UnknownType(message)
        self.effect = definition.effects.decode(self.entry.payload)
        kind = type(self.effect)
        self.tag = tag_of(kind)
        self.handler = app.handler_of(kind)
        if self.handler is None:
            message = f"no handler for {kind.__name__} of {definition.name} in this process; write @app.effect({kind.__name__})"
            raise UnknownType(message)
        self.is_async = self.handler.is_async

    def start(self) -> tuple[EffectContext, list[None]]:
        """Begin an attempt; return its context, and what `end` takes from it."""
        if self.spans is not None:
            self.spans.begin(self)
        self.began = self.clock.monotonic()
        entry, handler = self.entry, self.handler
        assert entry is not None  # noqa: S101 - only what was read is run
        assert handler is not None  # noqa: S101 - as above
        deadline = None
        if handler.timeout_s is not None:
            self.deadline = self.clock.monotonic() + handler.timeout_s
            deadline = self.clock.now() + timedelta(seconds=handler.timeout_s)
        claim = self.claim = [None]

        def beat() -> None:
            if not claim:
                message = f"this attempt of {handler.kind.__name__} was given up before"
                raise EffectTimeout(message)
            if handler.timeout_s is not None:
                self.deadline = self.clock.monotonic() + handler.timeout_s

        return context_of(entry, self.attempt, deadline, beat), claim

    def call(self, context: EffectContext) -> Any:
        """Call the handler, on its own thread or in its own task."""
        assert self.handler is not None  # noqa: S101 - only what was read is run
        if self.spans is not None:
            self.spans.enter(self)
        return self.handler.call(self.effect, context)

    def end(self, claim: list[None]) -> bool:
        """Take the right to say how an attempt has ended; False when somebody else had it first.

        Each attempt has a claim of its own: one that ends long after its time was up says nothing about the next.
        """
        try:
            claim.pop()
        except IndexError:
            return False
        self.deadline = math.inf
        self.interrupt = None
        return True
