"""
The timetable: what a schedule decides, told as given, when, then.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.runtime.clock import to_ms
from holdfast.runtime.decision import Accept
from holdfast.runtime.schedule import CatchUp, Overlap, Spec
from holdfast.runtime.timetable import (
    BACKFILL_MAX,
    SEND_ATTEMPTS,
    TICKS_PER_DECISION,
    BackfillSchedule,
    Cause,
    EnsureSchedule,
    PauseSchedule,
    RemoveSchedule,
    ResumeSchedule,
    ScheduleWorkflow,
    SendTick,
    Target,
    Tick,
    TickBusy,
    TickFailed,
    TickFiltered,
    TickSent,
    Timetable,
    TriggerSchedule,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def ms(hours: float) -> int:
    """
    Return a time so many hours after noon.
    """
    return to_ms(NOON + hours * HOUR)


def spec(**changes: Any) -> Spec:
    """
    Return an hourly schedule.
    """
    values: dict[str, Any] = {
        "cron": "",
        "every_ms": 3_600_000,
        "tz": "UTC",
        "overlap": Overlap.ALLOW,
        "catch_up": CatchUp.LAST,
        "window_ms": 0,
    }
    return Spec(**(values | changes))


class Told:
    """
    A schedule that is told one thing after another, and what timers that leaves pending.
    """

    def __init__(self, **changes: Any) -> None:
        self.workflow = ScheduleWorkflow()
        self.state = Timetable()
        self.timers: dict[str, Any] = {}
        self.tell(EnsureSchedule("s", spec(**changes)))

    def tell(self, command: Any, now: datetime = NOON) -> str:
        """
        Tell it something, and return why it was refused, if it was.
        """
        decision = self.workflow.decide(now, self.state, command)
        if not isinstance(decision, Accept):
            return decision.reason
        for event in decision.events:
            self.state = self.workflow.evolve(self.state, event)
        for name in decision.cancels:
            self.timers.pop(name, None)
        for timer in decision.timers:
            assert timer.key is not None
            self.timers[timer.key] = timer
        return ""

    def tick(self, hours: float, seen: float | None = None) -> str:
        """
        Have the timer of a tick come; `seen` is the server's time then.
        """
        assert self.timers.pop("tick").command == Tick("s", ms(hours))
        return self.tell(Tick("s", ms(hours), ms(hours if seen is None else seen)))

    def sending(self) -> list[SendTick]:
        """
        Return what is on its way to be sent, and take it off the timers.
        """
        names = [name for name in self.timers if name.startswith("send:")]
        return [self.timers.pop(name).command for name in names]

    def sent(self, send: SendTick, key: str) -> str:
        """
        Report that a tick's command was sent.
        """
        return self.tell(TickSent("s", send.tick, Target("order", key, ms(0))))

    @property
    def next(self) -> int:
        """
        When the pending timer of the next tick comes.
        """
        return to_ms(self.timers["tick"].at)


def ticks(found: list[SendTick]) -> list[int]:
    """
    Return which ticks are to be sent.
    """
    return [one.at_ms for one in found]


def test_a_schedule_begins_with_the_next_tick() -> None:
    """
    It has a timer for it; being told the same again changes nothing, and something else counts from then on.
    """
    told = Told()

    assert ms(1) == told.next == told.state.next_ms
    assert "unchanged" == told.tell(EnsureSchedule("s", spec()))
    assert "" == told.tell(EnsureSchedule("s", spec(every_ms=1_800_000)))
    assert ms(0.5) == told.next
    assert "unchanged" == told.tell(EnsureSchedule("s", spec(every_ms=1_800_000)))
    assert "" == told.tell(EnsureSchedule("s", spec()))
    assert ms(1) == told.next


def test_a_tick_comes_once() -> None:
    """
    It is sent, the next one is awaited, and a second copy of it is refused.
    """
    told = Told()
    told.tick(1)

    assert ms(2) == told.next
    assert "stale" == told.tell(Tick("s", ms(1), ms(1)))

    (send,) = told.sending()

    assert SendTick("s", str(ms(1)), ms(1), Cause.TICK) == send
    assert "" == told.sent(send, "a")
    assert "no such tick waits" == told.sent(send, "a")
    assert (1, "sent", Target("order", "a", ms(0))) == (
        told.state.sent,
        told.state.outcomes[0].what,
        told.state.last,
    )


def test_a_tick_that_was_taken_does_not_come_again() -> None:
    """
    Not when the code changes just then either, on a machine whose clock is behind.
    """
    told = Told()
    told.tick(1)
    told.tell(EnsureSchedule("s", spec(catch_up=CatchUp.ALL)), now=NOON)

    assert ms(2) == told.next


@pytest.mark.parametrize(
    ("changes", "seen", "expected"),
    [
        ({"catch_up": CatchUp.LAST}, 5.5, [5]),
        ({"catch_up": CatchUp.ALL}, 5.5, [1, 2, 3, 4, 5]),
        ({"catch_up": CatchUp.SKIP}, 5.5, []),
        ({"catch_up": CatchUp.SKIP}, 5.01, [5]),
        ({"catch_up": CatchUp.LAST, "window_ms": 600_000}, 5.5, []),
        ({"catch_up": CatchUp.LAST, "window_ms": 3_600_000}, 5.5, [5]),
        ({"catch_up": CatchUp.ALL, "window_ms": 2 * 3_600_000}, 5.5, [4, 5]),
        ({"catch_up": CatchUp.ALL, "window_ms": 2 * 3_600_000}, 5, [3, 4, 5]),
        ({"catch_up": CatchUp.LAST}, 1, [1]),
    ],
)
def test_missed_ticks_are_made_up_for_by_policy(
    changes: dict[str, Any], seen: float, expected: list[int]
) -> None:
    """
    By the server's time at which the timer came, which alone says what was missed.
    """
    told = Told(**changes)
    told.tick(1, seen)

    assert [ms(hour) for hour in expected] == ticks(told.sending())
    assert ms(int(seen) + 1) == told.next


def test_years_of_ticks_are_no_single_decision() -> None:
    """
    So many are taken up at a time, and the rest at once after them.
    """
    told = Told(catch_up=CatchUp.ALL)
    told.tick(1, 1_000)

    assert TICKS_PER_DECISION == len(told.sending())
    assert ms(TICKS_PER_DECISION + 1) == told.next

    told.tick(TICKS_PER_DECISION + 1, 1_000)

    assert ms(TICKS_PER_DECISION + 1) == ticks(told.sending())[0]


def test_overlapping_ticks_are_sent_all_the_same() -> None:
    """
    Where that is allowed, nobody looks whether the last instance still runs.
    """
    told = Told()
    told.tick(1)
    told.sent(told.sending()[0], "a")
    told.tick(2)

    assert None is told.sending()[0].after


def test_overlapping_ticks_are_skipped() -> None:
    """
    The tick knows for which instance it is to look, and is left out while that runs.
    """
    told = Told(overlap=Overlap.SKIP)
    told.tick(1)
    told.sent(told.sending()[0], "a")
    told.tick(2)
    (send,) = told.sending()

    assert Target("order", "a", ms(0)) == send.after

    told.tell(TickBusy("s", send.tick))

    assert ((), [], 1) == (told.state.queue, told.sending(), told.state.skipped)
    assert ["sent", "overlap"] == [one.what for one in told.state.outcomes]


def test_overlapping_ticks_wait_in_order() -> None:
    """
    One at a time; it is looked again after a while, ever more seldom, and the next one waits for the one before it.
    """
    told = Told(overlap=Overlap.QUEUE)
    told.tick(1)
    told.sent(told.sending()[0], "a")
    told.tick(2)
    told.tick(3)
    (send,) = told.sending()
    pauses = []
    for _ in range(9):
        told.tell(TickBusy("s", send.tick))
        pauses.append(told.timers[f"send:{send.tick}"].after.total_seconds())
        assert [send] == told.sending()

    assert [1, 2, 4, 8, 16, 32, 60, 60, 60] == pauses

    told.sent(send, "b")
    (after,) = told.sending()

    assert (ms(3), Target("order", "b", ms(0))) == (after.at_ms, after.after)


def test_waiting_ticks_go_when_overlaps_are_allowed() -> None:
    """
    A deployment that allows overlaps sends what waited.
    """
    told = Told(overlap=Overlap.QUEUE, catch_up=CatchUp.ALL)
    told.tick(1, 3)

    assert [ms(1)] == ticks(told.sending())

    told.tell(EnsureSchedule("s", spec()))

    assert [ms(2), ms(3)] == ticks(told.sending())


def test_a_filtered_tick_is_left_out() -> None:
    """
    And listed as such.
    """
    told = Told()
    told.tick(1)
    told.tell(TickFiltered("s", told.sending()[0].tick))

    assert (1, "filtered") == (told.state.skipped, told.state.outcomes[0].what)


def test_a_command_that_cannot_be_made_is_tried_again() -> None:
    """
    A few times, with growing pauses; then the tick has failed, and the next one has a chance of its own.
    """
    told = Told(overlap=Overlap.SKIP)
    told.tick(1)
    (send,) = told.sending()
    pauses = []
    for _ in range(SEND_ATTEMPTS - 1):
        told.tell(TickFailed("s", send.tick, "ValueError: no"))
        pauses.append(told.timers[f"send:{send.tick}"].after.total_seconds())
        told.sending()
    told.tell(TickFailed("s", send.tick, "ValueError: no"))

    assert [1, 2, 4, 8] == pauses
    assert (1, "ValueError: no", ()) == (told.state.failed, told.state.outcomes[0].what, told.state.queue)

    told.tick(2)

    assert [ms(2)] == ticks(told.sending())


def test_a_tick_that_nobody_knows_has_failed() -> None:
    """
    An orphaned schedule's ticks come to nothing, and say so.
    """
    told = Told()
    told.tick(1)
    (send,) = told.sending()
    for _ in range(SEND_ATTEMPTS):
        told.tell(TickFailed("s", send.tick, ""))

    assert "no process has this schedule" == told.state.outcomes[0].what


def test_a_paused_schedule_has_no_ticks() -> None:
    """
    Until it is resumed; then the next one comes, and nothing of the pause. A deployment leaves it paused.
    """
    told = Told(catch_up=CatchUp.ALL)
    told.tell(PauseSchedule("s", "holidays"))

    assert ("holidays", {}) == (told.state.reason, told.timers)
    assert "paused already" == told.tell(PauseSchedule("s"))
    assert "stale" == told.tell(Tick("s", ms(1), ms(1)))
    assert "" == told.tell(EnsureSchedule("s", spec(every_ms=7_200_000)))
    assert {} == told.timers
    assert "" == told.tell(ResumeSchedule("s"), now=NOON + 5 * HOUR)
    assert ms(6) == told.next
    assert "not paused" == told.tell(ResumeSchedule("s"))


def test_a_trigger_is_a_tick_of_its_own() -> None:
    """
    It changes nothing about the others, paused or not, and has an id of its own each time.
    """
    told = Told()
    told.tell(TriggerSchedule("s"))
    told.tell(PauseSchedule("s"))
    told.tell(TriggerSchedule("s"), now=NOON + HOUR)

    assert [("trigger-1", ms(0), Cause.TRIGGER), ("trigger-2", ms(1), Cause.TRIGGER)] == [
        (one.tick, one.at_ms, one.cause) for one in told.sending()
    ]


def test_a_backfill_is_of_all_ticks_in_a_time() -> None:
    """
    Both ends included, under ids of its own; with a limit, and none at all is an error.
    """
    told = Told()
    told.tell(BackfillSchedule("s", ms(-3), ms(-1)))

    assert [(f"backfill-1-{ms(hour)}", ms(hour)) for hour in (-3, -2, -1)] == [
        (one.tick, one.at_ms) for one in told.sending()
    ]
    assert "there is no tick in that time" == told.tell(BackfillSchedule("s", ms(0.1), ms(0.9)))
    assert "there is no tick in that time" == told.tell(BackfillSchedule("s", ms(3), ms(1)))
    assert str(BACKFILL_MAX) in told.tell(BackfillSchedule("s", ms(-BACKFILL_MAX), ms(0)))
    assert ms(1) == told.next


def test_a_backfill_waits_where_ticks_would_be_skipped() -> None:
    """
    Asked for is asked for: they are sent one after another.
    """
    told = Told(overlap=Overlap.SKIP)
    told.tell(BackfillSchedule("s", ms(-2), ms(-1)))
    (send,) = told.sending()
    told.sent(send, "a")
    (second,) = told.sending()
    told.tell(TickBusy("s", second.tick))

    assert [second] == told.sending()


def test_only_so_many_ticks_wait() -> None:
    """
    What comes on top of them is left out, and more is not asked for.
    """
    told = Told(overlap=Overlap.QUEUE)
    for _ in range(2):
        assert "" == told.tell(BackfillSchedule("s", ms(-BACKFILL_MAX), ms(-1)))
    assert "2000 ticks wait" in told.tell(BackfillSchedule("s", ms(-1), ms(-1)))

    told.tick(1)

    assert (2 * BACKFILL_MAX, ms(2)) == (len(told.state.queue), told.next)


def test_a_removed_schedule_is_gone_until_it_is_set_again() -> None:
    """
    With what waited to be sent; being set again, it begins anew.
    """
    told = Told()
    told.tick(1)
    told.tell(RemoveSchedule("s"))

    assert {} == told.timers
    for command in (
        Tick("s", ms(2)),
        PauseSchedule("s"),
        ResumeSchedule("s"),
        TriggerSchedule("s"),
        RemoveSchedule("s"),
        BackfillSchedule("s", ms(0), ms(5)),
    ):
        assert "there is no such schedule" == told.tell(command)

    told.tell(EnsureSchedule("s", spec()), now=NOON + 5 * HOUR)

    assert ms(6) == told.next


def test_a_schedule_that_is_set_again_has_no_past() -> None:
    """
    But for what its ticks' names are made of: under those of before nothing would be sent. The instance that it
    started last may still run.
    """
    told = Told(overlap=Overlap.SKIP)
    told.tell(TriggerSchedule("s"))
    (send,) = told.sending()
    told.sent(send, "a")
    told.tell(TriggerSchedule("s"))
    (send,) = told.sending()
    told.tell(TickBusy("s", send.tick))
    assert (1, 1, 2) == (told.state.sent, told.state.skipped, len(told.state.outcomes))
    told.tell(RemoveSchedule("s"))
    told.tell(EnsureSchedule("s", spec(overlap=Overlap.SKIP)))

    assert (0, 0, 0, ()) == (
        told.state.sent,
        told.state.skipped,
        told.state.failed,
        told.state.outcomes,
    )
    told.tell(TriggerSchedule("s"))
    (send,) = told.sending()
    assert "trigger-3" == send.tick
    assert send.after is not None
    assert "a" == send.after.key


def test_a_tick_is_not_sent_by_the_schedule_itself() -> None:
    """
    What only the timer pool can do is refused where it does not belong.
    """
    assert "a tick is sent by the timer pool" == Told().tell(SendTick("s", "x", ms(1), Cause.TICK))
