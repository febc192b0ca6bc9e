"""
Strike: what a worker imports before its app when it is to be struck at a named point.

The first worker that reaches the point leaves a mark and is struck; those that find the mark live on.
"""

import os
import signal

from holdfast.runtime.faults import Point, arm

ENV_POINT = "STRIKE_POINT"
ENV_SIGNAL = "STRIKE_SIGNAL"
ENV_MARK = "STRIKE_MARK"


def strike() -> None:
    """
    Strike this process, if it is the first.
    """
    try:
        mark = os.open(os.environ[ENV_MARK], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return
    os.write(mark, str(os.getpid()).encode())
    os.close(mark)
    os.kill(os.getpid(), signal.Signals[os.environ[ENV_SIGNAL]])


if ENV_POINT in os.environ:
    arm(Point(os.environ[ENV_POINT]), strike)
