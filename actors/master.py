"""Master: dramatiq's master process, with log lines of our form.

    python -m holdfast.actors.master holdfast.actors.worker:boot --processes 1 --threads N

The worker process that it forks has the same log handler; `boot` gives it the form that the settings ask for.
"""

from __future__ import annotations

import gc
import logging
import os
import sys

from dramatiq.cli import main

from holdfast.actors.logs import asked_for, use_fields


def run() -> int:
    """Run the master, until it is told to end."""
    # The worker imports most of what it needs: nothing of that is ever garbage, and looking for some took a tenth of
    # its start. `boot` has it looked for again.
    gc.disable()
    # dramatiq sets up nothing where there is a handler.
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    use_fields(*asked_for(os.environ))
    return int(main() or 0)


if __name__ == "__main__":
    sys.exit(run())
