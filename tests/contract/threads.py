"""
Races: many threads that start at one moment.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

#: Longer than any step of a test may take; a thread that hangs fails its test and not the whole run.
SECONDS_MAX = 120.0


def together(count: int, work: Callable[[int], T]) -> list[T]:
    """
    Run `work` in so many threads that begin at once, and return what each returned.
    """
    gate = threading.Barrier(count)

    def run(number: int) -> T:
        gate.wait(SECONDS_MAX)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(run, number) for number in range(count)]
        return [future.result(SECONDS_MAX) for future in futures]


def begin(work: Callable[[], T]) -> "Future[T]":
    """
    Run `work` in a thread of its own and return the future of what it returns.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
