"""
Target: one thing that reads what others wrote, and how any bytes are put to it.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: The modules of this folder that are targets.
NAMES = (
    "arguments",
    "codecs",
    "commands",
    "edits",
    "envelopes",
    "foreign",
    "headers",
    "keys",
    "process_logs",
    "timetables",
    "variables",
)
#: Inputs that broke a target once: a folder for each target.
CRASHES = Path(__file__).parent / "crashes"


@dataclass(frozen=True)
class Target:
    """
    One thing that reads.
    """

    name: str
    #: Takes any bytes, and raises where a promise is broken.
    check: Callable[[bytes], None]
    #: Where to begin looking from.
    seeds: Sequence[bytes]

    def crashes(self) -> Iterator[Path]:
        """
        Return the inputs that broke it once.
        """
        folder = CRASHES / self.name
        return iter(sorted(path for path in folder.glob("*") if path.is_file()))


def load(name: str) -> Target:
    """
    Return a target by its module's name.
    """
    module = importlib.import_module(f"tests.fuzz.{name}")
    return Target(name, module.check, module.SEEDS)
