"""Ticks: what the timer pool makes of the timers of schedules.

Most timers are published as they are. A schedule's `Tick` is told when it was moved by the server's clock. Its `SendTick`
is not published at all: the app makes the command of that tick, which is sent in its place, with a report to the
schedule. Both have ids that follow from the tick, so when a crash repeats this, it makes the same of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.runtime.app import App
from holdfast.runtime.clock import Clock, from_ms, to_ms
from holdfast.runtime.codec import decode_envelope, encode, encode_envelope, encode_message
from holdfast.runtime.dead_letter import sentence_of
from holdfast.runtime.errors import Ending, Undecodable, UsageError
from holdfast.runtime.ids import new_id
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.message import Command, Envelope, follow
from holdfast.runtime.ports import Journal
from holdfast.runtime.schedule import Schedule
from holdfast.runtime.timers import Due
from holdfast.runtime.timetable import (
    SCHEDULE_TYPE,
    Cause,
    EnsureSchedule,
    SendTick,
    Target,
    Tick,
    TickBusy,
    TickFailed,
    TickFiltered,
    TickSent,
)

log = logging.getLogger(__name__)

#: Which timers are looked into at all.
_MARK = SCHEDULE_TYPE.encode()
#: An instance that is not there yet is believed to come for this long after its command was sent.
ARRIVAL_S = 10.0
#: The most of an error that a schedule remembers.
ERROR_CHARS_MAX = 500

#: What is to be published: (partition, body).
Message = tuple[int, bytes]


class Ticks:
    """Makes of timers what is to be published."""

    def __init__(
        self, app: App, journal: Journal, clock: Clock, *, partitions: int, payload_bytes_max: int
    ) -> None:
        self._app = app
        self._journal = journal
        self._clock = clock
        self._partitions = partitions
        self._payload_bytes_max = payload_bytes_max

    def beginnings(self) -> list[Message]:
        """Return what makes the schedules what the code says; a schedule that is so already refuses it."""
        return [
            self._message(
                Envelope(
                    f"ensure:{new_id()}",
                    SCHEDULE_TYPE,
                    schedule.name,
                    encode(EnsureSchedule(schedule.name, schedule.spec)),
                    to_ms(self._clock.now()),
                )
            )
            for schedule in self._app.schedules.values()
        ]

    def messages(self, due: Due) -> Sequence[Message]:
        """Return what is to be published for a timer."""
        if _MARK not in due.body:
            return ((due.partition, due.body),)
        try:
            envelope = decode_envelope(due.body)
            if envelope.workflow != SCHEDULE_TYPE:
                return ((due.partition, due.body),)
            command = self._app.definition(SCHEDULE_TYPE).commands.decode(envelope.payload)
        except Undecodable:  # whoever decides it makes a dead letter of it
            return ((due.partition, due.body),)
        if isinstance(command, Tick):
            seen = msgspec.structs.replace(command, seen_ms=due.moved_ms)
            return (self._message(msgspec.structs.replace(envelope, payload=encode(seen))),)
        if isinstance(command, SendTick):
            return self._sent(envelope, command)
        return ((due.partition, due.body),)

    def _sent(self, envelope: Envelope, send: SendTick) -> list[Message]:
        schedule = self._app.schedules.get(send.name)
        if schedule is None:
            return [self._report(envelope, TickFailed(send.name, send.tick, ""))]
        if self._busy(send.after):
            return [self._report(envelope, TickBusy(send.name, send.tick))]
        try:
            made = self._made(envelope, schedule, send)
        except Ending:
            raise
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; the schedule keeps it and tries again
            log.warning(
                "command of a tick was not made",
                extra={"schedule": send.name, "tick": send.tick, "error": sentence_of(error)},
            )
            return [
                self._report(envelope, TickFailed(send.name, send.tick, sentence_of(error)[:ERROR_CHARS_MAX]))
            ]
        if made is None:
            return [self._report(envelope, TickFiltered(send.name, send.tick))]
        target = Target(made.workflow, made.key, to_ms(self._clock.now()))
        return [self._message(made), self._report(envelope, TickSent(send.name, send.tick, target))]

    def _made(self, envelope: Envelope, schedule: Schedule, send: SendTick) -> Envelope | None:
        """Return the command of a tick on its way; None if the filter does not want it."""
        tick = schedule.spec.local(from_ms(send.at_ms))
        if schedule.filter is not None and send.cause is not Cause.TRIGGER and not schedule.filter(tick):
            return None
        command: Any = schedule.command(tick)
        if not isinstance(command, Command):
            message = (
                f"the function of schedule {schedule.name!r} returned {type(command).__name__}, no command"
            )
            raise UsageError(message)
        definition = self._app.definition_for(command)
        key = definition.key_of(command)
        what = f"the command of schedule {schedule.name!r}"
        return follow(
            envelope,
            id=f"schedule:{send.name}:{send.tick}",
            workflow=definition.type,
            key=key,
            payload=encode_message(command, what, self._payload_bytes_max),
            sent_ms=to_ms(self._clock.now()),
        )

    def _busy(self, target: Target | None) -> bool:
        """Say whether an instance still runs; one that never came is over after a while."""
        if target is None:
            return False
        partition = partition_of(target.workflow, target.key, self._partitions)
        found = self._journal.read([Ref(partition, target.workflow, target.key)])
        if not found or found[0].seq == 0:
            return to_ms(self._clock.now()) - target.at_ms < ARRIVAL_S * 1000
        return not found[0].run_state.finished

    def _report(self, envelope: Envelope, command: Command) -> Message:
        return self._message(
            follow(
                envelope,
                id=f"{envelope.id}:r",
                workflow=SCHEDULE_TYPE,
                key=envelope.key,
                payload=encode(command),
                sent_ms=to_ms(self._clock.now()),
            )
        )

    def _message(self, envelope: Envelope) -> Message:
        return partition_of(envelope.workflow, envelope.key, self._partitions), encode_envelope(envelope)
