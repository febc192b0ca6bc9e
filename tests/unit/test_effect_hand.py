"""
The hand: what may begin, what waits, and what becomes of it in a handover. No server and no thread.
"""

from collections.abc import Callable

import pytest

from holdfast.actors import effect_hand
from holdfast.actors.effect_hand import Hand
from holdfast.actors.effect_job import Job
from holdfast.runtime.app import App
from holdfast.runtime.codec import encode
from holdfast.runtime.effect import EffectContext
from holdfast.runtime.effect_queue import START, Waiting
from holdfast.runtime.limit import Want
from tests import controls
from tests.controls import ChargeCard


def app() -> App:
    """
    Return an app with a handler.
    """
    made = controls.app()

    @made.effect(ChargeCard)
    def charge(effect: ChargeCard, ctx: EffectContext) -> None:
        pass

    return made


def hand(count: int, *, threads: int = 2) -> tuple[Hand, list[Job]]:
    """
    Return a hand that has read so many effects of a partition, ready to begin.
    """
    made = Hand(threads, 2)
    made.assign(0)
    jobs = made.admit(waiting(count), made.cursors())
    known = app()
    for job in jobs:
        job.read(known)
    made.wait(jobs)
    return made, jobs


def waiting(count: int, first: int = 1) -> list[Waiting]:
    """
    Return so many effects as they arrive.
    """
    return [
        Waiting(0, f"{number}-0", encode(controls.effect(f"c-{number}:0")))
        for number in range(first, first + count)
    ]


def test_no_more_begin_than_may_run() -> None:
    """
    The others wait until one has ended, in order.
    """
    made, jobs = hand(4)

    assert jobs[:2] == made.pick()
    assert [] == made.pick()
    made.ended(jobs[0])
    assert jobs[2:3] == made.pick()


def test_what_is_had_is_not_taken_twice() -> None:
    """
    A partition that is read anew shows what is in the hand already.
    """
    made, jobs = hand(2)
    made.begun(jobs[0])
    made.revoke(0)
    made.assign(0)
    again = made.admit(waiting(3), made.cursors())

    assert ["2-0", "3-0"] == [job.position for job in again]


def test_what_was_read_before_a_handover_leaves_no_gap() -> None:
    """
    An answer that comes after the partition was assigned anew is not used: reading begins at the start.
    """
    made, _ = hand(2)
    after = made.cursors()
    made.revoke(0)
    made.assign(0)

    assert [] == made.admit(waiting(2, 3), after)
    assert {0: START} == made.cursors()


def test_a_handover_lets_go_of_what_nobody_holds() -> None:
    """
    What runs is waited for; nothing more begins.
    """
    made, jobs = hand(3)
    made.begun(made.pick()[0])
    made.revoke(0)

    assert ([], 1) == (made.pick(), made.held(0))
    assert [True, False, False] == [made.has(job) for job in jobs]
    made.drop(jobs[0])
    assert 0 == made.held(0)


def test_a_handover_hurries_what_waits_to_run_again() -> None:
    """
    It is due at once, so that it can be put off for whoever comes next.
    """
    made, jobs = hand(1)
    made.begun(made.pick()[0])
    made.later(jobs[0], 60)

    assert [] == made.due()
    made.revoke(0)
    assert jobs == made.due()


def test_suspects_run_one_at_a_time() -> None:
    """
    The next one may begin when the one before is gone.
    """
    made, jobs = hand(2)
    for job in made.pick():
        made.suspect(job)

    assert jobs[:1] == made.pick()
    assert [] == made.pick()
    made.ended(jobs[0])
    made.drop(jobs[0])
    assert jobs[1:] == made.pick()


def test_a_line_moves_by_as_many_as_there_are_places() -> None:
    """
    Who waits for a limit is asked for again in order, when a place comes free.
    """
    made, jobs = hand(5, threads=5)
    for job in made.pick():
        job.want = Want(job.position, "ChargeCard:", 2)
        made.not_begun(job)
        made.line_up(job, 60)
    made.move("ChargeCard:")

    assert jobs[:2] == made.pick()
    assert [] == made.pick()


def test_what_nobody_can_run_holds_up_nothing() -> None:
    """
    Reading goes on past effects that are kept back, and stops when enough is read ahead of what can be run.
    """
    made = Hand(1, 1)
    made.assign(0)
    kept = made.admit(waiting(effect_hand.READ_AHEAD), made.cursors())
    for job in kept:
        job.error = LookupError("no handler")

    assert {0: kept[-1].position} == made.cursors()
    more = made.admit(waiting(effect_hand.READ_AHEAD, effect_hand.READ_AHEAD + 1), made.cursors())
    assert effect_hand.READ_AHEAD == len(more)
    assert {} == made.cursors()


def test_what_waits_for_limits_holds_up_nothing() -> None:
    """
    However many limits are full: reading goes on past what waits for a place, and stops when far too much does.
    """
    made = Hand(1, 1)
    made.assign(0)
    lined_up = made.admit(waiting(effect_hand.READ_AHEAD), made.cursors())
    for number, job in enumerate(lined_up):
        job.want = Want(job.position, f"ChargeCard:{number % 100}", 1)
        made.line_up(job, 60)

    assert {0: lined_up[-1].position} == made.cursors()
    more = made.admit(waiting(effect_hand.READ_AHEAD, effect_hand.READ_AHEAD + 1), made.cursors())
    assert effect_hand.READ_AHEAD == len(more)
    assert {} == made.cursors()


def test_who_leaves_a_line_counts_again() -> None:
    """
    Because it is to wait elsewhere, or because a place came free.
    """
    made = Hand(1, 1)
    made.assign(0)
    jobs = made.admit(waiting(effect_hand.READ_AHEAD + 1), made.cursors())
    for job in jobs:
        job.want = Want(job.position, "ChargeCard:", 2)

    leaves: list[Callable[[], None]] = [
        lambda: made.leave_line(jobs[1]),
        lambda: made.move("ChargeCard:"),
    ]
    for leave in leaves:
        made.line_up(jobs[0], 60)
        assert {} == made.cursors()
        made.line_up(jobs[1], 60)
        assert {0: jobs[-1].position} == made.cursors()
        leave()
        assert {} == made.cursors()
        made.leave_line(jobs[0])


@pytest.mark.parametrize("mixed", [True, False])
def test_what_waits_for_threads_does_not_hold_up_coroutines(mixed: bool) -> None:
    """
    Where handlers are of both kinds, reading goes on past a long queue for one of them; but not without end.
    """
    made = Hand(1, 1, mixed=mixed)
    made.assign(0)
    read = 0
    while made.cursors():
        jobs = made.admit(waiting(effect_hand.READ_AHEAD, read + 1), made.cursors())
        made.wait(jobs)
        read += len(jobs)

    ahead = effect_hand.READ_AHEAD + (effect_hand.ONE_KIND_MAX if mixed else 0)
    assert ahead == read


# -- beginning with a commit


def reserved(made: Hand, number: int = 1) -> Job | None:
    """
    Return an effect that a commit is about to begin, if there is a place for it.
    """
    job = Job(Waiting(0, "", encode(controls.effect(f"c-{number}:0"))))
    job.read(app())
    return job if made.reserve(job) else None


def test_what_a_commit_begins_is_held() -> None:
    """
    It takes up a place, is waited for in a handover, and is not begun again when it comes out of the outbox.
    """
    made, _ = hand(0, threads=1)
    job = reserved(made)
    assert job is not None
    assert not made.all_entered.is_set()
    assert 1 == made.held(0)
    assert reserved(made, 2) is None

    made.enter(job, "1-0")

    assert made.all_entered.is_set()
    assert [] == made.admit(waiting(1), made.cursors())
    made.ended(job)
    made.drop(job)
    assert 0 == made.held(0)
    assert reserved(made, 2) is not None


def test_what_is_read_meanwhile_is_not_begun_as_well() -> None:
    """
    Whether it was only taken up, or waited already when the commit was through.
    """
    for queued in (False, True):
        made, _ = hand(0)
        job = reserved(made)
        assert job is not None
        (read,) = made.admit(waiting(1), made.cursors())
        read.read(app())
        if queued:
            made.wait([read])
        assert [] == made.pick()

        made.enter(job, "1-0")
        if not queued:
            made.wait([read])

        assert [] == made.pick()
        assert made.has(job)
        assert not made.has(read)


def test_what_was_read_goes_on_when_nobody_knows_of_the_commit() -> None:
    """
    Its place comes free, and it is begun the usual way.
    """
    made, _ = hand(0, threads=1)
    job = reserved(made)
    assert job is not None
    (read,) = made.admit(waiting(1), made.cursors())
    read.read(app())
    made.wait([read])

    made.leave(job)

    assert [read] == made.pick()
    assert 0 == made.held(0)


def test_nobody_is_overtaken_by_a_commit() -> None:
    """
    Where others wait for a place, or the partition is not ours, there is none for a commit.
    """
    made, _ = hand(3, threads=2)
    assert reserved(made, 4) is None
    made.pick()
    assert reserved(made, 4) is None

    other, _ = hand(0)
    other.revoke(0)
    assert reserved(other) is None


def test_what_is_kept_is_known_when_nothing_is_being_begun() -> None:
    """
    Then it is all that is held, and what a commit may be about to begin; nothing is said of a partition that is ours.
    """
    made, (first, second, _) = hand(3, threads=3)
    assert made.keeping(0) is None
    picked = made.pick()
    made.revoke(0)
    assert made.keeping(0) is None

    made.begun(first)
    for job in picked[1:]:
        made.not_begun(job)

    assert [first.ticket.id] == [ticket.id for ticket in made.keeping(0) or ()]
    assert not made.has(second)

    other, _ = hand(0)
    assert reserved(other, 7) is not None
    other.revoke(0)
    assert [("c-7:0", "")] == [(ticket.id, ticket.position) for ticket in other.keeping(0) or ()]
