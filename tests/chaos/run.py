"""
One chaos run: load and mischief for a while, then peace, and the checker.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.load import Load
from tests.chaos.mill import Brought, GaveUp, Rang, Struck
from tests.chaos.plant import Mischief, Plant, hush

#: Seconds that anything may take once all faults are over.
PATIENCE_S = 120.0
#: So many commands are to be acknowledged, or a run proves nothing: where servers take all of the trouble to come back, the
#: load goes on until they are.
ENOUGH = 100


@dataclass(slots=True)
class Figures:
    """
    What a run came to.
    """

    seed: int
    transport: str
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    accepted: int = 0
    ambiguous: int = 0
    records: int = 0
    effects: int = 0
    calls: int = 0
    timers: int = 0
    ticks: int = 0
    lines: int = 0
    letters: list[str] = field(default_factory=list)
    surprises: Counter[str] = field(default_factory=Counter)
    wrongs: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{count} x {kind}" for kind, count in sorted(self.faults.items()))
        return "\n".join(
            [
                (
                    f"seed {self.seed} on {self.transport}: {self.seconds / 60:.1f} minutes, "
                    f"{self.faults.total()} faults ({faults})"
                ),
                (
                    f"  commands: {self.sent} sent, {self.accepted} acknowledged, {self.ambiguous} ambiguous; "
                    f"{self.records} records"
                ),
                (
                    f"  effects: {self.effects} results of {self.calls} calls; timers: {self.timers}; "
                    f"ticks: {self.ticks}; events in the read model: {self.lines}"
                ),
                *(f"  dead letter: {letter}" for letter in self.letters),
                *(f"  surprise ({count} x): {error}" for error, count in self.surprises.most_common()),
                f"  violations: {len(self.wrongs)}",
                *(f"    {wrong}" for wrong in self.wrongs[:40]),
            ]
        )


def chaos(
    folder: Path,
    transport: str,
    seconds: float,
    seed: int,
    *,
    store: str = "sqlite",
    tell: Callable[[str], None] = lambda _: None,
) -> Figures:
    """
    Run once, and return the figures: without violations, if every promise was kept.
    """
    choice = random.Random(seed)
    figures = Figures(seed, transport)
    with Plant(folder, transport, store=store) as plant:
        if not plant.await_workers(PATIENCE_S):
            message = "the workers did not start"
            raise RuntimeError(message)
        mischief = Mischief(plant, choice)
        load = Load(plant.client, plant.keys, seed=f"{seed}-", per_key=plant.per_key)
        began = time.monotonic()
        with load:
            _trouble(mischief, choice, seconds)
            tell("the last fault is over; waiting for peace")
            figures.seconds = time.monotonic() - began
            peace = plant.await_workers(PATIENCE_S)
            plant.now_is_peace()
            load.await_acknowledged(ENOUGH, PATIENCE_S)
            if not load.end(PATIENCE_S):
                figures.wrongs.append("no progress: senders were never answered")
        if not peace:
            figures.wrongs.append(f"the partitions are not shared: {plant.members()}")
        last = load.probe(PATIENCE_S)
        plant.await_tick(PATIENCE_S)
        # Without ticks nothing happens any more while it is read what happened.
        hush(plant.inspector, PATIENCE_S)
        if not plant.await_idle(PATIENCE_S):
            figures.wrongs.append("the system does not become idle")
        _settle(plant, load, last, figures)
        figures.faults = mischief.done
    figures.surprises = plant.surprises()
    return figures


def _trouble(mischief: Mischief, choice: random.Random, seconds: float) -> None:
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            mischief.step()
            time.sleep(min(choice.expovariate(1.0), 4.0))
    finally:
        mischief.end()


def _settle(plant: Plant, load: Load, last: list, figures: Figures) -> None:  # type: ignore[type-arg]
    history = plant.history(load.ops, last)
    figures.wrongs += history.wrongs()
    figures.letters = plant.strange_letters()
    events = Counter(
        type(event) for log in history.logs.values() for record in log for event in record.events
    )
    figures.sent = len(load.ops)
    figures.accepted = load.acknowledged
    figures.ambiguous = figures.sent - figures.accepted
    figures.records = sum(len(log) for log in history.logs.values())
    figures.effects = events[Brought] + events[GaveUp]
    figures.calls = len(history.errands or ())
    figures.timers = events[Rang]
    figures.ticks = events[Struck]
    figures.lines = sum(len(lines) for lines in (history.lines or {}).values())


def say(line: str) -> None:
    """
    Print at once, whoever reads.
    """
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
