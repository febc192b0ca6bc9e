"""
A long chaos run: `python -m tests.chaos --minutes 30 --seed 7`.

It runs in rounds of some minutes, each with servers of its own: on RabbitMQ and on Redis Streams in turn, with a seed
that follows from the first.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.run import chaos, say

#: Minutes of one round.
ROUND_MINUTES = 3.0


def main() -> int:
    """
    Run, print the figures, and return 1 where a promise was broken.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Break things at random, and check."
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults are made (default: 5)")
    parser.add_argument("--seed", type=int, default=None, help="decides which faults (default: at random)")
    parser.add_argument(
        "--round",
        type=float,
        default=ROUND_MINUTES,
        metavar="MINUTES",
        help=f"how long each pair of servers has to hold (default: {ROUND_MINUTES:g})",
    )
    parser.add_argument("--transport", choices=("rabbitmq", "redis"), help="only this one")
    parser.add_argument(
        "--folder", type=Path, help="where data and logs are kept (default: removed at the end)"
    )
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1_000_000)
    say(f"chaos for {given.minutes:g} minutes with seed {seed}")
    folder = given.folder or Path(tempfile.mkdtemp(prefix="holdfast-chaos-"))
    left, broken, began = given.minutes * 60, 0, time.monotonic()
    for number in range(1_000):
        if left <= 0:
            break
        transport = given.transport or ("rabbitmq", "redis")[number % 2]
        store = ("sqlite", "sqlite", "redis", "redis")[number % 4]
        place = folder / f"round-{number}"
        figures = chaos(place, transport, min(left, given.round * 60), seed + number, store=store, tell=say)
        say(str(figures))
        broken += len(figures.wrongs)
        left -= figures.seconds
        if not figures.wrongs:
            shutil.rmtree(place, ignore_errors=True)
    say(
        f"{broken} violations in {(time.monotonic() - began) / 60:.1f} minutes, rounds and pauses together; seed {seed}"
    )
    if broken:
        say(f"what the broken rounds left is in {folder}")
    elif given.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
