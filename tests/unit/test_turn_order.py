"""
The turn: batches of many instances, in order, each command once.
"""

from datetime import timedelta

import pytest

from holdfast.runtime import faults
from holdfast.runtime.cache import ActorCache
from holdfast.runtime.faults import Point
from holdfast.runtime.keys import Ref
from holdfast.runtime.turn_result import TurnResult
from tests import controls
from tests.unit.desk import Desk, ids, ref, replies, sent
from tests.unit.trouble import Do, Done, Mood, Troublemaker


def test_every_command_of_a_batch_is_recorded_in_its_instance() -> None:
    """
    A batch of many instances leaves in each log the commands of that instance, in the order sent.
    """
    desk = Desk()
    refs = [ref(f"t-{number}") for number in range(20)]
    batch = [sent(Do(one.key), f"{one.key}.{turn}") for turn in range(3) for one in refs]

    result = desk.run(*batch)

    assert sorted(ids(batch)) == sorted(ids(result.done))
    assert {one.key: [f"{one.key}.{turn}" for turn in range(3)] for one in refs} == {
        one.key: desk.commands(one) for one in refs
    }
    assert (60, 0, 0, 0) == (result.accepted, result.rejected, result.duplicates, result.conflicts)


def test_each_decision_sees_the_events_of_those_before_it() -> None:
    """
    Within a batch a command is decided on the state that the commands before it leave behind.
    """
    desk = Desk()

    desk.run(sent(Do("t-1", "even"), "c-1"), sent(Do("t-1", "even"), "c-2"), sent(Do("t-1"), "c-3"))

    assert ["c-1", "c-3"] == desk.commands(ref())
    assert Mood(2) == desk.state(ref())


def test_batches_follow_each_other() -> None:
    """
    An actor that is kept between batches goes on where it was, and so does one that is opened cold.
    """
    desk = Desk()

    desk.run(sent(Do("t-1"), "c-1"))
    desk.run(sent(Do("t-1"), "c-2"))
    desk.forget()
    desk.run(sent(Do("t-1"), "c-3"))

    assert ["c-1", "c-2", "c-3"] == desk.commands(ref())
    assert Mood(3) == desk.state(ref())


def test_workflows_with_the_same_key_are_different_instances() -> None:
    """
    An instance is a workflow type and a key; the same key under another type is another one.
    """
    desk = Desk()

    desk.run(
        sent(Do("x"), "c-1"),
        controls.delivery(controls.PlaceOrder("x"), command_id="c-1"),
        controls.delivery(controls.Add("x"), command_id="c-1"),
    )

    assert [["c-1"], ["c-1"], ["c-1"]] == [
        desk.commands(ref("x", workflow)) for workflow in ("trouble", "order", "counter")
    ]


def test_an_empty_batch_is_no_work() -> None:
    """
    Nothing in, nothing out.
    """
    assert TurnResult() == Desk().run()


def test_a_record_tells_where_it_comes_from() -> None:
    """
    A record has the command's id, type, cause and trace, the time and the lease's token.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"))
    desk.forget()

    desk.run(sent(Do("t-1"), "c-2", cause="e-7", trace="00-abc-def-01"))

    entry = desk.log(ref())[1]
    assert ("c-2", "Do", controls.NOW_MS, 1, (Done(1),), "e-7", "00-abc-def-01") == (
        entry.command_id,
        entry.command,
        entry.at_ms,
        entry.token,
        entry.events,
        entry.cause,
        entry.trace,
    )


def test_accepted_commands_are_answered_with_their_record() -> None:
    """
    Whoever waits is told the sequence number and the record of his command; whoever does not is told nothing.
    """
    desk = Desk()

    result = desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-1", amount=7), "c-2", reply_to="me/c-2"))

    answer = replies(result)["me/c-2"]
    entry = desk.app.definition("trouble").entries.decode(answer.entry, "the answer")
    assert ("c-2", "accepted", False, 2, (Done(7),)) == (
        answer.command_id,
        answer.kind,
        answer.duplicate,
        answer.seq,
        entry.events,
    )


# -- duplicates


def test_a_command_twice_in_a_batch_is_decided_once() -> None:
    """
    The second copy in a batch records nothing, and is done with.
    """
    desk = Desk()

    result = desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-1"), "c-2"), sent(Do("t-1"), "c-1"))

    assert ["c-1", "c-2"] == desk.commands(ref())
    assert ["c-1", "c-1", "c-2"] == sorted(ids(result.done))
    assert (2, 1) == (result.accepted, result.duplicates)


@pytest.mark.parametrize("cold", [False, True])
def test_a_command_again_in_a_later_batch_is_not_decided(cold: bool) -> None:
    """
    However late it comes again, a handled command records nothing, by the process that handled it or another.
    """
    desk = Desk()
    desk.run(sent(Do("t-1", amount=5), "c-1"))
    desk.run(sent(Do("t-1"), "c-2"))
    if cold:
        desk.forget()

    result = desk.run(sent(Do("t-1", amount=5), "c-1", reply_to="me/c-1"))

    answer = replies(result)["me/c-1"]
    assert ["c-1", "c-2"] == desk.commands(ref())
    assert ("accepted", True, 1) == (answer.kind, answer.duplicate, answer.seq)
    assert desk.journal.entries(ref(), 0, 1)[0][1] == answer.entry


def test_a_redelivered_command_is_answered_as_if_for_the_first_time() -> None:
    """
    A worker that died after its commit told nobody: the caller who still waits hears Accepted, not Duplicate.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1", reply_to="me/c-1"))

    result = desk.run(sent(Do("t-1"), "c-1", reply_to="me/c-1", redeliveries=1))

    assert [("accepted", False, 1)] == [(a.kind, a.duplicate, a.seq) for a in replies(result).values()]


@pytest.mark.parametrize("command", [Do("t-1"), Do("t-1", "refuse")])
def test_a_batch_that_is_tried_again_is_answered_as_if_for_the_first_time(command: Do) -> None:
    """
    A server that was away after the commit makes no duplicate of a command: its caller was told nothing yet.
    """
    desk = Desk()
    batch = [sent(command, "c-1", reply_to="me/c-1")]
    first = desk.run(*batch)
    desk.forget()

    second = desk.run(*batch)

    kinds = [{answer.kind for answer in replies(result).values()} for result in (first, second)]
    assert kinds[0] == kinds[1]
    assert [False] == [answer.duplicate for answer in replies(second).values()]


@pytest.mark.parametrize("point", [Point.OPENED, Point.DECIDED, Point.COMMITTED])
def test_a_crash_between_two_steps_loses_and_doubles_nothing(point: Point) -> None:
    """
    Wherever the worker died, the next one leaves each command in the log once, in order.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-0"))

    def die() -> None:
        faults.disarm()
        raise KeyboardInterrupt

    faults.arm(point, die)
    with pytest.raises(KeyboardInterrupt):
        desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-1"), "c-2"))
    desk.restart()
    result = desk.run(
        sent(Do("t-1"), "c-1", reply_to="me/c-1", redeliveries=1),
        sent(Do("t-1"), "c-2", redeliveries=1),
        sent(Do("t-1"), "c-3"),
    )

    assert ["c-0", "c-1", "c-2", "c-3"] == desk.commands(ref())
    assert Mood(4) == desk.state(ref())
    assert [("accepted", False, 2)] == [(a.kind, a.duplicate, a.seq) for a in replies(result).values()]


def test_a_duplicate_within_a_batch_is_answered_with_the_first_outcome() -> None:
    """
    Two callers with one command id hear of the same record.
    """
    desk = Desk()

    result = desk.run(
        sent(Do("t-1"), "c-1", reply_to="me/c-1"),
        sent(Do("t-1", amount=99), "c-1", reply_to="you/c-1"),
    )

    answers = replies(result)
    assert (False, True) == (answers["me/c-1"].duplicate, answers["you/c-1"].duplicate)
    assert answers["me/c-1"].entry == answers["you/c-1"].entry


def test_the_same_id_for_two_instances_is_two_commands() -> None:
    """
    A command id is the instance's own: another instance may know the same one.
    """
    desk = Desk()

    desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-2"), "c-1"))

    assert [["c-1"], ["c-1"]] == [desk.commands(ref("t-1")), desk.commands(ref("t-2"))]


# -- time


def test_decide_is_told_the_time_of_the_clock_that_was_handed_in() -> None:
    """
    All commands of a batch are decided at the moment of their turn.
    """
    desk = Desk()
    desk.clock.advance(timedelta(hours=1, milliseconds=1))

    desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-2"), "c-2"))

    moment = controls.NOW + timedelta(hours=1, milliseconds=1)
    assert [moment, moment] == Troublemaker.moments


@pytest.mark.parametrize("cold", [False, True])
def test_time_never_goes_back_in_a_log(cold: bool) -> None:
    """
    A worker whose clock is behind records, and tells `decide`, the time of the last record.
    """
    ahead = Desk()
    ahead.clock.advance(timedelta(minutes=5))
    ahead.run(sent(Do("t-1"), "c-1"))
    behind = Desk(ahead.app, leases=False)
    behind.server.instances = ahead.server.instances
    if not cold:
        actor = ahead.turn.cache.get(ref())
        assert actor is not None
        behind.turn.cache.put(actor)

    behind.run(sent(Do("t-1"), "c-2"))

    five_minutes = controls.NOW_MS + 300_000
    assert [five_minutes, five_minutes] == [entry.at_ms for entry in behind.log(ref())]
    assert controls.NOW + timedelta(minutes=5) == Troublemaker.moments[-1]


# -- the end


def test_a_finished_instance_decides_nothing_more() -> None:
    """
    From the command on that ends an instance, in the same batch or later, commands are answered and not decided.
    """
    desk = Desk()

    first = desk.run(sent(Do("t-1", "end"), "c-1"), sent(Do("t-1"), "c-2", reply_to="me/c-2"))
    desk.forget()
    second = desk.run(sent(Do("t-1"), "c-3", reply_to="me/c-3"))

    assert ["c-1"] == desk.commands(ref())
    assert "completed" == desk.opened(ref()).run_state
    assert [("completed", "completed")] * 2 == [
        (answer.kind, answer.reason) for result in (first, second) for answer in replies(result).values()
    ]


def test_a_command_that_was_decided_before_the_end_is_a_duplicate_after_it() -> None:
    """
    The first outcome is remembered beyond the end of the instance.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-1", "end"), "c-2"))

    result = desk.run(sent(Do("t-1"), "c-1", reply_to="me/c-1"))

    assert [("accepted", True, 1)] == [(a.kind, a.duplicate, a.seq) for a in replies(result).values()]


def test_a_small_cache_loses_nothing() -> None:
    """
    A batch of more instances than the cache holds is handled like any other.
    """
    desk = Desk(cache=ActorCache(2))
    refs: list[Ref] = [ref(f"t-{number}") for number in range(10)]

    for turn in range(3):
        desk.run(*(sent(Do(one.key), f"{one.key}.{turn}") for one in refs))

    assert [Mood(3)] * 10 == [desk.state(one) for one in refs]
    assert 2 == len(desk.turn.cache)
