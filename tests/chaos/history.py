"""
What must be true at the end, as one function: the client's own record of what it asked and was told, held against the
logs, the lines that effects left and the read model.

The log gives the serial order. So a history is linearizable per key if each reply is what its place in the log says,
and whatever was answered before something else was asked comes before it in the log.
"""

import bisect
import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from holdfast import Record
from holdfast.runtime.outcome import Accepted, DeadLettered, Duplicate, Outcome, Parked, Rejected
from tests.chaos.mill import Brought, Did, GaveUp, Rang, Struck, mark_of
from tests.flow.checker import wrongs_of_one_log

#: What these commands come to depends on the state: whoever sent them does not know.
CONDITIONAL = ("Guard", "Rent")
#: Milliseconds that a script may take on a busy machine: timers count from its beginning, and the ids of the entries
#: that it writes are from when each is written. Of one that took longer, since Redis stood still, no times are known.
SLACK_MS = 250


@dataclass(slots=True)
class Op:
    """
    One command of a client: what it asked and when, and what it knows of it. Times are of one monotonic clock.
    """

    key: str
    sender: str
    number: int
    kind: str
    id: str
    invoked: float
    #: When the confirm or the answer came; None where neither did: nobody knows what became of it.
    answered: float | None = None
    #: What `execute` returned; None for what was only sent.
    outcome: Outcome | None = None
    #: Whether the sender waited for it before it sent anything else to its key, or it was never sent twice.
    ordered: bool = True
    how: str = ""

    @property
    def mark(self) -> str:
        return mark_of(self.sender, self.number)

    def __str__(self) -> str:
        return f"{self.kind} {self.mark} to {self.key}"


Log = Sequence[Record[Any]]


class Line(NamedTuple):
    """
    An event in the read model, and when Redis recorded it, as far as the feed told; 0 where it did not.
    """

    event_id: str
    at_ms: int


class Errand(NamedTuple):
    """
    One call of an effect's handler.
    """

    mark: str
    attempt: int
    key: str


@dataclass(slots=True)
class History:
    """
    Everything that is known at the end.
    """

    ops: Sequence[Op]
    logs: Mapping[str, Log]
    #: The ids of commands that ended as dead letters.
    dead: Collection[str] = ()
    errands: Sequence[Errand] | None = None
    lines: Mapping[str, Sequence[Line]] | None = None
    #: How far apart the ticks of the schedule are, and since when nothing has been in their way any more.
    every: timedelta | None = None
    peace: datetime | None = None
    #: What was asked after the last fault, to see that work goes on.
    last: Sequence[Op] | None = None
    _by_key: dict[str, list[Op]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        grouped: dict[str, list[Op]] = defaultdict(list)
        for op in (*self.ops, *(self.last or ())):
            grouped[op.key].append(op)
        self._by_key = dict(grouped)

    def wrongs(self) -> list[str]:
        """
        Return every broken promise, a sentence each.
        """
        found = list(self._no_progress())
        all_times: dict[str, dict[str, int]] = {}
        for key in sorted({*self._by_key, *self.logs}):
            ops, log = self._by_key.get(key, []), self.logs.get(key, ())
            found += wrongs_of_one_log(key, log)
            found += wrongs_of_commands(key, ops, log, self.dead)
            found += wrongs_of_order(ops, log)
            found += wrongs_of_replies(ops, log)
            found += wrongs_of_time(ops, log)
            lines = None if self.lines is None else self.lines.get(key, ())
            times = all_times[key] = {line.event_id: line.at_ms for line in lines or () if line.at_ms}
            found += wrongs_of_timers(key, log, times)
            if lines is not None:
                found += wrongs_of_lines(key, log, lines)
            if self.every is not None:
                found += wrongs_of_ticks(key, log, self.every, times)
        found += wrongs_of_effects(self.ops, self.logs, self.errands)
        found += wrongs_of_rooms(self.logs, all_times)
        return found

    def _no_progress(self) -> Iterator[str]:
        if self.last is None:
            return
        if not self.last:
            yield "nothing was asked after the last fault"
        for op in self.last:
            if not isinstance(first_of(op.outcome), Accepted):
                yield f"no progress: after the last fault, {op} came to {op.outcome}"
        events = [event for log in self.logs.values() for _, event in _events(log)]
        if not any(isinstance(event, Did) for event in events):
            yield "no progress: nothing was decided"
        if self.peace is not None and not ticked(events, self.peace):
            yield f"no progress: no tick came after {self.peace:%H:%M:%S}"


def ticked(events: Iterable[Any], since: datetime) -> bool:
    """
    Say whether a schedule has gone on since a time.
    """
    return any(isinstance(event, Struck) and event.tick > since for event in events)


def first_of(outcome: Outcome | None) -> Outcome | None:
    """
    Return what was answered first.
    """
    return outcome.first if isinstance(outcome, Duplicate) else outcome


def _events(log: Log) -> Iterator[tuple[Record[Any], Any]]:
    for record in log:
        for event in record.events:
            yield record, event


# -- commands


def wrongs_of_commands(key: str, ops: Sequence[Op], log: Log, dead: Collection[str]) -> Iterator[str]:
    """
    Yield what was acknowledged and lost, recorded though refused, doubled, or never asked.
    """
    recorded = {record.command_id for record in log}
    for op in ops:
        told, there = first_of(op.outcome), op.id in recorded
        if op.answered is None:
            continue
        if isinstance(told, Accepted) and not there:
            yield f"{op} was lost: it was answered {told}"
        elif isinstance(told, Rejected) and there:
            yield f"{op} was recorded, but answered {told}"
        elif isinstance(told, DeadLettered) and (there or op.id not in dead):
            yield f"{op} was answered {told}, but is {'recorded' if there else 'no dead letter'}"
        elif not there and op.id not in dead and op.kind not in CONDITIONAL and _only_taken(told):
            yield f"{op} was lost: it was confirmed"
    asked = {(op.sender, op.number): op.id for op in ops}
    seen = Counter((event.sender, event.number) for _, event in _events(log) if isinstance(event, Did))
    for (sender, number), count in seen.items():
        if count > 1:
            yield f"{mark_of(sender, number)} to {key} was applied {count} times"
    for record, event in _events(log):
        if isinstance(event, Did) and asked.get((event.sender, event.number)) != record.command_id:
            yield f"{mark_of(event.sender, event.number)} to {key} was never asked as {record.command_id}"


def _only_taken(told: Outcome | None) -> bool:
    """
    Say whether a sender knows no more than that his command was taken.
    """
    return told is None or isinstance(told, Parked)


def wrongs_of_order(ops: Sequence[Op], log: Log) -> Iterator[str]:
    """
    Yield what overtook what one sender sent before.

    A refusal that nobody waited for is not remembered: a command that is handed out again after it is decided anew.
    """
    seqs = {record.command_id: record.seq for record in log}
    last: dict[str, Op] = {}
    for op in sorted(ops, key=lambda one: one.number):
        unheard = op.kind in CONDITIONAL and op.outcome is None
        if op.id not in seqs or not op.ordered or op.answered is None or unheard:
            continue
        before = last.get(op.sender)
        if before is not None and seqs[before.id] > seqs[op.id]:
            yield f"{op} overtook {before}"
        last[op.sender] = op


def wrongs_of_replies(ops: Sequence[Op], log: Log) -> Iterator[str]:
    """
    Yield replies that are not what the log says.
    """
    records = {record.command_id: record for record in log}
    counts = {count for count, _ in _counts(log)}
    for op in ops:
        told = first_of(op.outcome)
        record = records.get(op.id)
        if isinstance(told, Accepted) and record is not None:
            if (told.seq, told.events) != (record.seq, record.events):
                yield f"{op} was answered {told}, but its record is {record}"
        elif isinstance(told, Rejected) and op.kind == "Guard":
            count = told.details["count"] if told.details else None
            if count not in counts or count % 2 == 0:
                yield f"{op} was refused on a state that never was: {told}"


def _counts(log: Log) -> Iterator[tuple[int, int]]:
    """
    Yield how many events there were, and up to which record.
    """
    count = 0
    yield 0, 0
    for record in log:
        count += len(record.events)
        yield count, record.seq


def wrongs_of_time(ops: Sequence[Op], log: Log) -> Iterator[str]:
    """
    Yield what was answered before something else was asked, and comes behind it.
    """
    seqs = {record.command_id: record.seq for record in log}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for count, seq in _counts(log):
        first.setdefault(count, seq)
        last[count] = seq

    def place(op: Op) -> tuple[float, float] | None:
        """
        Return the first and the last moment at which an operation may have been decided, in the order of the log.
        """
        told = first_of(op.outcome)
        if op.id in seqs:
            return seqs[op.id], seqs[op.id]
        if isinstance(told, Rejected) and told.details and told.details.get("count") in first:
            count = told.details["count"]
            return first[count] + 0.5, last[count] + 0.5
        return None

    placed = [(op, where) for op in ops if (where := place(op)) is not None]
    # Only an answer says that a command was decided; a confirm does not.
    answered = sorted(
        (op.answered, where[0], op.mark)
        for op, where in placed
        if op.answered is not None and op.outcome is not None and not isinstance(op.outcome, Parked)
    )
    times: list[float] = []
    latest: list[tuple[float, str]] = []
    for at, where_from, mark in answered:
        times.append(at)
        latest.append(max(latest[-1], (where_from, mark)) if latest else (where_from, mark))
    for op, (_, until) in placed:
        index = bisect.bisect_left(times, op.invoked)
        if index and latest[index - 1][0] > until:
            yield f"{op} was asked after {latest[index - 1][1]} was answered, and was decided before it"


# -- effects


_EFFECT_ID_FORM = re.compile(r"(.+):\d+")


def wrongs_of_effects(
    ops: Sequence[Op], logs: Mapping[str, Log], errands: Sequence[Errand] | None
) -> Iterator[str]:
    """
    Yield effects whose result is missing, doubled, of the wrong kind or of no effect, and calls that nobody asked for.
    """
    hows = {op.mark: op.how for op in ops if op.kind == "Fetch"}
    asked: dict[str, str] = {}
    results: dict[str, list[str]] = defaultdict(list)
    for key, log in logs.items():
        by_command = {}
        for record, event in _events(log):
            if isinstance(event, Did) and event.what == "Fetch":
                mark = by_command[record.command_id] = mark_of(event.sender, event.number)
                asked[mark] = key
        for _, event in _events(log):
            if isinstance(event, Brought):
                results[event.mark].append("brought")
            elif isinstance(event, GaveUp):
                found = _EFFECT_ID_FORM.fullmatch(event.effect_id)
                command_id = found[1] if found else event.effect_id
                results[by_command.get(command_id, command_id)].append("given up")
    for mark, key in asked.items():
        found_results = results.pop(mark, [])
        if len(found_results) != 1:
            yield f"the effect of {mark} to {key} has {len(found_results)} results: {found_results}"
        elif (found_results == ["given up"]) != (hows.get(mark) == "doomed"):
            yield f"the effect of {mark} to {key}, {hows.get(mark)!r}, was {found_results[0]}"
    for mark in results:
        yield f"there is a result of {mark}, which asked for no effect"
    if errands is not None:
        yield from _wrongs_of_errands(asked, errands)


def _wrongs_of_errands(asked: Mapping[str, str], errands: Sequence[Errand]) -> Iterator[str]:
    keys: dict[str, set[str]] = defaultdict(set)
    for call in errands:
        keys[call.mark].add(call.key)
    for mark, found in keys.items():
        if len(found) > 1:
            yield f"the effect of {mark} was run under {len(found)} idempotency keys"
        if mark not in asked:
            yield f"the effect of {mark} was run, but no log asks for it"
    for mark in asked.keys() - keys.keys():
        yield f"the effect of {mark} was never run"


# -- timers


def wrongs_of_timers(key: str, log: Log, times: Mapping[str, int]) -> Iterator[str]:
    """
    Yield timers that did not come, came twice, came early, or came though they were replaced in time.

    Args:
        key: The instance.
        log: Its log.
        times: For events of the log, when Redis recorded them.
    """
    rang: dict[str, list[int]] = defaultdict(list)
    slots: dict[str | None, list[tuple[str, int, int]]] = defaultdict(list)
    for event, at_ms in _timed(key, log, times):
        if isinstance(event, Rang):
            rang[event.mark].append(at_ms)
        elif isinstance(event, Did) and event.what == "Wind":
            slots[event.slot].append((mark_of(event.sender, event.number), at_ms, event.after_ms))
    for slot, wound in slots.items():
        for index, (mark, at_ms, after_ms) in enumerate(wound):
            came = rang.pop(mark, [])
            replaced = wound[index + 1][1] if slot is not None and index + 1 < len(wound) else None
            if len(came) > 1:
                yield f"the timer of {mark} to {key} came {len(came)} times"
            if not came and replaced is None:
                yield f"the timer of {mark} to {key} did not come"
            early = [one for one in came if one and at_ms and one - at_ms < after_ms - SLACK_MS]
            if early:
                yield f"the timer of {mark} to {key} came {at_ms + after_ms - early[0]} ms early"
            if came and replaced and at_ms and replaced < at_ms + after_ms - SLACK_MS:
                yield f"the timer of {mark} to {key} came, though it was replaced in time"
    for mark in rang:
        yield f"a timer of {mark} came to {key}, which set none"


def _timed(key: str, log: Log, times: Mapping[str, int]) -> Iterator[tuple[Any, int]]:
    for record in log:
        for index, event in enumerate(record.events):
            yield event, times.get(event_id_of(key, record.seq, index), 0)


def event_id_of(key: str, seq: int, index: int) -> str:
    return f"mill/{key}/{seq}.{index}"


def wrongs_of_ticks(key: str, log: Log, every: timedelta, times: Mapping[str, int]) -> Iterator[str]:
    """
    Yield ticks that came twice, early or, between the first and the last, not at all.
    """
    ticks = Counter(event.tick for _, event in _events(log) if isinstance(event, Struck))
    for event, at_ms in _timed(key, log, times):
        if isinstance(event, Struck) and at_ms and at_ms < event.tick.timestamp() * 1000 - SLACK_MS:
            yield f"the tick of {event.tick:%H:%M:%S} came early to {key}"
    for tick, count in ticks.items():
        if count > 1:
            yield f"the tick of {tick:%H:%M:%S} came {count} times to {key}"
    for earlier, later in itertools.pairwise(sorted(ticks)):
        if later - earlier != every:
            yield f"no tick came to {key} between {earlier:%H:%M:%S} and {later:%H:%M:%S}"


# -- unique keys


class _Stay(NamedTuple):
    """
    How long a mill had a room; no end where it has it still.
    """

    since_ms: int
    until_ms: float
    key: str
    mark: str


def wrongs_of_rooms(logs: Mapping[str, Log], times: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """
    Yield rooms that two mills had at once: those that they still have in any case, others by Redis's clock.
    """
    for room, stays in _stays(logs, times).items():
        here = sorted({stay.key for stay in stays if stay.until_ms == math.inf})
        if len(here) > 1:
            yield f"{' and '.join(here)} have room {room} at once"
        known = sorted(stay for stay in stays if stay.since_ms and stay.until_ms)
        for earlier, later in itertools.pairwise(known):
            if earlier.key != later.key and later.since_ms < earlier.until_ms - SLACK_MS:
                yield f"{later.mark} took room {room} for {later.key} while {earlier.key} had it"


def _stays(logs: Mapping[str, Log], times: Mapping[str, Mapping[str, int]]) -> dict[str, list[_Stay]]:
    found: dict[str, list[_Stay]] = defaultdict(list)
    for key, log in logs.items():
        room = ""
        for event, at_ms in _timed(key, log, times.get(key, {})):
            if not isinstance(event, Did) or event.room is None:
                continue
            if room:
                found[room][-1] = found[room][-1]._replace(until_ms=at_ms)
            room = event.room
            if room:
                found[room].append(_Stay(at_ms, math.inf, key, mark_of(event.sender, event.number)))
    return found


# -- the read model


def wrongs_of_lines(key: str, log: Log, lines: Iterable[Line]) -> Iterator[str]:
    """
    Yield how the read model differs from the log.
    """
    due = [event_id_of(key, record.seq, index) for record in log for index in range(len(record.events))]
    have = [line.event_id for line in lines]
    if due == have:
        return
    for event_id, count in Counter(have).items():
        if count > 1:
            yield f"the read model has {event_id} {count} times"
    for event_id in sorted(set(due) - set(have)):
        yield f"the read model misses {event_id}"
    for event_id in sorted(set(have) - set(due)):
        yield f"the read model has {event_id}, which no log has"
    if sorted(due) == sorted(have):
        yield f"the read model has the events of {key} in another order"
