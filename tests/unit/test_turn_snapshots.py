"""
The turn: snapshots spare reading, and are never needed.
"""

import itertools
import logging
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest

from holdfast.brokers.memory import MemoryJournal
from holdfast.runtime import faults
from holdfast.runtime.actor import HANDLED_MIN
from holdfast.runtime.app import App
from holdfast.runtime.codec import encode
from holdfast.runtime.errors import HistoryError
from holdfast.runtime.faults import Point
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Held, Opened
from holdfast.runtime.record import Snapshot
from holdfast.runtime.turn import SNAPSHOT_SHARE, Limits
from tests.unit.desk import Desk, ref, sent
from tests.unit.trouble import Arrange, Do, Done, Ended, Exploded, Mood, Shout, Troublemaker, Wake

TENTH = Limits(snapshot_every=10)


def fill(desk: Desk, records: int, batch: int = 5) -> None:
    """
    Put so many records into the log of t-1.
    """
    first = desk.opened(ref()).seq
    for start in range(first, first + records, batch):
        stop = min(start + batch, first + records)
        desk.run(*(sent(Do("t-1"), f"c-{n}") for n in range(start, stop)))


def snapshot(desk: Desk) -> Snapshot:
    """
    The snapshot of t-1; it has one.
    """
    found = desk.opened(ref()).snapshot
    assert found is not None
    return found


@pytest.mark.parametrize(("records", "expected"), [(9, None), (10, 10), (19, 10), (20, 20), (35, 30)])
def test_a_snapshot_is_taken_every_so_many_records(records: int, expected: int | None) -> None:
    """
    As soon as an actor is so many records past its last snapshot, and not before.
    """
    desk = Desk(limits=TENTH)

    fill(desk, records)

    kept = desk.opened(ref()).snapshot
    assert expected == (kept.seq if kept else None)


def test_a_snapshot_is_taken_at_the_head_of_a_batch() -> None:
    """
    A batch that goes past the mark is in the snapshot whole, with the ids of its commands.
    """
    desk = Desk(limits=TENTH)

    fill(desk, 24, batch=24)

    kept = snapshot(desk)
    assert (24, "c-23", encode(Mood(24))) == (kept.seq, kept.head, kept.state)
    assert [f"c-{n}" for n in range(24)] == [command_id for command_id, _, _ in kept.handled]


def test_opening_from_a_snapshot_reads_only_what_came_after_it() -> None:
    """
    The tail is folded onto the snapshot's state, and the instance goes on.
    """
    desk = Desk(limits=TENTH)
    fill(desk, 13, batch=1)
    seen: list[int] = []

    class Watched(MemoryJournal):
        def open(self, refs: Sequence[Ref], owner: str) -> list[Opened | Held]:
            opened = super().open(refs, owner)
            seen.extend(len(one.tail) for one in opened if isinstance(one, Opened))
            return opened

    desk.turn = desk.make_turn(Watched(desk.server))
    desk.run(sent(Do("t-1"), "late"))

    assert [3] == seen
    assert Mood(14) == desk.state(ref())


def test_a_duplicate_is_known_from_the_snapshot() -> None:
    """
    The snapshot carries the ids of handled commands, so those before it are not decided again.
    """
    desk = Desk(limits=TENTH)
    fill(desk, 10)
    desk.forget()

    result = desk.run(sent(Do("t-1"), "c-3"))

    assert (0, 1) == (result.accepted, result.duplicates)


def test_time_does_not_go_back_behind_a_snapshot() -> None:
    """
    The snapshot knows when the last record was made.
    """
    desk = Desk(limits=TENTH)
    desk.clock.advance(timedelta(hours=1))
    fill(desk, 10)
    again = Desk(desk.app)
    again.server.instances = desk.server.instances
    again.server.owners["command", ref().partition] = "w-1"

    again.run(sent(Do("t-1"), "late"))

    assert 1 == len({entry.at_ms for entry in again.log(ref())})


class Renewed(Troublemaker):
    """
    The troublemaker after its state has changed its meaning.
    """

    state_version = 2


def test_a_snapshot_of_another_state_version_is_not_used() -> None:
    """
    The whole log is folded instead, and the next snapshot is of the new version.
    """
    desk = Desk(limits=TENTH)
    fill(desk, 15)
    renewed = Desk(App(workflows=[Renewed]), beside=desk, limits=TENTH)

    renewed.run(*(sent(Do("t-1"), f"d-{n}") for n in range(5)))

    assert Mood(20) == renewed.state(ref())
    assert (20, 2) == (snapshot(renewed).seq, snapshot(renewed).state_version)


@pytest.mark.parametrize(
    "state", [b"", b"\xc1", b"\xa2\xff\xff", encode("not a mood"), encode({"total": "many"})]
)
def test_a_snapshot_that_does_not_fit_is_not_used(state: bytes) -> None:
    """
    A state that cannot be read is no reason to stop: the log has the truth.
    """
    desk = Desk(limits=TENTH)
    fill(desk, 12)
    kept = snapshot(desk)
    desk.server.instances[ref()].snapshot = msgspec.structs.replace(kept, state=state)
    desk.forget()

    desk.run(sent(Do("t-1"), "late"))

    assert Mood(13) == desk.state(ref())
    assert 13 == len(desk.log(ref()))


def test_a_state_that_cannot_be_stored_costs_the_snapshot_and_no_command(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The log goes on without snapshots, and a warning names the instance.
    """

    def evolve(self: Troublemaker, state: Mood, event: Done | Exploded | Ended) -> Mood:
        return Mood(object())  # type: ignore[arg-type]  # the mistake

    monkeypatch.setattr(Troublemaker, "evolve", evolve)
    desk = Desk(limits=TENTH)

    with caplog.at_level(logging.WARNING):
        fill(desk, 20)

    assert 20 == desk.opened(ref()).seq
    assert [("state cannot be stored; no snapshot taken", "t-1")] * 2 == [
        (record.message, record.__dict__["key"]) for record in caplog.records
    ]


def test_a_snapshot_is_not_taken_of_an_actor_that_failed() -> None:
    """
    User code that failed may have spoilt the state; it is not kept for others.
    """
    desk = Desk(limits=TENTH)
    fill(desk, 9)

    desk.run(sent(Do("t-1"), "c-9"), sent(Do("t-1", "raise"), "bad"))

    assert None is desk.opened(ref()).snapshot


def test_a_snapshot_comes_after_the_commit() -> None:
    """
    A crash between the two costs a snapshot, not a record.
    """
    desk = Desk(limits=TENTH)
    passed: list[Point] = []
    for point in (Point.COMMITTED, Point.SNAPSHOT):
        faults.arm(point, lambda point=point: passed.append(point))  # type: ignore[misc]  # bound at once

    try:
        fill(desk, 10, batch=10)
    finally:
        faults.disarm()

    assert [Point.COMMITTED, Point.SNAPSHOT] == passed


def test_snapshots_come_more_rarely_where_they_carry_many_ids() -> None:
    """
    What a snapshot costs stays a few ids for each record, however many ids are remembered.
    """
    desk = Desk(limits=TENTH)
    taken: list[int] = []

    class Watched(MemoryJournal):
        def snapshot(self, snapshots: Sequence[tuple[Ref, Snapshot]]) -> None:
            taken.extend(one.seq for _, one in snapshots)
            super().snapshot(snapshots)

    desk.turn = desk.make_turn(Watched(desk.server), limits=TENTH)
    fill(desk, 2 * HANDLED_MIN, batch=1)

    gaps = [after - before for before, after in itertools.pairwise(taken)]
    assert all(
        gap >= min(before, 2 * HANDLED_MIN) // SNAPSHOT_SHARE
        for gap, before in zip(gaps, taken, strict=False)
    )
    assert gaps == sorted(gaps)


def test_a_log_that_was_cut_short_is_found_out() -> None:
    """
    Records that are missing behind the snapshot are a broken history, not a smaller state.
    """
    desk = Desk(limits=TENTH)
    fill(desk, 13)
    instance = desk.server.instances[ref()]
    instance.log.pop()

    with pytest.raises(HistoryError, match="the log of trouble/t-1 ends at 12, but the instance is at 13"):
        desk.state(ref())


def test_every_command_of_the_troublemaker_is_used() -> None:
    """
    The example has all that the tests of the turn speak of.
    """
    definition = Desk().app.definition("trouble")

    assert {"Do": Do, "Arrange": Arrange, "Wake": Wake} == definition.commands.by_tag
    assert (Done, Exploded, Ended) == definition.event_classes
    assert (Shout,) == definition.effect_classes
