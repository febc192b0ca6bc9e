"""
The turn: other writers win or lose, and either way every command is in the log once.
"""

from collections.abc import Callable, Sequence

import pytest

from holdfast.brokers.memory import MemoryJournal
from holdfast.runtime import faults
from holdfast.runtime.faults import Point
from holdfast.runtime.ports import Commit, CommitResult, Committed, Conflict, Fenced
from holdfast.runtime.turn import COMMIT_ATTEMPTS
from tests.unit.desk import Desk, ids, ref, replies, sent
from tests.unit.trouble import Do, Mood, Troublemaker


class Rival(MemoryJournal):
    """
    A journal in which somebody else writes just before each commit, so many times.
    """

    def __init__(self, desk: Desk, times: int, *, act: Callable[[int], None] | None = None) -> None:
        super().__init__(desk.server, leases=False)
        self.times = times
        self._rival = Desk(desk.app, beside=desk, owner="rival", leases=False)
        self._act = act or self._write

    def _write(self, number: int) -> None:
        self._rival.run(sent(Do("t-1", amount=10), f"r-{number}"))

    def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
        if self.times:
            self.times -= 1
            self._act(self.times)
        return super().commit(commits, owner)


def rivalled(times: int, act: Callable[[int], None] | None = None) -> Desk:
    """
    A desk whose commits meet a rival so many times.
    """
    desk = Desk(leases=False)
    desk.turn = desk.make_turn(Rival(desk, times, act=act))
    return desk


@pytest.mark.parametrize("times", range(COMMIT_ATTEMPTS))
def test_a_conflict_is_tried_again_on_what_the_other_wrote(times: int) -> None:
    """
    The commands are decided anew on the state as the other left it, and recorded once.
    """
    desk = rivalled(times)

    result = desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-1"), "c-2"))

    assert [f"r-{number}" for number in reversed(range(times))] + ["c-1", "c-2"] == desk.commands(ref())
    assert (times, 2, []) == (result.conflicts, result.accepted, result.deferred)


def test_tries_against_other_writers_are_bounded() -> None:
    """
    After five lost races the commands wait for another turn, in order, and nothing of them is written.
    """
    desk = rivalled(1_000)

    result = desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-2"), "d-1"), sent(Do("t-1"), "c-2"))

    assert ["c-1", "c-2"] == ids(result.deferred)
    assert ["d-1"] == desk.commands(ref("t-2"))
    assert COMMIT_ATTEMPTS == len(desk.commands(ref()))
    assert (1, []) == (result.accepted, result.replies)


def test_instances_without_a_rival_are_not_tried_again() -> None:
    """
    A conflict of one instance costs the others of its batch nothing.
    """
    desk = rivalled(2)

    desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-2"), "d-1"))

    assert 3 + 1 + 2 == Troublemaker.asked  # t-1 three times, t-2 once, and the rival's two


def test_a_refusal_on_a_stale_view_is_not_told() -> None:
    """
    What another process wrote since may make the command acceptable: the view is confirmed before anybody is refused.
    """
    desk = Desk(leases=False)
    desk.run(sent(Do("t-1"), "c-1"))
    Desk(desk.app, beside=desk, leases=False).run(sent(Do("t-1"), "c-2"))

    result = desk.run(sent(Do("t-1", "even"), "c-3", reply_to="me/c-3"))

    assert ["accepted"] == [answer.kind for answer in replies(result).values()]
    assert ["c-1", "c-2", "c-3"] == desk.commands(ref())


def test_a_command_that_another_process_handled_meanwhile_is_a_duplicate() -> None:
    """
    The rival handled the very same command: it is in the log once, and answered with that record.
    """
    desk = Desk(leases=False)
    rival = Desk(desk.app, beside=desk, leases=False)

    def act(_: int) -> None:
        rival.run(sent(Do("t-1", amount=10), "c-1"))

    desk.turn = desk.make_turn(Rival(desk, 1, act=act))

    result = desk.run(sent(Do("t-1"), "c-1", reply_to="me/c-1"), sent(Do("t-1"), "c-2"))

    assert ["c-1", "c-2"] == desk.commands(ref())
    assert Mood(11) == desk.state(ref())
    assert (1, 1) == (result.duplicates, replies(result)["me/c-1"].seq)


def test_a_fenced_holder_writes_nothing_and_waits() -> None:
    """
    A slow holder whose lease has moved is refused by its token, and leaves the instance to the new one.
    """
    slow = Desk()
    slow.run(sent(Do("t-1"), "c-1"))
    slow.server.owners["command", ref().partition] = "w-2"
    Desk(slow.app, beside=slow, owner="w-2").run(sent(Do("t-1"), "c-2"))

    result = slow.run(sent(Do("t-1"), "c-3", reply_to="me/c-3"))

    assert ["c-1", "c-2"] == slow.commands(ref())
    assert (["c-3"], []) == (ids(result.deferred), result.replies)


@pytest.mark.parametrize("answer", [Conflict(7), Fenced(7)])
def test_whatever_is_not_committed_is_not_kept(answer: CommitResult) -> None:
    """
    After a lost commit the cached actor is gone, whichever way it was lost.
    """

    class Loser(MemoryJournal):
        def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
            return [answer for _ in commits]

    desk = Desk()
    desk.turn = desk.make_turn(Loser(desk.server))

    result = desk.run(sent(Do("t-1"), "c-1"))

    assert 0 == len(desk.turn.cache)
    assert ["c-1"] == ids(result.deferred)


def test_duplicates_alone_ask_nothing_of_the_journal() -> None:
    """
    What was handled stays handled: no commit is needed to say so.
    """

    class Silent(MemoryJournal):
        def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
            message = "nothing is to be committed"
            raise AssertionError(message)

    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"))
    desk.turn = desk.make_turn(Silent(desk.server))

    result = desk.run(sent(Do("t-1"), "c-1"))

    assert ["c-1"] == ids(result.done)


def test_one_commit_writes_all_of_an_instance() -> None:
    """
    The records of a mailbox are one commit, and the mailboxes of a batch are one call.
    """
    calls: list[list[int]] = []

    class Counting(MemoryJournal):
        def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
            calls.append([len(commit.entries) for commit in commits])
            return super().commit(commits, owner)

    desk = Desk()
    desk.turn = desk.make_turn(Counting(desk.server))

    desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-2"), "d-1"), sent(Do("t-1"), "c-2"))

    assert [[2, 1]] == calls


def test_the_points_of_a_turn_are_passed_in_order() -> None:
    """
    A crash test may strike after opening, deciding and committing.
    """
    desk, passed = Desk(), list[Point]()
    for point in Point:
        faults.arm(point, lambda point=point: passed.append(point))  # type: ignore[misc]  # bound at once

    try:
        desk.run(sent(Do("t-1"), "c-1"))
    finally:
        faults.disarm()

    assert [Point.OPENED, Point.DECIDED, Point.COMMITTED] == passed


def test_committed_tells_the_token_for_the_next_commit() -> None:
    """
    The first record takes the lease; the second commit of the same process goes on under it.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"))
    actor = desk.turn.cache.get(ref())

    assert actor is not None
    assert Committed(actor.token) == Committed(1)
