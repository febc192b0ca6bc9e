"""How long does one command take, on an idle system and at 50% and 80% of the highest rate, beside plain dramatiq?

Run it as
    python -m benchmarks.latency [--alone 500] [--seconds 10] [--runs 3] [--json]

*publish to commit*: from the call of `send` until an XREAD that blocked on the instance's log, on a connection and a
thread of its own, has returned its record. For plain dramatiq: until a BLPOP that blocked on what the actor writes.
*answered*: until `execute` has returned; for plain dramatiq until a BLPOP after the send has.
*at n%*: commands are sent at times that were drawn before, whatever becomes of those before them; each is timed from
when it should have been sent, until its answer is in this process. One in ten asks for its answer. `sent_late_p99_ms`
is how much of that was the sender's own: it shares the machine with all the rest.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from benchmarks.counter import Increment, app
from benchmarks.crew import crew, namespace
from benchmarks.ground import Ground, Meter, Row
from benchmarks.report import command
from benchmarks.rival import rival
from benchmarks.rows import latencies, quantile
from benchmarks.tally import Tally
from benchmarks.throughput import APP, Load, submit, warm_up
from benchmarks.watch import TIMEOUT_S, Watch
from holdfast import Accepted, Client
from holdfast.actors.wiring import open_ports

#: Shares of the highest rate.
SHARES = (0.5, 0.8)
#: One in so many commands is timed at a rate: answers of all would be a load of their own.
TIMED_EVERY = 10


@dataclass(frozen=True)
class Options:
    """How much of it."""

    #: Commands that are sent one at a time, and to how many keys in turn.
    alone: int = 500
    keys: int = 100
    #: How long each rate is kept up, and how many commands the highest rate is measured with.
    seconds: float = 10.0
    commands: int = 20_000
    #: Holdfast's worker processes.
    processes: int = 1


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure once, plain dramatiq and Holdfast in turn."""
    return [*dramatiq_rows(where, options), *holdfast_rows(where, options)]


def dramatiq_rows(where: Ground, options: Options) -> list[Row]:
    """Measure plain dramatiq, one at a time."""
    with rival(where) as plain, plain.workers(where), Watch() as watch:
        plain.warm_up()
        keys = [f"k{number}" for number in range(options.keys)]

        def committed(number: int) -> float:
            key = keys[number % len(keys)]
            return watch.timed(plain.await_answer, lambda: plain.increment.send(key, plain.answers))

        def answered(number: int) -> None:
            plain.increment.send(keys[number % len(keys)], plain.answers)
            plain.await_answer()

        return [
            alone(where, "dramatiq", "alone, publish to commit", options.alone, committed),
            alone(where, "dramatiq", "alone, answered", options.alone, _timed(answered)),
        ]


def holdfast_rows(where: Ground, options: Options) -> list[Row]:
    """Measure Holdfast, one at a time and then at rates."""
    with (
        namespace(where, app) as client,
        Tally(client.settings) as tally,
        crew(where, client.settings, APP, processes=options.processes),
        Watch() as watch,
    ):
        warm_up(client)
        keys = [f"k{number}" for number in range(options.keys)]
        for key in keys:
            client.execute(Increment(key), timeout=60)
        ports = open_ports(client.settings)
        seqs = dict.fromkeys(keys, 1)

        def committed(number: int) -> float:
            key = keys[number % len(keys)]
            ref, seq = tally.ref(key), seqs[key]
            seqs[key] += 1
            return watch.timed(
                lambda: ports.journal.follow(ref, seq, 2, TIMEOUT_S), lambda: client.send(Increment(key))
            )

        def answered(number: int) -> None:
            outcome = client.execute(Increment(keys[number % len(keys)]))
            if not isinstance(outcome, Accepted):
                message = f"not accepted: {outcome}"
                raise TypeError(message)

        try:
            rows = [
                alone(where, "holdfast", "alone, publish to commit", options.alone, committed),
                alone(where, "holdfast", "alone, answered", options.alone, _timed(answered)),
            ]
        finally:
            ports.close()
        rate = highest_rate(client, tally, options)
        return rows + [at_rate(where, client, share, rate * share, options.seconds) for share in SHARES]


def alone(where: Ground, system: str, what: str, count: int, once: Callable[[int], float]) -> Row:
    """Measure one at a time."""
    meter = Meter(where)
    times_ms = [once(number) for number in range(count)]
    return latencies(system, what, times_ms) | meter.cost(count)


def _timed(act: Callable[[int], None]) -> Callable[[int], float]:
    def once(number: int) -> float:
        began = time.perf_counter()
        act(number)
        return (time.perf_counter() - began) * 1000

    return once


def highest_rate(client: Client, tally: Tally, options: Options) -> float:
    """Return how many commands a second are submitted and applied when nothing holds them back."""
    load = Load("highest rate", options.commands, 1_000, full=False)
    before = dict(zip(load.wanted(), tally.records(list(load.wanted())), strict=True))
    began = time.perf_counter()
    submit(client, load)
    tally.await_records({key: before[key] + count for key, count in load.wanted().items()})
    return load.commands / (time.perf_counter() - began)


def at_rate(where: Ground, client: Client, share: float, rate: float, seconds: float) -> Row:
    """Measure commands that come by chance, so many a second on the average."""
    times_ms: list[float] = []
    behind_ms: list[float] = []
    answers: list[Future[object]] = []
    sent: list[Future[None]] = []
    number = 0
    meter = Meter(where)
    began = time.perf_counter()
    for number, after in enumerate(arrivals(rate, seconds), start=1):
        due = began + after
        while (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        behind_ms.append(-left * 1000)
        order = Increment(f"k{number % 1_000}")
        if number % TIMED_EVERY:
            sent.append(client.submit(order)[1])
            continue

        def note(_: Future[object], due: float = due) -> None:
            times_ms.append((time.perf_counter() - due) * 1000)

        answer: Future[object] = client.submit_for_outcome(order, timeout=TIMEOUT_S)[1]  # type: ignore[assignment]  # of an Outcome
        answer.add_done_callback(note)
        answers.append(answer)
    took = time.perf_counter() - began
    for answer in answers:
        answer.result(TIMEOUT_S)
    for future in sent:
        future.result(TIMEOUT_S)
    return {
        **latencies("holdfast", f"at {share:.0%} of the highest rate", times_ms),
        "asked_per_second": round(rate),
        "sent_per_second": round(number / took),
        "sent_late_p99_ms": round(quantile(behind_ms, 0.99), 2),
        **meter.cost(number),
    }


def arrivals(rate: float, seconds: float, seed: int = 1) -> Iterator[float]:
    """Yield when commands come, in seconds from the beginning: independent of each other, as by a Poisson process."""
    chance = random.Random(seed)
    at = chance.expovariate(rate)
    while at < seconds:
        yield at
        at += chance.expovariate(rate)


main = command("latency", __doc__, measure, Options)

if __name__ == "__main__":
    main()
