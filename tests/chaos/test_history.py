"""
The checker finds what it is there to find: each kind of violation, planted in a history in which nothing else is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from holdfast import Record
from holdfast.runtime.outcome import Accepted, DeadLettered, Duplicate, Parked, Rejected
from tests.chaos.history import Errand, History, Line, Op, event_id_of
from tests.chaos.mill import Brought, Did, GaveUp, Rang, Struck

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)


@dataclass
class Story:
    """
    A history as a test tells it, and changes it.
    """

    ops: list[Op] = field(default_factory=list)
    log: list[Record[Any]] = field(default_factory=list)
    bell: list[Record[Any]] = field(default_factory=list)
    #: The log of another mill.
    others: list[Record[Any]] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    errands: list[Errand] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    last: list[Op] = field(default_factory=list)

    def wrongs(self) -> list[str]:
        """
        Return what the checker finds.
        """
        return History(
            self.ops,
            {"m": self.log, "bell": self.bell, "n": self.others},
            dead=self.dead,
            errands=self.errands,
            lines={
                "m": self.lines,
                "bell": lines_of("bell", self.bell),
                "n": lines_of("n", self.others),
            },
            every=timedelta(seconds=1),
            peace=NOON + timedelta(seconds=2),
            last=self.last,
        ).wrongs()

    def op(self, number: int) -> Op:
        """
        Return the operation of a number.
        """
        return next(op for op in self.ops if op.number == number)

    def rewrite(self, events: Sequence[Any]) -> None:
        """
        Have the log record these events instead, and the read model show them.
        """
        by_event = {event: record.command_id for record in self.log for event in record.events}
        ids = [by_event.get(event, f"new-{index}") for index, event in enumerate(events)]
        self.log = log(*zip(ids, events, strict=True))
        self.lines = lines_of("m", self.log)

    def events(self) -> list[Any]:
        """
        Return the events of the log.
        """
        return [event for record in self.log for event in record.events]


def log(*recorded: tuple[str, Any]) -> list[Record[Any]]:
    """
    Return the log of these commands and events.
    """
    return [
        Record(seq, command_id, "", NOON + timedelta(seconds=seq), 1, (event,), None, None)
        for seq, (command_id, event) in enumerate(recorded, 1)
    ]


def lines_of(key: str, records: Sequence[Record[Any]]) -> list[Line]:
    """
    Return the read model that has applied a log, every second a record.
    """
    return [Line(event_id_of(key, one.seq, 0), NOON_MS + one.seq * 1000) for one in records]


def asked(number: int, kind: str, at: float, how: str = "", *, sender: str = "s") -> Op:
    """
    Return a command that was confirmed.
    """
    return Op("m", sender, number, kind, f"c{number}", at, at + 0.5, how=how)


def story() -> Story:
    """
    Tell a story in which every promise was kept.
    """
    grind, fetch, wind = Did("s", 1, "Grind"), Did("s", 2, "Fetch"), Did("s", 3, "Wind", 2000)
    slot_a, slot_b = Did("s", 4, "Wind", 60_000, "a"), Did("s", 5, "Wind", 1000, "a")
    doomed, call, last = Did("s", 6, "Fetch"), Did("caller", 7, "Grind"), Did("probe", 9, "Grind")
    told = Story()
    told.log = log(
        ("c1", grind),
        ("c2", fetch),
        ("c3", wind),
        ("c4", slot_a),
        ("c5", slot_b),
        ("c2:0:r0", Brought("s.2")),
        ("c6", doomed),
        ("c3:t0", Rang("s.3")),
        ("c6:0:f", GaveUp("c6:0")),
        ("c5:t0", Rang("s.5")),
        ("c7", call),
        ("c9", last),
    )
    told.ops = [
        asked(1, "Grind", 1),
        asked(2, "Fetch", 2, "well"),
        asked(3, "Wind", 3),
        asked(4, "Wind", 4),
        asked(5, "Wind", 5),
        asked(6, "Fetch", 7, "doomed"),
        replace(asked(7, "Grind", 11, sender="caller"), outcome=Accepted(11, (call,))),
        replace(asked(8, "Guard", 11.6, sender="caller"), outcome=Rejected("odd", {"count": 11})),
    ]
    told.last = [replace(asked(9, "Grind", 12.5, sender="probe"), outcome=Accepted(12, (last,)))]
    told.errands = [Errand("s.2", 1, "k2"), Errand("s.2", 2, "k2"), Errand("s.6", 1, "k6")]
    told.lines = lines_of("m", told.log)
    # The other mill has a room for a while; see `rent`.
    told.others = rent(told, ("blue", 20), ("", 21), ("green", 22))
    told.bell = log(*((f"t{second}", Struck(NOON + timedelta(seconds=second))) for second in range(1, 4)))
    return told


def rent(told: Story, *rooms: tuple[str, int]) -> list[Record[Any]]:
    """
    Return the log of a mill that takes rooms, every second one; no name gives the room back.
    """
    told.ops = [op for op in told.ops if op.key != "n"]
    told.ops += [replace(asked(number, "Rent", 20), key="n") for _, number in rooms]
    return log(*((f"c{number}", Did("s", number, "Rent", room=room)) for room, number in rooms))


def test_a_right_history_passes() -> None:
    """
    Where every promise was kept there is nothing to say.
    """
    assert [] == story().wrongs()


def test_what_nobody_knows_is_allowed() -> None:
    """
    A command without a confirm may be there or not, and behind what was sent later; one that was refused, too.
    """
    told = story()
    told.op(1).answered = None
    told.ops += [
        replace(asked(10, "Grind", 1), answered=None),
        asked(11, "Guard", 1),
        replace(asked(12, "Grind", 1), outcome=DeadLettered("broken", "0.d")),
        replace(asked(13, "Guard", 1), outcome=Parked("tea")),
    ]
    told.dead = ["c12"]

    assert [] == told.wrongs()


def test_a_duplicate_is_told_the_first_outcome() -> None:
    """
    And that is checked like any other.
    """
    told = story()
    told.op(7).outcome = Duplicate(Accepted(11, (Did("caller", 7, "Grind"),)))
    right = told.wrongs()
    told.op(7).outcome = Duplicate(Accepted(3, (Did("caller", 7, "Grind"),)))

    assert [] == right
    assert any("was answered Accepted(seq=3" in wrong for wrong in told.wrongs())


# -- one violation each


def replace_event(event: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(event, **changes)


def lose_a_command(told: Story) -> None:
    told.rewrite(told.events()[1:])


def lose_an_answered_command(told: Story) -> None:
    told.rewrite([event for event in told.events() if event != Did("caller", 7, "Grind")])


def lose_a_dead_letter(told: Story) -> None:
    told.ops.append(replace(asked(10, "Grind", 20), outcome=DeadLettered("broken", "0.d")))


def record_a_refused_command(told: Story) -> None:
    told.op(1).outcome = Rejected("no")


def apply_a_command_twice(told: Story) -> None:
    told.rewrite([*told.events(), Did("s", 1, "Grind")])


def commit_a_command_twice(told: Story) -> None:
    told.log = log(*((record.command_id, record.events[0]) for record in told.log), ("c1", Rang("s.3")))


def record_what_nobody_asked(told: Story) -> None:
    told.rewrite([*told.events(), Did("s", 99, "Grind")])


def leave_a_gap(told: Story) -> None:
    told.log[3:] = [replace(record, seq=record.seq + 1) for record in told.log[3:]]


def let_the_token_fall(told: Story) -> None:
    told.log[0] = replace(told.log[0], token=2)


def swap_two_commands(told: Story) -> None:
    events = told.events()
    told.rewrite([events[1], events[0], *events[2:]])


def answer_something_else(told: Story) -> None:
    told.op(7).outcome = Accepted(11, (Did("caller", 7, "Wind"),))


def refuse_on_no_state(told: Story) -> None:
    told.op(8).outcome = Rejected("odd", {"count": 41})


def refuse_on_an_old_state(told: Story) -> None:
    told.op(8).outcome = Rejected("odd", {"count": 3})


def decide_before_it_was_asked(told: Story) -> None:
    told.ops.append(
        replace(asked(10, "Grind", 0, sender="early"), outcome=Accepted(13, (Did("early", 10, "Grind"),)))
    )
    told.log += [replace(told.log[-1], seq=13, command_id="c10", events=(Did("early", 10, "Grind"),))]
    told.lines = lines_of("m", told.log)


def lose_a_result(told: Story) -> None:
    told.rewrite([event for event in told.events() if event != Brought("s.2")])


def apply_a_result_twice(told: Story) -> None:
    told.rewrite([*told.events(), Brought("s.2")])


def fail_an_effect_that_went_well(told: Story) -> None:
    told.op(6).how = "well"


def bring_what_nobody_fetched(told: Story) -> None:
    told.rewrite([*told.events(), Brought("s.1")])


def run_an_effect_that_no_log_has(told: Story) -> None:
    told.errands.append(Errand("s.77", 1, "k77"))


def run_an_effect_under_two_keys(told: Story) -> None:
    told.errands.append(Errand("s.2", 3, "other"))


def never_run_an_effect(told: Story) -> None:
    told.errands = told.errands[:2]


def lose_a_timer(told: Story) -> None:
    told.rewrite([event for event in told.events() if event != Rang("s.3")])


def lose_the_last_timer_of_a_slot(told: Story) -> None:
    told.rewrite([event for event in told.events() if event != Rang("s.5")])


def ring_twice(told: Story) -> None:
    told.rewrite([*told.events(), Rang("s.3")])


def ring_early(told: Story) -> None:
    told.lines[7] = told.lines[7]._replace(at_ms=told.lines[2].at_ms + 1000)


def ring_though_replaced(told: Story) -> None:
    told.rewrite([*told.events(), Rang("s.4")])


def ring_for_nothing(told: Story) -> None:
    told.rewrite([*told.events(), Rang("s.1")])


def lose_a_tick(told: Story) -> None:
    del told.bell[1]
    told.bell[1] = replace(told.bell[1], seq=2)


def tick_twice(told: Story) -> None:
    told.bell.append(replace(told.bell[2], seq=4, command_id="again"))


def tick_early(told: Story) -> None:
    told.bell = log(
        *((record.command_id, Struck(record.events[0].tick + timedelta(seconds=9))) for record in told.bell)
    )


def stop_ticking(told: Story) -> None:
    del told.bell[2]


def share_a_room(told: Story) -> None:
    # While the other has it, from the first to the second of its seconds.
    events = told.events()
    room = replace_event(events[0], room="blue")
    told.rewrite([room, *events[1:]])
    told.ops[0].kind = "Rent"


def keep_a_room_that_another_has(told: Story) -> None:
    events = told.events()
    told.rewrite([*events[:-1], replace_event(events[-1], room="green")])


def miss_a_line(told: Story) -> None:
    del told.lines[4]


def apply_a_line_twice(told: Story) -> None:
    told.lines.append(told.lines[0])


def swap_two_lines(told: Story) -> None:
    told.lines[0], told.lines[1] = told.lines[1], told.lines[0]


def show_what_no_log_has(told: Story) -> None:
    told.lines.append(Line("mill/m/99.0", 0))


def make_no_progress(told: Story) -> None:
    told.last[0].outcome = None
    told.last[0].answered = None


def try_nothing(told: Story) -> None:
    told.ops += told.last
    told.last = []


PLANTED: dict[Callable[[Story], None], str] = {
    lose_a_command: "Grind s.1 to m was lost: it was confirmed",
    lose_an_answered_command: "Grind caller.7 to m was lost: it was answered Accepted",
    lose_a_dead_letter: "is no dead letter",
    record_a_refused_command: "Grind s.1 to m was recorded, but answered Rejected",
    apply_a_command_twice: "s.1 to m was applied 2 times",
    commit_a_command_twice: "m: c1 was committed 2 times",
    record_what_nobody_asked: "s.99 to m was never asked",
    leave_a_gap: "m: the sequence numbers are",
    let_the_token_fall: "m: the token falls",
    swap_two_commands: "Fetch s.2 to m overtook Grind s.1 to m",
    answer_something_else: "Grind caller.7 to m was answered Accepted",
    refuse_on_no_state: "Guard caller.8 to m was refused on a state that never was",
    refuse_on_an_old_state: "Guard caller.8 to m was asked after caller.7 was answered, and was decided before it",
    decide_before_it_was_asked: "was asked after early.10 was answered, and was decided before it",
    lose_a_result: "the effect of s.2 to m has 0 results",
    apply_a_result_twice: "the effect of s.2 to m has 2 results",
    fail_an_effect_that_went_well: "the effect of s.6 to m, 'well', was given up",
    bring_what_nobody_fetched: "there is a result of s.1, which asked for no effect",
    run_an_effect_that_no_log_has: "the effect of s.77 was run, but no log asks for it",
    run_an_effect_under_two_keys: "the effect of s.2 was run under 2 idempotency keys",
    never_run_an_effect: "the effect of s.6 was never run",
    lose_a_timer: "the timer of s.3 to m did not come",
    lose_the_last_timer_of_a_slot: "the timer of s.5 to m did not come",
    ring_twice: "the timer of s.3 to m came 2 times",
    ring_early: "the timer of s.3 to m came 1000 ms early",
    ring_though_replaced: "the timer of s.4 to m came, though it was replaced in time",
    ring_for_nothing: "a timer of s.1 came to m, which set none",
    lose_a_tick: "no tick came to bell between 12:00:01 and 12:00:03",
    tick_twice: "the tick of 12:00:03 came 2 times to bell",
    tick_early: "the tick of 12:00:10 came early to bell",
    stop_ticking: "no progress: no tick came after 12:00:02",
    share_a_room: "took room blue for",
    keep_a_room_that_another_has: "m and n have room green at once",
    miss_a_line: "the read model misses mill/m/5.0",
    apply_a_line_twice: "the read model has mill/m/1.0 2 times",
    swap_two_lines: "the read model has the events of m in another order",
    show_what_no_log_has: "the read model has mill/m/99.0, which no log has",
    make_no_progress: "no progress: after the last fault, Grind probe.9 to m came to None",
    try_nothing: "nothing was asked after the last fault",
}


@pytest.mark.parametrize(("plant", "words"), PLANTED.items(), ids=[plant.__name__ for plant in PLANTED])
def test_a_planted_violation_is_named(plant: Callable[[Story], None], words: str) -> None:
    """
    The checker says what is wrong, in words that name it.
    """
    told = story()
    plant(told)

    found = told.wrongs()
    assert any(words in wrong for wrong in found), found
