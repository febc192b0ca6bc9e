"""
The turn: a command that kills its workers is found out, and takes nobody with it.
"""

from collections.abc import Sequence

import pytest

from holdfast.brokers.memory import MemoryJournal
from holdfast.runtime import plan
from holdfast.runtime.errors import Ending, Unavailable
from holdfast.runtime.mailbox import Letter
from holdfast.runtime.ports import Commit, CommitResult, Delivery
from holdfast.runtime.suspicion import SUSPECT_REDELIVERIES
from holdfast.runtime.turn import Limits
from tests.unit.desk import IMPATIENT, Desk, ids, raw, ref, replies, sent
from tests.unit.trouble import Do, Troublemaker


class WorkerKilled(Ending):
    """
    What stands for the end of the process.
    """


def kill_on_666(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Make the worker die when it decides the command whose amount says so.
    """
    decide = Troublemaker.decide

    def deadly(self: Troublemaker, now: object, state: object, command: Do) -> object:
        if command.amount == 666:
            raise WorkerKilled
        return decide(self, now, state, command)  # type: ignore[arg-type]

    fail = plan._fail

    def unheard(made: plan.Plan, letter: Letter, error: BaseException, trace: str | None) -> None:
        # Nothing of a process that has ended catches anything.
        if isinstance(error, WorkerKilled):
            raise error
        fail(made, letter, error, trace)

    monkeypatch.setattr(Troublemaker, "decide", deadly)
    monkeypatch.setattr(plan, "_fail", unheard)


def redelivered(batch: list[Delivery], times: int) -> list[Delivery]:
    """
    The batch as the transport hands it out after so many crashes.
    """
    return [Delivery(one.partition, one.body, times, one.tag) for one in batch]


def crash_until_settled(desk: Desk, batch: list[Delivery], crashes_max: int = 50) -> tuple[int, list[str]]:
    """
    Run a batch as a series of workers would that die of it; return how many died, and what was given up.
    """
    for crashes in range(crashes_max):
        desk.restart()
        try:
            result = desk.run(*redelivered(batch, crashes))
        except WorkerKilled:
            continue
        return crashes, [letter.command_id for letter in result.dead]
    pytest.fail("the batch never came through")


def test_a_command_that_kills_its_workers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    After a bounded number of deaths it becomes a dead letter that says why, and its caller hears of it.
    """
    desk = Desk()
    kill_on_666(monkeypatch)
    batch = [sent(Do("t-1", amount=666), "c-1", reply_to="me/c-1")]

    deaths, dead = crash_until_settled(desk, batch)

    assert (SUSPECT_REDELIVERIES + Limits().deliveries_max, ["c-1"]) == (deaths, dead)


def test_its_neighbours_are_decided_and_not_given_up_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However many messages were handed out with the deadly one, before and behind it, all are decided in order.
    """
    desk = Desk()
    kill_on_666(monkeypatch)
    batch = [sent(Do(f"t-{n % 4}", amount=666 if n == 9 else 1), f"c-{n:02}") for n in range(20)]

    _, dead = crash_until_settled(desk, batch)

    assert ["c-09"] == dead
    for key in range(4):
        expected = [f"c-{n:02}" for n in range(20) if n % 4 == key and n != 9]
        assert expected == desk.commands(ref(f"t-{key}"))


def test_two_deadly_commands_are_both_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    One after the other is given up, and what is between them goes on.
    """
    desk = Desk()
    kill_on_666(monkeypatch)
    batch = [sent(Do("t-1", amount=666 if n in (1, 3) else 1), f"c-{n}") for n in range(5)]

    _, dead = crash_until_settled(desk, batch)

    assert {"c-3"} <= set(dead)
    assert ["c-0", "c-2", "c-4"] == desk.commands(ref())


def test_a_first_redelivery_is_no_suspicion() -> None:
    """
    A crash hands out again all that was prefetched: that alone is counted against nobody.
    """
    desk = Desk()

    desk.run(*redelivered([raw("DoOtherwise", "c-1")], SUSPECT_REDELIVERIES - 1))

    assert {} == desk.server.suspects


def test_a_turn_that_came_to_an_end_clears_the_suspicion() -> None:
    """
    What was decided, or put off, or given up by a living worker does not kill workers.
    """
    desk = Desk()

    desk.run(
        *redelivered([sent(Do("t-1"), "c-1"), raw("DoOtherwise", "d-1", "t-2")], SUSPECT_REDELIVERIES),
    )

    assert {} == desk.server.suspects


def test_a_dead_letter_of_a_killer_says_how_many_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The error is for a person: it says what was seen.
    """
    desk = Desk(limits=Limits(deliveries_max=3))
    kill_on_666(monkeypatch)
    batch = [sent(Do("t-1", amount=666), "c-1", reply_to="me/c-1")]
    for crashes in range(SUSPECT_REDELIVERIES + 3):
        with pytest.raises(WorkerKilled):
            desk.run(*redelivered(batch, crashes))
        desk.restart()

    result = desk.run(*redelivered(batch, SUSPECT_REDELIVERIES + 3))

    (letter,) = result.dead
    assert "3 turns on it were begun and never came to an end" in letter.error
    assert "dead" == replies(result)["me/c-1"].kind


def test_trying_again_in_one_process_counts_once() -> None:
    """
    A batch that is tried again because a server was away has killed nobody.
    """
    desk = Desk()
    broken = sent(Do("t-1"), "c-1", redeliveries=SUSPECT_REDELIVERIES)

    class Away(MemoryJournal):
        def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
            raise Unavailable

    desk.turn = desk.make_turn(Away(desk.server))
    for _ in range(20):
        with pytest.raises(Unavailable):
            desk.run(broken)

    assert [1] == list(desk.server.suspects.values())


def test_what_waits_holds_up_suspects_behind_it() -> None:
    """
    Though suspects are taken one by one, the order within an instance holds.
    """
    desk = Desk()
    batch = [raw("DoOtherwise", "c-1"), sent(Do("t-1"), "c-2"), sent(Do("t-2"), "d-1")]

    result = desk.run(*redelivered(batch, SUSPECT_REDELIVERIES))

    assert ["c-1", "c-2"] == ids(result.deferred)
    assert ([], ["d-1"]) == (desk.commands(ref("t-1")), desk.commands(ref("t-2")))


def test_fresh_commands_wait_behind_a_suspect_of_their_instance() -> None:
    """
    A batch of suspects and fresh commands keeps the order of each instance.
    """
    desk = Desk(limits=IMPATIENT)
    old = redelivered([sent(Do("t-1"), "c-1"), raw("DoOtherwise", "c-2")], SUSPECT_REDELIVERIES)

    result = desk.run(*old, sent(Do("t-1"), "c-3"))
    again = desk.run(*result.deferred)

    assert (["c-2", "c-3"], ["c-2"]) == (ids(result.deferred), [letter.command_id for letter in again.dead])
    assert ["c-1", "c-3"] == desk.commands(ref())


def test_the_same_id_of_another_instance_is_not_suspected_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Deaths are counted for one command of one instance.
    """
    desk = Desk(limits=Limits(deliveries_max=2))
    kill_on_666(monkeypatch)
    other = next(one for one in (ref(f"t-{n}") for n in range(2, 50)) if one.partition == ref().partition)
    for _ in range(2):
        with pytest.raises(WorkerKilled):
            desk.run(*redelivered([sent(Do("t-1", amount=666), "c-1")], SUSPECT_REDELIVERIES))
        desk.restart()

    result = desk.run(*redelivered([sent(Do(other.key), "c-1")], SUSPECT_REDELIVERIES))

    assert [] == result.dead
    assert ["c-1"] == desk.commands(other)
