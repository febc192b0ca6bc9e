"""
Batches on their way through dramatiq: worked on in a row where they follow each other, settled once whatever happens.
"""

from typing import Any

import pytest

from holdfast.actors import pool
from holdfast.actors.commands import CommandBatch, CommandLane
from holdfast.actors.pool import Batch
from holdfast.runtime.ports import Delivery
from holdfast.runtime.turn_result import TurnResult


class Lane:
    """
    Has batches that are there at once, and keeps what was done.
    """

    name = "command.0"

    def __init__(self, *following: Any) -> None:
        self.following = list(following)
        self.done: list[str] = []

    def take(self, timeout_s: float) -> Any:
        raise AssertionError

    def work(self, batch: Any) -> None:
        self.done.append(f"work {batch}")
        if batch == "bad":
            raise ValueError(batch)

    def settle(self, batch: Any) -> None:
        self.done.append(f"settle {batch}")
        if batch == "lost":
            raise ConnectionError(batch)

    def linger(self) -> Any:
        return self.following.pop(0) if self.following else None

    def close(self) -> None: ...


def test_batches_that_follow_at_once_are_worked_on_in_a_row() -> None:
    lane = Lane("b", "c")
    batch = Batch(lane, "a")
    pool._work(batch)
    batch.settle()  # what dramatiq does in the end

    assert lane.done == ["work a", "settle a", "work b", "settle b", "work c", "settle c"]


def test_dramatiq_is_asked_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    So a worker that is to stop does, however much there is to do.
    """
    monkeypatch.setattr(pool, "IN_A_ROW_S", 0.0)
    lane = Lane("b")
    batch = Batch(lane, "a")
    pool._work(batch)
    batch.settle()

    assert lane.done == ["work a", "settle a"]
    assert lane.following == ["b"]


@pytest.mark.parametrize(
    ("first", "following", "done"),
    [
        ("bad", (), ["work bad", "settle bad"]),
        ("a", ("bad", "c"), ["work a", "settle a", "work bad", "settle bad"]),
        ("lost", ("b",), ["work lost", "settle lost"]),
    ],
)
def test_what_failed_is_settled_once(first: str, following: tuple[str, ...], done: list[str]) -> None:
    """
    By dramatiq, which is told of the error; what came before is not settled again.
    """
    lane = Lane(*following)
    batch = Batch(lane, first)
    with pytest.raises((ValueError, ConnectionError)):
        pool._work(batch)
    batch.settle()

    assert lane.done == done


class Consumer:
    """
    Has one message each time, and keeps for how long it was asked.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        self.waits.append(timeout_s)
        return [Delivery(0, b"next", 0, len(self.waits))]

    def ack(self, deliveries: Any) -> None: ...


@pytest.mark.parametrize(("linger_s", "waits"), [(0.02, [0.02]), (0.0, [])])
def test_a_command_lane_waits_a_moment_for_what_comes_next(linger_s: float, waits: list[float]) -> None:
    """
    Where commands reach it without a round trip, and nothing is put off: that has waited longer, and waits on.
    """
    nothing: Any = None
    consumer: Any = Consumer()
    lane = CommandLane("command.0", "we", consumer, nothing, nothing, batch_max=10, linger_s=linger_s)
    found = lane.linger()
    assert consumer.waits == waits
    assert [one.body for one in found.deliveries] == [b"next"] if found is not None else not waits

    put_off = [Delivery(0, b"unknown", 0, 0)]
    lane.settle(CommandBatch(put_off, TurnResult(deferred=put_off)))
    assert lane.linger() is None
    assert consumer.waits == waits
