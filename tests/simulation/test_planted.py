"""
The simulation finds every classic bug that is planted in the product, and soon.
"""

from collections.abc import Callable

import pytest

from holdfast.testing import SimulationFailure, simulate
from tests.simulation.planted import BUGS
from tests.simulation.shop import customers, shop

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
