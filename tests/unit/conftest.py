"""
How hypothesis goes about it here: the same examples in every run.

`HYPOTHESIS_PROFILE=explore` looks for new ones.
"""

import os

from hypothesis import HealthCheck, settings

# A busy machine says nothing about how slow examples are to make up.
BUSY = [HealthCheck.too_slow]

settings.register_profile(
    "holdfast", deadline=None, database=None, derandomize=True, suppress_health_check=BUSY
)
settings.register_profile(
    "explore", deadline=None, database=None, max_examples=3_000, suppress_health_check=BUSY
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "holdfast"))
