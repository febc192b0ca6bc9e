"""Timetable: the built-in workflow that a schedule is an instance of.

    EnsureSchedule -> a timer for the next tick
    Tick           -> the ticks that are due, by the policies, wait to be sent
    SendTick       -> a timer without a delay; the timer pool does not publish it, but has the app make the command of
                      the tick, sends that, and reports back with TickSent, TickBusy, TickFiltered or TickFailed

Everything is decided from the log and the times of the ticks, so a tick is taken once whatever crashes; the command
that is made for it has an id of the tick's own, so sending it twice is sending it once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Never

import msgspec

from holdfast.runtime.clock import from_ms, to_ms
from holdfast.runtime.decision import Accept, Decision, accept, reject
from holdfast.runtime.message import Command, Event
from holdfast.runtime.schedule import CatchUp, Overlap, Spec, ticks_after, ticks_before
from holdfast.runtime.workflow import Workflow

#: The type of the built-in workflow.
SCHEDULE_TYPE = "holdfast.schedule"
#: A tick that is no older is no missed one.
LATE_MAX = timedelta(minutes=1)
#: Ticks that one decision takes up, so that years that were missed are no single record.
TICKS_PER_DECISION = 100
#: Ticks that one backfill may ask for.
BACKFILL_MAX = 1_000
#: Ticks that may wait to be sent; what comes on top of them is left out.
WAITING_MAX = 2 * BACKFILL_MAX
#: How often the command of a tick is tried, and the first pause; it doubles.
SEND_ATTEMPTS = 5
RETRY_FIRST_S = 1
#: How often it is looked whether the instance before has finished: after a second at first, then ever more seldom.
RECHECK_MAX_S = 60
#: Ticks whose outcome is remembered.
OUTCOMES_MAX = 20


class Cause(StrEnum):
    """Why something is to be sent."""

    TICK = "tick"
    TRIGGER = "trigger"
    BACKFILL = "backfill"


class Target(msgspec.Struct, frozen=True):
    """The instance that a tick's command was for, and when that was sent."""

    workflow: str
    key: str
    at_ms: int


# -- commands


class EnsureSchedule(Command, frozen=True, tag="holdfast.EnsureSchedule"):
    """Make the schedule what the code says; sent by every process of the timer pool when it starts."""

    name: str
    spec: Spec


class Tick(Command, frozen=True, tag="holdfast.Tick"):
    """The next tick has come; sent by a timer."""

    name: str
    at_ms: int
    #: When it was moved, by the server's clock, which alone says what else is due; the timer pool fills it in.
    seen_ms: int = 0


class PauseSchedule(Command, frozen=True, tag="holdfast.PauseSchedule"):
    """Let no more ticks come."""

    name: str
    reason: str = ""


class ResumeSchedule(Command, frozen=True, tag="holdfast.ResumeSchedule"):
    """Let ticks come again, from now on."""

    name: str


class TriggerSchedule(Command, frozen=True, tag="holdfast.TriggerSchedule"):
    """Send the command of a tick now, whether paused or not; the filter is not asked."""

    name: str


class BackfillSchedule(Command, frozen=True, tag="holdfast.BackfillSchedule"):
    """Send the commands of all ticks of a time, both ends included, whether they were sent before or not."""

    name: str
    from_ms: int
    until_ms: int


class RemoveSchedule(Command, frozen=True, tag="holdfast.RemoveSchedule"):
    """Forget the schedule; code that still has it brings it back when it starts."""

    name: str


class SendTick(Command, frozen=True, tag="holdfast.SendTick"):
    """Have the app make a tick's command, and send it; carried out by the timer pool."""

    name: str
    tick: str
    at_ms: int
    cause: Cause
    #: The instance that must have finished first; None when that does not matter.
    after: Target | None = None


class TickSent(Command, frozen=True, tag="holdfast.TickSent"):
    """The command of a tick was sent."""

    name: str
    tick: str
    target: Target


class TickBusy(Command, frozen=True, tag="holdfast.TickBusy"):
    """The instance before has not finished."""

    name: str
    tick: str


class TickFiltered(Command, frozen=True, tag="holdfast.TickFiltered"):
    """The filter does not want this tick."""

    name: str
    tick: str


class TickFailed(Command, frozen=True, tag="holdfast.TickFailed"):
    """The command of a tick could not be made; without an error: the app has no such schedule."""

    name: str
    tick: str
    error: str


# -- events


class ScheduleSet(Event, frozen=True, tag="holdfast.ScheduleSet"):
    """The schedule is this from now on."""

    spec: Spec
    next_ms: int


class SchedulePaused(Event, frozen=True, tag="holdfast.SchedulePaused"):
    """No more ticks come."""

    reason: str


class ScheduleResumed(Event, frozen=True, tag="holdfast.ScheduleResumed"):
    """Ticks come again."""

    next_ms: int


class ScheduleRemoved(Event, frozen=True, tag="holdfast.ScheduleRemoved"):
    """The schedule was forgotten."""


class TicksTaken(Event, frozen=True, tag="holdfast.TicksTaken"):
    """These ticks will be sent; ticks before `next_ms` that are not among them were left out."""

    ticks: tuple[tuple[str, int], ...]
    cause: Cause
    #: When the next tick comes; 0 where this changed nothing about that.
    next_ms: int = 0


class TickStarted(Event, frozen=True, tag="holdfast.TickStarted"):
    """The command of a tick was sent."""

    tick: str
    target: Target


class TickPutOff(Event, frozen=True, tag="holdfast.TickPutOff"):
    """A tick will be tried again: the instance before has not finished, or there was an error."""

    tick: str
    error: str = ""


class TickDropped(Event, frozen=True, tag="holdfast.TickDropped"):
    """A tick will not be sent."""

    tick: str
    reason: str
    failed: bool = False


# -- state


class Waiting(msgspec.Struct, frozen=True):
    """A tick that is to be sent."""

    tick: str
    at_ms: int
    cause: Cause
    tries: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """What became of a tick."""

    tick: str
    at_ms: int
    what: str
    target: Target | None = None


class Timetable(msgspec.Struct, frozen=True):
    """What is known of a schedule."""

    spec: Spec | None = None
    #: When the next tick comes; 0 while none does.
    next_ms: int = 0
    #: The last tick that was taken: none comes twice.
    taken_ms: int = 0
    paused: bool = False
    reason: str = ""
    removed: bool = False
    queue: tuple[Waiting, ...] = ()
    #: The last instance that was started.
    last: Target | None = None
    sent: int = 0
    skipped: int = 0
    failed: int = 0
    #: How often something was triggered or backfilled: what makes their ticks' names.
    extra: int = 0
    outcomes: tuple[Outcome, ...] = ()

    def waiting(self, tick: str) -> Waiting | None:
        """Return a tick that is to be sent."""
        return next((one for one in self.queue if one.tick == tick), None)


Told = (
    EnsureSchedule
    | Tick
    | PauseSchedule
    | ResumeSchedule
    | TriggerSchedule
    | BackfillSchedule
    | RemoveSchedule
    | SendTick
    | TickSent
    | TickBusy
    | TickFiltered
    | TickFailed
)
Fact = (
    ScheduleSet
    | SchedulePaused
    | ScheduleResumed
    | ScheduleRemoved
    | TicksTaken
    | TickStarted
    | TickPutOff
    | TickDropped
)
_Accepted = Accept[Fact, Never]


class ScheduleWorkflow(Workflow[Timetable, Told, Fact, Never]):
    """A schedule."""

    type = SCHEDULE_TYPE
    key = "name"

    def initial(self) -> Timetable:
        """Know nothing."""
        return Timetable()

    def evolve(self, state: Timetable, event: Fact) -> Timetable:
        """Fold an event."""
        change = msgspec.structs.replace
        match event:
            case ScheduleSet(spec=spec, next_ms=next_ms):
                return change(state, spec=spec, next_ms=next_ms, removed=False)
            case SchedulePaused(reason=reason):
                return change(state, paused=True, reason=reason, next_ms=0)
            case ScheduleResumed(next_ms=next_ms):
                return change(state, paused=False, reason="", next_ms=next_ms)
            case ScheduleRemoved():
                # Its past is forgotten, but for what keeps a tick from coming twice under one id, and instances from
                # running side by side, should it be set again.
                return Timetable(
                    spec=state.spec,
                    removed=True,
                    taken_ms=state.taken_ms,
                    extra=state.extra,
                    last=state.last,
                )
            case TicksTaken(ticks=ticks, cause=cause, next_ms=next_ms):
                queue = (*state.queue, *(Waiting(tick, at_ms, cause) for tick, at_ms in ticks))
                extra = state.extra + (cause is not Cause.TICK)
                taken_ms = state.taken_ms
                if cause is Cause.TICK:
                    taken_ms = max([taken_ms, *(at_ms for _, at_ms in ticks)])
                next_ms = next_ms or state.next_ms
                return change(state, queue=queue, next_ms=next_ms, taken_ms=taken_ms, extra=extra)
            case TickPutOff(tick=tick):
                queue = tuple(
                    change(one, tries=one.tries + 1) if one.tick == tick else one for one in state.queue
                )
                return change(state, queue=queue)
            case TickStarted(tick=tick, target=target):
                state = _ended(state, tick, "sent", target)
                return change(state, last=target, sent=state.sent + 1)
            case TickDropped(tick=tick, reason=reason, failed=failed):
                state = _ended(state, tick, reason, None)
                if failed:
                    return change(state, failed=state.failed + 1)
                return change(state, skipped=state.skipped + 1)

    def decide(self, now: datetime, state: Timetable, command: Told) -> Decision[Fact, Never]:
        """Answer a command."""
        if isinstance(command, EnsureSchedule):
            return _ensure(now, state, command)
        spec = state.spec
        if spec is None or state.removed:
            return reject("there is no such schedule")
        match command:
            case Tick(at_ms=at_ms):
                return _tick(state, spec, command) if at_ms == state.next_ms else reject("stale")
            case PauseSchedule(reason=reason):
                if state.paused:
                    return reject("paused already")
                return accept(SchedulePaused(reason)).cancel("tick")
            case ResumeSchedule():
                if not state.paused:
                    return reject("not paused")
                next_ms = _next_ms(spec, _after(state, now))
                return _ticking(accept(ScheduleResumed(next_ms)), command.name, next_ms)
            case RemoveSchedule():
                names = (f"send:{one.tick}" for one in state.queue)
                return accept(ScheduleRemoved()).cancel("tick", *names)
            case TriggerSchedule():
                tick = (f"trigger-{state.extra + 1}", to_ms(now))
                return self._taken(state, command.name, TicksTaken((tick,), Cause.TRIGGER))
            case BackfillSchedule():
                return self._backfill(state, spec, command)
            case SendTick():
                return reject("a tick is sent by the timer pool")
            case TickSent() | TickBusy() | TickFiltered() | TickFailed():
                return self._report(state, spec, command)

    def _taken(self, state: Timetable, name: str, event: TicksTaken) -> _Accepted:
        """Take ticks up, and have those sent that may be."""
        decision: _Accepted = accept(event)
        return _sending(decision, name, state, self.evolve(state, event))

    def _backfill(self, state: Timetable, spec: Spec, command: BackfillSchedule) -> Decision[Fact, Never]:
        begin, end = from_ms(command.from_ms - 1), from_ms(command.until_ms)
        found = []
        for at in islice(ticks_after(spec, begin), BACKFILL_MAX + 1):
            if at > end:
                break
            found.append(at)
        if not found:
            return reject("there is no tick in that time")
        if len(found) > BACKFILL_MAX:
            return reject(f"there are more than {BACKFILL_MAX} ticks in that time; ask for less at a time")
        if len(state.queue) + len(found) > WAITING_MAX:
            return reject(f"{len(state.queue)} ticks wait to be sent already")
        number = state.extra + 1
        ticks = tuple((f"backfill-{number}-{to_ms(at)}", to_ms(at)) for at in found)
        return self._taken(state, command.name, TicksTaken(ticks, Cause.BACKFILL))

    def _report(
        self, state: Timetable, spec: Spec, command: TickSent | TickBusy | TickFiltered | TickFailed
    ) -> Decision[Fact, Never]:
        waiting = state.waiting(command.tick)
        if waiting is None:
            return reject("no such tick waits")
        event: Fact
        again_s = 0
        match command:
            case TickSent(tick=tick, target=target):
                event = TickStarted(tick, target)
            case TickFiltered(tick=tick):
                event = TickDropped(tick, "filtered")
            case TickBusy(tick=tick):
                if spec.overlap is Overlap.SKIP and waiting.cause is not Cause.BACKFILL:
                    event = TickDropped(tick, "overlap")
                else:
                    event = TickPutOff(tick)
                    again_s = min(2 ** min(waiting.tries, 16), RECHECK_MAX_S)
            case TickFailed(tick=tick, error=error):
                sentence = error or "no process has this schedule"
                if waiting.tries + 1 >= SEND_ATTEMPTS:
                    event = TickDropped(tick, sentence, failed=True)
                else:
                    event = TickPutOff(tick, sentence)
                    again_s = RETRY_FIRST_S * 2 ** min(waiting.tries, 16)
        decision: _Accepted = accept(event)
        after = self.evolve(state, event)
        if again_s:
            return _send(decision, command.name, after, waiting, timedelta(seconds=again_s))
        return _sending(decision, command.name, state, after)


def _ensure(now: datetime, state: Timetable, command: EnsureSchedule) -> Decision[Fact, Never]:
    if state.spec == command.spec and not state.removed:
        return reject("unchanged")
    next_ms = 0 if state.paused else _next_ms(command.spec, _after(state, now))
    event = ScheduleSet(command.spec, next_ms)
    after = ScheduleWorkflow().evolve(state, event)
    return _ticking(_sending(accept(event), command.name, state, after), command.name, next_ms)


def _after(state: Timetable, now: datetime) -> datetime:
    """Return the time after which the next tick is to come."""
    return max(now, from_ms(state.taken_ms))


def _tick(state: Timetable, spec: Spec, command: Tick) -> _Accepted:
    """Take up what is due by the server's clock; our own may be wrong."""
    first = from_ms(command.at_ms)
    found, next_ms = _due(spec, first, max(first, from_ms(command.seen_ms)))
    found = found[: max(0, WAITING_MAX - len(state.queue))]
    event = TicksTaken(tuple((str(to_ms(at)), to_ms(at)) for at in found), Cause.TICK, next_ms)
    decision: _Accepted = accept(event)
    after = ScheduleWorkflow().evolve(state, event)
    return _ticking(_sending(decision, command.name, state, after), command.name, next_ms)


def _due(spec: Spec, first: datetime, now: datetime) -> tuple[list[datetime], int]:
    """Return the ticks from the first one until now that are to be sent, and when the next one comes."""
    window = timedelta(milliseconds=spec.window_ms) if spec.window_ms else None
    if spec.catch_up is not CatchUp.ALL:
        last = max(first, next(ticks_before(spec, now), first))
        age_max = LATE_MAX if spec.catch_up is CatchUp.SKIP else window
        return [last] if age_max is None or now - last <= age_max else [], _next_ms(spec, now)
    begin = first if window is None else max(first, now - window)
    found: list[datetime] = []
    for at in ticks_after(spec, begin - timedelta(milliseconds=1)):
        if at > now or len(found) == TICKS_PER_DECISION:
            return found, to_ms(at)
        found.append(at)
    return found, 0


def _next_ms(spec: Spec, now: datetime) -> int:
    return to_ms(next(ticks_after(spec, now)))


def _ticking(decision: _Accepted, name: str, next_ms: int) -> _Accepted:
    """Add the timer of the next tick."""
    if not next_ms:
        return decision
    return decision.timer(Tick(name, next_ms), key="tick", at=from_ms(next_ms))


def _sending(decision: _Accepted, name: str, before: Timetable, after: Timetable) -> _Accepted:
    """Add what may be sent now and is not on its way yet: everything, or the next one where ticks wait for each other."""
    assert after.spec is not None  # noqa: S101 - only what is set has ticks
    known = {one.tick for one in _sendable(before)}
    for one in _sendable(after):
        if one.tick not in known:
            decision = _send(decision, name, after, one, timedelta(0))
    return decision


def _sendable(state: Timetable) -> tuple[Waiting, ...]:
    if state.spec is not None and state.spec.overlap is Overlap.ALLOW:
        return state.queue
    return state.queue[:1]


def _send(decision: _Accepted, name: str, state: Timetable, one: Waiting, delay: timedelta) -> _Accepted:
    waits = state.spec is not None and state.spec.overlap is not Overlap.ALLOW
    command = SendTick(name, one.tick, one.at_ms, one.cause, state.last if waits else None)
    return decision.timer(command, key=f"send:{one.tick}", after=delay)


def _ended(state: Timetable, tick: str, what: str, target: Target | None) -> Timetable:
    waiting = state.waiting(tick)
    if waiting is None:
        return state
    queue = tuple(one for one in state.queue if one.tick != tick)
    outcome = Outcome(tick, waiting.at_ms, what, target)
    outcomes = (*state.outcomes, outcome)[-OUTCOMES_MAX:]
    return msgspec.structs.replace(state, queue=queue, outcomes=outcomes)
