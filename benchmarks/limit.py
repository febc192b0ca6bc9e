"""What do the same bytes cost with no Holdfast in between?

Run it as
    python -m benchmarks.limit [--commands 20000] [--keys 1000] [--runs 3] [--json]

*consume and ack*: the commands of the throughput benchmark, as its client sent them, taken by pika from the same quorum
queues and acknowledged many at a time; nothing is done with them.
*commit*: the journal's own script, called with records, numbers and leases that were made before. A call has what a turn
would take at once: as many commands of a partition as its consumer may hold, those of an instance in one commit.
`ratio` is how many times that is what Holdfast reached in the same run with the queue full.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pika

from benchmarks.counter import Increment, Incremented, app
from benchmarks.crew import namespace
from benchmarks.ground import Ground, Meter, Row
from benchmarks.report import command
from benchmarks.rows import compared
from benchmarks.tally import Tally
from benchmarks.throughput import Load, holdfast_row, submit
from holdfast import Settings
from holdfast.actors.wiring import open_ports
from holdfast.brokers.rabbitmq_topology import Topology
from holdfast.runtime.codec import encode
from holdfast.runtime.ids import new_id
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Commit, Committed, Journal
from holdfast.runtime.record import Entry

OWNER = "benchmark"


@dataclass(frozen=True)
class Options:
    """How much of it."""

    commands: int = 20_000
    keys: int = 1_000
    #: Holdfast's worker processes, in what the limits are held against.
    processes: int = 1


def measure(where: Ground, options: Options) -> list[Row]:
    """Measure both limits once, and Holdfast itself."""
    load = Load("queue full", options.commands, options.keys, full=True)
    rows = [
        consumed(where, load),
        committed(where, load),
        holdfast_row(where, load, options.processes),
    ]
    return compared(rows, "holdfast")


def consumed(where: Ground, load: Load) -> Row:
    """Measure pika: one connection and channel, a consumer for each partition, many acknowledged at once."""
    with namespace(where, app) as client:
        submit(client, load)
        taker = Taker(where.amqp_url, client.settings, load.commands)
        meter = Meter(where)
        taker.run()
        return meter.row("pika, consume and ack", load.what, load.commands)


class Taker:
    """Takes so many messages from a namespace's queues, as quickly as pika can."""

    def __init__(self, amqp_url: str, settings: Settings, count: int) -> None:
        self._topology = Topology(settings.namespace, settings.partitions)
        self._prefetch = settings.prefetch
        self._left = count
        self._unacked = 0
        self._connection = pika.SelectConnection(
            pika.URLParameters(amqp_url),
            on_open_callback=self._opened,
            on_open_error_callback=self._over,
            on_close_callback=self._over,
        )

    def run(self) -> None:
        """Return when all are taken and acknowledged."""
        self._connection.ioloop.start()
        self._connection.ioloop.close()
        if self._left:
            message = f"the connection ended before the last {self._left:,} messages"
            raise ConnectionError(message)

    def _over(self, *_: Any) -> None:
        self._connection.ioloop.stop()

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._begin)

    def _begin(self, channel: Any) -> None:
        channel.basic_qos(prefetch_count=self._prefetch)
        for partition in range(self._topology.partitions):
            channel.basic_consume(self._topology.queue(partition), self._take)

    def _take(self, channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        self._left -= 1
        self._unacked += 1
        if self._unacked >= self._prefetch // 2 or not self._left:
            channel.basic_ack(method.delivery_tag, multiple=True)
            self._unacked = 0
        if not self._left:
            self._connection.close()


def committed(where: Ground, load: Load) -> Row:
    """Measure the script: a record of each command to its instance."""
    with namespace(where, app) as client, Tally(client.settings) as tally:
        ports = open_ports(client.settings)
        try:
            batches = list(_batches(ports.journal, tally, load, client.settings.prefetch))
            meter = Meter(where)
            for batch in batches:
                _all_committed(ports.journal.commit(batch, OWNER))
            return meter.row("commit script", load.what, load.commands)
        finally:
            ports.close()


def _batches(journal: Journal, tally: Tally, load: Load, size: int) -> Iterator[list[Commit]]:
    """Give every instance a first record, and then yield the commits of all commands."""
    latest = {ref: Commit(ref, 0, "", 0) for ref in map(tally.ref, load.wanted())}
    for ref, commit in latest.items():
        _add(commit)
        (result,) = _all_committed(journal.commit([commit], OWNER))
        latest[ref] = Commit(ref, 1, commit.new_head, result.token)
    queues: dict[int, list[Ref]] = defaultdict(list)
    for number in range(load.commands):
        ref = tally.ref(load.key(number))
        queues[ref.partition].append(ref)
    for queue in queues.values():
        for start in range(0, len(queue), size):
            batch = list(dict.fromkeys(queue[start : start + size]))
            for ref in queue[start : start + size]:
                _add(latest[ref])
            yield [latest[ref] for ref in batch]
            for ref in batch:
                done = latest[ref]
                latest[ref] = Commit(ref, done.seq + len(done.entries), done.new_head, done.token)


def _add(commit: Commit) -> None:
    """Add the record of one more command."""
    commit.new_head = new_id()
    at_ms = int(time.time() * 1000)
    commit.entries.append(
        encode(Entry(commit.new_head, Increment.__name__, at_ms, commit.token, (Incremented(),)))
    )


def _all_committed(results: Any) -> list[Committed]:
    for result in results:
        if not isinstance(result, Committed):
            message = f"not committed: {result}"
            raise TypeError(message)
    return list(results)


main = command("limit", __doc__, measure, Options)

if __name__ == "__main__":
    main()
