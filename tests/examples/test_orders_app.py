"""
The orders of the example on servers: handlers, read model and schedule together.
"""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import holdfast
from examples.orders.day import CloseDay
from examples.orders.payments import Books
from examples.orders.proof import Tally, prove
from examples.orders.workflow import (
    CancellationBegun,
    ChargeCard,
    ConfirmPayment,
    ConfirmRefund,
    ConfirmReservation,
    ConfirmShipment,
    DeclinePayment,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    RefundPayment,
    ReleaseStock,
    ReportShortage,
    ReserveStock,
    ShipParcel,
)
from tests import controls

ROOT = Path(__file__).parents[2]

PLACED = OrderPlaced("ann", "tea", 1, 900)


# -- the proof


def tally(*logs: list[Any]) -> Tally:
    """
    What logs of these events, one to a record, come to.
    """
    found = Tally()
    for events in logs:
        found.add(controls.record(seq, f"c-{seq}", event) for seq, event in enumerate(events, 1))
    return found


SHIPPED = [PLACED, OrderPaid("p", 900), OrderShipped("parcel-1")]
CANCELLED = [PLACED, CancellationBegun("no"), OrderCancelled(0)]
BOOKS = Books(4, 1, 1, 0, 1, 900, 0, 1)
STOCK = {"parcels": 1}
SALES = {"shipped": (1, 900), "cancelled": (1, 900)}


def test_what_is_as_it_must_be_is_proved() -> None:
    """
    All claims hold where the logs, the books, the warehouse and the read model agree.
    """
    assert all(claim.holds for claim in prove(2, tally(SHIPPED, CANCELLED), BOOKS, STOCK, SALES))


@pytest.mark.parametrize(
    "wrong",
    [
        {"expected": 3},
        {"tally": tally(SHIPPED, CANCELLED, [PLACED]), "expected": 3},
        {"tally": tally([*SHIPPED, OrderShipped("parcel-2")], CANCELLED)},
        {"books": Books(4, 1, 1, 0, 2, 1_800, 1, 0)},
        {"books": Books(4, 1, 1, 0, 1, 901, 0, 1)},
        {"stock": {"parcels": 2}},
        {"sales": {"shipped": (1, 900)}},
        {"sales": {"shipped": (1, 900), "paid": (1, 900)}},
    ],
)
def test_what_is_wrong_is_not(wrong: dict[str, Any]) -> None:
    """
    An order lost or open, a step taken twice, money or goods too many, a read model that missed something.
    """
    right: dict[str, Any] = {
        "expected": 2,
        "tally": tally(SHIPPED, CANCELLED),
        "books": BOOKS,
        "stock": STOCK,
        "sales": SALES,
    }

    assert not all(claim.holds for claim in prove(**(right | wrong)))


# -- the handlers


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """
    The app with books of its own.
    """
    monkeypatch.setenv("ORDERS_DIR", str(tmp_path))
    monkeypatch.delitem(sys.modules, "examples.orders.app", raising=False)
    yield importlib.import_module("examples.orders.app")
    sys.modules.pop("examples.orders.app")


def context(key: str = "o-1") -> Any:
    """
    What a handler is told about an effect of an order.
    """
    return vars(holdfast)["EffectContext"].for_testing(workflow="order", key=key)


def insist(call: Any, effect: Any) -> Any:
    """
    Call a handler until it does not raise, as the pool does.
    """
    for _ in range(100):
        try:
            return call(effect, context(effect.order_id))
        except Exception:
            continue
    raise AssertionError("it never worked")


def test_handlers_do_what_they_are_for(shop: ModuleType) -> None:
    """
    Each answers with the command that the order waits for, again and again if need be.
    """
    answers = [insist(shop.charge, ChargeCard(f"o-{number}", "ann", 900)) for number in range(60)]
    assert {ConfirmPayment, DeclinePayment} == {type(answer) for answer in answers}
    assert 0 == shop.provider().books().charged_twice

    assert ConfirmReservation("o-1") == insist(shop.reserve, ReserveStock("o-1", "tea", 1))
    assert ReportShortage("o-2") == insist(shop.reserve, ReserveStock("o-2", "tea", 10**6))
    assert ConfirmShipment("o-1", "parcel-1") == insist(shop.ship, ShipParcel("o-1"))
    charged = next(answer.order_id for answer in answers if isinstance(answer, ConfirmPayment))
    assert ConfirmRefund(charged, 900) == insist(shop.refund, RefundPayment(charged))
    assert insist(shop.release, ReleaseStock("o-1")) is None
    with pytest.raises(vars(holdfast)["Permanent"]):
        shop.ship(ShipParcel("nobody"), context("nobody"))


def test_the_schedule_closes_the_day_before(shop: ModuleType) -> None:
    """
    At two in the morning it is yesterday that is closed.
    """
    assert CloseDay("2026-01-31") == shop.close_yesterday(datetime(2026, 2, 1, 2, tzinfo=UTC))


@pytest.mark.slow
def test_the_whole_shop_is_proved() -> None:
    """
    Orders through worker processes of which one is killed: nobody is charged twice, and everything agrees.
    """
    done = subprocess.run(
        [sys.executable, "-m", "examples.orders", "--orders", "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "0 orders were charged twice" in done.stdout
