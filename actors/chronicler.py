"""Chronicler: reads one instance's life from everywhere, and the instances that it sent commands to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from holdfast.actors.reader import Reader
from holdfast.actors.wiring import Ports
from holdfast.runtime.app import App
from holdfast.runtime.clock import Clock, SystemClock
from holdfast.runtime.effect import result_mark
from holdfast.runtime.errors import DataDeleted, HistoryError, UsageError
from holdfast.runtime.instance import RunState
from holdfast.runtime.instance_trace import RECORDS_DEFAULT, RECORDS_MAX, InstanceTrace
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Opened
from holdfast.runtime.record import Record
from holdfast.runtime.timers import timer_id
from holdfast.runtime.timetable import SCHEDULE_TYPE
from holdfast.runtime.trace_tree import Life, build

#: What waits in the instance's partition is looked through up to here, for what is the instance's own.
EFFECTS_MAX = 1_000
#: Pending timers and dead letters of one instance.
TIMERS_MAX = 1_000
LETTERS_MAX = 100
#: Instances that are looked through for commands that the traced one has led to, and records read of each.
SEARCH_MAX = 1_000
SEARCH_RECORDS_MAX = 1_000
#: By how much the clocks of those who decide and of the servers may differ.
CLOCKS_APART = timedelta(days=1)
#: Instances that a trace shows beside its own.
CHILDREN_MAX = 100
#: Lines of the directory in one round trip.
DIRECTORY_PAGE = 500


class Excerpt(NamedTuple):
    """Which records of a log are wanted."""

    #: Begin after this one; with `newest`, it is counted from the end.
    after: int = 0
    limit: int = RECORDS_DEFAULT
    newest: bool = False


class Chronicler:
    """Draws traces."""

    def __init__(
        self, app: App, reader: Reader, ports: Callable[[], Ports], clock: Clock | None = None
    ) -> None:
        self._app = app
        self._reader = reader
        self._ports = ports
        self._clock = clock or SystemClock()

    def trace(
        self,
        workflow: Any,
        key: str | int,
        page: Excerpt | None = None,
        *,
        depth: int | None = None,
        follow_children: bool = False,
    ) -> InstanceTrace | None:
        """Return the trace of an instance; None where there is none.

        Raises:
            UsageError: The app has no such workflow, the key is refused, or the page is none.
            DataDeleted: The instance's data was deleted.
            HistoryError: The log cannot be read by the code of today.
        """
        page = _checked(page or Excerpt(), depth)
        ref = self._reader.ref(workflow, key)
        opened = self._ports().journal.read([ref])[0]
        if not opened.seq:
            return self._unborn(ref, depth)
        if opened.run_state is RunState.DATA_DELETED:
            raise DataDeleted(self._deleted(opened))
        notes: list[str] = []
        life = self._life(opened, page, notes)
        others = self._others(life, notes) if follow_children else []
        found = build(life, self._clock.now(), others, depth=depth)
        return replace(found, notes=tuple(dict.fromkeys(notes)))

    def _unborn(self, ref: Ref, depth: int | None) -> InstanceTrace | None:
        """Return the trace of an instance without a record, of which there are dead letters all the same."""
        letters = self._ports().dead_letters.list(workflow=ref.workflow, key=ref.key, limit=LETTERS_MAX)
        if not letters:
            return None
        found = build(Life(ref, 0, letters=letters), self._clock.now(), depth=depth)
        return replace(found, notes=(f"{ref} has no record: nothing that was sent to it was accepted yet",))

    def _deleted(self, opened: Opened) -> str:
        last = self._reader.history(opened.ref.workflow, opened.ref.key, opened.seq - 1, 1)
        when = f" on {last[0].at.isoformat(sep=' ', timespec='seconds')}" if last else ""
        why = f": {opened.reason}" if opened.reason else ""
        return f"the data of {opened.ref} was deleted with record {opened.seq}{when}{why}"

    def _life(self, opened: Opened, page: Excerpt, notes: list[str]) -> Life:
        """Read a page of an instance's log, and then what waits: what was done in between is seen as done."""
        ref = opened.ref
        after = max(0, opened.seq - page.after - page.limit) if page.newest else page.after
        wanted = min(page.limit, opened.seq - page.after - after) if page.newest else page.limit
        records = self._reader.history(ref.workflow, ref.key, after, max(0, wanted)) if wanted > 0 else []
        seq = max(opened.seq, records[-1].seq if records else 0)
        _tell(after, records, seq, notes)
        return self._waiting(
            Life(ref, seq, opened.run_state, opened.reason, opened.parked, records=records), notes
        )

    def _waiting(self, life: Life, notes: list[str]) -> Life:
        ref, ports = life.ref, self._ports()
        own = (ref.workflow, ref.key)
        effects = ports.effects.pending(ref.partition, EFFECTS_MAX)
        if len(effects) >= EFFECTS_MAX:
            notes.append(
                f"more than {EFFECTS_MAX:,} effects wait in partition {ref.partition}; not all were looked at"
            )
        timers = ports.timers.pending(workflow=ref.workflow, key=ref.key, limit=TIMERS_MAX)
        letters = ports.dead_letters.list(workflow=ref.workflow, key=ref.key, limit=LETTERS_MAX)
        if len(timers) >= TIMERS_MAX or len(letters) >= LETTERS_MAX:
            notes.append(
                f"{ref} has more timers or dead letters than are shown: {TIMERS_MAX:,} and {LETTERS_MAX}"
            )
        return replace(
            life,
            effects=[one for one in effects if (one.workflow, one.key) == own],
            timers=[one for one in timers if (one.workflow, one.key) == own],
            letters=letters,
            ended=ports.effects.ended(ref.partition),
        )

    # -- other instances

    def _others(self, life: Life, notes: list[str]) -> list[Life]:
        """Return the instances that an instance sent commands to, and that those did, as far as they were found."""
        index: dict[str, list[Life]] = {}
        for candidate in self._candidates(life, notes):
            for record in candidate.records:
                for name in _came_from(record):
                    index.setdefault(name, []).append(candidate)
        found: dict[Ref, Life] = {}
        todo = [life]
        while todo:
            for name in _led_to(todo.pop()):
                for candidate in index.get(name, ()):
                    if candidate.ref in found or candidate.ref == life.ref:
                        continue
                    if len(found) >= CHILDREN_MAX:
                        notes.append(
                            f"commands went to more than {CHILDREN_MAX} instances; not all are shown"
                        )
                        return list(found.values())
                    found[candidate.ref] = self._waiting(candidate, notes)
                    todo.append(found[candidate.ref])
        return list(found.values())

    def _candidates(self, life: Life, notes: list[str]) -> Iterator[Life]:
        """Yield instances that changed since the traced one began, the latest first, with the beginning of each log."""
        since = life.records[0].at - CLOCKS_APART if life.records else None
        journal, directory = self._ports().journal, self._ports().directory
        looked = unread = 0
        for definition in self._app.definitions:
            cursor: str | None = None
            while True:
                page = directory.instances(definition.type, since=since, limit=DIRECTORY_PAGE, cursor=cursor)
                refs = [self._reader.ref(one.workflow, one.key) for one in page.instances]
                for ref, listed in zip(refs, page.instances, strict=True):
                    if looked >= SEARCH_MAX:
                        notes.append(
                            f"only the {SEARCH_MAX:,} instances that changed last were looked through for children"
                        )
                        return
                    looked += 1
                    if ref == life.ref:
                        continue
                    try:
                        records = self._reader.history(ref.workflow, ref.key, 0, SEARCH_RECORDS_MAX)
                    except HistoryError:
                        unread += 1
                        continue
                    opened = journal.read([ref])[0] if any(map(_came_from, records)) else None
                    if opened is not None:
                        yield Life(
                            ref,
                            max(opened.seq, listed.seq),
                            opened.run_state,
                            opened.reason,
                            opened.parked,
                            records=records,
                        )
                cursor = page.cursor
                if cursor is None:
                    break
        if unread:
            notes.append(f"nothing is said of instances that could not be read: {unread:,} of them")


def _checked(page: Excerpt, depth: int | None) -> Excerpt:
    if not 1 <= page.limit <= RECORDS_MAX:
        message = f"a trace has 1 to {RECORDS_MAX:,} records, not {page.limit:,}; `after` leads to the others"
        raise UsageError(message)
    if page.after < 0 or (depth is not None and depth < 1):
        message = "`after` is 0 or more, and `depth` 1 or more"
        raise UsageError(message)
    return page


def _tell(after: int, records: list[Record[Any]], seq: int, notes: list[str]) -> None:
    """Say which records the trace does not have."""
    if records and records[0].seq > after + 1:
        notes.append(f"records {after + 1:,} to {records[0].seq - 1:,} were deleted")
    if not records and after < seq:
        notes.append(f"records {after + 1:,} to {seq:,} were deleted")
        return
    if after:
        notes.append(f"records 1 to {min(after, seq):,} come before these and are not shown")
    last = records[-1].seq if records else seq
    if last < seq:
        notes.append(f"records {last + 1:,} to {seq:,} come after these and are not shown")


def _came_from(record: Record[Any]) -> list[str]:
    """Return what may name the origin of a command that was sent by another instance."""
    if record.cause is None:
        return []
    mark, _, suffix = record.command_id.rpartition(":")
    found = [mark] if suffix[:1] == "r" and mark != record.cause else []
    return [*found, f"schedule {record.cause}"] if record.command_id.startswith("schedule:") else found


def _led_to(life: Life) -> Iterator[str]:
    """Yield the same for everything that an instance asked for."""
    ref = life.ref
    ids = {one.id for one in life.effects}
    for record in life.records:
        for index, _ in enumerate(record.asked.effects if record.asked is not None else ()):
            ids.add(f"{record.command_id}:{index}")
        if ref.workflow == SCHEDULE_TYPE and record.asked is not None:
            for index, _ in enumerate(record.asked.timers):
                yield f"schedule {timer_id(ref, record.command_id, index)}"
    for effect_id in sorted(ids):
        yield result_mark(ref.scope, effect_id)
