"""Does any step of a turn grow with what there is already: history, instances, timers, partitions, remembered ids?

Run it as
    python -m benchmarks.growth [--only histories,ids,instances,timers,partitions] [--rounds 300] [--json]

A worker's turn without a broker, one process, one thread. Sizes are measured in turn within each round, so that what
else the machine does meets all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from benchmarks import account, alarm
from benchmarks.account import Account
from benchmarks.alarm import Alarm, Arm, Ring
from benchmarks.ground import Ground, Row, quantile
from benchmarks.report import command
from benchmarks.seed import Desk, deposit, desk, history, pending
from benchmarks.stage import another_redis, calm, fresh
from holdfast import App, Command
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.control import Cancel
from holdfast.runtime.ids import new_id
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import Envelope
from holdfast.runtime.ports import Commit, Committed, Opened
from holdfast.runtime.record import Entry, TimerEntry
from holdfast.runtime.turn import SNAPSHOT_SHARE

#: Commands in a batch.
BATCH = 16
#: What costs at most so much more than at the smallest size is flat.
FLAT_MAX = 1.5
#: How often an instance is cancelled, which looks through all that its partition has pending.
CANCELS = 3
#: Rounds that are not counted.
WARM_UP = 5
SLOWLY_MS, RUSH_MS = 60_000, 0
#: By how much of its size an instance may grow before another one takes its place.
GROWTH_MAX = 0.2

#: Returns what is to be timed: what it needs is made before.
Step = Callable[[], Callable[[], object]]


@dataclass(slots=True)
class Place:
    """One size of what may make steps grow, and the steps that are taken there."""

    size: int
    steps: dict[str, Step]
    times: dict[str, list[float]] = field(default_factory=dict)


def compare(what: str, places: Sequence[Place], rounds: int, warm_up: int = WARM_UP) -> list[Row]:
    """Take every step at every size, in turn, and return a row for each with its ratio to the smallest size."""
    for number in range(warm_up + rounds):
        for name in places[0].steps:
            first = number % len(places)  # who comes first in a round finds caches of others
            for place in (*places[first:], *places[:first]):
                run = place.steps[name]()
                began = time.perf_counter()
                run()
                if number >= warm_up:
                    place.times.setdefault(name, []).append((time.perf_counter() - began) * 1e6)
    rows: list[Row] = []
    for name in places[0].steps:
        smallest = quantile(places[0].times[name], 0.5)
        for place in places:
            p50 = quantile(place.times[name], 0.5)
            rows.append(
                {
                    "system": "holdfast",
                    "what": f"{name}, {place.size:,} {what}",
                    "size": place.size,
                    "p50_us": round(p50),
                    "p99_us": round(quantile(place.times[name], 0.99)),
                    "ratio": round(p50 / smallest, 2),
                }
            )
    return rows


def judged(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with what their ratios say."""
    return [row | {"verdict": "flat" if float(row["ratio"]) <= FLAT_MAX else "grows"} for row in rows]


class Pen:
    """Writes commits to instances, straight to the journal."""

    def __init__(self, at: Desk, refs: Sequence[Ref], *, timers: bool = False) -> None:
        self._at, self._timers = at, timers
        self._views: list[Opened] = at.ports.journal.open(refs, at.owner)  # type: ignore[assignment]  # nobody else holds them

    def step(self, size: int) -> Step:
        """Return the step of committing a record to each of the first instances."""

        def prepare() -> Callable[[], object]:
            commits = [self._commit(view) for view in self._views[:size]]
            return lambda: self._write(commits)

        return prepare

    def _commit(self, view: Opened) -> Commit:
        id_ = new_id()
        entry = encode(Entry(id_, "Deposit", int(time.time() * 1000), 0, (account.Deposited(5, "x" * 14),)))
        timers = [_timer(view.ref, id_)] if self._timers else []
        return Commit(view.ref, view.seq, view.head, view.token, [entry], id_, timers=timers)

    def _write(self, commits: list[Commit]) -> None:
        for index, (commit, outcome) in enumerate(
            zip(commits, self._at.ports.journal.commit(commits, self._at.owner), strict=True)
        ):
            if not isinstance(outcome, Committed):
                message = f"not committed: {outcome}"
                raise TypeError(message)
            view = self._views[index]
            self._views[index] = Opened(
                view.ref, view.seq + 1, commit.new_head, outcome.token, view.run_state, None, ()
            )


def _timer(ref: Ref, id_: str) -> TimerEntry:
    ring = encode(Ring(ref.key, datetime.now(UTC)))
    return TimerEntry(
        f"{ref.scope}/{id_}", encode_envelope(Envelope(f"{id_}:t0", "alarm", ref.key, ring)), 3_600_000
    )


def turns(at: Desk, commands: Callable[[int], Sequence[Command]], count: int) -> Step:
    """Return the step of a warm turn on so many commands."""

    def prepare() -> Callable[[], object]:
        batch = [at.delivery(command) for command in commands(count)]
        return lambda: at.run(batch)

    return prepare


def _both(at: Desk, keys: Sequence[str]) -> dict[str, Step]:
    """Return the usual steps, each on instances of their own."""
    pen = Pen(at, [at.ref(Account.type, f"{key}-pen") for key in keys])
    at.fill(deposit(key) for key in keys)  # from here on they are warm

    def commands(count: int) -> list[Command]:
        return [deposit(key) for key in keys[:count]]

    return {
        "commit of 1": pen.step(1),
        f"commit of {BATCH}": pen.step(BATCH),
        "turn of 1": turns(at, commands, 1),
        f"turn of {BATCH}": turns(at, commands, BATCH),
    }


# -- what may make them grow


class Veteran:
    """An instance with a history of about so many records; another one when it has grown."""

    def __init__(self, at: Desk, name: str, size: int, apart_ms: int) -> None:
        self._at, self._name, self._size, self._apart_ms = at, name, size, apart_ms
        self._left = self._number = 0
        self.key = ""

    def take(self, count: int) -> str:
        """Return its key, for so many records more."""
        self._left -= count
        if self._left < 0:
            self._number += 1
            self.key = f"{self._name}-{self._size}-{self._number}"
            history(self._at, self.key, self._size, apart_ms=self._apart_ms)
            self._at.run([self._at.delivery(deposit(self.key))])
            self._left = int(self._size * GROWTH_MAX) + BATCH - count
        return self.key


def by_history(where: Ground, sizes: Sequence[int], rounds: int, apart_ms: int, what: str) -> list[Row]:
    """Measure commits and turns of one instance, by how many records it has."""
    rows: list[Row] = []
    with fresh(where.redis_url) as settings, desk(account.app, settings) as at:
        places, worked = [], []
        for size in sizes:
            history(at, f"pen-{size}", size, apart_ms=apart_ms)
            pen = Pen(at, [at.ref(Account.type, f"pen-{size}")])
            veteran = Veteran(at, what, size, apart_ms)
            veteran.take(1)
            worked.append(veteran)

            def commands(count: int, veteran: Veteran = veteran) -> list[Command]:
                return [deposit(veteran.take(count))] * count

            one, many = turns(at, commands, 1), turns(at, commands, BATCH)
            places.append(
                Place(size, {"commit of 1": pen.step(1), "turn of 1": one, f"turn of {BATCH} to one": many})
            )
        calm(where.redis_url)
        rows += compare(what, places, rounds)
        rows += _snapshots(
            at, what, [(veteran.key, place.size) for veteran, place in zip(worked, places, strict=True)]
        )
    return rows


def _snapshots(at: Desk, what: str, keys: Sequence[tuple[str, int]], times: int = 5) -> list[Row]:
    """Measure snapshots, and what each costs for every record since the one before it."""
    rows: list[Row] = []
    smallest = 0.0
    for key, size in keys:
        actor = at.turn.cache.get(at.ref(Account.type, key))
        if actor is None:
            message = f"{key} is not in the cache"
            raise LookupError(message)
        took = []
        for _ in range(times):
            began = time.perf_counter()
            at.ports.journal.snapshot([(actor.ref, actor.snapshot())])
            took.append((time.perf_counter() - began) * 1e6)
        every = max(at.settings.snapshot_every, len(actor.handled) // SNAPSHOT_SHARE)
        p50 = quantile(took, 0.5)
        smallest = smallest or p50 / every
        rows.append(
            {
                "system": "holdfast",
                "what": f"a record's share of snapshots, {size:,} {what}",
                "size": size,
                "p50_us": round(p50),
                "records": every,
                "share_us": round(p50 / every, 2),
                "ratio": round(p50 / every / smallest, 2),
            }
        )
    return rows


def by_instances(where: Ground, sizes: Sequence[int], rounds: int) -> list[Row]:
    """Measure beside so many other instances of the same partition; each number of them on a Redis of its own."""
    with ExitStack() as stack:
        places = []
        for url, size in zip(_servers(where, stack, len(sizes)), sizes, strict=True):
            at = _desk(stack, url, account.app, 1)
            at.fill(deposit(f"other-{number}") for number in range(size))
            places.append(Place(size, _both(at, [f"k{number}" for number in range(BATCH)])))
            calm(url)
        return compare("other instances", places, rounds)


def by_timers(where: Ground, sizes: Sequence[int], rounds: int) -> list[Row]:
    """Measure with a timer in each record, beside so many others in the same partition; each number on a Redis of its own."""
    with ExitStack() as stack:
        places, ends = [], []
        for url, size in zip(_servers(where, stack, len(sizes)), sizes, strict=True):
            at = _desk(stack, url, alarm.app, 1)
            pending(url, at.settings, size)
            pen = Pen(at, [at.ref(Alarm.type, f"pen-{number}") for number in range(BATCH)], timers=True)
            later = datetime.now(UTC) + timedelta(days=1)

            def commands(count: int, later: datetime = later) -> list[Command]:
                return [Arm(f"k{number}", later) for number in range(count)]

            at.fill(commands(BATCH))
            steps = {
                "commit of 1 with a timer": pen.step(1),
                f"commit of {BATCH} with timers": pen.step(BATCH),
                "turn of 1 with a timer": turns(at, commands, 1),
                f"turn of {BATCH} with timers": turns(at, commands, BATCH),
                "look for what is due": _looks(at),
            }
            places.append(Place(size, steps))
            ends.append(Place(size, {"cancel of 1": _cancels(at)}))
            calm(url)
        rows = compare("pending timers", places, rounds)
        return rows + compare("pending timers", ends, CANCELS, warm_up=0)


def _cancels(at: Desk) -> Step:
    """Return the step of cancelling an instance, which has one timer."""
    numbers = count()

    def prepare() -> Callable[[], object]:
        key = f"cancelled-{next(numbers)}"
        at.run([at.delivery(Arm(key, datetime.now(UTC) + timedelta(days=1)))])
        batch = [at.control(Alarm.type, key, Cancel("no more"))]
        return lambda: at.run(batch)

    return prepare


def _looks(at: Desk) -> Step:
    everywhere = range(at.settings.partitions)
    return lambda: lambda: at.ports.timers.fire(everywhere, "", 256)


def by_partitions(where: Ground, sizes: Sequence[int], rounds: int) -> list[Row]:
    """Measure with so many partitions, all served by one worker."""
    with ExitStack() as stack:
        places = []
        for size in sizes:
            at = _desk(stack, where.redis_url, account.app, size)
            steps = _both(at, [f"k{number}" for number in range(BATCH)])
            places.append(Place(size, steps | {"look for what is due in all of them": _looks(at)}))
        calm(where.redis_url)
        return compare("partitions", places, rounds)


def _servers(where: Ground, stack: ExitStack, count: int) -> Iterator[str]:
    yield where.redis_url
    for _ in range(count - 1):
        yield stack.enter_context(another_redis())


def _desk(stack: ExitStack, url: str, app: App, partitions: int) -> Desk:
    return stack.enter_context(desk(app, stack.enter_context(fresh(url, partitions=partitions))))


SIZES = {
    "histories": (10, 1_000, 100_000),
    "ids": (10, 1_000, 10_000, 100_000),
    "instances": (0, 100_000),
    "timers": (0, 1_000_000),
    "partitions": (1, 16, 64),
}


@dataclass(frozen=True)
class Options:
    """How much of it."""

    #: What may make steps grow.
    only: str = ",".join(SIZES)
    rounds: int = 300


def measure(where: Ground, options: Options, sizes: Mapping[str, Sequence[int]] = SIZES) -> list[Row]:
    """Measure by everything that is asked for, the smallest size first."""
    rounds = options.rounds
    measures: dict[str, Callable[[Sequence[int]], list[Row]]] = {
        "histories": lambda some: by_history(where, some, rounds, SLOWLY_MS, "records"),
        "ids": lambda some: by_history(where, some, rounds, RUSH_MS, "remembered ids"),
        "instances": lambda some: by_instances(where, some, rounds),
        "timers": lambda some: by_timers(where, some, rounds),
        "partitions": lambda some: by_partitions(where, some, rounds),
    }
    return [row for name in options.only.split(",") for row in measures[name](sizes[name])]


# Once: sizes are measured in turn within each round already.
main = command("growth", __doc__, measure, Options, runs=1, after=judged)

if __name__ == "__main__":
    main()
