"""
The turn: refusals are answered, remembered where somebody was told, and told again.
"""

from collections.abc import Callable

import msgspec
import pytest

from holdfast.runtime.control import Pause, Resume
from holdfast.runtime.outcome import Answer
from tests.unit.desk import Desk, ids, ref, replies, sent
from tests.unit.test_turn_conflicts import Rival
from tests.unit.trouble import Do, Mood


def test_a_refusal_is_answered_with_its_reason_and_details() -> None:
    """
    Whoever waits learns why; the log learns nothing.
    """
    desk = Desk()

    result = desk.run(sent(Do("t-1", "refuse", 7), "c-1", reply_to="me/c-1"))

    answer = replies(result)["me/c-1"]
    assert ("rejected", "no", {"amount": 7}) == (
        answer.kind,
        answer.reason,
        msgspec.msgpack.decode(answer.details),
    )
    assert (0, 1) == (result.accepted, result.rejected)
    assert {} == desk.server.instances


def test_a_refusal_creates_no_instance() -> None:
    """
    A refused first command leaves no ghost: the next one is decided on the initial state, as record 1.
    """
    desk = Desk()
    desk.run(sent(Do("t-1", "refuse"), "c-1"))

    desk.run(sent(Do("t-1"), "c-2"))

    assert ["c-2"] == desk.commands(ref())


def test_only_refusals_that_somebody_is_told_are_remembered() -> None:
    """
    A refusal that nobody waits for costs no memory.
    """
    desk = Desk()

    result = desk.run(sent(Do("t-1", "refuse"), "c-1"), sent(Do("t-1", "refuse"), "c-2", reply_to="me/c-2"))

    assert ["c-2"] == [answer.command_id for answer in desk.remembered()]
    assert [] == result.refusals


def test_what_was_refused_stays_refused() -> None:
    """
    A command that comes again after its sender was told of its refusal is not decided, though it could be accepted now.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"))
    desk.run(sent(Do("t-1", "even"), "c-2", reply_to="me/c-2"))
    desk.run(sent(Do("t-1"), "c-3"))

    result = desk.run(sent(Do("t-1", "even"), "c-2", reply_to="me/c-2"))

    assert ["c-1", "c-3"] == desk.commands(ref())
    assert [("rejected", "odd", True)] == [(a.kind, a.reason, a.duplicate) for a in replies(result).values()]
    assert 1 == result.duplicates


def test_a_redelivered_refusal_is_told_as_if_for_the_first_time() -> None:
    """
    The answer may have been lost with its worker: the caller hears Rejected, not Duplicate.
    """
    desk = Desk()
    desk.run(sent(Do("t-1", "refuse"), "c-1", reply_to="me/c-1"))

    result = desk.run(sent(Do("t-1", "refuse"), "c-1", reply_to="me/c-1", redeliveries=1))

    assert [("rejected", False)] == [(a.kind, a.duplicate) for a in replies(result).values()]


def test_what_was_refused_stays_refused_within_a_batch() -> None:
    """
    The second copy of a refused command is refused as the first was, though a command between them changed the state.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"))

    result = desk.run(
        sent(Do("t-1", "even"), "c-2", reply_to="me/c-2"),
        sent(Do("t-1"), "c-3"),
        sent(Do("t-1", "even"), "c-2", reply_to="you/c-2"),
    )

    assert ["c-1", "c-3"] == desk.commands(ref())
    assert {"me/c-2": ("rejected", "odd", False), "you/c-2": ("rejected", "odd", True)} == {
        address: (answer.kind, answer.reason, answer.duplicate) for address, answer in replies(result).items()
    }
    assert (1, 1, 1) == (result.accepted, result.rejected, result.duplicates)


def test_what_was_refused_stays_refused_behind_a_pause() -> None:
    """
    The second copy is not kept for the paused instance, to be accepted when that goes on: its sender was told.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"))

    result = desk.run(
        sent(Do("t-1", "even"), "c-2", reply_to="me/c-2"),
        sent(Do("t-1"), "c-3"),
        sent(Pause(), "p", key="t-1"),
        sent(Do("t-1", "even"), "c-2", reply_to="you/c-2"),
    )
    desk.run(sent(Resume(), "r", key="t-1"))

    assert {"rejected"} == {answer.kind for answer in replies(result).values()}
    assert ["c-1", "c-3", "p", "r"] == desk.commands(ref())


def test_what_was_refused_stays_refused_behind_a_resume() -> None:
    """
    What comes behind a resume is planned apart from what came before it, and knows of its refusals all the same.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"))

    result = desk.run(
        sent(Do("t-1", "even"), "c-2", reply_to="me/c-2"),
        sent(Do("t-1"), "c-3"),
        sent(Pause(), "p", key="t-1"),
        sent(Resume(), "r", key="t-1"),
        sent(Do("t-1", "even"), "c-2", reply_to="you/c-2"),
    )

    assert {"rejected"} == {answer.kind for answer in replies(result).values()}
    assert ["c-1", "c-3", "p", "r"] == desk.commands(ref())


def test_what_was_refused_stays_refused_among_suspects() -> None:
    """
    Suspects are decided one after another, before anything is remembered.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"))

    result = desk.run(
        sent(Do("t-1", "even"), "c-2", reply_to="me/c-2", redeliveries=5),
        sent(Do("t-1"), "c-3", redeliveries=5),
        sent(Do("t-1", "even"), "c-2", reply_to="you/c-2", redeliveries=5),
    )

    assert {"rejected"} == {answer.kind for answer in replies(result).values()}
    assert ["c-1", "c-3"] == desk.commands(ref())


def test_a_remembered_refusal_is_the_first_outcome() -> None:
    """
    What is kept of a refusal never says that it was a duplicate itself.
    """
    desk = Desk()

    result = desk.run(
        sent(Do("t-1", "refuse"), "c-1", reply_to="me/c-1"),
        sent(Do("t-1", "refuse"), "c-1", reply_to="you/c-1"),
    )

    assert (1, 1) == (result.rejected, result.duplicates)
    assert [False] == [answer.duplicate for answer in desk.remembered()]


def test_a_refusal_is_of_one_instance() -> None:
    """
    Another instance may know the same command id: its command is decided, not answered with a stranger's refusal.
    """
    desk = Desk()
    neighbours = [
        one for one in (ref(f"t-{number}") for number in range(50)) if one.partition == ref().partition
    ]
    desk.run(sent(Do("t-1", "refuse"), "c-1", reply_to="me/c-1"))

    result = desk.run(*(sent(Do(one.key), "c-1", reply_to=f"me/{one.key}") for one in neighbours))

    expected = {f"me/{one.key}": "rejected" if one == ref() else "accepted" for one in neighbours}
    assert expected == {address: answer.kind for address, answer in replies(result).items()}


@pytest.mark.parametrize("redeliveries", [0, 1])
def test_a_refusal_that_nobody_was_told_may_be_decided_anew(redeliveries: int) -> None:
    """
    Nothing was promised to anybody, so a later copy is decided on the state of its own time.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-1", "even"), "c-2"), sent(Do("t-1"), "c-3"))

    desk.run(sent(Do("t-1", "even"), "c-2", redeliveries=redeliveries))

    assert ["c-1", "c-3", "c-2"] == desk.commands(ref())
    assert Mood(3) == desk.state(ref())


def test_a_refusal_without_details_has_none() -> None:
    """
    No details are no bytes.
    """
    desk = Desk()

    result = desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-1", "even"), "c-2", reply_to="me/c-2"))

    assert Answer("c-2", "rejected", reason="odd") == replies(result)["me/c-2"]


# -- by another worker, which stood still in between


def meanwhile(first: Callable[[Desk], None], *, leases: bool = False) -> Desk:
    """
    A desk at which another worker does something between what ours looks up and what it commits.
    """
    desk = Desk(leases=leases)
    desk.turn = desk.make_turn(
        Rival(desk, 1, act=lambda _: first(Desk(desk.app, beside=desk, leases=leases)))
    )
    return desk


@pytest.mark.parametrize("redeliveries", [0, 1])
def test_what_another_refuses_just_before_our_commit_is_refused(redeliveries: int) -> None:
    """
    Our worker has looked, and found no refusal. Before it commits, another, which had slept, has refused the command on
    the state that both know, and told its sender: so it is not accepted, though nothing else has changed.
    """

    def refuse(other: Desk) -> None:
        # The same command: what it is decided to be is up to the mood that was sent along.
        other.run(sent(Do("t-1", "refuse"), "c-1", reply_to="me/c-1"))

    desk = meanwhile(refuse)
    result = desk.run(
        sent(Do("t-1"), "c-1", reply_to="me/c-1", redeliveries=redeliveries), sent(Do("t-1"), "c-2")
    )

    assert ["c-2"] == desk.commands(ref())
    assert [("rejected", "no")] == [(answer.kind, answer.reason) for answer in replies(result).values()]
    assert (1, 1, 1) == (result.conflicts, result.accepted, result.duplicates)
    assert ["c-1", "c-2"] == ids(result.done)


def test_a_refusal_on_a_view_that_is_no_more_is_told_nobody() -> None:
    """
    Who slept and refuses on an old view finds that another has accepted the command: that is what its sender hears.
    """

    def accept(other: Desk) -> None:
        other.run(sent(Do("t-1"), "c-1", reply_to="me/c-1", redeliveries=1))

    desk = meanwhile(accept)
    result = desk.run(sent(Do("t-1", "refuse"), "c-1", reply_to="me/c-1"))

    assert ["c-1"] == desk.commands(ref())
    assert ["accepted"] == [answer.kind for answer in replies(result).values()]
    assert [] == desk.remembered()


def test_what_cannot_be_decided_and_another_has_refused_is_refused() -> None:
    """
    Its sender was told; a dead letter would be a second answer.
    """

    def refuse(other: Desk) -> None:
        other.run(sent(Do("t-1", "refuse"), "c-1", reply_to="me/c-1"))

    desk = meanwhile(refuse)
    result = desk.run(sent(Do("t-1", "raise"), "c-1", reply_to="me/c-1"))

    assert [] == result.dead
    assert ["rejected"] == [answer.kind for answer in replies(result).values()]
