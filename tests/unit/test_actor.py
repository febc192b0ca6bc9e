"""
Actors: a view is the fold of a log, and it remembers what it handled.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.runtime.actor import (
    HANDLED_MAX,
    HANDLED_MIN,
    HANDLED_MS,
    Actor,
    Handled,
    UnusableSnapshot,
    fold,
    start,
)
from holdfast.runtime.codec import encode
from holdfast.runtime.errors import Ending, HistoryError
from holdfast.runtime.instance import RunState
from holdfast.runtime.message import Event
from holdfast.runtime.ports import Opened
from holdfast.runtime.record import Entry, Snapshot
from tests import controls
from tests.controls import OrderCancelled, OrderPaid, OrderPlaced, OrderState

DEFINITION = controls.app().definition("order")
EVENTS = st.one_of(
    st.builds(OrderPlaced, amount=st.integers(0, 1_000)),
    st.just(OrderPaid()),
    st.builds(OrderCancelled, reason=st.text(max_size=5)),
)


def an_actor() -> Actor:
    """
    An order to which nothing happened yet.
    """
    return start(DEFINITION, controls.ref(), None)


def opened(log: list[bytes], snapshot: Snapshot | None = None, **changes: object) -> Opened:
    """
    A log as the journal hands it out.
    """
    values = {
        "seq": len(log),
        "head": "",
        "token": 3,
        "run_state": RunState.RUNNING,
        "snapshot": snapshot,
        "tail": list(enumerate(log, 1))[snapshot.seq if snapshot else 0 :],
    }
    return Opened(controls.ref(), **(values | changes))  # type: ignore[arg-type]  # a mixed dict


# -- folding


@given(records=st.lists(st.lists(EVENTS, min_size=1, max_size=3), max_size=8), data=st.data())
def test_folding_in_pieces_equals_folding_whole(records: list[list[Event]], data: st.DataObject) -> None:
    """
    From wherever a snapshot was taken, the tail leads to the very same actor.
    """
    log = [controls.entry(f"c-{n}", *events, at_ms=n) for n, events in enumerate(records)]
    whole = fold(DEFINITION, opened(log))
    if not log:
        assert OrderState() == whole.state
        return
    split = data.draw(st.integers(1, len(log)))

    snapshot = fold(DEFINITION, opened(log[:split])).snapshot()
    pieces = fold(DEFINITION, opened(log, snapshot))

    whole.snapshot_seq = split
    assert whole == pieces


def test_what_was_opened_is_in_the_actor() -> None:
    """
    The token and the run state are the journal's.
    """
    actor = fold(DEFINITION, opened([controls.entry()], run_state=RunState.COMPLETED))

    assert (3, RunState.COMPLETED, 1, "c-1") == (actor.token, actor.run_state, actor.seq, actor.head)


@pytest.mark.parametrize("seq", [1, 3, 7])
def test_a_gap_in_a_log_is_found_out(seq: int) -> None:
    """
    Records come one after the other; one that is missing or comes twice is a broken history.
    """
    actor = an_actor()
    actor.absorb(1, Entry("c-1", "PlaceOrder", 0, 0, (OrderPlaced(1),)))

    with pytest.raises(
        HistoryError, match=f"the log of order/o-1 goes from 1 to {seq}; records between them"
    ):
        actor.absorb(seq, Entry("c-2", "PlaceOrder", 0, 0, (OrderPlaced(1),)))


def test_a_log_that_is_shorter_than_its_instance_is_found_out() -> None:
    """
    One of the two was restored without the other.
    """
    with pytest.raises(HistoryError, match="ends at 1, but the instance is at 2"):
        fold(DEFINITION, opened([controls.entry()], seq=2))


# -- snapshots


def test_a_snapshot_of_nothing_is_the_initial_state() -> None:
    """
    Without a snapshot an actor begins before its first record.
    """
    assert (OrderState(), 0, "", 0) == (an_actor().state, an_actor().seq, an_actor().head, an_actor().at_ms)


def test_a_snapshot_is_the_actor_again() -> None:
    """
    State, position, time and memory come back as they were.
    """
    actor = fold(
        DEFINITION,
        opened([controls.entry("c-1"), controls.entry("c-2", OrderPaid(), at_ms=controls.NOW_MS + 5)]),
    )

    again = start(DEFINITION, controls.ref(), actor.snapshot())

    actor.token, actor.snapshot_seq = 0, 2
    assert actor == again


@pytest.mark.parametrize(
    "snapshot",
    [
        Snapshot(1, "c-1", 2, encode(OrderState())),
        Snapshot(1, "c-1", 1, b""),
        Snapshot(1, "c-1", 1, encode([1])),
        Snapshot(1, "c-1", 1, b"\xa2\xff\xff"),
    ],
)
def test_a_snapshot_of_other_code_is_unusable(snapshot: Snapshot) -> None:
    """
    Another version, or a state that does not fit, is told apart from a broken log: the log has the truth.
    """
    with pytest.raises(UnusableSnapshot):
        start(DEFINITION, controls.ref(), snapshot)


# -- the memory of what was handled


def remembering(times: list[int]) -> Actor:
    """
    An actor that handled a command at each of these times.
    """
    actor = an_actor()
    for seq, at_ms in enumerate(times, 1):
        actor.remember(f"c-{seq}", Handled(seq, at_ms))
    return actor


def test_the_last_thousand_commands_are_remembered_however_old() -> None:
    """
    An instance that is touched once a month still knows its last thousand commands.
    """
    actor = remembering([n * 30 * HANDLED_MS for n in range(HANDLED_MIN)])

    assert HANDLED_MIN == len(actor.handled)


def test_older_commands_are_forgotten_beyond_the_thousand() -> None:
    """
    The oldest goes first, and only as many as must.
    """
    actor = remembering([n * HANDLED_MS for n in range(HANDLED_MIN + 5)])

    assert [f"c-{n}" for n in range(6, HANDLED_MIN + 6)] == list(actor.handled)


def test_all_commands_of_a_day_are_remembered() -> None:
    """
    A busy instance knows every command of the last 24 hours, beyond the thousand.
    """
    step = HANDLED_MS // 3_000

    actor = remembering([n * step for n in range(10_000)])

    ages = [10_000 - int(command_id[2:]) for command_id in actor.handled]
    assert 3_000 == len(ages)
    assert max(ages) * step < HANDLED_MS


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An instance that takes a thousand commands a second does not fill the memory of its workers.
    """
    monkeypatch.setattr("holdfast.runtime.actor.HANDLED_MAX", 2_000)

    actor = remembering([0] * 5_000)

    assert [f"c-{n}" for n in range(3_001, 5_001)] == list(actor.handled)
    assert HANDLED_MIN < 2_000 < HANDLED_MAX


@pytest.mark.parametrize("step_ms", [0, HANDLED_MS // 3_000, HANDLED_MS // 10, HANDLED_MS])
@pytest.mark.parametrize("split", [0, 500, 3_900])
def test_a_whole_log_is_remembered_as_one_record_after_the_other(
    step_ms: int, split: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whatever is not even remembered for a moment would have been forgotten by the end, with a snapshot before it too.
    """
    monkeypatch.setattr("holdfast.runtime.actor.HANDLED_MAX", 3_500)
    log = [controls.entry(f"c-{n}", OrderPlaced(1), at_ms=n * step_ms) for n in range(4_000)]
    one_by_one = start(DEFINITION, controls.ref(), None)
    for seq, data in enumerate(log, 1):
        one_by_one.absorb(seq, DEFINITION.entries.decode(data, "a record"))
        if seq == split:
            snapshot = one_by_one.snapshot()

    whole = fold(DEFINITION, opened(log, snapshot if split else None))

    assert list(one_by_one.handled.items()) == list(whole.handled.items())
    assert one_by_one.state == whole.state


def test_the_first_record_that_cannot_be_read_is_told_of() -> None:
    """
    Also where the last cannot be read either.
    """
    log = [controls.entry("c-1"), b"\xc1", controls.entry("c-3"), b"\xc1"]

    with pytest.raises(HistoryError, match="record 2 of order/o-1 cannot be read"):
        fold(DEFINITION, opened(log))


@pytest.mark.parametrize("ending", [Ending, KeyboardInterrupt])
def test_who_is_interrupted_amid_a_fold_is_interrupted(
    ending: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Ctrl-C in a program that reads a long history is no fault of the history, nor is the end of a simulated process.
    """

    def evolve(self: controls.Order, state: OrderState, event: Event) -> OrderState:
        raise ending

    monkeypatch.setattr(controls.Order, "evolve", evolve)

    with pytest.raises(ending):
        fold(DEFINITION, opened([controls.entry()]))
