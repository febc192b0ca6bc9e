"""A command lane without a broker, and what is there before it is measured: histories, instances, pending timers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from benchmarks.account import Account, Deposit, Deposited
from benchmarks.stage import asking
from holdfast import App, Command, Settings
from holdfast.actors.wiring import Ports, limits
from holdfast.brokers.keys import Keys
from holdfast.runtime.actor import fold
from holdfast.runtime.cache import ACTORS_MAX, ActorCache
from holdfast.runtime.clock import SystemClock
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.ids import new_id
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.message import Envelope
from holdfast.runtime.ports import Commit, Committed, Delivery
from holdfast.runtime.record import Entry
from holdfast.runtime.turn import Turn

#: Commands in one turn, and entries in one commit, while something is being filled.
FILL = 500
YEAR_MS = 365 * 24 * 60 * 60 * 1000


class Desk:
    """The turn of a worker, on ports that are put together as a worker does; one process, one thread, no broker."""

    def __init__(self, app: App, settings: Settings, ports: Ports, *, actors_max: int = ACTORS_MAX) -> None:
        self.app, self.settings, self.ports = app, settings, ports
        self.owner = new_id()
        self.turn = Turn(
            app,
            ports.journal,
            ports.answers,
            ports.suspects,
            owner=self.owner,
            clock=SystemClock(),
            partitions=settings.partitions,
            limits=limits(settings),
            cache=ActorCache(actors_max),
            uniques=ports.uniques,
        )

    def ref(self, workflow: str, key: str) -> Ref:
        """Return which instance that is."""
        return Ref(partition_of(workflow, key, self.settings.partitions), workflow, key)

    def delivery(self, command: Command) -> Delivery:
        """Return a command as a broker would deliver it."""
        definition = self.app.definition_for(command)
        return self.control(definition.type, definition.key_of(command), command)

    def control(self, workflow: str, key: str, command: Command) -> Delivery:
        """Return a command to a named instance, such as a built-in one."""
        envelope = Envelope(new_id(), workflow, key, encode(command), int(time.time() * 1000))
        return Delivery(self.ref(workflow, key).partition, encode_envelope(envelope), 0, None)

    def run(self, deliveries: Sequence[Delivery]) -> None:
        """Have a batch decided, committed and made durable.

        Raises:
            ValueError: Not all of it was accepted.
        """
        result = self.turn.run(deliveries)
        for ref in result.over:
            self.ports.remains.withdraw(ref)
        for ref in result.erased:
            self.ports.remains.scrub(ref)
        self.ports.journal.barrier()
        if result.accepted != len(deliveries):
            message = f"{result.accepted} of {len(deliveries)} commands were accepted"
            raise ValueError(message)

    def fill(self, commands: Iterable[Command]) -> None:
        """Have many commands decided."""
        batch: list[Delivery] = []
        for command in commands:
            batch.append(self.delivery(command))
            if len(batch) == FILL:
                self.run(batch)
                batch = []
        if batch:
            self.run(batch)

    def let_go(self) -> None:
        """Forget all actors and release their leases, as a worker does that hands its partitions over."""
        for partition in range(self.settings.partitions):
            self.ports.journal.release(self.turn.forget(partition), self.owner)


@contextmanager
def desk(app: App, settings: Settings) -> Iterator[Desk]:
    """Yield a desk, and let go of its connections."""
    with asking(settings) as ports:
        yield Desk(app, settings, ports)


def deposit(key: str, number: int = 0) -> Deposit:
    """Return a command of the usual size."""
    return Deposit(key, 100 + number % 900, f"invoice {number:06}")


def history(at: Desk, key: str, records: int, *, apart_ms: int) -> Ref:
    """Write an account's log of one event in each record, so far apart in time, the last of them now."""
    ref = at.ref(Account.type, key)
    extend(at, ref, records, first_ms=int(time.time() * 1000) - records * apart_ms, apart_ms=apart_ms)
    return ref


def extend(at: Desk, ref: Ref, records: int, *, first_ms: int, apart_ms: int) -> None:
    """Append records to an account's log.

    Raises:
        TypeError: The journal refused.
    """
    opened: Any = at.ports.journal.open([ref], at.owner)[0]
    seq, head, token = opened.seq, opened.head, opened.token
    for start in range(0, records, FILL):
        entries, ids = [], []
        for number in range(start, min(start + FILL, records)):
            ids.append(new_id())
            event = Deposited(100 + number % 900, f"invoice {number:06}")
            entries.append(encode(Entry(ids[-1], "Deposit", first_ms + number * apart_ms, token, (event,))))
        (outcome,) = at.ports.journal.commit([Commit(ref, seq, head, token, entries, ids[-1])], at.owner)
        if not isinstance(outcome, Committed):
            message = f"not committed: {outcome}"
            raise TypeError(message)
        seq, head, token = seq + len(entries), ids[-1], outcome.token


def snapshot(at: Desk, *refs: Ref) -> int:
    """Keep a snapshot of instances as they are now, and return how many command ids are in all of them."""
    actors = [fold(at.app.definition(opened.ref.workflow), opened) for opened in at.ports.journal.read(refs)]
    at.ports.journal.snapshot([(actor.ref, actor.snapshot()) for actor in actors])
    return sum(len(actor.handled) for actor in actors)


def pending(redis_url: str, settings: Settings, count: int) -> None:
    """Set timers of other instances in partition 0 for the next years, as commits would have."""
    keys = Keys(settings.namespace)
    later = int(time.time() * 1000) + YEAR_MS
    with redis.Redis.from_url(redis_url) as client:
        for start in range(0, count, 10_000):
            names = [f"alarm/9/{n:09}/t" for n in range(start, min(start + 10_000, count))]
            body = {name: encode_envelope(Envelope(f"{name}:t0", "alarm", name, b"\x80")) for name in names}
            pipe = client.pipeline(transaction=False)
            pipe.zadd(keys.schedule(0), {name: later + 1000 * at for at, name in enumerate(names, start)})
            pipe.hset(keys.timers(0), mapping=body)
            pipe.zadd(keys.timer_names(0), dict.fromkeys(names, 0))
            pipe.execute()
