"""
Simulation: everything goes wrong, all is well, and what happened once happens again.
"""

import os
import subprocess
import sys
from collections import Counter as Counts
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Never

import msgspec
import pytest

from holdfast import (
    App,
    CheckpointStore,
    Command,
    Decision,
    Projection,
    ProjectionContext,
    UsageError,
    Workflow,
    accept,
    on,
    reject,
)
from holdfast.actors.simulation.simulate import lines, run_seed
from holdfast.actors.simulation.strands import Carrier, Greenlets, Threads
from holdfast.testing import Faults, Report, Run, SimulationFailure, simulate
from tests.controls import Add, Added, Counter
from tests.simulation.bells import Bell, bells
from tests.simulation.shop import Bank, Journeys, Revenue, ShopOrder, customers, shop
from tests.simulation.tenants import ROOMS, Tenant, moves, tenants
from tests.simulation.walkers import ROUGH, Arrived, Walker, Went, walkers, walks

ROOT = Path(__file__).parent.parent.parent

#: Seeds of each app, in parts that several processes can share; the planted bugs of the other file are found by fewer.
SHOP_SEEDS = [range(start, start + 200) for start in range(0, 800, 200)]
COUNTER_SEEDS = [range(start, start + 250) for start in range(0, 1_000, 250)]
TENANT_SEEDS = [range(200)]
BELL_SEEDS = [range(start, start + 200) for start in range(0, 400, 200)]


def adding(random: Random) -> list[list[Command]]:
    """
    What two senders add to a few counters.
    """
    return [
        [Add(f"k-{random.randint(1, 3)}", random.randint(1, 9)) for _ in range(random.randint(1, 10))]
        for _ in range(2)
    ]


def trace_of(app: Any, commands: Any, seed: int, carried_by: Carrier | None = None) -> list[str]:
    """
    What happens in the run of a seed.
    """
    return lines(run_seed(app, commands, seed, None, Faults(), timedelta(hours=1), carried_by))


# -- all is well


def sound_shop(run: Run) -> None:
    """
    The bank and the read models say what the logs say.
    """
    dead = {(letter.workflow, letter.key) for letter in run.dead}
    revenue, journeys = (one.projection for one in run.app.projections)
    assert isinstance(revenue, Revenue)
    assert isinstance(journeys, Journeys)
    total = 0
    for key in run.keys(ShopOrder):
        history = run.history(ShopOrder, key)
        names = [type(event).__name__ for record in history for event in record.events]
        assert 1 == names.count("OrderPlaced")
        assert names.count("OrderPaid") <= 1
        state = run.state(ShopOrder, key)
        assert state is not None
        if "OrderPaid" in names:
            total += state.amount
            assert 1 == sum(charge.startswith(f"shop_order/{key}/") for charge in Bank.current.charges)
        elif ("shop_order", key) not in dead:
            assert state.status in ("lapsed", "refunded"), state
        assert [f"shop_order/{key}/{record.seq}.0" for record in history if record.events] == journeys.seen[
            key
        ]
    assert total == revenue.store.rows.get("total", 0)


@pytest.mark.parametrize("seeds", SHOP_SEEDS, ids=str)
def test_a_shop_survives_everything(seeds: range) -> None:
    """
    Effects with retries, timers, cancels, refusals, compensation and two read models, on hundreds of bad days.
    """
    report = simulate(shop, customers, seeds=seeds, check=sound_shop)

    assert len(seeds) == report.seeds
    wanted = {
        "attempts",
        "calls failed",
        "clean stops",
        "commands sent",
        "conflicts",
        "connections lost",
        "crashes",
    }
    wanted |= {"dead letters", "events applied", "garbage", "leases stolen", "pauses", "records", "stalls"}
    assert wanted == {name for name, count in report.counts.items() if count > len(seeds) // 50}
    assert report.simulated > timedelta(hours=len(seeds) / 60)


@pytest.mark.parametrize("seeds", COUNTER_SEEDS, ids=str)
def test_counters_survive_everything(seeds: range) -> None:
    """
    Each addition counts once.
    """
    app, sums = App(workflows=[Counter]), dict[str, int]()

    def commands(random: Random) -> list[list[Command]]:
        made = adding(random)
        sums.clear()
        for command in (one for sender in made for one in sender):
            assert isinstance(command, Add)
            sums[command.counter] = sums.get(command.counter, 0) + command.by
        return made

    def check(run: Run) -> None:
        buried = any(letter.workflow for letter in run.dead)
        assert buried or sums == {key: run.state(Counter, key) for key in run.keys(Counter)}

    simulate(app, commands, seeds=seeds, check=check)


@pytest.mark.parametrize("seeds", BELL_SEEDS, ids=str)
def test_schedules_survive_everything(seeds: range) -> None:
    """
    A bell that is to be rung every ten minutes is rung each time, and once.
    """

    def check(run: Run) -> None:
        state = run.state(Bell, "tower")
        assert state is not None
        # A pause whose refusal nobody waited for may be decided again, and then nobody ends it: what comes is kept.
        paused = run.history(Bell, "tower")[-1].command == "holdfast.Pause"
        assert paused or len(state.times) >= 5
        gaps = [later - sooner for sooner, later in zip(state.times, state.times[1:], strict=False)]
        assert {timedelta(minutes=10)} == set(gaps)

    simulate(bells(), lambda _random: [], seeds=seeds, check=check)


@pytest.mark.parametrize("seeds", TENANT_SEEDS, ids=str)
def test_tenants_survive_everything(seeds: range) -> None:
    """
    However claims, commits and what follows them are torn apart, no room has two tenants, and none stays locked.
    """

    def check(run: Run) -> None:
        rooms = [run.state(Tenant, key) for key in run.keys(Tenant)]
        assert all(rooms.count(room) <= 1 for room in ROOMS)

    report = simulate(tenants(), moves, seeds=seeds, check=check)
    assert report.counts["records"] > 3 * len(seeds)


def test_walkers_survive_servers_that_do_not_answer() -> None:
    """
    Every walk that was asked for comes to its end, whoever began it and did not know.
    """

    def check(run: Run) -> None:
        for key in run.keys(Walker):
            types = Counts(type(event) for record in run.history(Walker, key) for event in record.events)
            assert types[Went] == types[Arrived]

    report = simulate(walkers, walks, seeds=range(150), check=check, faults=ROUGH)
    assert report.counts["records"] > 20 * 150


def test_without_faults_nothing_goes_wrong() -> None:
    """
    Then nothing is tried twice and nobody dies.
    """
    report = simulate(shop, customers, seeds=range(20), faults=Faults.none())

    bad = {
        "calls failed",
        "clean stops",
        "conflicts",
        "connections lost",
        "crashes",
        "garbage",
        "pauses",
        "stalls",
    }
    assert not bad & set(report.counts)
    assert "commands sent" in report.counts


# -- the same again


def test_a_seed_shows_the_same_again() -> None:
    """
    Every line of what happened is the same the second time, and other seeds show something else.
    """
    first = [trace_of(shop, customers, seed) for seed in range(20)]
    again = [trace_of(shop, customers, seed) for seed in reversed(range(20))]

    assert first == list(reversed(again))
    assert len(first) == len({tuple(one) for one in first})


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_shows_the_same_in_another_process(hash_seed: str) -> None:
    """
    Nothing depends on how Python hashes text or where it puts objects.
    """
    program = (
        "from tests.simulation.test_simulate import trace_of, shop, customers\n"
        "for seed in range(12):\n"
        "    print(*trace_of(shop, customers, seed), sep='\\n')\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}

    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert [line for seed in range(12) for line in trace_of(shop, customers, seed)] == run.stdout.splitlines()


def test_threads_carry_the_same_run_as_greenlets() -> None:
    """
    greenlet is there for speed alone.
    """
    pytest.importorskip("greenlet")

    assert [trace_of(shop, customers, seed, Greenlets()) for seed in range(12)] == [
        trace_of(shop, customers, seed, Threads()) for seed in range(12)
    ]


# -- failures


class Careless(Projection):
    """Counts what may come twice."""

    name = "careless"
    source = Counter
    store = CheckpointStore()

    def __init__(self) -> None:
        self.sum = 0

    @on(Added)
    def added(self, event: Added, _ctx: ProjectionContext) -> None:
        self.sum += event.by


def test_a_failure_tells_its_seed_and_what_happened() -> None:
    """
    A check of one's own finds a mistake of one's own; its seed alone shows it again, line by line.
    """

    def check(run: Run) -> None:
        (careless,) = (one.projection for one in run.app.projections)
        assert isinstance(careless, Careless)
        states = [run.state(Counter, key) or 0 for key in run.keys(Counter)]
        if sum(states) != careless.sum:
            raise AssertionError("the read model is wrong")

    def app() -> App:
        return App(workflows=[Counter], projections=[Careless()])

    with pytest.raises(SimulationFailure) as found:
        simulate(app, adding, seeds=range(300), check=check)
    with pytest.raises(SimulationFailure) as again:
        simulate(app, adding, seeds=[found.value.seed], check=check)

    assert str(found.value) == str(again.value)
    assert found.value.trace == again.value.trace
    text = str(found.value)
    assert text.startswith(f"seed {found.value.seed}: the read model is wrong")
    assert f"simulate(..., seeds=[{found.value.seed}])" in text
    assert "commits record 1 of counter/k-" in text


def test_mistakes_are_told_as_such() -> None:
    """
    What is no command, and faults that make no sense.
    """
    app = App(workflows=[Counter])
    wrong: Any = lambda _random: ["add"]  # noqa: E731 - short

    with pytest.raises(UsageError, match="`commands` returned str; it must return commands"):
        simulate(app, wrong, seeds=[1])
    with pytest.raises(UsageError, match=r"Faults\(unavailable=2.0\) makes no sense"):
        Faults(unavailable=2.0)
    with pytest.raises(UsageError, match=r"Faults\(crashes=-1\) makes no sense"):
        Faults(crashes=-1)


# -- mistakes of users


def _nothing(_random: Random) -> list[Command]:
    return []


def _no_day() -> list[Command]:
    return []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"app": None}, "simulate: app is None, which cannot be called"),
        ({"app": lambda: None}, "the function that makes the app returned None; it must return an App"),
        ({"app": Counter}, "simulate: app is the class Counter"),
        ({"commands": []}, "simulate: commands is [], which cannot be called; write def commands(random)"),
        ({"commands": _no_day}, "simulate: commands takes (), but is called with (random)"),
        ({"commands": lambda _random: None}, "`commands` returned None; it must return commands"),
        ({"commands": lambda _random: "Add"}, "`commands` returned 'Add'; it must return commands"),
        ({"check": "x"}, "simulate: check is 'x', which cannot be called; write def check(run)"),
        ({"check": lambda: None}, "simulate: check takes (), but is called with (run)"),
        ({"check": lambda _run: False}, "the check returned False; it must raise where something is wrong"),
        ({"seeds": []}, "simulate(seeds=...) takes whole numbers, and at least one"),
        ({"seeds": "abc"}, "simulate(seeds=...) is 'abc'; it takes a list"),
        ({"seeds": 5}, "simulate(seeds=...) is 5; it takes a list"),
        ({"seeds": [1.5]}, "simulate(seeds=...) takes whole numbers"),
        ({"faults": 3}, "simulate: faults is 3; write Faults(crashes=2)"),
        ({"lasts": 5}, "simulate: lasts is 5; it must be a timedelta"),
        ({"lasts": timedelta(days=-5)}, "simulate: lasts is -5 days"),
    ],
)
def test_a_mistake_is_told_as_one(arguments: dict[str, Any], words: str) -> None:
    """
    What cannot be simulated is a sentence that says what to write, and no failure of a seed.
    """
    given: dict[str, Any] = {"app": App(workflows=[Counter]), "commands": _nothing, "seeds": [1]}

    with pytest.raises(UsageError) as caught:
        simulate(**(given | arguments))

    assert words in str(caught.value)


@pytest.mark.parametrize("value", [-1, 1.5, 10_000, True, "2", float("nan")], ids=str)
def test_faults_that_make_no_sense_are_refused(value: Any) -> None:
    """
    Counts are whole, and likelihoods are from 0 to 1, as they were written.
    """
    with pytest.raises(
        UsageError, match=r"Faults\(crashes=.*\) makes no sense: it must be a whole number up to 1,000"
    ):
        Faults(crashes=value)
    with pytest.raises(
        UsageError, match=r"Faults\(delays=.*\) makes no sense: it must be how likely it is, from 0 to 1"
    ):
        Faults(delays=5 if value == 1.5 else -0.5 if value == 10_000 else value)


def test_a_mistake_of_a_check_says_what_kind_it_is() -> None:
    """
    An error that is no assertion is named with its type.
    """

    def check(_run: Run) -> None:
        dict[str, int]()["stock"]

    with pytest.raises(SimulationFailure, match=r"seed 1: KeyError: 'stock'"):
        simulate(App(workflows=[Counter]), _nothing, seeds=[1], check=check)


# -- mistakes of the app


class Level(Counter):
    """
    A counter whose own code fails where it is told to.
    """

    type = "level"
    wrong: Callable[[int, Add], bool]

    def decide(self, now: datetime, state: int, command: Add) -> Decision[Added, Never]:
        if self.wrong(state, command):
            raise ValueError("too much" if command.by > 5 else "always")
        return super().decide(now, state, command)


def failing(wrong: Callable[[int, Add], bool], **members: Any) -> App:
    """
    An app whose own code fails on some commands.
    """
    kind: type[Level] = type("Level", (Level,), {"wrong": staticmethod(wrong)} | members)
    return App(workflows=[kind])


def test_what_the_apps_own_code_made_dead_letters_is_counted_apart() -> None:
    """
    With its errors, most common first; the garbage of the simulation is none of them.
    """
    app = failing(lambda _state, command: command.by == 1 or command.by > 7)

    report = simulate(app, adding, seeds=range(60))

    always, much = report.errors["ValueError: always"], report.errors["ValueError: too much"]
    own, dead = always + much, report.counts["dead letters"]
    assert {"ValueError: always", "ValueError: too much"} == set(report.errors)
    assert 0 < always < much < own < dead
    assert (
        f"  {dead:>9,} dead letters, {own:,} of them because the app's own code failed: "
        f"ValueError: too much ({much:,} x), ValueError: always ({always:,} x)"
    ) in str(report).splitlines()


def test_what_the_simulation_made_dead_letters_is_nobodys_mistake() -> None:
    """
    Garbage, and attempts of effects that it has fail; but what the shop's own handler says is counted.
    """
    report = simulate(shop, customers, seeds=range(60))

    assert {"Permanent: no money"} == set(report.errors)
    assert 0 < report.errors.total() < report.counts["dead letters"]
    garbage = simulate(App(workflows=[Counter]), adding, seeds=range(60))
    assert garbage.counts["dead letters"] > 0
    assert "own code" not in str(garbage)


def test_many_errors_are_told_in_one_line() -> None:
    """
    The most common of them, and how many others there are.
    """
    report = Report(counts=Counts({"dead letters": 21}))
    report.errors.update({f"E{number}: {'x' * 500}": 7 - number for number in range(1, 7)})

    (line,) = [line for line in str(report).splitlines() if "dead letters" in line]
    assert line.startswith("         21 dead letters, 21 of them because the app's own code failed: E1: xxx")
    assert line.endswith("... (2 x), and 1 other error")
    assert len(line) < 1_200


def _evolve_to_nothing(_self: Any, _state: int, _event: Added) -> Any:
    return None


@pytest.mark.parametrize(
    ("app", "error"),
    [
        (failing(lambda _state, _command: True), "ValueError: always"),
        (
            failing(lambda _state, _command: False, evolve=_evolve_to_nothing),
            "WorkflowError: Level.evolve returned None for Added; it must return an int",
        ),
    ],
    ids=["decide", "evolve"],
)
def test_an_app_that_accepts_nothing_is_no_success(app: App, error: str) -> None:
    """
    Where every single command failed in the app's own code, next to nothing was simulated.
    """

    def small(random: Random) -> list[Command]:
        return [Add(f"k-{number}", random.randint(1, 5)) for number in range(3)]

    with pytest.raises(AssertionError) as caught:
        simulate(app, small, seeds=range(5))

    assert not isinstance(caught.value, SimulationFailure)
    assert str(caught.value).startswith(
        f"nothing was ever accepted: all 15 commands of 5 seeds failed in the app's own code: {error} ("
    )


def test_refusals_are_no_failures() -> None:
    """
    Whoever refuses everything else has answered.
    """

    def decide(_self: Any, _now: datetime, _state: int, command: Add) -> Decision[Added, Never]:
        if command.by > 1:
            raise ValueError("always")
        return reject("not one")

    report = simulate(
        failing(lambda _state, _command: False, decide=decide),
        lambda _random: [Add("k", 1), Add("k", 2)],
        seeds=range(5),
    )

    assert {"ValueError: always"} == set(report.errors)


class Tally(msgspec.Struct):
    """
    A state that may change.
    """

    seen: list[int]


class InPlace(Workflow[Tally, Add, Added, Never]):
    """
    Changes what it was given, now and then.
    """

    type = "in-place"
    key = "counter"

    def initial(self) -> Tally:
        return Tally([])

    def evolve(self, state: Tally, event: Added) -> Tally:
        return Tally([*state.seen, event.by])

    def decide(self, now: datetime, state: Tally, command: Add) -> Decision[Added, Never]:
        if command.by == 9:
            state.seen.append(9)
        return accept(Added(command.by + len(state.seen)))


def test_a_state_that_is_changed_in_place_is_found() -> None:
    """
    It costs its command alone: no record is made of what it left.
    """
    report = simulate(App(workflows=[InPlace]), adding, seeds=range(100))

    (error,) = report.errors
    assert error.startswith("WorkflowError: InPlace.decide changed the state that it was given")
