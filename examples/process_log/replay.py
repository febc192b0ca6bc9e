"""
Replay: sends a process log through Holdfast, waits until all of it is decided, and compares what is there.

    cases -> timeline -> client -> transport -> workers -> logs -> read back, event by event, against the cases
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import msgspec
from msgspec.structs import astuple

from examples.process_log.case import Case, command_id
from examples.process_log.crew import Crew
from examples.process_log.display import Display
from examples.process_log.timeline import timeline
from examples.process_log.workflow import ActivityRecorded, CaseLog, RecordActivity
from examples.process_log.xes import Activity
from holdfast import Client, Listed, Record

#: Commands on their way without a confirm that this program keeps track of.
WINDOW = 10_000
#: Instances that the directory lists at a time.
PAGE = 1_000


class Difference(msgspec.Struct, frozen=True):
    """How a log differs from what was sent."""

    #: Events that are not where they should be, or not what they should be.
    mismatches: int = 0
    #: Records that are there again, or that nobody asked for.
    duplicates: int = 0
    #: The first mismatch, for whoever has to find out why.
    example: str = ""

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            self.mismatches + other.mismatches,
            self.duplicates + other.duplicates,
            self.example or other.example,
        )


class Report(msgspec.Struct, frozen=True):
    """What came of a replay."""

    instances: int
    commands: int
    mismatches: int
    duplicates: int
    #: From the first command sent until the last one was decided, by workers that were already there.
    seconds: float
    #: The first mismatch.
    example: str = ""

    @property
    def per_second(self) -> float:
        """Commands sent, decided and committed in a second."""
        return self.commands / self.seconds if self.seconds else 0.0

    @property
    def exact(self) -> bool:
        """Whether everything is there once, and as it should be."""
        return not (self.mismatches or self.duplicates)


def replay(cases: Sequence[Case], crew: Crew, display: Display) -> Report:
    """Replay cases and compare.

    Raises:
        Stuck: Commands are not decided.
        HoldfastError: A server is away, or refuses a command.
    """
    began = time.monotonic()
    commands = send(cases, crew.client, display)
    settle(cases, crew, display)
    seconds = time.monotonic() - began
    found = check(cases, crew.client, display)
    return Report(len(cases), commands, found.mismatches, found.duplicates, seconds, found.example)


def send(cases: Sequence[Case], client: Client, display: Display) -> int:
    """Send every event as a command, in time, and return how many those were once all are confirmed."""
    stage = display.stage("send", sum(len(case.events) for case in cases))
    unconfirmed: deque[Future[None]] = deque()
    count = 0
    for _, number, position, event in timeline(cases):
        command = RecordActivity(cases[number].key, event.activity, event.lifecycle, event.resource, event.at)
        _, confirmed = client.submit(command, id=command_id(number, position))
        unconfirmed.append(confirmed)
        if len(unconfirmed) >= WINDOW:
            unconfirmed.popleft().result()
        count += 1
        stage.advance()
    for confirmed in unconfirmed:
        confirmed.result()
    stage.show()
    return count


def settle(cases: Sequence[Case], crew: Crew, display: Display) -> None:
    """Wait until everything is decided: list once, and then wait for each instance that was not yet so far."""
    stage = display.stage("decide", sum(len(case.events) for case in cases))
    recorded = {listed.key: listed.seq for listed in listing(crew.client)}
    for case in cases:
        if recorded.get(case.key, 0) < len(case.events):
            crew.await_recorded(case.key, len(case.events))
        stage.advance(len(case.events))
    stage.show()


def check(cases: Sequence[Case], client: Client, display: Display) -> Difference:
    """Read everything back and compare it with the cases."""
    stage = display.stage("check", sum(len(case.events) for case in cases))
    total = Difference()
    histories = client.histories(CaseLog, (case.key for case in cases))
    for number, (case, (_, records)) in enumerate(zip(cases, histories, strict=True)):
        total += compare(number, case, records)
        stage.advance(len(case.events))
    stage.show()
    return total + Difference(duplicates=strays({case.key for case in cases}, client))


def compare(number: int, case: Case, records: Sequence[Record[ActivityRecorded]]) -> Difference:
    """Compare one instance's log with its case.

    A record that is there again is a duplicate, and does not make mismatches of all that come after it.
    """
    first: dict[str, Record[ActivityRecorded]] = {}
    for record in records:
        first.setdefault(record.command_id, record)
    mismatches, asked_for, seq, example = 0, 0, 0, ""
    for position, event in enumerate(case.events):
        found = first.get(command_id(number, position))
        asked_for += found is not None
        if found is not None and found.seq > seq and _same(event, found):
            seq = found.seq
            continue
        mismatches += 1
        example = example or f"event {position + 1} of {case.key!r} is {event}, and its record is {found}"
    return Difference(mismatches, len(records) - asked_for, example)


def strays(keys: set[str], client: Client) -> int:
    """Return how many records there are in instances that nobody asked for."""
    return sum(listed.seq for listed in listing(client) if listed.key not in keys)


def listing(client: Client) -> Iterator[Listed]:
    """Return all instances with how many records each has, the latest changed first."""
    cursor = None
    while True:
        page = client.instances(CaseLog, limit=PAGE, cursor=cursor)
        yield from page.instances
        cursor = page.cursor
        if cursor is None:
            return


def _same(event: Activity, record: Record[ActivityRecorded]) -> bool:
    return [astuple(event)] == [astuple(recorded) for recorded in record.events]
