"""
Skew: what workers import before their app, so that their machine's clock is wrong by so many seconds.
"""

import os
from datetime import UTC, datetime, timedelta

from holdfast.runtime.clock import SystemClock

ENV_SKEW = "SKEW_SECONDS"


def skewed(seconds: float) -> None:
    """
    Put this process's clock wrong.
    """

    def now(_self: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=seconds)

    SystemClock.now = now  # type: ignore[method-assign, assignment]  # in this worker only


if ENV_SKEW in os.environ:
    skewed(float(os.environ[ENV_SKEW]))
