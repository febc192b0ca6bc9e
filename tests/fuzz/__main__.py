"""
Fuzzing that looks for new ways through the code: `python -m tests.fuzz --seconds 60 envelopes codecs`.

Each target runs in a process of its own. What it finds on its way is kept, and is where the next run begins. An input
that breaks it is written to the folder of its name in `tests/fuzz/crashes`; committed there it is a regression test.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.target import CRASHES, NAMES, load

#: The longest input; what needs more to break has tests of its own.
BYTES_MAX = 4_096
#: Seconds and megabytes after which one input counts as one that breaks it.
TIMEOUT_S, RSS_MB = 20, 2_048


def main() -> int:
    """
    Run targets one after another, and say how each fared.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", default=list(NAMES), metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"), help="what was found before")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = sorted(set(given.targets) - set(NAMES))
    if unknown:
        parser.error(f"no target is called {unknown[0]!r}; there are: {', '.join(NAMES)}")
    if given.one:
        return _fuzz(given.targets[0], given.seconds, given.corpus)
    broken = [name for name in given.targets if not _run(name, given.seconds, given.corpus)]
    if broken:
        print(f"broken: {', '.join(broken)}", flush=True)
    return 1 if broken else 0


def _run(name: str, seconds: int, corpus: Path) -> bool:
    """
    Fuzz a target in a process of its own; return whether it held.
    """
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--one",
        name,
        f"--seconds={seconds}",
        f"--corpus={corpus}",
    ]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        code = subprocess.run(command, stdout=said, stderr=said, check=False).returncode
        said.seek(0)
        text = said.read()
    runs = re.findall(r"^(?:Done |#)(\d+)", text, re.MULTILINE) or ["0"]
    took = time.monotonic() - began
    print(
        f"{name:14} {'held' if code == 0 else 'BROKE'} after {max(map(int, runs)):,} inputs in {took:.0f} s",
        flush=True,
    )
    if code != 0:
        print(text[-4_000:], flush=True)
    return code == 0


def _fuzz(name: str, seconds: int, corpus: Path) -> int:
    import atheris

    # What is imported in here is watched; the target's own module too.
    with atheris.instrument_imports(include=["holdfast", "examples", "tests.fuzz"]):
        target = load(name)
    import logging

    logging.disable(logging.CRITICAL)
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    crashes = CRASHES / name
    crashes.mkdir(parents=True, exist_ok=True)
    arguments = [
        str(folder),
        f"-max_total_time={seconds}",
        f"-max_len={BYTES_MAX}",
        f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={RSS_MB}",
        f"-artifact_prefix={crashes}{os.sep}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *arguments], target.check)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
