"""
given(...).when(...).then(...): what it says is true, and when it is not, it says so well.
"""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Never

import msgspec
import pytest

from holdfast.runtime.decision import Accept, Decision, Reject, Timer, accept, reject
from holdfast.runtime.errors import HistoryError, UsageError, WorkflowError
from holdfast.runtime.message import Command, Event
from holdfast.runtime.workflow import Workflow
from holdfast.testing import Scenario, given
from tests import controls
from tests.controls import (
    Add,
    Added,
    CancelOrder,
    ChargeCard,
    ConfirmPayment,
    Counter,
    ExpireOrder,
    Order,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderState,
    PlaceOrder,
    SendReceipt,
)
from tests.unit.trouble import Do, Exploded, Mood, Stranger, Troublemaker

PLACED = given(Order, OrderPlaced(5))
EXPIRY = Timer(ExpireOrder("o-1"), "expiry", timedelta(hours=1))


def failure(check: Callable[[], object]) -> str:
    """
    The sentence with which an assertion fails.
    """
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


# -- what holds


@pytest.mark.parametrize("thing", [None, "order", [Order], {"order": Order}, Order()])
def test_a_scenario_is_of_a_workflow_class(thing: Any) -> None:
    """
    Whatever else is given, the error says so.
    """
    with pytest.raises(WorkflowError, match="is no Workflow class; give the class itself"):
        given(thing)


def test_an_order_from_beginning_to_end() -> None:
    """
    Commands in a row: each is decided on what the ones before it left.
    """
    (
        given(Order)
        .when(ConfirmPayment("o-1"))
        .then_rejected("nothing to pay", {"status": "new"})
        .when(PlaceOrder("o-1", 5))
        .then(OrderPlaced(5))
        .then_effects(ChargeCard("o-1", 5))
        .then_timers(EXPIRY)
        .then_cancels()
        .then_state(OrderState("placed", 5))
        .then_running()
        .when(PlaceOrder("o-1", 7))
        .then_nothing()
        .then_rejected()
        .when(ConfirmPayment("o-1"))
        .then(OrderPaid())
        .then_effects(SendReceipt("o-1"))
        .then_timers()
        .then_cancels("expiry")
        .then_completed()
        .when(CancelOrder("o-1"))
        .then_nothing()
        .then_already_completed()
        .then_state(OrderState("paid", 5))
    )


def test_what_is_given_has_happened() -> None:
    """
    Given events are folded, and none of them is a decision.
    """
    PLACED.then_state(OrderState("placed", 5))
    given(Order, OrderPlaced(5), OrderPaid()).then_state(OrderState("paid", 5)).then_completed()
    given(Order).then_state(OrderState()).then_running()


def test_a_finished_instance_can_be_given() -> None:
    """
    Its commands come after the end.
    """
    given(Order, OrderPlaced(5), OrderPaid()).when(CancelOrder("o-1")).then_already_completed().then_nothing()


def test_one_beginning_may_serve_many_tests() -> None:
    """
    A scenario never changes: what is done from it is another one.
    """
    PLACED.when(ConfirmPayment("o-1")).then_completed()
    PLACED.when(CancelOrder("o-2")).then(OrderCancelled("changed my mind"))

    PLACED.then_state(OrderState("placed", 5)).then_running()


def test_a_command_twice_under_one_id_is_a_duplicate() -> None:
    """
    As in production: the second is not decided, and nothing is recorded.
    """
    once = given(Counter).when(Add("n", 2), id="c-1").then(Added(2))

    once.when(Add("n", 2), id="c-1").then_duplicate().then_nothing().then_state(2)
    once.when(Add("n", 2)).then(Added(2)).then_state(4)


def test_decide_is_told_the_time() -> None:
    """
    What `now` says, to the millisecond that records keep; it stays until another one is said, and never goes back.
    """
    told: list[datetime] = []

    class Watching(Counter):
        def decide(self, now: datetime, state: int, command: Add) -> Decision[Added, Never]:
            told.append(now)
            return super().decide(now, state, command)

    noon = datetime(2030, 6, 1, 12, tzinfo=UTC)
    scenario = given(Watching).when(Add("n"), now=noon + timedelta(microseconds=1_999)).when(Add("n"))
    scenario.when(Add("n"), now=noon - timedelta(days=1))

    assert {noon + timedelta(milliseconds=1)} == set(told)


def test_a_first_command_has_a_time_of_its_own() -> None:
    """
    A test that does not care about time need not say one; it is the same in every run.
    """
    told: list[datetime] = []

    class Watching(Counter):
        def decide(self, now: datetime, state: int, command: Add) -> Decision[Added, Never]:
            told.append(now)
            return super().decide(now, state, command)

    given(Watching).when(Add("n"))

    assert {datetime(2026, 1, 1, tzinfo=UTC)} == set(told)


def test_what_came_of_it_can_be_looked_at() -> None:
    """
    For assertions of one's own.
    """
    placed = given(Order).when(PlaceOrder("o-1", 5))
    refused = placed.when(PlaceOrder("o-1", 5))

    assert ((OrderPlaced(5),), (ChargeCard("o-1", 5),), (EXPIRY,), ()) == (
        placed.events,
        placed.effects,
        placed.timers,
        placed.cancels,
    )
    assert (OrderState("placed", 5), False) == (placed.state, placed.completed)
    assert isinstance(placed.decision, Accept)
    assert reject("already placed", {"status": "placed"}) == refused.decision
    assert ((), (), (), ()) == (refused.events, refused.effects, refused.timers, refused.cancels)
    assert None is placed.when(ConfirmPayment("o-1")).when(ConfirmPayment("o-1")).decision


# -- what does not


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (
            lambda: given(Order).when(PlaceOrder("o-1", 5)).then(OrderPlaced(6)),
            (
                "Order, when PlaceOrder(order_id='o-1', amount=5): events are not as expected\n"
                "  (- expected, + actual)\n"
                "  - OrderPlaced(amount=6)\n"
                "  ?                    ^\n"
                "  + OrderPlaced(amount=5)\n"
                "  ?                    ^"
            ),
        ),
        (
            lambda: given(Order).when(PlaceOrder("o-1", 5)).then(OrderPlaced(5), OrderPaid()),
            (
                "Order, when PlaceOrder(order_id='o-1', amount=5): events are not as expected\n"
                "  (- expected, + actual)\n"
                "    OrderPlaced(amount=5)\n"
                "  - OrderPaid()"
            ),
        ),
        (
            lambda: given(Order).when(PlaceOrder("o-1", 5)).then_effects(),
            (
                "Order, when PlaceOrder(order_id='o-1', amount=5): effects are not as expected\n"
                "  (- expected, + actual)\n"
                "  + ChargeCard(order_id='o-1', amount=5)"
            ),
        ),
        (
            lambda: given(Order).when(PlaceOrder("o-1", 5)).then_cancels("expiry"),
            (
                "Order, when PlaceOrder(order_id='o-1', amount=5): cancelled timers are not as expected\n"
                "  (- expected, + actual)\n"
                "  - 'expiry'"
            ),
        ),
        (
            lambda: given(Order).when(PlaceOrder("o-1", 5)).then_nothing(),
            (
                "Order, when PlaceOrder(order_id='o-1', amount=5): nothing should have been recorded, but it was accepted\n"
                "  (- expected, + actual)\n"
                "  + OrderPlaced(amount=5)"
            ),
        ),
        (
            lambda: given(Order).when(ConfirmPayment("o-1")).then(OrderPaid()),
            (
                "Order, when ConfirmPayment(order_id='o-1'): should have been accepted, but it was rejected: 'nothing to pay'\n"
                "  (- expected, + actual)\n"
                "  - OrderPaid()"
            ),
        ),
        (
            lambda: given(Order).when(ConfirmPayment("o-1")).then_effects(),
            "Order, when ConfirmPayment(order_id='o-1'): should have been accepted, but it was rejected: 'nothing to pay'",
        ),
        (
            lambda: given(Order).when(ConfirmPayment("o-1")).then_rejected("nothing to play"),
            (
                "Order, when ConfirmPayment(order_id='o-1'): was rejected for another reason\n"
                "  (- expected, + actual)\n"
                "  - 'nothing to play'\n"
                "  ?              -\n"
                "  + 'nothing to pay'"
            ),
        ),
        (
            lambda: given(Order).when(ConfirmPayment("o-1")).then_rejected("nothing to pay", None),
            (
                "Order, when ConfirmPayment(order_id='o-1'): was rejected with other details\n"
                "  (- expected, + actual)\n"
                "  - None\n"
                "  + {'status': 'new'}"
            ),
        ),
        (
            lambda: given(Order).when(PlaceOrder("o-1", 5)).then_rejected(),
            (
                "Order, when PlaceOrder(order_id='o-1', amount=5): should have been rejected, but it was accepted\n"
                "  (- expected, + actual)\n"
                "  + OrderPlaced(amount=5)"
            ),
        ),
        (
            lambda: given(Counter).when(Add("n"), id="c").when(Add("n"), id="c").then_rejected(),
            "Counter, when Add(counter='n', by=1): should have been rejected, but its id had been handled before",
        ),
        (
            lambda: given(Counter).when(Add("n")).then_duplicate(),
            (
                "Counter, when Add(counter='n', by=1): should have been a duplicate, but it was accepted\n"
                "  (- expected, + actual)\n"
                "  + Added(by=1)"
            ),
        ),
        (
            lambda: (
                given(Order, OrderPlaced(5), OrderPaid())
                .when(CancelOrder("o-1", "no"))
                .then(OrderCancelled("no"))
            ),
            (
                "Order, when CancelOrder(order_id='o-1', reason='no'): should have been accepted, but the instance was "
                "finished already\n"
                "  (- expected, + actual)\n"
                "  - OrderCancelled(reason='no')"
            ),
        ),
        (
            lambda: PLACED.when(CancelOrder("o-1", "no")).then_already_completed(),
            (
                "Order, when CancelOrder(order_id='o-1', reason='no'): should have come after the end, but it was accepted\n"
                "  (- expected, + actual)\n"
                "  + OrderCancelled(reason='no')"
            ),
        ),
        (
            lambda: PLACED.then_state(OrderState("placed", 6)),
            (
                "Order: is in another state\n"
                "  (- expected, + actual)\n"
                "    OrderState(\n"
                "        status='placed',\n"
                "  -     amount=6,\n"
                "  ?            ^\n"
                "  +     amount=5,\n"
                "  ?            ^\n"
                "    )"
            ),
        ),
        (
            PLACED.then_completed,
            "Order: should be finished, but is_terminal is false in OrderState(status='placed', amount=5)",
        ),
        (
            lambda: given(Order, OrderPaid()).then_running(),
            "Order: should not be finished, but is_terminal is true in OrderState(status='paid', amount=0)",
        ),
    ],
)
def test_an_assertion_that_fails_shows_the_difference(check: Callable[[], object], expected: str) -> None:
    """
    It names the workflow and the command, says what happened instead, and marks what parts.
    """
    assert expected == failure(check)


def test_timers_are_compared_whole() -> None:
    """
    Command, key and time.
    """
    placed = given(Order).when(PlaceOrder("o-1"))
    other = Timer(ExpireOrder("o-1"), "expiry", timedelta(hours=2))

    message = failure(lambda: placed.then_timers(other))

    assert "\n  -     after=datetime.timedelta(seconds=7200),\n" in message
    assert "\n  +     after=datetime.timedelta(seconds=3600),\n" in message


def test_the_line_that_fails_is_the_tests_own() -> None:
    """
    pytest points at the `then` of the test, not into this library.
    """
    with pytest.raises(AssertionError) as caught:
        PLACED.then_state(OrderState())

    assert __file__ == str(caught.traceback.filter(caught)[-1].path)


# -- what is no scenario


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: given(Order, Stranger()), "Stranger is no event of Order"),  # type: ignore[misc]
        (lambda: given(Order, PlaceOrder("o-1")), "PlaceOrder is no event of Order"),  # type: ignore[misc]
        (lambda: given(Order).when(Add("n")), "Add is no command of Order"),  # type: ignore[arg-type]
        (lambda: given(Order).when(OrderPaid()), "OrderPaid is no command of Order"),  # type: ignore[arg-type]
        (lambda: given(Order).when(PlaceOrder("")), "the key of PlaceOrder.order_id is empty"),
        (
            lambda: given(Order).when(PlaceOrder("o-1")).when(PlaceOrder("o-2")),
            "this scenario is about order/o-1; a command for 'o-2' belongs to another one",
        ),
        (lambda: given(Order).when(PlaceOrder("o-1"), now=datetime(2026, 1, 1)), "`now` needs a time zone"),  # noqa: DTZ001
        (
            lambda: given(Order).when(PlaceOrder("o-1")).then(),
            "for none, say then_nothing() or then_rejected()",
        ),
        (lambda: given(Order).then(OrderPaid()), "nothing was asked yet: say when(command) first"),
        (lambda: given(Order).then_nothing(), "nothing was asked yet: say when(command) first"),
        (lambda: given(Order).then_rejected(), "nothing was asked yet: say when(command) first"),
        (lambda: given(Order).events, "nothing was asked yet: say when(command) first"),
    ],
)
def test_a_test_that_is_wrong_itself_is_told_so(build: Callable[[], object], words: str) -> None:
    """
    A mistake in a test is a UsageError, never a passing test.
    """
    with pytest.raises(UsageError) as caught:
        build()

    assert words in str(caught.value)


class Nameless(Workflow[int, Add, Added, Never]):
    """
    A workflow that forgot its key.
    """

    type = "nameless"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Added) -> int:
        return state

    def decide(self, now: datetime, state: int, command: Add) -> Decision[Added, Never]:
        return accept(Added(1))


def test_a_workflow_that_is_declared_wrongly_is_found() -> None:
    """
    As at start-up, so in its first test.
    """
    with pytest.raises(WorkflowError, match="Nameless needs a class attribute `key`"):
        given(Nameless)


def test_what_decide_raises_comes_out() -> None:
    """
    With its own traceback, for the test to expect or to be shown.
    """
    with pytest.raises(ValueError, match="no luck today"):
        given(Troublemaker).when(Do("t-1", "raise"))


@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        ("return nothing", WorkflowError, "decide returned NoneType; it must return accept"),
        ("no event", WorkflowError, "accepted without an event"),
        ("foreign event", WorkflowError, "accepted with Stranger, which is no event of Troublemaker"),
        ("foreign effect", WorkflowError, "asked for Whisper, which is no effect of Troublemaker"),
        ("foreign timer", WorkflowError, "set a timer for PlaceOrder, which is no command of it"),
        ("timer elsewhere", UsageError, "a timer is for its own instance, 't-1'"),
        ("wrong field", WorkflowError, "accepted with an event whose fields are not of their types"),
        ("explode", RuntimeError, "cannot stand this"),
        ("cannot be encoded", OverflowError, "can't serialize ints"),
    ],
)
def test_what_a_worker_would_give_up_fails_here(trouble: str, error: type[Exception], words: str) -> None:
    """
    A decision that would become a dead letter in production is found in the test.
    """
    with pytest.raises(error, match=words):
        given(Troublemaker).when(Do("t-1", trouble))


def test_a_given_event_that_cannot_be_folded_is_named() -> None:
    """
    `evolve` must stand every recorded event.
    """
    with pytest.raises(HistoryError, match=r"Troublemaker\.evolve failed on Exploded in record 1"):
        given(Troublemaker, Exploded())


# -- what is not pure


class Tab(msgspec.Struct):
    """
    A state that may change, which is a temptation.
    """

    lines: list[int]


class Order2(Command, frozen=True, tag="Order2"):
    """
    Asks for one more.
    """

    table: str
    how: str = ""


class Ordered(Event, frozen=True):
    """
    One more.
    """

    number: int
    how: str


class Bar(Workflow[Tab, Order2, Ordered, Never]):
    """
    Does what a decider must not, where it is asked to.
    """

    type = "bar"
    key = "table"
    count = itertools.count()

    def initial(self) -> Tab:
        return Tab([])

    def evolve(self, state: Tab, event: Ordered) -> Tab:
        if event.how == "evolve in place":
            state.lines.append(event.number)
            return state
        return Tab([*state.lines, event.number])

    def decide(self, now: datetime, state: Tab, command: Order2) -> Decision[Ordered, Never]:
        if command.how == "decide in place":
            state.lines.append(0)
        number = next(self.count) if command.how == "count" else 1
        return accept(Ordered(number, command.how))


def test_a_mutable_state_is_no_trouble_in_good_hands() -> None:
    """
    And one beginning still serves many tests.
    """
    first = given(Bar).when(Order2("t-1"))

    first.when(Order2("t-1")).then_state(Tab([1, 1]))
    first.then_state(Tab([1]))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            "decide in place",
            "Bar.decide changed the state that it was given; it must leave it alone and only choose.",
        ),
        (
            "evolve in place",
            "Bar.evolve changed the state that it was given; it must leave it alone and return a new one.",
        ),
        ("count", "Bar.decide is not deterministic: the same time, state and command gave two decisions."),
    ],
)
def test_a_decider_that_is_not_pure_is_found(how: str, words: str) -> None:
    """
    In the first test that meets it, with the difference.
    """
    message = failure(lambda: given(Bar, Ordered(7, "")).when(Order2("t-1", how)))

    assert words in message
    assert "\n  - " in message or "\n  + " in message


def test_a_scenario_is_what_given_returns() -> None:
    """
    For annotations in test helpers.
    """
    scenario: Scenario[OrderState, Any, Any, Any] = given(Order)
    assert isinstance(scenario, Scenario)
    assert isinstance(given(Troublemaker).when(Do("t-1", "refuse")).then_state(Mood()).decision, Reject)
    assert controls.Order.type == "order"
