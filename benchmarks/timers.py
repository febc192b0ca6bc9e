"""How late are timers, applied: at a steady rate, all at one instant, and one alone?

Run it as
    python -m benchmarks.timers [--rate 500] [--seconds 10] [--instant 5000] [--alone 200] [--processes 2] [--runs 3] [--json]

Lateness is from the time that a timer was set for to when Redis committed the command that it sent, by one clock.
What a million pending timers cost is in benchmarks.growth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from benchmarks.alarm import Alarm, Arm, app
from benchmarks.crew import crew
from benchmarks.ground import Ground, Meter, Row, quantile
from benchmarks.report import command
from benchmarks.stage import asking, await_served, await_that, fresh
from holdfast import Client, RunState, connect
from holdfast.actors.wiring import Ports

#: How long setting so many timers may take before the first of them is due: a floor, and for each thousand.
LEAD_S, LEAD_PER_THOUSAND_S = 2.0, 1.0
#: How often it is looked whether all alarms went off.
LOOK_S = 0.05
#: How far ahead one alone is set.
SHORT_MS = 10


@contextmanager
def serving(where: Ground, processes: int) -> Iterator[tuple[Client, Ports]]:
    """Run workers that have fired a timer before."""
    with (
        fresh(where.redis_url, where.amqp_url) as settings,
        connect(app, settings) as client,
        crew(where, settings, "benchmarks.alarm:app", processes=processes, pools=("command", "timer")),
        asking(settings) as ports,
    ):
        await_served(ports, settings, processes, "timer")
        client.execute(Arm("warm", datetime.now(UTC)), timeout=60)
        client.wait(Alarm, "warm", until=lambda state: state.rang == 1, timeout=60)
        yield client, ports


def lead(count: int) -> timedelta:
    """Return how far ahead the first of so many timers is set."""
    return timedelta(seconds=LEAD_S + LEAD_PER_THOUSAND_S * count / 1000)


def lateness(where: Ground, client: Client, ports: Ports, what: str, due: Sequence[datetime]) -> Row:
    """Set an alarm for each time, wait until all went off, and return how late that was committed.

    Raises:
        ValueError: The timers were not all set before the first was due, so nothing was measured.
    """

    def count(run_state: RunState) -> int:
        # The directory tells without reading each, which would cost as much as ringing it.
        return ports.directory.count(Alarm.type, run_state)

    meter, before = Meter(where), count(RunState.COMPLETED)
    keys = [f"{what}-{number}" for number in range(len(due))]
    client.send_many(map(Arm, keys, due))
    await_that(
        "every alarm was set",
        lambda: count(RunState.RUNNING) >= len(due) or datetime.now(UTC) > due[0],
        step_s=LOOK_S,
    )
    slack_s = (due[0] - datetime.now(UTC)).total_seconds()
    if slack_s < 0:
        message = f"setting {len(due)} timers took longer than until the first was due"
        raise ValueError(message)
    await_that("all went off", lambda: count(RunState.COMPLETED) >= before + len(due), step_s=LOOK_S)
    cost = meter.cost(len(due))
    rang = dict(_committed(ports))
    wrong = sum(len(records) != 2 for _, records in client.histories(Alarm, keys))
    late = [(rang[key] - at).total_seconds() * 1000 for key, at in zip(keys, due, strict=True)]
    return _row(what, late) | {"set_before_s": round(slack_s, 1), "wrong": wrong} | cost


def _committed(ports: Ports) -> Iterator[tuple[str, datetime]]:
    """Yield when each alarm that went off was last written, by the clock of Redis."""
    cursor: str | None = None
    while True:
        page = ports.directory.instances(Alarm.type, run_state=RunState.COMPLETED, limit=1_000, cursor=cursor)
        yield from ((listed.key, listed.updated) for listed in page.instances)
        cursor = page.cursor
        if cursor is None:
            return


def _row(what: str, late: Sequence[float]) -> Row:
    return {
        "system": "holdfast",
        "what": what,
        "timers": len(late),
        "earliest_ms": round(min(late), 1),
        "p50_ms": round(quantile(late, 0.5), 1),
        "p99_ms": round(quantile(late, 0.99), 1),
        "max_ms": round(max(late), 1),
    }


def steady(where: Ground, client: Client, ports: Ports, rate: int, seconds: float) -> Row:
    """Have so many timers a second come due."""
    count = int(rate * seconds)
    start = datetime.now(UTC) + lead(count)
    due = [start + timedelta(seconds=number / rate) for number in range(count)]
    return lateness(where, client, ports, f"{rate} a second", due)


def instant(where: Ground, client: Client, ports: Ports, count: int) -> Row:
    """Have so many timers come due at one instant."""
    at = datetime.now(UTC) + lead(count)
    return lateness(where, client, ports, "at one instant", [at] * count)


def alone(where: Ground, client: Client, ports: Ports, count: int) -> Row:
    """Set timers for very soon, one at a time, while the pool sleeps; those that were set too late do not count."""
    meter, due = Meter(where), dict[str, datetime]()
    for number in range(count):
        key = f"alone-{number}"
        due[key] = datetime.now(UTC) + timedelta(milliseconds=SHORT_MS)
        client.send(Arm(key, due[key]))
        client.wait(Alarm, key, until=lambda state: state.rang >= 1, timeout=60)
    cost, rang = meter.cost(count), dict(_committed(ports))
    set_at = {key: records[0].at for key, records in client.histories(Alarm, due)}
    in_time = [key for key in due if set_at[key] < due[key]]
    late = [(rang[key] - due[key]).total_seconds() * 1000 for key in in_time or due]
    return _row(f"alone, {SHORT_MS} ms ahead", late) | {"set_late": count - len(in_time)} | cost


@dataclass(frozen=True)
class Options:
    """How much of it."""

    #: Timers a second, and for how long.
    rate: int = 500
    seconds: float = 10.0
    #: Timers at one instant, and one at a time.
    instant: int = 5_000
    alone: int = 200
    #: As plain dramatiq, a process for each of two cores.
    processes: int = 2


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure one alone, a steady rate, and one instant."""
    with serving(where, options.processes) as (client, ports):
        return [
            alone(where, client, ports, options.alone),
            steady(where, client, ports, options.rate, options.seconds),
            instant(where, client, ports, options.instant),
        ]


main = command("timers", __doc__, measure, Options)

if __name__ == "__main__":
    main()
