"""
The turn: other writers win or lose, and either way every command is in the log once.
"""

import logging
from collections.abc import Callable, Sequence

import pytest

from holdfast.brokers.memory import MemoryJournal
from holdfast.runtime import faults
from holdfast.runtime.faults import Point
from holdfast.runtime.ports import Ahead, Commit, CommitResult, Committed, Conflict, Fenced
from holdfast.runtime.turn import COMMIT_ATTEMPTS, Limits
from tests.unit.desk import IMPATIENT, Desk, ids, ref, replies, sent
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


# -- a log that is ahead of its instance


class Restored(MemoryJournal):
    """
    A journal in which the logs of some instances go beyond them, as after a partial restore.
    """

    def __init__(self, desk: Desk, *keys: str) -> None:
        super().__init__(desk.server)
        self.keys = set(keys)

    def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
        wanted = [commit for commit in commits if commit.ref.key not in self.keys]
        found = iter(super().commit(wanted, owner))
        return [Ahead(commit.seq) if commit.ref.key in self.keys else next(found) for commit in commits]


def restored(*keys: str, limits: Limits | None = None) -> Desk:
    """
    A desk with such a journal.
    """
    desk = Desk()
    desk.turn = desk.make_turn(Restored(desk, *keys), limits=limits)
    return desk


def kept_back(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """
    What was said of commands that are kept back: (key, error).
    """
    return [
        (record.__dict__["key"], record.__dict__["error"])
        for record in caplog.records
        if record.message.startswith("commands are kept back")
    ]


def test_a_log_ahead_of_its_instance_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """
    No other writer was there: its commands wait in order, that is said once, and others are decided.
    """
    desk = restored("t-1")
    batch = [sent(Do("t-1"), "c-1"), sent(Do("t-2"), "d-1"), sent(Do("t-1"), "c-2")]

    with caplog.at_level(logging.WARNING):
        result = desk.run(*batch)
        asked = Troublemaker.asked
        again = desk.run(*result.deferred)

    assert (["c-1", "c-2"], [], 0) == (ids(result.deferred), result.dead, result.conflicts)
    assert (3, ["c-1", "c-2"]) == (asked, ids(again.deferred))
    assert ["d-1"] == desk.commands(ref("t-2"))
    (said,) = kept_back(caplog)
    assert ("t-1", True) == (said[0], said[1].startswith("HistoryError: the log of trouble/t-1 goes beyond"))


def test_a_log_that_stays_ahead_is_given_up() -> None:
    """
    Patience ends, and the dead letters say what is to be done; their callers hear of it.
    """
    desk = restored("t-1", limits=IMPATIENT)
    batch = [sent(Do("t-1"), "c-1", reply_to="me/c-1"), sent(Do("t-1"), "c-2")]
    desk.run(*batch)

    result = desk.run(*batch)

    assert ["c-1", "c-2"] == [letter.command_id for letter in result.dead]
    for letter in result.dead:
        assert (
            "HistoryError: the log of trouble/t-1 goes beyond its instance, which ends at 0: one of the two was lost or "
            "restored without the other; restore both from one backup, then retry the dead letters"
        ) in letter.error
    assert "dead" == replies(result)["me/c-1"].kind
    assert ([], []) == (result.deferred, desk.log(ref()))


def test_a_log_that_is_whole_again_goes_on() -> None:
    """
    When the instance was restored, what waited is decided in order.
    """
    desk = Desk()
    journal = Restored(desk, "t-1")
    desk.turn = desk.make_turn(journal)
    waiting = desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-1"), "c-2")).deferred
    journal.keys.clear()

    desk.run(*waiting)

    assert ["c-1", "c-2"] == desk.commands(ref())
