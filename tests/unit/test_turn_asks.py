"""
The turn: effects and timers are written with the decision that asks for them.
"""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from holdfast.runtime.clock import to_ms
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.decision import Decision, accept
from holdfast.runtime.message import Envelope
from holdfast.runtime.record import Asked, AskedTimer, EffectEntry
from tests import controls
from tests.unit.desk import Desk, ref, sent
from tests.unit.trouble import Arrange, Do, Done, Ended, Exploded, Mood, Shout, Troublemaker, Wake

#: What the names of t-1's timers begin with.
SCOPE = "trouble/3/t-1"


def arrange(desk: Desk, *arrangements: tuple[tuple[str, ...], tuple[tuple[str | None, float], ...]]) -> None:
    """
    Run one batch in which each command cancels and sets timers.
    """
    start = desk.opened(ref()).seq + 1
    desk.run(
        *(
            sent(Arrange("t-1", cancels, timers), f"c-{number}")
            for number, (cancels, timers) in enumerate(arrangements, start)
        )
    )


def test_effects_are_written_with_stable_ids() -> None:
    """
    An effect's id is its command's id and its place: the same however often the command is decided.
    """
    desk = Desk()

    desk.run(sent(Do("t-1", "shout"), "c-1", trace="00-abc-def-01"))

    codec = desk.app.definition("trouble").effects
    assert codec is not None
    assert [
        EffectEntry(
            f"c-1:{n}", "trouble", "t-1", 1, codec.encode(Shout(text)), controls.NOW_MS, "00-abc-def-01"
        )
        for n, text in enumerate(("a", "b"))
    ] == desk.effects(ref())


def test_the_effects_of_a_batch_are_all_written() -> None:
    """
    Each decision's effects carry the sequence number of its record.
    """
    desk = Desk()

    desk.run(sent(Do("t-1", "shout"), "c-1"), sent(Do("t-1"), "c-2"), sent(Do("t-1", "shout"), "c-3"))

    assert [("c-1:0", 1), ("c-1:1", 1), ("c-3:0", 3), ("c-3:1", 3)] == [
        (effect.id, effect.seq) for effect in desk.effects(ref())
    ]


def test_a_command_that_is_not_accepted_asks_for_nothing() -> None:
    """
    A duplicate, a refusal and a dead letter leave the outbox as it is.
    """
    desk = Desk()
    desk.run(sent(Do("t-1", "shout"), "c-1"))

    desk.run(
        sent(Do("t-1", "shout"), "c-1"), sent(Do("t-1", "refuse"), "c-2"), sent(Do("t-1", "raise"), "c-3")
    )

    assert ["c-1:0", "c-1:1"] == [effect.id for effect in desk.effects(ref())]


def test_a_record_says_what_was_asked_for() -> None:
    """
    By name, in the order of the ids; one that asked for nothing is no longer for it.
    """
    desk = Desk()

    desk.run(
        sent(Do("t-1", "shout"), "c-1"),
        sent(Arrange("t-1", ("nap", "sleep"), (("nap", 60), (None, 0.5))), "c-2"),
        sent(Do("t-1"), "c-3"),
    )

    timers = (AskedTimer("Wake", "nap", delay_ms=60_000), AskedTimer("Wake", delay_ms=500))
    assert [
        Asked(effects=("Shout", "Shout")),
        Asked(timers=timers, cancels=("nap", "sleep")),
        None,
    ] == [entry.asked for entry in desk.log(ref())]


def test_a_record_says_how_many_attempts_an_effect_took() -> None:
    """
    That sent its command; none for what anybody else sent.
    """
    desk = Desk()

    desk.run(sent(Do("t-1"), "c-1"), sent(Do("t-1"), "c-2", cause="c-1:0", attempts=3))

    assert [0, 3] == [entry.attempts for entry in desk.log(ref())]


def test_a_timer_carries_its_command() -> None:
    """
    When it is due, an envelope is sent whose id is its own for ever, and whose cause is the command that set it. Where it
    is traced it says since when.
    """
    desk = Desk()

    desk.run(sent(Arrange("t-1", (), (("nap", 60),)), "c-1", trace="00-abc-def-01"))

    ((due_ms, timer),) = desk.journal.timers(ref().partition, 10)
    envelope = decode_envelope(timer.envelope)
    command = desk.app.definition("trouble").commands.decode(envelope.payload)
    when = controls.NOW_MS
    expected = Envelope(
        "c-1:t0", "trouble", "t-1", envelope.payload, when, cause="c-1", trace="00-abc-def-01"
    )
    assert (Wake("t-1", "0"), expected) == (command, envelope)
    assert controls.NOW_MS + 60_000 == due_ms


def test_a_fired_timer_is_applied_once() -> None:
    """
    However often it is sent, its id makes one record of it.
    """
    desk = Desk()
    arrange(desk, ((), (("nap", 0),)))
    ((_, timer),) = desk.journal.timers(ref().partition, 10)
    envelope = decode_envelope(timer.envelope)

    for _ in range(2):
        desk.run(sent(Wake("t-1", "0"), envelope.id, cause=envelope.cause))

    assert ["c-1", "c-1:t0"] == desk.commands(ref())


@pytest.mark.parametrize(
    ("arrangements", "expected"),
    [
        # One decision.
        ([((), (("a", 1), ("b", 2)))], {"a": 1000, "b": 2000}),
        ([(("a",), (("a", 1),))], {"a": 1000}),
        ([((), (("a", 1), ("a", 2)))], {"a": 2000}),
        # Two decisions: the later one has the last word.
        ([((), (("a", 1),)), ((), (("a", 2),))], {"a": 2000}),
        ([((), (("a", 1),)), (("a",), ())], {}),
        ([(("a",), ()), ((), (("a", 1),))], {"a": 1000}),
        ([((), (("a", 1),)), (("a",), (("a", 3),))], {"a": 3000}),
        ([((), (("a", 1), ("b", 1))), (("a",), (("b", 2),))], {"b": 2000}),
        # Three.
        ([((), (("a", 1),)), (("a",), ()), ((), (("a", 5),))], {"a": 5000}),
        ([((), (("a", 1),)), ((), (("a", 2),)), (("a",), ())], {}),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_the_last_word_on_a_timer_counts(
    arrangements: list[tuple[tuple[str, ...], tuple[tuple[str | None, float], ...]]],
    expected: dict[str, int],
    together: bool,
) -> None:
    """
    Setting replaces, cancelling removes, cancels come before the timers of their decision: in one batch as in many.
    """
    desk = Desk()

    if together:
        arrange(desk, *arrangements)
    else:
        for arrangement in arrangements:
            arrange(desk, arrangement)

    assert {f"{SCOPE}/{key}": due_ms for key, due_ms in expected.items()} == desk.timers(ref())


def test_timers_without_a_key_are_never_replaced() -> None:
    """
    Each of them is sent.
    """
    desk = Desk()

    arrange(desk, ((), ((None, 1), (None, 2))), ((), ((None, 3),)))

    assert [1000, 2000, 3000] == sorted(desk.timers(ref()).values())


def test_timers_of_two_instances_do_not_meet() -> None:
    """
    A key, and a command id, is the instance's own: the same one of a neighbour in the partition is another timer.
    """
    desk = Desk()
    neighbours = [one for one in (ref(f"t-{n}") for n in range(60)) if one.partition == ref().partition]

    desk.run(*(sent(Arrange(one.key, (), (("a", 1), (None, 2))), "c-1") for one in neighbours))

    assert 2 * len(neighbours) == len(desk.timers(ref()))


@pytest.mark.parametrize(
    ("first", "second"),
    [(("a", "b/c"), ("a/1/b", "c")), (("a", "1/a"), ("a/1", "a")), (("a/", "b"), ("a", "/b"))],
)
def test_no_choice_of_keys_makes_two_timers_one(first: tuple[str, str], second: tuple[str, str]) -> None:
    """
    Slashes in business keys and in timer keys are text like any other.
    """
    desk = Desk()
    names: list[str] = []
    for key, timer_key in (first, second):
        desk.run(sent(Arrange(key, (), ((timer_key, 1),)), "c-1"))
        names += desk.timers(ref(key))

    assert 2 == len(set(names))


def decide_at(monkeypatch: pytest.MonkeyPatch, moment: datetime | None, after: timedelta | None) -> Desk:
    """
    A desk whose troublemaker sets one timer whatever it is told.
    """

    def decide(
        self: Troublemaker, now: datetime, state: Mood, command: Do | Arrange | Wake
    ) -> Decision[Done | Exploded | Ended, Shout]:
        return accept(Done(1)).timer(Wake("t-1"), key="a", at=moment, after=after)

    monkeypatch.setattr(Troublemaker, "decide", decide)
    return Desk()


@pytest.mark.parametrize(
    ("moment", "due"),
    [
        (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        (datetime(2026, 1, 2, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 1, 2, tzinfo=UTC)),
        (datetime(2026, 1, 2, 0, 0, 0, 1, tzinfo=UTC), datetime(2026, 1, 2, 0, 0, 0, 1000, tzinfo=UTC)),
        (datetime(2026, 1, 2, 0, 0, 0, 999, tzinfo=UTC), datetime(2026, 1, 2, 0, 0, 0, 1000, tzinfo=UTC)),
        (datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_timer_at_a_time_is_never_due_before_it(
    moment: datetime, due: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Timers are kept in milliseconds, rounded up; one in the past is due at once.
    """
    desk = decide_at(monkeypatch, moment, None)

    desk.run(sent(Do("t-1"), "c-1"))

    assert [to_ms(due)] == [due_ms for due_ms, _ in desk.journal.timers(ref().partition, 10)]


@pytest.mark.parametrize(
    ("after", "delay_ms"),
    [
        (timedelta(0), 0),
        (timedelta(microseconds=1), 1),
        (timedelta(milliseconds=1), 1),
        (timedelta(milliseconds=1, microseconds=1), 2),
        (timedelta(days=365), 31_536_000_000),
        (timedelta(seconds=-5), 0),
    ],
)
def test_a_timer_after_a_delay_is_never_due_before_it(
    after: timedelta, delay_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Delays are rounded up to milliseconds; a negative one is none.
    """
    desk = decide_at(monkeypatch, None, after)

    desk.run(sent(Do("t-1"), "c-1"))

    assert [delay_ms] == list(desk.timers(ref()).values())


def test_a_timer_of_before_1970_is_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    No time is mistaken for "no time".
    """
    desk = decide_at(monkeypatch, datetime(1960, 1, 1, tzinfo=UTC), None)

    desk.run(sent(Do("t-1"), "c-1"))

    assert [1] == [due_ms for due_ms, _ in desk.journal.timers(ref().partition, 10)]
