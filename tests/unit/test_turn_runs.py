"""
The turn: instances are paused, resumed, cancelled and emptied, and no command is lost or overtaken on the way.
"""

from typing import Any

import pytest

from holdfast.runtime.app import App
from holdfast.runtime.codec import decode_envelope, encode
from holdfast.runtime.control import Cancel, DeleteData, Pause, Resume
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import Command
from holdfast.runtime.ports import Delivery
from holdfast.runtime.record import Moved
from holdfast.runtime.turn import PARKED_PER_COMMIT, Limits
from holdfast.runtime.turn_result import TurnResult
from tests import controls
from tests.unit import trouble
from tests.unit.desk import Desk, ids, ref, replies, sent
from tests.unit.trouble import Arrange, Do, Mood, Troublemaker


class Keeper(Troublemaker):
    """
    Keeps what it did when its data is deleted.
    """

    def scrub(self, state: Mood) -> Mood | None:
        return Mood(state.total)


class Cautious(Troublemaker):
    """
    Pauses behind a dead letter.
    """

    pause_on_dead_letter = True


def control(command: Command, command_id: str, **changes: Any) -> Delivery:
    """
    A control of the troublemaker, for whose sender the answer is "me/<id>".
    """
    return sent(command, command_id, **({"key": "t-1", "reply_to": f"me/{command_id}"} | changes))


def do(command_id: str, trouble_: str = "", **changes: Any) -> Delivery:
    return sent(Do("t-1", trouble_), command_id, reply_to=f"me/{command_id}", **changes)


def told(result: TurnResult) -> dict[str, str]:
    """
    What each caller was told last, by command.
    """
    return {address.removeprefix("me/"): answer.kind for address, answer in result.replies}


def run_state(desk: Desk, of: Ref | None = None) -> RunState:
    return desk.opened(of or ref()).run_state


# -- pause and resume


def test_a_paused_instance_keeps_commands_until_it_is_resumed() -> None:
    """
    What comes while it is paused is acknowledged and kept; on resume it is decided in order, before what comes then.
    """
    desk = Desk()
    desk.run(do("c-1"), control(Pause("lunch"), "p"))
    result = desk.run(do("c-2"), do("c-3"))

    assert ["c-2", "c-3"] == ids(result.done)
    assert {"c-2": "parked", "c-3": "parked"} == told(result)
    assert "lunch" == replies(result)["me/c-2"].reason
    assert 2 == result.parked
    assert ["c-1", "p"] == desk.commands(ref())

    result = desk.run(do("c-4"), control(Resume("back"), "r"), do("c-5"))

    assert ["c-4", "r", "c-5"] == ids(result.done)
    assert ["c-1", "p", "r", "c-2", "c-3", "c-4", "c-5"] == desk.commands(ref())
    assert {"c-2", "c-3", "c-4", "c-5", "r"} == {
        id_ for id_, kind in told(result).items() if kind == "accepted"
    }
    assert 0 == desk.opened(ref()).parked
    assert RunState.RUNNING is run_state(desk)


@pytest.mark.parametrize("cold", [False, True])
def test_kept_commands_come_back_in_pages(cold: bool) -> None:
    """
    However many were kept, all are decided in order within the turn that resumes; so are those of a cold instance.
    """
    desk = Desk()
    count = 2 * PARKED_PER_COMMIT + 7
    desk.run(do("c-0"), control(Pause(), "p"), *(do(f"k-{number}") for number in range(count)))
    if cold:
        desk.forget()

    desk.run(control(Resume(), "r"), do("last"))

    kept = [f"k-{number}" for number in range(count)]
    assert ["c-0", "p", "r", *kept, "last"] == desk.commands(ref())


def test_a_command_that_is_kept_twice_is_decided_once() -> None:
    """
    A redelivery, or a second copy by its sender, does not change its place.
    """
    desk = Desk()
    desk.run(do("c-0"), control(Pause(), "p"), do("a"), do("b"), do("a", redeliveries=1))

    desk.run(do("a"), control(Resume(), "r"))

    assert ["c-0", "p", "r", "a", "b"] == desk.commands(ref())


def test_what_was_kept_goes_first_after_a_crash() -> None:
    """
    A worker that died between the resume and what was kept: whoever comes next goes on with that first, and only then
    is the resume done with.
    """
    desk = Desk()
    desk.run(do("c-0"), control(Pause(), "p"), do("a"), do("b"))
    plan_of_resume_alone(desk)
    assert ["c-0", "p", "r"] == desk.commands(ref())

    result = desk.run(do("late"), control(Resume(), "r", redeliveries=1))

    assert ["c-0", "p", "r", "a", "b", "late"] == desk.commands(ref())
    assert ["late", "r"] == ids(result.done)


def plan_of_resume_alone(desk: Desk) -> None:
    """
    Write what a worker wrote that died right after its first commit.
    """

    class Died(Exception):
        pass

    commit = desk.journal.commit

    def dying(*args: Any) -> Any:
        commit(*args)
        raise Died

    desk.journal.commit = dying  # type: ignore[method-assign,assignment]  # the death
    with pytest.raises(Died):
        desk.run(control(Resume(), "r"))
    desk.journal.commit = commit  # type: ignore[method-assign]  # another worker's
    desk.restart()


def test_a_resume_is_not_done_before_what_was_kept_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where one turn does not come to the end of what was kept, the resume waits with it, and so does what came later.
    """
    monkeypatch.setattr("holdfast.runtime.turn.PARKED_PER_COMMIT", 2)
    monkeypatch.setattr("holdfast.runtime.turn.PARKED_COMMITS_MAX", 3)
    desk = Desk()
    desk.run(do("c-0"), control(Pause(), "p"), *(do(f"k-{number}") for number in range(7)))

    resume, late = control(Resume(), "r"), do("late")
    first = desk.run(resume, late)
    assert ["r", "late"] == ids(first.deferred)
    assert [] == first.done
    second = desk.run(*first.deferred)

    assert ["r", "late"] == sorted(ids(second.done), reverse=True)
    assert ["c-0", "p", "r", *(f"k-{number}" for number in range(7)), "late"] == desk.commands(ref())


def test_what_another_kept_is_not_passed_over() -> None:
    """
    Without leases two workers may keep commands on one view: whoever resumes goes on with those of both, first.
    """
    desk = Desk(leases=False)
    other = Desk(beside=desk, owner="w-2", leases=False)
    desk.run(do("c-0"), control(Pause(), "p"))
    other.run(do("a"), do("b"))

    desk.run(control(Resume(), "r"), do("late"))

    assert ["c-0", "p", "r", "a", "b", "late"] == desk.commands(ref())


def test_what_ends_the_instance_ends_what_was_kept() -> None:
    """
    A kept command that finishes the instance: those behind it are told so.
    """
    desk = Desk()
    desk.run(do("c-0"), control(Pause(), "p"), do("a", "end"), do("b"))

    result = desk.run(control(Resume(), "r"))

    assert {"r": "accepted", "a": "accepted", "b": "completed"} == told(result)
    assert 0 == desk.opened(ref()).parked


def test_a_kept_command_that_fails_is_a_dead_letter_at_once() -> None:
    """
    It is kept nowhere else, so its dead letter is written with the commit that takes it out.
    """
    desk = Desk()
    desk.run(do("c-0"), control(Pause(), "p"), do("bad", "raise"), do("good"))

    result = desk.turn.run([control(Resume(), "r")])

    (letter,) = desk.server.dead.values()
    assert ("bad", "ValueError: no luck today") == (letter.command_id, letter.error)
    assert [letter] == result.dead
    assert ["c-0", "p", "r", "good"] == desk.commands(ref())


def test_a_kept_command_of_an_unknown_type_waits_and_is_given_up() -> None:
    """
    As any other would, and what is behind it waits meanwhile.
    """
    desk = Desk(limits=Limits(patience_s=0.0))
    stranger = sent(Do("t-1"), "new", payload=encode({"type": "Unheard", "id": "t-1"}))
    desk.run(do("c-0"), control(Pause(), "p"), stranger, do("good"))

    first = desk.run(control(Resume(), "r"))
    assert ["r"] == ids(first.deferred)
    assert ["c-0", "p", "r"] == desk.commands(ref())
    second = desk.run(*first.deferred)

    assert ["new"] == [letter.command_id for letter in second.dead]
    assert ["c-0", "p", "r", "good"] == desk.commands(ref())
    assert ["r"] == ids(second.done)


def test_duplicates_are_answered_while_paused() -> None:
    """
    What was decided before is not kept.
    """
    desk = Desk()
    desk.run(do("c-1"), control(Pause(), "p"))

    result = desk.run(do("c-1"), control(Pause(), "p"))

    assert {"c-1": "accepted", "p": "accepted"} == told(result)
    assert all(answer.duplicate for answer in replies(result).values())
    assert 0 == desk.opened(ref()).parked


def test_a_pause_with_an_end_sets_a_timer_that_resumes() -> None:
    """
    The timer's command resumes this pause and no later one; whoever resumes by hand removes the timer.
    """
    desk = Desk()
    desk.run(do("c-0"), control(Pause("nap", resume_after_ms=5_000), "p-1"), do("a"))
    ((name, due_ms),) = desk.timers(ref()).items()
    ((_, timer),) = desk.journal.timers(ref().partition, 10)
    assert 5_000 == due_ms
    assert name.startswith(ref().scope)
    assert controls.NOW_MS + 5_000 == desk.log(ref())[-1].control.resume_at_ms  # type: ignore[union-attr]  # it is one

    desk.run(control(Resume(), "r-1"))
    assert {} == desk.timers(ref())
    desk.run(control(Pause(resume_at_ms=controls.NOW_MS + 9_000), "p-2"))
    assert [9_000] == list(desk.timers(ref()).values())
    late = Delivery(ref().partition, timer.envelope, 0, decode_envelope(timer.envelope).id)
    desk.run(late)
    assert RunState.PAUSED is run_state(desk)

    ((_, timer),) = desk.journal.timers(ref().partition, 10)
    desk.run(Delivery(ref().partition, timer.envelope, 0, "t"))

    assert RunState.RUNNING is run_state(desk)
    assert ["c-0", "p-1", "r-1", "a", "p-2", "p-2:resume"] == desk.commands(ref())


# -- the table


@pytest.mark.parametrize(
    ("before", "command", "reason"),
    [
        ([], Pause(), "there is no trouble/t-1"),
        ([], Cancel(), "there is no trouble/t-1"),
        ([do("c-0")], Resume(), "the instance is running already"),
        ([do("c-0")], DeleteData(), "an instance that is running cannot become data-deleted"),
        ([do("c-0"), control(Pause(), "p")], Pause(), "the instance is paused already"),
        (
            [do("c-0"), control(Pause(), "p")],
            DeleteData(),
            "an instance that is paused cannot become data-deleted",
        ),
        ([do("c-0", "end")], Pause(), "an instance that is completed cannot become paused"),
        ([do("c-0", "end")], Cancel(), "it may become data-deleted"),
        (
            [do("c-0"), control(Cancel(), "x")],
            Resume(),
            "an instance that is cancelled cannot become running",
        ),
    ],
)
def test_an_illegal_move_is_refused_with_both_names(
    before: list[Delivery], command: Command, reason: str
) -> None:
    """
    Nothing is recorded, and whoever asked is told why.
    """
    desk = Desk()
    for delivery in before:
        desk.run(delivery)
    records = desk.commands(ref())

    answer = replies(desk.run(control(command, "q")))["me/q"]

    assert "rejected" == answer.kind
    assert reason in answer.reason
    assert records == desk.commands(ref())


def test_controls_are_in_the_log_and_change_no_state() -> None:
    """
    Each is a record without events that says what it did and why; `evolve` and `decide` never see one.
    """
    desk = Desk()
    desk.run(do("c-0"))
    asked = Troublemaker.asked
    desk.run(control(Pause("a"), "p"), control(Resume("b"), "r"), control(Cancel("c"), "x"))

    assert [None, Moved("pause", "a"), Moved("resume", "b"), Moved("cancel", "c")] == [
        entry.control for entry in desk.log(ref())
    ]
    assert ["Do", "holdfast.Pause", "holdfast.Resume", "holdfast.Cancel"] == [
        e.command for e in desk.log(ref())
    ]
    assert Mood(1) == desk.state(ref())
    assert asked == Troublemaker.asked
    assert "c" == desk.opened(ref()).reason


# -- cancel and delete


def test_a_cancelled_instance_is_finished() -> None:
    """
    Later commands are told so, kept ones too; what it left elsewhere is to be cleared away, again after a redelivery.
    """
    desk = Desk()
    desk.run(do("c-0"), control(Pause(), "p"), do("a"))

    result = desk.run(control(Cancel("enough"), "x"), do("b"))

    assert {"x": "accepted", "a": "completed", "b": "completed"} == told(result)
    assert "cancelled" == replies(result)["me/b"].reason
    assert [ref()] == result.over
    assert [ref()] == desk.run(control(Cancel("enough"), "x", redeliveries=1)).over


def test_deleted_data_leaves_a_tombstone() -> None:
    """
    Of the log only the deletion is left, under its own number; tokens and numbers go on, and nothing can be decided.
    """
    desk = Desk()
    desk.run(do("c-0"), do("c-1", "end"))
    before = desk.opened(ref())

    result = desk.run(control(DeleteData("asked for"), "d"))
    desk.forget()

    (entry,) = desk.log(ref())
    assert Moved("delete-data", "asked for") == entry.control
    after = desk.opened(ref())
    assert (before.seq + 1, "d", RunState.DATA_DELETED) == (after.seq, after.head, after.run_state)
    assert after.token >= before.token
    assert Mood() == desk.state(ref())
    assert [ref()] == result.erased
    assert {"c-2": "completed", "c-0": "completed"} == told(desk.run(do("c-2"), do("c-0")))
    assert {"d": "accepted"} == told(desk.run(control(DeleteData("asked for"), "d")))


def test_what_is_deleted_is_not_deleted_again() -> None:
    """
    Whoever asks again is told that it is so, and nothing is recorded; what came since and left something elsewhere is
    cleared away.
    """
    desk = Desk()
    desk.run(do("c-0"), do("c-1", "end"), control(DeleteData(), "d"))
    before = desk.opened(ref())

    for _ in range(2):
        result = desk.run(control(DeleteData("again"), "d-2"), control(DeleteData("again"), "d-3"))
        assert {"d-2": "completed", "d-3": "completed"} == told(result)
        assert RunState.DATA_DELETED == replies(result)["me/d-2"].reason
        assert {ref()} == set(result.erased)
        assert ["d-2", "d-3"] == ids(result.done)
        desk.forget()

    after = desk.opened(ref())
    assert (before.seq, before.head, ["d"]) == (after.seq, after.head, desk.commands(ref()))


def test_a_workflow_may_keep_something() -> None:
    """
    What `scrub` returns is the state from then on, also where it is opened cold.
    """
    desk = Desk(App(workflows=[Keeper]))
    desk.run(do("c-0"), do("c-1", "end"), control(DeleteData(), "d"))
    assert Mood(2) == desk.state(ref())
    desk.forget()
    desk.run(control(DeleteData(), "d-2"))
    assert Mood(2) == desk.state(ref())


# -- pausing behind a dead letter


def test_an_instance_may_pause_behind_a_dead_letter() -> None:
    """
    Later commands wait in order; the retried one goes before them.
    """
    trouble.app()
    desk = Desk(App(workflows=[Cautious]))
    desk.run(do("c-0"), do("bad", "fail 4"), do("a"))

    assert RunState.PAUSED is run_state(desk)
    assert "Do became a dead letter" == desk.opened(ref()).reason
    (letter,) = desk.server.dead.values()
    assert "bad" == letter.command_id
    desk.run(do("b"))
    again = sent(Do("t-1", "fail 4"), "bad", first=True)
    desk.run(again)
    desk.run(control(Resume(), "r"))

    assert ["c-0", "bad:pause", "r", "bad", "a", "b"] == desk.commands(ref())


def test_a_redelivered_failure_does_not_come_back_as_a_kept_command() -> None:
    """
    A worker died after the pause was written and before the delivery was acknowledged.
    """
    trouble.app()
    desk = Desk(App(workflows=[Cautious]))
    desk.run(do("c-0"), do("bad", "raise"))

    result = desk.run(do("bad", "raise", redeliveries=1))

    assert {"bad": "dead"} == told(result)
    assert ["bad"] == ids(result.done)
    assert 0 == desk.opened(ref()).parked
    assert 1 == len(desk.server.dead)


def test_timers_of_a_paused_instance_are_kept_in_order_too() -> None:
    """
    What a timer sends is a command like any other.
    """
    desk = Desk()
    desk.run(sent(Arrange("t-1", timers=((None, 1.0),)), "c-0"), control(Pause(), "p"), do("a"))
    ((_, timer),) = desk.journal.timers(ref().partition, 10)
    desk.run(Delivery(ref().partition, timer.envelope, 0, "t"), control(Resume(), "r"))

    assert ["c-0", "p", "r", "a", "c-0:t0"] == desk.commands(ref())


# -- a paused instance that keeps as much as it may


class Small(Troublemaker):
    """
    Keeps two commands while it is paused.
    """

    parked_max = 2


def test_a_paused_instance_keeps_so_many_commands_and_no_more() -> None:
    """
    Who waits for the answer is told that there is no room, and nothing of his is kept; what nobody waits for becomes a
    dead letter, which can be sent again. What is kept stays, and is decided when it goes on.
    """
    desk = Desk(App(workflows=[Small]))
    desk.run(do("c-1"), control(Pause("lunch"), "p"))
    result = desk.run(do("c-2"), do("c-3"), do("c-4"), sent(Do("t-1"), "c-5"))

    assert ["c-2", "c-3", "c-4", "c-5"] == sorted(ids(result.done))
    assert {"c-2": "parked", "c-3": "parked", "c-4": "rejected"} == told(result)
    reason = replies(result)["me/c-4"].reason
    assert "trouble/t-1 is paused: lunch, and 2 commands are kept for it already, which is the most" in reason
    assert "Small.parked_max" in reason
    (letter,) = result.dead
    assert ("c-5", f"CrowdedOut: {reason}") == (letter.command_id, letter.error)
    assert (2, 1) == (result.parked, result.rejected)

    desk.run(control(Resume(), "r"))
    assert ["c-1", "p", "r", "c-2", "c-3"] == desk.commands(ref())


def test_a_second_copy_of_what_is_kept_is_not_refused() -> None:
    """
    What is kept already needs no room: its sender is told what he was told the first time.
    """
    desk = Desk(App(workflows=[Small]))
    desk.run(do("c-1"), control(Pause(), "p"), do("c-2"), do("c-3"))
    result = desk.run(do("c-2"), do("c-4"))

    assert {"c-2": "parked", "c-4": "rejected"} == told(result)


def test_what_was_refused_for_want_of_room_stays_refused() -> None:
    """
    A worker that died before it acknowledged it tells its sender the same, although there is room now.
    """
    desk = Desk(App(workflows=[Small]))
    refused = do("c-4")
    desk.run(do("c-1"), control(Pause(), "p"), do("c-2"), do("c-3"), refused)
    desk.run(control(Resume(), "r"))
    refused.redeliveries = 1
    result = desk.run(refused)

    assert {"c-4": "rejected"} == told(result)
    assert "c-4" not in desk.commands(ref())


# -- controls that say anything


@pytest.mark.parametrize("command", [Pause("x" * 5_000), Resume("x" * 5_000), Cancel("x" * 5_000)])
def test_a_control_whose_record_is_too_large_becomes_a_dead_letter(command: Command) -> None:
    """
    It would fit into a message and not into its record: it is given up, and its neighbours are decided.
    """
    desk = Desk(limits=Limits(payload_bytes_max=5_000))
    desk.run(do("c-1"))
    if isinstance(command, Resume):
        desk.run(control(Pause(), "p"))
    result = desk.run(control(command, "long"), do("c-2"))

    assert ["c-2", "long"] == sorted(ids(result.done))
    assert [("long", True)] == [(one.command_id, "PayloadTooLarge" in one.error) for one in result.dead]
    assert "dead" == told(result)["long"]


@pytest.mark.parametrize(
    "command",
    [
        Pause(resume_after_ms=2**64 - 1),
        Pause(resume_at_ms=2**64 - 1),
        Pause(resume_at_ms=-(2**63)),
        Pause(resume_after_ms=-(2**63)),
    ],
)
def test_a_pause_with_any_numbers_can_be_kept(command: Command) -> None:
    """
    Its end is within what Redis and clocks can tell apart, whatever a sender wrote.
    """
    desk = Desk()
    desk.run(do("c-1"))
    result = desk.run(control(command, "p"))

    assert {"p": "accepted"} == told(result)
    for due_ms, _ in desk.journal.timers(ref().partition, 10):
        assert 0 < due_ms <= 2**54


def test_ids_of_timers_do_not_grow() -> None:
    """
    A timer whose command sets the next one, for years: the ids of the last are as long as those of the first few.
    """
    desk = Desk(controls.app())
    found, seen = "c-1", set()
    for number in range(100):
        delivery = controls.delivery(controls.PlaceOrder(f"o-{number}"), command_id=found)
        desk.run(delivery)
        ((_, timer),) = desk.journal.timers(delivery.partition, 10)
        desk.server.timers[delivery.partition].clear()
        found = decode_envelope(timer.envelope).id
        assert len(found) <= 64
        seen.add(found)

    assert 100 == len(seen)
