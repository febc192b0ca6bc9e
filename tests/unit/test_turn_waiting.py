"""
The turn: what cannot be decided yet waits, holds up what comes after it, and is given up when patience ends.
"""

import logging

import pytest

from holdfast.runtime.clock import ManualClock
from holdfast.runtime.codec import encode
from holdfast.runtime.keys import partition_of
from holdfast.runtime.message import Envelope
from holdfast.runtime.patience import WAITED_FOR_MAX
from holdfast.runtime.ports import Delivery
from holdfast.runtime.record import Entry
from holdfast.runtime.turn import Limits
from tests import controls
from tests.unit.desk import IMPATIENT, Desk, ids, raw, ref, replies, sent
from tests.unit.trouble import Do, Mood


def of_nobody(command_id: str = "c-1", key: str = "x-1") -> Delivery:
    """
    A command for a workflow that this app does not have.
    """
    partition = partition_of("unheard", key, controls.PARTITIONS)
    envelope = Envelope(
        command_id, "unheard", key, encode({"type": "Do", "id": key}), reply_to=f"me/{command_id}"
    )
    return Delivery(partition, encode(envelope), 0, command_id)


def waited(delivery: Delivery, seconds: float) -> Delivery:
    """
    A delivery that was put off so long ago, by the clock of a desk.
    """
    delivery.deferred_since = ManualClock(controls.NOW).monotonic() - seconds
    return delivery


def test_a_command_of_an_unknown_type_waits() -> None:
    """
    A rolling deploy may bring the code for it: it is neither decided nor given up.
    """
    desk = Desk()
    unknown = raw("DoOtherwise", "c-1")

    result = desk.run(unknown)

    assert ([unknown], [], []) == (result.deferred, result.done, result.dead)
    assert unknown.deferred_since > 0


def test_later_commands_of_its_instance_wait_behind_it_in_order() -> None:
    """
    Order within an instance holds while one waits; other instances go on.
    """
    desk = Desk()

    result = desk.run(
        sent(Do("t-1"), "c-1"),
        raw("DoOtherwise", "c-2"),
        sent(Do("t-2"), "d-1"),
        sent(Do("t-1"), "c-3"),
        sent(Do("t-1"), "c-4"),
    )

    assert ["c-2", "c-3", "c-4"] == ids(result.deferred)
    assert (["c-1"], ["d-1"]) == (desk.commands(ref("t-1")), desk.commands(ref("t-2")))


def test_what_was_put_off_keeps_the_order_of_its_batch() -> None:
    """
    The next batch begins with it, in the order in which it came, over all instances.
    """
    desk = Desk()
    batch = [raw("DoOtherwise", f"{turn}.{key}", f"t-{key}") for turn in range(3) for key in range(5)]

    result = desk.run(*batch)

    assert ids(batch) == ids(result.deferred)


def test_patience_counts_from_the_first_time() -> None:
    """
    Being put off again does not start the clock anew.
    """
    desk = Desk()
    unknown = waited(raw("DoOtherwise", "c-1"), 60)
    since = unknown.deferred_since

    desk.run(unknown)

    assert since == unknown.deferred_since


def test_when_patience_ends_it_is_given_up_and_the_others_go_on() -> None:
    """
    After its time the unknown command is a dead letter, and those behind it are decided in order.
    """
    desk = Desk(limits=Limits(patience_s=30))
    unknown = waited(raw("DoOtherwise", "c-1"), 31)

    result = desk.run(unknown, waited(sent(Do("t-1"), "c-2"), 31), sent(Do("t-1"), "c-3"))

    (letter,) = result.dead
    assert (
        "UnknownType: Troublemaker has no message 'DoOtherwise' (it has: Arrange, Do, Wake)" in letter.error
    )
    assert ["c-2", "c-3"] == desk.commands(ref())
    assert [] == result.deferred


def test_one_that_is_out_of_patience_does_not_take_others_with_it() -> None:
    """
    A second unknown command of the same instance has patience of its own.
    """
    desk = Desk(limits=Limits(patience_s=30))

    result = desk.run(waited(raw("A", "c-1"), 31), waited(raw("B", "c-2"), 5), sent(Do("t-1"), "c-3"))

    assert ["c-1"] == [letter.command_id for letter in result.dead]
    assert ["c-2", "c-3"] == ids(result.deferred)


def test_a_command_for_an_unknown_workflow_waits_and_is_given_up() -> None:
    """
    The same patience for a workflow that is not known; its caller hears of the end.
    """
    desk = Desk(limits=IMPATIENT)
    unknown = of_nobody()

    first = desk.run(unknown)
    second = desk.run(unknown)

    assert ([unknown], []) == (first.deferred, first.done)
    (letter,) = second.dead
    assert (
        "UnknownType: this process knows no workflow 'unheard' (it knows: counter, order, trouble)"
        in letter.error
    )
    assert "dead" == replies(second)["me/c-1"].kind


def test_a_known_duplicate_does_not_wait() -> None:
    """
    What was handled needs no decision, so it is done with although something unknown comes later.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"))

    result = desk.run(sent(Do("t-1"), "c-1"), raw("DoOtherwise", "c-2"))

    assert (["c-1"], ["c-2"]) == (ids(result.done), ids(result.deferred))


# -- a log that this code cannot read


def break_log(desk: Desk) -> None:
    """
    Put a record of other code into the log of t-1.
    """
    desk.run(sent(Do("t-1"), "c-0"))
    log = desk.server.instances[ref()].log
    log[0] = encode(Entry("c-0", "Do", controls.NOW_MS, 0, ({"type": "DoneOtherwise"},)))
    desk.forget()


def test_commands_to_a_log_that_cannot_be_read_wait() -> None:
    """
    Newer code may read it; other instances are not held up, and nothing is written.
    """
    desk = Desk()
    break_log(desk)

    result = desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-2"), "d-1"), sent(Do("t-1"), "c-2"))

    assert (["c-1", "c-2"], []) == (ids(result.deferred), result.dead)
    assert 1 == desk.opened(ref()).seq


def test_that_commands_are_kept_back_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """
    When the waiting for a log begins, and not for each of its commands and each try: once for each instance.
    """
    desk = Desk(limits=Limits(patience_s=30))
    break_log(desk)
    with caplog.at_level(logging.WARNING):
        waiting = desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-1"), "c-2")).deferred
        for _ in range(3):
            waiting = desk.run(*waiting, sent(Do("t-1"), f"c-{len(waiting) + 1}")).deferred

    (said,) = [record.__dict__ for record in caplog.records]
    assert "commands are kept back whose instance cannot be read from its log" == said["message"]
    assert ("trouble", "t-1", "c-1", 30) == (said["workflow"], said["key"], said["command_id"], said["for_s"])
    assert "record 1 of trouble/t-1 cannot be read by this code" in said["error"]


def test_with_many_logs_that_cannot_be_read_each_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """
    More than patience has room for: still no line for each of their tries.
    """
    desk = Desk()
    keys = [f"t-{number}" for number in range(WAITED_FOR_MAX + 20)]
    desk.run(*(sent(Do(key), f"c-{key}") for key in keys))
    for key in keys:
        desk.server.instances[ref(key)].log[0] = b""
    desk.forget()
    with caplog.at_level(logging.WARNING):
        waiting = desk.run(*(sent(Do(key), f"d-{key}") for key in keys)).deferred
        for _ in range(3):
            waiting = desk.run(*waiting).deferred

    assert keys == [record.__dict__["key"] for record in caplog.records]


def test_commands_to_a_log_that_stays_unreadable_are_given_up() -> None:
    """
    The dead letter names the record and what is wrong with it.
    """
    desk = Desk(limits=IMPATIENT)
    break_log(desk)
    delivery = sent(Do("t-1"), "c-1")
    desk.run(delivery)

    result = desk.run(delivery)

    (letter,) = result.dead
    assert "HistoryError: record 1 of trouble/t-1 cannot be read by this code" in letter.error
    assert "'DoneOtherwise'" in letter.error
    assert 1 == desk.opened(ref()).seq


def test_an_evolve_that_fails_on_the_log_is_a_broken_history() -> None:
    """
    A recorded event that evolve refuses is no reason to lose commands: they wait, then become dead letters.
    """
    desk = Desk(limits=IMPATIENT)
    break_log(desk)
    desk.server.instances[ref()].log[0] = encode(
        Entry("c-0", "Do", controls.NOW_MS, 0, ({"type": "Exploded"},))
    )
    delivery = sent(Do("t-1"), "c-1")

    first, second = desk.run(delivery), desk.run(delivery)

    assert ["c-1"] == ids(first.deferred)
    assert [True] == [
        "Troublemaker.evolve failed on Exploded in record 1" in one.error for one in second.dead
    ]


@pytest.mark.parametrize("patient", [True, False])
def test_a_log_that_can_be_read_again_goes_on(patient: bool) -> None:
    """
    When the code that understands it is here, what waited is decided in order.
    """
    desk = Desk(limits=Limits(patience_s=1_000 if patient else 0))
    break_log(desk)
    batch = [sent(Do("t-1"), "c-1"), sent(Do("t-1"), "c-2")]
    waiting = desk.run(*batch).deferred
    desk.server.instances[ref()].log[0] = encode(
        Entry("c-0", "Do", controls.NOW_MS, 0, ({"type": "Done", "amount": 5},))
    )

    desk.run(*waiting)

    assert ["c-0", "c-1", "c-2"] == desk.commands(ref())
    assert Mood(7) == desk.state(ref())


# -- a lease that another process holds


def test_commands_to_an_instance_that_another_holds_wait() -> None:
    """
    They are put off in order until the lease has run out or the partition is ours.
    """
    mine = Desk()
    mine.run(sent(Do("t-1"), "c-1"))
    other = Desk(mine.app, beside=mine, owner="w-2")
    batch = [sent(Do("t-1"), "c-2"), sent(Do("t-2"), "d-1"), sent(Do("t-1"), "c-3")]

    first = other.run(*batch)
    mine.server.owners["command", ref().partition] = "w-2"
    second = other.run(*first.deferred)

    assert ["c-2", "c-3"] == ids(first.deferred)
    assert [] == second.deferred
    assert ["c-1", "c-2", "c-3"] == other.commands(ref())


def test_the_token_grows_when_the_lease_moves() -> None:
    """
    Each record tells under which token it was decided.
    """
    mine = Desk()
    mine.run(sent(Do("t-1"), "c-1"))
    mine.run(sent(Do("t-1"), "c-2"))
    other = Desk(mine.app, beside=mine, owner="w-2")
    mine.server.owners["command", ref().partition] = "w-2"

    other.run(sent(Do("t-1"), "c-3"))

    assert [0, 1, 2] == [entry.token for entry in mine.log(ref())]
