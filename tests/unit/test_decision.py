"""
Decisions: their builders make new ones and refuse what has no meaning.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from holdfast.runtime.decision import Accept, Reject, Timer, accept, reject
from holdfast.runtime.errors import UsageError
from tests.controls import ChargeCard, ExpireOrder, OrderPaid, OrderPlaced, SendReceipt

HOUR = timedelta(hours=1)


def test_accept_takes_events_in_order() -> None:
    """
    An accepted command records at least one event.
    """
    assert Accept((OrderPlaced(1), OrderPaid())) == accept(OrderPlaced(1), OrderPaid())


def test_effects_timers_and_cancels_add_up_in_order() -> None:
    """
    Each builder adds behind what is there and leaves the rest.
    """
    decision = (
        accept(OrderPlaced(1))
        .effect(ChargeCard("o-1", 1))
        .timer(ExpireOrder("o-1"), key="expiry", after=HOUR)
        .cancel("a", "b")
        .effect(SendReceipt("o-1"), SendReceipt("o-2"))
        .cancel("c")
        .timer(ExpireOrder("o-1"), at=datetime(2026, 1, 1, tzinfo=UTC))
    )

    assert decision == Accept(
        (OrderPlaced(1),),
        (ChargeCard("o-1", 1), SendReceipt("o-1"), SendReceipt("o-2")),
        (
            Timer(ExpireOrder("o-1"), "expiry", HOUR),
            Timer(ExpireOrder("o-1"), at=datetime(2026, 1, 1, tzinfo=UTC)),
        ),
        ("a", "b", "c"),
    )


def test_builders_leave_the_decision_they_are_called_on() -> None:
    """
    A decision never changes: one may be the beginning of several.
    """
    placed = accept(OrderPlaced(1))

    placed.effect(SendReceipt("o-1")).cancel("a").timer(ExpireOrder("o-1"), after=HOUR)

    assert Accept((OrderPlaced(1),)) == placed


@pytest.mark.parametrize("times", [{}, {"after": HOUR, "at": datetime(2026, 1, 1, tzinfo=UTC)}])
def test_a_timer_has_one_time(times: dict[str, timedelta | datetime]) -> None:
    """
    Neither or both of `after` and `at` is a mistake.
    """
    with pytest.raises(UsageError, match="a timer has either `after` or `at`"):
        accept(OrderPaid()).timer(ExpireOrder("o-1"), **times)  # type: ignore[arg-type]  # the mistake


def test_a_timer_needs_a_time_zone() -> None:
    """
    A time without a zone means another moment on every machine.
    """
    with pytest.raises(UsageError, match="`at` needs a time zone"):
        accept(OrderPaid()).timer(ExpireOrder("o-1"), at=datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ({"after": 3}, "`after` is 3; it must be a timedelta, such as timedelta(hours=1)"),
        ({"after": "1h"}, "`after` is '1h'; it must be a timedelta"),
        ({"after": timedelta}, "`after` is the class timedelta; it must be a timedelta"),
        ({"at": "2026-01-01T00:00Z"}, "`at` is '2026-01-01T00:00Z'; it must be a datetime with a time zone"),
        ({"at": 1767225600}, "`at` is 1767225600; it must be a datetime with a time zone"),
        (
            {"at": date(2026, 1, 1)},
            "`at` is datetime.date(2026, 1, 1); it must be a datetime with a time zone",
        ),
        ({"after": HOUR, "key": 5}, "the key of a timer is 5; it must be text"),
    ],
)
def test_a_timer_of_something_else_is_refused(time: dict[str, Any], words: str) -> None:
    """
    By the builder, and by the value that it makes.
    """
    for make in (accept(OrderPaid()).timer, Timer):
        with pytest.raises(UsageError) as caught:
            make(ExpireOrder("o-1"), **time)

        assert words in str(caught.value)


@pytest.mark.parametrize("key", [None, 5, ["expiry"]])
def test_what_is_no_key_cancels_nothing(key: Any) -> None:
    """
    A list of keys would be the name of no timer.
    """
    with pytest.raises(UsageError, match=r"the key of a timer is .*; it must be text"):
        accept(OrderPaid()).cancel(key)


def test_an_accepted_command_has_an_event() -> None:
    """
    A list of events that is empty is found where it is handed over.
    """
    events: list[OrderPaid] = []
    with pytest.raises(
        UsageError, match=r"accept\(\) has no event; an accepted command must record something"
    ):
        accept(*events)


def test_reject_carries_a_reason_and_details() -> None:
    """
    Details are optional.
    """
    assert (Reject("no"), Reject("no", {"left": 3})) == (reject("no"), reject("no", {"left": 3}))


def test_decisions_that_say_the_same_are_equal() -> None:
    """
    Decisions are values, so tests may compare them.
    """
    assert accept(OrderPaid()).cancel("a") == accept(OrderPaid()).cancel("a")
    assert accept(OrderPaid()) != accept(OrderPaid()).cancel("a")
    assert reject("a") != reject("b")


@pytest.mark.parametrize(("decision", "field"), [(accept(OrderPaid()), "events"), (reject("no"), "reason")])
def test_decisions_do_not_change(decision: object, field: str) -> None:
    """
    No field of a decision can be set.
    """
    with pytest.raises(AttributeError):
        setattr(decision, field, "other")
