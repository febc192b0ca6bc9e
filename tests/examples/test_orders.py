"""
The orders of the example: their story told without a server, and their fakes.
"""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from examples.orders.day import CloseDay, CountTakings, Day, DayClosed, RecordTakings, TakingsRecorded
from examples.orders.payments import AnswerLost, Declined, PaymentProvider, ProviderError, Unreachable
from examples.orders.warehouse import Warehouse
from examples.orders.workflow import (
    PAYMENT_LIMIT,
    PAYMENT_TIMER,
    CancellationBegun,
    CancelOrder,
    ChargeCard,
    ConfirmPayment,
    ConfirmRefund,
    ConfirmReservation,
    ConfirmShipment,
    DeclinePayment,
    ExpirePayment,
    GiveUp,
    Order,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    PlaceOrder,
    RefundPayment,
    ReleaseStock,
    ReportShortage,
    ReserveStock,
    ShipParcel,
    StockReserved,
)
from holdfast import App, Timer
from holdfast.runtime.definition import Definition
from holdfast.runtime.diagram import draw
from holdfast.runtime.exploration import explore
from holdfast.testing import check_workflow, given

PLACE = PlaceOrder("o-1", "ann", "tea", 2, 900)
PLACED = OrderPlaced("ann", "tea", 2, 900)
PAID = OrderPaid("pay-1", 900)
RESERVED = StockReserved()
BEGUN = CancellationBegun("the customer called it off")
UNDO = (RefundPayment("o-1"), ReleaseStock("o-1"))


def give_up(effect: str) -> GiveUp:
    """
    What an order is told when one of its effects was given up.
    """
    return GiveUp(order_id="o-1", effect_id="c-1:0", effect=effect, error="away", attempts=5)


# -- the order


def test_an_order_is_fulfilled() -> None:
    """
    Each step asks for the next; the time limit of the payment is set with the first and lifted with the second.
    """
    placed = given(Order).when(PLACE).then(PLACED).then_effects(ChargeCard("o-1", "ann", 900))
    placed.then_timers(Timer(ExpirePayment("o-1"), PAYMENT_TIMER, PAYMENT_LIMIT))
    paid = placed.when(ConfirmPayment("o-1", "pay-1")).then(PAID).then_cancels(PAYMENT_TIMER)
    paid.then_effects(ReserveStock("o-1", "tea", 2))
    reserved = paid.when(ConfirmReservation("o-1")).then(RESERVED).then_effects(ShipParcel("o-1"))
    reserved.when(ConfirmShipment("o-1", "parcel-1")).then(OrderShipped("parcel-1")).then_completed()


@pytest.mark.parametrize(
    ("history", "command"),
    [
        ([PLACED], DeclinePayment("o-1", "no money")),
        ([PLACED], ExpirePayment("o-1")),
        ([PLACED], give_up("ChargeCard")),
        ([PLACED], CancelOrder("o-1")),
        ([PLACED, PAID], ReportShortage("o-1")),
        ([PLACED, PAID], give_up("ReserveStock")),
        ([PLACED, PAID], CancelOrder("o-1")),
        ([PLACED, PAID, RESERVED], give_up("ShipParcel")),
    ],
)
def test_whatever_goes_wrong_is_undone(history: list[Any], command: Any) -> None:
    """
    Money and goods are given back, however far the order was; only then is it cancelled.
    """
    begun = given(Order, *history).when(command)
    begun.then_effects(*UNDO)
    begun.when(ConfirmRefund("o-1", 900)).then(OrderCancelled(900)).then_completed()


@pytest.mark.parametrize(
    "command",
    [
        ConfirmPayment("o-1", "pay-1"),
        ExpirePayment("o-1"),
        ConfirmReservation("o-1"),
        give_up("RefundPayment"),
        CancelOrder("o-1"),
        PLACE,
    ],
)
def test_an_order_that_is_being_undone_takes_nothing_else(command: Any) -> None:
    """
    An answer that comes too late changes nothing: what it tells of is given back already, or will be.
    """
    given(Order, PLACED, BEGUN).when(command).then_rejected()


def test_what_an_order_does_not_wait_for_does_not_end_it() -> None:
    """
    A charge that was given up after its payment arrived is no reason to cancel, nor is a parcel on its way to be called back.
    """
    given(Order, PLACED, PAID).when(give_up("ChargeCard")).then_rejected()
    given(Order, PLACED, PAID, RESERVED).when(CancelOrder("o-1")).then_rejected()


def test_orders_keep_what_every_workflow_must() -> None:
    """
    On stories that nobody thought of.
    """
    coverage = check_workflow(Order)

    assert coverage.accepted["PlaceOrder"]
    assert coverage.events["CancellationBegun"]


def test_orders_can_be_drawn() -> None:
    """
    All commands and all events are found, and both ends.
    """
    machine = explore(Definition(Order))

    gives_up = [one.source for one in machine.transitions if one.command == "GiveUp"]

    assert ((), {"shipped", "cancelled"}) == (machine.unseen, set(machine.terminal))
    assert ["placed", "paid", "reserved"] == gives_up
    assert "s_placed --> s_cancelling: ExpirePayment" in draw(machine)


# -- the day


def test_a_day_is_closed_once() -> None:
    """
    Closing asks what was sold, and the answer ends it.
    """
    closed = given(Day).when(CloseDay("2026-01-31")).then(DayClosed())
    closed.then_effects(CountTakings("2026-01-31"))
    closed.when(CloseDay("2026-01-31")).then_rejected("the day is closed")
    closed.when(RecordTakings("2026-01-31", 3, 900)).then(TakingsRecorded(3, 900)).then_completed()
    given(Day).when(RecordTakings("2026-01-31", 3, 900)).then_rejected("the day goes on")
    assert check_workflow(Day).accepted["CloseDay"]


def test_both_belong_together() -> None:
    """
    One app has the orders and the days.
    """
    assert ["order", "day"] == [one.type for one in App(workflows=[Order, Day]).definitions]


# -- the payment provider


def charge(provider: PaymentProvider, key: str, reference: str, amount: int = 100) -> str:
    """
    Charge until there is an answer.
    """
    for _ in range(100):
        try:
            return provider.charge(key, reference, amount)
        except ProviderError:
            continue
    raise AssertionError("the provider never answered")


def test_one_key_is_one_charge(tmp_path: Path) -> None:
    """
    However many calls fail, and however many answers are lost, each order is charged once.
    """
    provider = PaymentProvider(tmp_path / "p", unreachable=0.3, answers_lost=0.3)
    for number in range(60):
        assert f"pay-k{number}" == charge(provider, f"k{number}", f"o-{number}")
        assert f"pay-k{number}" == charge(provider, f"k{number}", f"o-{number}")
    books = provider.books()

    assert (60, 6_000, 0, 0) == (books.charged, books.amount, books.charged_twice, books.refunded)
    assert books.unreachable > 0
    assert books.answers_lost > 0
    assert books.calls == 120 + books.unreachable + books.answers_lost


def test_two_keys_are_two_charges(tmp_path: Path) -> None:
    """
    The books would show a caller who makes up a new key for each attempt.
    """
    provider = PaymentProvider(tmp_path / "p")
    charge(provider, "a", "o-1")
    charge(provider, "b", "o-1")

    assert 1 == provider.books().charged_twice


def test_a_lost_answer_is_a_charge(tmp_path: Path) -> None:
    """
    The money is gone though the caller saw an error, and not when the provider was out of reach.
    """
    provider = PaymentProvider(tmp_path / "p", unreachable=0, answers_lost=1)
    with pytest.raises(AnswerLost):
        provider.charge("a", "o-1", 100)
    away = PaymentProvider(tmp_path / "q", unreachable=1)
    with pytest.raises(Unreachable):
        away.charge("a", "o-1", 100)

    assert (1, 0) == (provider.books().charged, away.books().charged)


def test_what_is_voided_stays_so(tmp_path: Path) -> None:
    """
    Charges before are given back, charges after are declined; asking twice gives the same sum.
    """
    provider = PaymentProvider(tmp_path / "p", unreachable=0, answers_lost=0)
    provider.charge("a", "o-1", 100)

    assert (100, 100, 0) == (provider.void("o-1"), provider.void("o-1"), provider.void("o-2"))
    with pytest.raises(Declined):
        provider.charge("b", "o-2", 100)
    assert (0, 1) == (provider.books().charged, provider.books().refunded)


def test_luck_is_seeded(tmp_path: Path) -> None:
    """
    Another run of the same calls has the same fate, in whatever order; another seed has another.
    """

    def story(name: str, seed: int, keys: list[int]) -> dict[int, str]:
        provider = PaymentProvider(
            tmp_path / name, seed=seed, unreachable=0.3, answers_lost=0.3, declines=0.2
        )
        found = {}
        for key in keys:
            try:
                found[key] = provider.charge(f"k{key}", f"o-{key}", 1)
            except (ProviderError, Declined) as error:
                found[key] = type(error).__name__
        return found

    keys = list(range(40))

    assert story("a", 1, keys) == story("b", 1, keys[::-1])
    assert story("c", 1, keys) != story("d", 2, keys)


def test_many_may_call_at_once(tmp_path: Path) -> None:
    """
    Threads, as processes do, share the books.
    """
    wrong: list[BaseException] = []

    def call(number: int) -> None:
        try:
            provider = PaymentProvider(tmp_path / "p")
            for key in range(10):
                charge(provider, f"k{key}", f"o-{key}")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    books = PaymentProvider(tmp_path / "p").books()

    assert ([], 10, 0) == (wrong, books.charged, books.charged_twice)


# -- the warehouse


def test_goods_are_set_aside_once(tmp_path: Path) -> None:
    """
    Repeats change nothing, and what is not there is not promised.
    """
    warehouse = Warehouse(tmp_path / "w")
    warehouse.fill({"tea": 3})
    warehouse.fill({"tea": 300})

    assert [True, True, False, False] == [
        warehouse.reserve("o-1", "tea", 2),
        warehouse.reserve("o-1", "tea", 2),
        warehouse.reserve("o-2", "tea", 2),
        warehouse.reserve("o-3", "coffee", 1),
    ]
    assert ("parcel-1", "parcel-1", None) == (
        warehouse.ship("o-1"),
        warehouse.ship("o-1"),
        warehouse.ship("o-2"),
    )
    assert {"on the shelves": 1, "set aside or sent": 2, "parcels": 1} == warehouse.counts()


def test_what_is_released_stays_so(tmp_path: Path) -> None:
    """
    Goods go back once, and are not set aside for that order again; a parcel does not come back.
    """
    warehouse = Warehouse(tmp_path / "w")
    warehouse.fill({"tea": 3})
    warehouse.reserve("o-1", "tea", 1)
    warehouse.reserve("sent", "tea", 1)
    warehouse.ship("sent")
    for reference in ("o-1", "o-1", "never", "sent"):
        warehouse.release(reference)

    assert [False, False] == [warehouse.reserve("o-1", "tea", 1), warehouse.reserve("never", "tea", 1)]
    assert {"on the shelves": 2, "set aside or sent": 1, "parcels": 1} == warehouse.counts()


def test_the_limit_is_in_minutes() -> None:
    """
    A customer has a quarter of an hour to pay.
    """
    assert timedelta(minutes=15) == PAYMENT_LIMIT
