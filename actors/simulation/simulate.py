"""simulate: run an app through thousands of made-up days on which everything goes wrong, and see that all is well."""

from __future__ import annotations

import inspect
import random as chance
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, TypeVar

from holdfast.actors.simulation.promises import check_promises
from holdfast.actors.simulation.strands import Carrier
from holdfast.actors.simulation.trouble import Faults
from holdfast.actors.simulation.witness import BrokenPromise
from holdfast.actors.simulation.world import World
from holdfast.runtime import checks, ids
from holdfast.runtime.app import App
from holdfast.runtime.clock import from_ms
from holdfast.runtime.dead_letter import DeadLetter, sentence_of
from holdfast.runtime.errors import UsageError
from holdfast.runtime.keys import partition_of
from holdfast.runtime.message import Command
from holdfast.runtime.record import Record
from holdfast.runtime.timetable import SCHEDULE_TYPE
from holdfast.runtime.workflow import Workflow

S = TypeVar("S")
E = TypeVar("E")

#: What senders send: the commands of one, or of several.
Commands = Iterable[Command] | Iterable[Iterable[Command]]

#: How many lines of the trace a failure shows, from the end.
LINES_MAX = 400
#: How many errors of the app's own code a summary names, and how much of each.
ERRORS_MAX = 5
ERROR_CHARS_MAX = 200
#: The longest that a run may stretch over.
LASTS_MAX = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Run:
    """One run that has come to rest, for a check of your own."""

    seed: int
    app: App
    #: Everything that happened, a line each.
    trace: tuple[str, ...]
    #: What was given up.
    dead: tuple[DeadLetter, ...]
    _world: World = field(repr=False, compare=False)

    def keys(self, workflow: type[Workflow[Any, Any, Any, Any]]) -> list[str]:
        """Return the keys of a workflow's instances."""
        return sorted(ref.key for ref in self._world.witness.entries if ref.workflow == workflow.type)

    def state(self, workflow: type[Workflow[S, Any, Any, Any]], key: str) -> S | None:
        """Return an instance's state, or None if it does not exist."""
        partition = partition_of(workflow.type, key, self._world.settings.partitions)
        found: list[S] = [
            states[-1]
            for ref, states in self._world.witness.states.items()
            if ref == (partition, workflow.type, key)
        ]
        return found[0] if found else None

    def history(self, workflow: type[Workflow[Any, Any, E, Any]], key: str) -> list[Record[E]]:
        """Return an instance's records."""
        found = (
            log
            for ref, log in self._world.witness.entries.items()
            if (ref.workflow, ref.key) == (workflow.type, key)
        )
        return [
            Record(
                seq,
                entry.command_id,
                entry.command,
                from_ms(entry.at_ms),
                entry.token,
                entry.events,
                entry.cause,
                entry.trace,
                entry.control,
                entry.asked,
                entry.attempts,
            )
            for seq, entry in enumerate(next(found, []), 1)
        ]


@dataclass(slots=True)
class Report:
    """What the runs of a simulation came to: whether it looked where you think it did."""

    seeds: int = 0
    #: How much happened in all: commands sent, records, crashes, calls failed, and so on.
    counts: Counter[str] = field(default_factory=Counter)
    #: What the app's own code raised where that made a dead letter, and how often; planted garbage is none of it.
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    #: How much time went by in the simulations.
    simulated: timedelta = timedelta()

    def __str__(self) -> str:
        """Say it in a few lines."""
        rate = self.seeds / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.seeds:,} seeds in {self.seconds:.1f} s ({rate:,.0f} a second), {self.simulated} simulated"
        ]
        own = f", {self.errors.total():,} of them because the app's own code failed: {self._told_errors()}"
        for name, count in sorted(self.counts.items()):
            lines.append(f"  {count:>9,} {name}{own if name == 'dead letters' and self.errors else ''}")
        return "\n".join(lines)

    def _told_errors(self) -> str:
        """Return the errors of the app's own code on one line, most common first."""
        told = [
            f"{error if len(error) <= ERROR_CHARS_MAX else error[:ERROR_CHARS_MAX] + '...'} ({count:,} x)"
            for error, count in self.errors.most_common(ERRORS_MAX)
        ]
        left = len(self.errors) - len(told)
        if left:
            told.append(f"and {left:,} other error{'' if left == 1 else 's'}")
        return ", ".join(told)


class SimulationFailure(AssertionError):
    """A promise was broken, or your own check failed, in the run of one seed. The message has the trace.

    `simulate(..., seeds=[failure.seed])` shows the same again.
    """

    def __init__(self, seed: int, error: BaseException, trace: Sequence[str]) -> None:
        self.seed = seed
        self.trace = tuple(trace)
        shown = self.trace[-LINES_MAX:]
        left = len(self.trace) - len(shown)
        first = [f"... {left} lines before ..."] if left else []
        # What a promise says and what an assertion says speaks for itself; of other errors their type is needed.
        plain = isinstance(error, AssertionError | BrokenPromise) and str(error)
        reason = str(error) if plain else sentence_of(error)
        super().__init__(
            "\n".join(
                [
                    f"seed {seed}: {reason}",
                    "",
                    *first,
                    *shown,
                    "",
                    f"seed {seed}: {reason}",
                    f"to see it again: simulate(..., seeds=[{seed}])",
                ]
            )
        )


def simulate(
    app: App | Callable[[], App],
    commands: Callable[[Random], Commands],
    *,
    seeds: Iterable[int] = range(1_000),
    check: Callable[[Run], None] | None = None,
    faults: Faults | None = None,
    lasts: timedelta = timedelta(hours=1),
) -> Report:
    """Run an app once for each seed, on simulated servers and workers that fail, and check what must always hold.

    Each seed decides which commands come when, who goes on when, and what goes wrong. Time is simulated as well, so
    a timer of a week takes no time.

    Checked are Holdfast's promises: no confirmed command is lost and none is applied twice; every record is what
    `decide` makes of the records before it; each sender's order is kept; effects run after their intent is durable,
    under a stable key, and their results are applied; timers come once, and never early; projections see every event
    in order; nothing is dropped; and once nothing goes wrong any more, everything comes to rest.

    What fails in the app's own code is a dead letter, as it is in production, and fails no seed: see `Report.errors`.

    Args:
        app: The app, or a function that makes a new one for every seed, together with whatever stands for the outside
            world of its handlers. Handlers may wait with `asyncio.sleep`; they must not use real time, threads or I/O.
        commands: Returns what clients send in one run: the commands of one sender in order, or a list of such for
            several senders. They may be refused, but a sender goes on until each is confirmed.
        seeds: Which runs.
        check: Your own check of a run that has come to rest; it raises where something is wrong.
        faults: The most that goes wrong.
        lasts: Over how much simulated time a run stretches at the most; timers that are due later are not waited for.

    Raises:
        SimulationFailure: Something was wrong; the message has the seed and what happened.
        AssertionError: Every command of every seed failed in the app's own code, so that nothing was tried.
        UsageError: `commands` returned something else, or the app cannot be simulated.
    """
    _check_arguments(app, commands, check, faults, lasts)
    numbers = checks.members("simulate", "seeds", seeds, "1234")
    if not numbers or not all(checks.is_whole(one, -(2**63), 2**63) for one in numbers):
        message = "simulate(seeds=...) takes whole numbers, and at least one: seeds=range(1_000)"
        raise UsageError(message)
    report, began = Report(), time.perf_counter()
    commands_seen = failed = 0
    for seed in numbers:
        world = run_seed(app, commands, seed, check, faults or Faults(), lasts)
        report.seeds += 1
        report.counts.update(world.counts)
        report.errors.update(world.witness.errors)
        sent = [name for name in world.witness.messages if name.workflow != SCHEDULE_TYPE]
        commands_seen += len(sent)
        failed += sum(name in world.witness.dead for name in sent)
        report.simulated += timedelta(seconds=world.scheduler.now + world.clock.leapt_s)
    report.seconds = time.perf_counter() - began
    if report.errors and failed == commands_seen:
        message = (
            f"nothing was ever accepted: all {failed:,} commands of {report.seeds:,} seeds failed in the app's own code: "
            f"{report._told_errors()}"
        )
        raise AssertionError(message)
    return report


def run_seed(
    app: App | Callable[[], App],
    commands: Callable[[Random], Commands],
    seed: int,
    check: Callable[[Run], None] | None,
    faults: Faults,
    lasts: timedelta,
    carried_by: Carrier | None = None,
) -> World:
    """Run one seed, and return the world as it was at the end.

    Raises:
        SimulationFailure: Something was wrong.
    """
    before = chance.getstate()
    # Retries and user code roll the dice of the library: they must fall as they did before.
    chance.seed(seed)
    try:
        with ids.repeatable("sim"):
            made: Any = app if isinstance(app, App) else app()
            if not isinstance(made, App):
                message = (
                    f"the function that makes the app returned {checks.said(made)}; it must return an App"
                )
                raise UsageError(message)
            senders = _senders(commands(Random(seed)))
            world = World(made, seed, faults, lasts, carried_by)
            try:
                world.run(senders)
                check_promises(world)
                if check is not None:
                    run = Run(seed, made, tuple(lines(world)), tuple(world.server.dead.values()), world)
                    _check_answer(check(run))
            except UsageError:
                raise
            except Exception as error:
                raise SimulationFailure(seed, error, lines(world)) from error
            return world
    finally:
        chance.setstate(before)


def lines(world: World) -> list[str]:
    """Return the trace as people read it."""
    return [f"{at:10.3f}  {who:<10} {what}" for at, who, what in world.trace]


def _check_arguments(app: Any, commands: Any, check: Any, faults: Any, lasts: Any) -> None:
    """Raise UsageError where an argument of `simulate` is something else."""
    problems = {
        "app": None if isinstance(app, App) else checks.function_problem(app, name="app"),
        "commands": None
        if inspect.isgeneratorfunction(commands)
        else checks.function_problem(commands, "random", name="commands"),
        "check": None if check is None else checks.function_problem(check, "run", name="check"),
        "faults": None if faults is None else checks.value_problem(faults, Faults, "Faults(crashes=2)"),
        "lasts": checks.span_problem(lasts, timedelta(seconds=1), LASTS_MAX),
    }
    for name, problem in problems.items():
        if problem is not None:
            message = f"simulate: {name} {problem}"
            raise UsageError(message)


def _check_answer(answer: object) -> None:
    """Refuse a check that says what it found by what it returns: nobody would hear of it."""
    if answer is not None:
        message = f"the check returned {checks.said(answer)}; it must raise where something is wrong, as assert does"
        raise UsageError(message)


def _senders(given: Any) -> list[list[Command]]:
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        message = f"`commands` returned {checks.said(given)}; it must return commands, or a list of them for each sender"
        raise UsageError(message)
    found: list[Any] = list(given)
    if all(isinstance(one, Command) for one in found):
        return [found]
    senders = [list(one) if isinstance(one, Iterable) else [one] for one in found]
    wrong = next((one for sender in senders for one in sender if not isinstance(one, Command)), None)
    if wrong is not None:
        message = f"`commands` returned {type(wrong).__name__}; it must return commands, or a list of them for each sender"
        raise UsageError(message)
    return senders
