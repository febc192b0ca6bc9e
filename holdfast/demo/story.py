"""Story: what is sent in the demonstration, and what must become of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from holdfast.demo.orders import (
    CancelOrder,
    DeliverOrder,
    PackOrder,
    PayOrder,
    PlaceOrder,
    ShipOrder,
)
from holdfast.runtime.message import Command

#: Every so many orders somebody tries to cancel after the order was shipped, and must be refused.
CANCELLED_EVERY = 20
#: Every so many commands is sent twice, as a sender does that did not hear the first confirm.
TWICE_EVERY = 10


class Sending(NamedTuple):
    """A command as it is sent."""

    id: str
    command: Command
    #: Whether it must be accepted, and so be found in the log.
    accepted: bool
    twice: bool


def order_id(number: int) -> str:
    """Return the key of an order."""
    return f"order-{number:04}"


def sendings(number: int) -> list[Sending]:
    """Return the commands of one order, in order."""
    key, amount = order_id(number), 1_000 + number
    commands: list[Command] = [
        PlaceOrder(key, amount),
        PayOrder(key, amount),
        PackOrder(key),
        ShipOrder(key, "snail mail" if number % 7 else "pigeon"),
        DeliverOrder(key),
    ]
    if number % CANCELLED_EVERY == 0:
        commands.insert(4, CancelOrder(key))
    return [
        Sending(
            f"{key}.{step}",
            command,
            not isinstance(command, CancelOrder),
            (5 * number + step) % TWICE_EVERY == 0,
        )
        for step, command in enumerate(commands, 1)
    ]


def interleaved(numbers: Iterable[int]) -> Iterator[Sending]:
    """Yield the commands of many orders as a shop sees them: each order one step behind the one before it."""
    under_way: list[list[Sending]] = []
    waiting = iter(numbers)
    while True:
        number = next(waiting, None)
        if number is not None:
            under_way.append(sendings(number))
        elif not under_way:
            return
        for steps in under_way:
            yield steps.pop(0)
        under_way = [steps for steps in under_way if steps]
