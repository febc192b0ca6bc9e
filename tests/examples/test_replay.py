"""
The comparison: whatever is not as in the file is found. Without that, a report without mismatches would say nothing.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.process_log import crew as crew_module
from examples.process_log.case import Case, command_id
from examples.process_log.crew import Crew, Stuck, Transport, hire
from examples.process_log.display import Display
from examples.process_log.replay import Difference, check, compare, replay, send, settle
from examples.process_log.workflow import ActivityRecorded, CallRoll, CaseLog, RecordActivity
from examples.process_log.xes import Activity
from holdfast import Record
from holdfast.actors import wiring
from holdfast.brokers import embedded
from holdfast.runtime.codec import encode
from tests.conftest import need
from tests.examples.logs import event
from tests.support.servers import find_redis

CASE = Case(
    "A-7", [event("a"), event("b", resource="Ann"), event("b", resource="Ann"), event(None, "2020-01-01")]
)


def record(
    seq: int, position: int, activity: Activity | None = None, *, case: int = 0
) -> Record[ActivityRecorded]:
    said = activity or CASE.events[position]
    recorded = ActivityRecorded(said.activity, said.lifecycle, said.resource, said.at)
    return Record(
        seq, command_id(case, position), "RecordActivity", datetime.now(UTC), 1, (recorded,), None, None
    )


def found(*records: Record[ActivityRecorded]) -> tuple[int, int]:
    difference = compare(0, CASE, records)
    return difference.mismatches, difference.duplicates


def log_of(*positions: int) -> list[Record[ActivityRecorded]]:
    return [record(seq, position) for seq, position in enumerate(positions, 1)]


def test_a_log_as_in_the_file_has_no_difference() -> None:
    """
    Everything once and in order is what is wanted.
    """
    assert (0, 0) == found(*log_of(0, 1, 2, 3))


@pytest.mark.parametrize("field", ["activity", "lifecycle", "resource", "at"])
@pytest.mark.parametrize("value", ["other", ""])
def test_another_content_is_a_mismatch(field: str, value: str) -> None:
    """
    Each field counts, and empty is not the same as missing.
    """
    said = {"activity": "a", "lifecycle": None, "resource": None, "at": None} | {field: value}

    assert (1, 0) == found(record(1, 0, Activity(**said)), *log_of(0, 1, 2, 3)[1:])


def test_a_record_that_is_missing_is_a_mismatch() -> None:
    """
    Each event that is not there counts, wherever it is missing, and those after it do not.
    """
    assert (4, 0) == found()
    assert (1, 0) == found(*log_of(0, 1, 2))
    assert (1, 0) == found(*log_of(0, 2, 3))


def test_another_order_is_a_mismatch() -> None:
    """
    It counts even where the two that changed places have the same content.
    """
    assert (1, 0) == found(*log_of(0, 2, 1, 3))
    assert (3, 0) == found(*log_of(3, 2, 1, 0))


def test_a_record_that_is_there_again_is_a_duplicate() -> None:
    """
    It counts once for each time that it is there too often, and does not make mismatches of those after it.
    """
    assert (0, 1) == found(*log_of(0, 1, 2, 3, 3))
    assert (0, 2) == found(*log_of(0, 0, 0, 1, 2, 3))


def test_a_record_of_another_command_is_a_duplicate() -> None:
    """
    What nobody asked for in this case is too much, even if it looks like what is wanted.
    """
    assert (0, 1) == found(*log_of(0, 1, 2, 3), record(5, 3, case=1))
    assert (1, 1) == found(*log_of(0, 1, 2), record(4, 3, case=1))


def test_two_events_in_one_record_are_a_mismatch() -> None:
    """
    One command is one event.
    """
    first, *others = log_of(0, 1, 2, 3)
    twice = Record(1, first.command_id, first.command, first.at, 1, first.events * 2, None, None)

    assert (1, 0) == found(twice, *others)


@given(st.lists(st.integers(0, 3), max_size=7))
def test_only_the_right_log_has_no_difference(positions: list[int]) -> None:
    """
    Of all logs that the commands could have led to, exactly one passes.
    """
    assert (positions == [0, 1, 2, 3]) == (found(*log_of(*positions)) == (0, 0))


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    """
    A worker on a private server.
    """
    need("redis-server", find_redis())
    with hire(Transport.EMBEDDED, 1, tmp_path / "workers.log") as hired:
        yield hired


def test_what_was_tampered_with_is_found(crew: Crew) -> None:
    """
    A replay is exact; one record more, an instance more and another expectation are each found in the store.
    """
    cases = [Case(f"case {number}", [event(f"{position}") for position in range(5)]) for number in range(3)]
    report = replay(cases, crew, Display())

    assert (3, 15, 0, 0) == (report.instances, report.commands, report.mismatches, report.duplicates)
    assert report.exact
    assert report.commands == pytest.approx(report.per_second * report.seconds)

    crew.client.execute(RecordActivity("case 1", "4", None, None, None))
    crew.client.execute(RecordActivity("case 3", "0", None, None, None))
    cases[2].events[3] = event("three")
    difference = check(cases, crew.client, Display())

    assert (1, 2) == (difference.mismatches, difference.duplicates)
    assert "event 4 of 'case 2'" in difference.example
    assert "activity='three'" in difference.example


def test_commands_that_were_sent_before_are_not_recorded_again(crew: Crew) -> None:
    """
    The same log sent twice is there once: its commands have ids.
    """
    cases = [Case("case", [event(f"{position}") for position in range(50)])]
    send(cases, crew.client, Display())
    send(cases, crew.client, Display())
    settle(cases, crew, Display())

    # Whatever is sent behind the second copies is decided after them.
    crew.client.execute(CallRoll("case"))

    assert 50 == len(crew.client.history(CaseLog, "case"))
    assert Difference() == check(cases, crew.client, Display())


def test_waiting_ends_when_a_command_was_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    An event that fits into a command but not into a record becomes a dead letter, and the replay says so.
    """
    need("redis-server", find_redis())
    monkeypatch.setattr(crew_module, "STEP_S", 0.5)
    monkeypatch.setenv("HOLDFAST_PAYLOAD_BYTES_MAX", "1024")
    room = 1024 - len(encode(RecordActivity("case", "x" * 500, None, None, None))) + 500

    with (
        hire(Transport.EMBEDDED, 1, tmp_path / "workers.log") as hired,
        pytest.raises(Stuck, match="'case' became a dead letter"),
    ):
        replay([Case("case", [event("x" * room)])], hired, Display())


def test_without_any_server_everything_is_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    Where no private Redis can run, the client's own worker decides, and a warning says that nothing is kept.
    """

    monkeypatch.setattr(embedded, "_candidates", lambda: iter(()))
    cases = [Case(f"{number}", [event(f"{position}") for position in range(20)]) for number in range(20)]

    with ExitStack() as stack:
        with pytest.warns(UserWarning, match="kept in memory"):
            hired = stack.enter_context(hire(Transport.EMBEDDED, 2, tmp_path / "workers.log"))
        namespace = hired.client.settings.namespace
        report = replay(cases, hired, Display())

    assert (20, 400, 0, 0) == (report.instances, report.commands, report.mismatches, report.duplicates)
    assert namespace not in wiring._memory
    assert not (tmp_path / "workers.log").exists()
