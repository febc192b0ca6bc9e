"""
A line's first messages: kept back until all that was returned is there, however long its process stands still.
"""

from collections.abc import Callable, Sequence
from typing import Any

from holdfast.brokers.rabbitmq_connection import Plain
from holdfast.brokers.rabbitmq_line import Line
from holdfast.runtime.ports import Delivery


class Loop:
    """
    An event loop whose time is over when the test says so.
    """

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []

    def later(self, _delay_s: float, action: Callable[[], None]) -> None:
        self.timers.append(action)

    def fire(self) -> None:
        """
        Let the time of all timers be over that there are now.
        """
        due, self.timers = self.timers, []
        for action in due:
            action()


class Keeper:
    def __init__(self) -> None:
        self.came: list[list[bytes]] = []

    def arrived(self, line: Line, deliveries: Sequence[Delivery]) -> None:
        self.came.append([one.body for one in deliveries])

    def ended(self, line: Line, *, refusal: int) -> None: ...


def plain(*messages: tuple[int, bool, bytes]) -> list[Plain]:
    return [Plain(*message) for message in messages]


def subscribed(ready: int) -> tuple[Line, Loop, Keeper]:
    """
    Return a line on a queue that said it had so many messages.
    """
    loop: Any = Loop()
    keeper = Keeper()
    line = Line(0, "q", loop, keeper, prefetch=100, payload_bytes_max=1_000)
    line._waiting = ready
    return line, loop, keeper


def test_what_arrived_while_the_process_stood_still_is_read_before_it_is_held_to_be_all() -> None:
    """
    The queue had said less than there was. All timers are over when the process goes on, and messages are there unread.
    """
    line, loop, keeper = subscribed(ready=1_000)
    line._on_plain(plain((1, True, b"b"), (2, True, b"c")))
    loop.fire()
    line._on_plain(plain((3, True, b"d")))
    loop.fire()
    assert keeper.came == []

    loop.fire()
    assert keeper.came == [[b"b", b"c", b"d"]]


def test_what_was_returned_is_handed_on_when_it_is_complete() -> None:
    """
    By the queue's own number, or since one comes that was never handed out.
    """
    line, _, keeper = subscribed(ready=2)
    line._on_plain(plain((1, True, b"a")))
    assert keeper.came == []
    line._on_plain(plain((2, True, b"b"), (3, False, b"c")))
    assert keeper.came == [[b"a", b"b"], [b"c"]]

    line, _, keeper = subscribed(ready=1_000)
    line._on_plain(plain((1, True, b"a"), (2, False, b"b"), (3, False, b"c")))
    assert keeper.came == [[b"a", b"b"], [b"c"]]
