"""
Waiting for what other processes do.
"""

import os
import time
from collections.abc import Callable

#: Seconds after which a test gives up: only one that fails ever waits so long, so it is far more than anything takes on a
#: busy machine, whose processes may stand still for some seconds at any moment.
SECONDS_MAX = 40.0


def eventually(condition: Callable[[], bool], seconds_max: float = SECONDS_MAX) -> None:
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
    except PermissionError:  # somebody else's
        return False
    return False
