"""The systems that Holdfast is measured beside, on the same machine in the same run; see README.md."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from benchmarks.rivals.on_postgres import Dbos
from benchmarks.rivals.on_restate import Restate
from benchmarks.rivals.queues import Celery, PlainDramatiq
from benchmarks.rivals.rival import Rival, Row

__all__ = ["Rival", "Row", "available", "known"]


def known() -> dict[str, Rival]:
    """Return all rivals by their names."""
    rivals: list[Rival] = [
        PlainDramatiq(confirms=False),
        PlainDramatiq(confirms=True),
        Celery(confirms=False),
        Celery(confirms=True),
        Dbos(),
        Restate(),
    ]
    return {rival.name: rival for rival in rivals}


def available(names: Iterable[str], rivals: dict[str, Rival] | None = None) -> list[Rival]:
    """
    Return those of the named rivals that can run here, and say on the standard error output why the others are skipped.

    Raises:
        LookupError: there is no rival of such a name.
    """
    rivals = known() if rivals is None else rivals
    found = []
    for name in names:
        if name not in rivals:
            raise LookupError(f"there is no rival {name!r}; there are {', '.join(rivals)}")
        why = rivals[name].missing()
        if why is None:
            found.append(rivals[name])
        else:
            print(f"{name} is skipped: {why}", file=sys.stderr)
    return found
