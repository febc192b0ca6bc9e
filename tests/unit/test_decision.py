"""
Decisions: their builders make new ones and refuse what has no meaning.
"""

from datetime import UTC, datetime, timedelta

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
