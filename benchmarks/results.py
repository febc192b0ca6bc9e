"""The results: what was measured last of each benchmark, kept as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from benchmarks.ground import ROOT
from benchmarks.rows import Row, summary

FOLDER = ROOT / "benchmarks" / "results"
FILE = FOLDER / "results.jsonl"


def read(file: Path = FILE) -> dict[str, list[Row]]:
    """Return the rows of each benchmark."""
    found: dict[str, list[Row]] = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            row: Row = json.loads(line)
            found.setdefault(str(row["benchmark"]), []).append(row)
    return found


def replace(lines: Iterable[str], name: str, file: Path = FILE) -> None:
    """Put what was measured now in the place of what was measured before, several runs of the same as one row."""
    rows: list[Row] = [{"benchmark": name} | json.loads(line) | {"benchmark": name} for line in lines]
    kept = read(file) | {name: summary(rows)}
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(row)}\n" for same in kept.values() for row in same)
    file.write_text(text, encoding="utf-8")
