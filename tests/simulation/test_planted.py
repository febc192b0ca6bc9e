"""
The simulation finds every classic bug that is planted in the product, and soon.
"""

from collections.abc import Callable

import pytest

from holdfast import App
from holdfast.testing import SimulationFailure, simulate
from tests.controls import Add, Counter
from tests.simulation.planted import (
    BUGS,
    UNIQUE_BUGS,
    the_last_comes_first,
    what_may_be_held_is_forgotten,
)
from tests.simulation.shop import customers, shop
from tests.simulation.tenants import moves, tenants
from tests.simulation.walkers import ROUGH, walkers, walks

#: By then each must be found; most are found by one of the first ten.
SEEDS = range(400)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(
    bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What is wrong with it is what is said.
    """
    bug(monkeypatch)

    with pytest.raises(SimulationFailure, match=rf"^seed \d+: .*({BUGS[bug]})"):
        simulate(shop, customers, seeds=SEEDS)


@pytest.mark.parametrize("bug", UNIQUE_BUGS, ids=lambda bug: bug.__name__)
def test_a_unique_key_of_two_is_found(
    bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Who else has it is what is said.
    """
    bug(monkeypatch)

    with pytest.raises(
        SimulationFailure, match=r"^seed \d+: .*has the unique key '\w+', which tenant/\w+ has too"
    ):
        simulate(tenants(), moves, seeds=SEEDS)


def test_an_effect_that_nobody_knows_of_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It takes a commit that is not answered, and a partition that changes hands before the effect is read.
    """
    what_may_be_held_is_forgotten(monkeypatch)

    with pytest.raises(SimulationFailure, match=r"there is still work"):
        simulate(walkers, walks, seeds=SEEDS, faults=ROUGH)


def test_a_lost_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What overtook what is said, where nothing could have been refused on the way.
    """
    the_last_comes_first(monkeypatch)

    with pytest.raises(SimulationFailure, match=r"was decided before .*, which its sender had sent first"):
        simulate(App(workflows=[Counter]), lambda _: [[Add("k", by) for by in range(1, 9)]], seeds=SEEDS)
