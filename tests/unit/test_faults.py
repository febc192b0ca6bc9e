"""
Fault points: nothing in production, whatever a test wants in a test.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.runtime import faults
from holdfast.runtime.faults import Point

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """
    Leave no point armed for other tests.
    """
    yield
    faults.disarm()


@pytest.mark.parametrize("point", Point)
def test_a_point_that_nobody_armed_is_passed(point: Point) -> None:
    """
    In production nothing happens.
    """
    faults.reach(point)


def test_an_armed_point_strikes_each_time() -> None:
    """
    And only that point.
    """
    struck: list[str] = []
    faults.arm(Point.COMMITTED, lambda: struck.append("committed"))

    for point in (*Point, *Point):
        faults.reach(point)

    assert ["committed", "committed"] == struck


def test_a_point_may_raise() -> None:
    """
    What a test armed it with comes out where the point is.
    """

    def strike() -> None:
        raise ConnectionError

    faults.arm(Point.ACKED, strike)

    with pytest.raises(ConnectionError):
        faults.reach(Point.ACKED)


def test_disarming_forgets_every_point() -> None:
    """
    A test leaves nothing behind.
    """
    for point in Point:
        faults.arm(point, lambda: pytest.fail("still armed"))

    faults.disarm()

    for point in Point:
        faults.reach(point)


def test_points_are_in_the_order_of_a_commands_way() -> None:
    """
    A crash test that walks them strikes between every two steps.
    """
    every_command_passes = [
        Point.RECEIVED,
        Point.OPENED,
        Point.DECIDED,
        Point.COMMITTED,
        Point.BARRIER_PASSED,
        Point.REPLIED,
        Point.ACKED,
    ]
    assert every_command_passes == [point for point in Point if point in every_command_passes]


def test_every_point_is_somewhere_in_the_code() -> None:
    """
    Each is reached in production code: one that is not would be struck by no test.
    """
    code = "".join(
        path.read_text()
        for folder in ("runtime", "brokers", "actors")
        for path in Path(ROOT, folder).rglob("*.py")
    )

    assert [] == [point.name for point in Point if f"faults.reach(Point.{point.name})" not in code]
