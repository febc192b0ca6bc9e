"""
Waiting for what other processes do.
"""

import os
import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], seconds_max: float = 20) -> None:
    """
    Wait until a condition holds; fail when it does not come about.
    """
    until = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """
    Say whether no process has this id.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
