"""Metrics: every one that there is, with its unit, what it says and its attributes. docs/metrics.md shows this list.

Attributes have few values: types, outcomes, pools. Never a key, an id or a text that somebody else chose.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What is done with the numbers of several processes."""

    #: It only grows; rates and sums make sense.
    COUNTER = "counter"
    #: How often which values were met.
    HISTOGRAM = "histogram"
    #: As things are now.
    GAUGE = "gauge"


class Of(StrEnum):
    """Whose number it is, and so who reports it."""

    #: Every worker process reports its own; the sum is that of the installation.
    WORKER = "worker"
    #: One worker reports it for all: the one that serves partition 0 in the command pool.
    INSTALLATION = "installation"


class Metric(NamedTuple):
    """One metric."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    of: Of = Of.WORKER
    #: Upper bounds of a histogram's buckets.
    buckets: tuple[float, ...] = ()


_QUICK_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)

COMMANDS = Metric(
    "holdfast.commands",
    Kind.COUNTER,
    "{command}",
    "Commands by what became of them: accepted, rejected, duplicate, completed, parked or dead.",
    ("workflow", "command", "outcome"),
)
COMMAND_AGE = Metric(
    "holdfast.command.age",
    Kind.HISTOGRAM,
    "s",
    "Of each batch, how long ago its oldest command was sent when it was decided, by the sender's clock.",
    buckets=_SLOW_S,
)
TURN_DURATION = Metric(
    "holdfast.turn.duration",
    Kind.HISTOGRAM,
    "s",
    "How long a lane worked on a batch; in the effect pool, how long it took to start its effects.",
    ("pool",),
    buckets=_QUICK_S,
)
TURN_SIZE = Metric(
    "holdfast.turn.size",
    Kind.HISTOGRAM,
    "{item}",
    "How much a batch had: commands, effects, timers, or instances of a projection.",
    ("pool",),
    buckets=_COUNTS,
)
COMMITS = Metric(
    "holdfast.commits",
    Kind.COUNTER,
    "{commit}",
    "Commits of one instance each by outcome: committed, conflict (another writer was there), fenced (another has the "
    "lease) or ahead (the log goes beyond its instance). A refusal is confirmed by a commit too.",
    ("outcome",),
)
CACHE = Metric(
    "holdfast.cache.lookups",
    Kind.COUNTER,
    "{lookup}",
    "Looks for an instance in a worker's cache, by result: hit or miss.",
    ("result",),
)
PARTITIONS = Metric(
    "holdfast.partitions.owned",
    Kind.GAUGE,
    "{partition}",
    "Partitions that the worker serves, by pool.",
    ("pool",),
)
HANDOVERS = Metric(
    "holdfast.partitions.handovers",
    Kind.COUNTER,
    "{partition}",
    "Partitions that the worker took, and that it handed over, by pool.",
    ("pool", "direction"),
)
ATTEMPTS = Metric(
    "holdfast.effect.attempt.duration",
    Kind.HISTOGRAM,
    "s",
    "How long an effect's handler ran, by how that ended: done, failed or timeout. Its count is that of the attempts.",
    ("effect", "outcome"),
    buckets=_SLOW_S,
)
STALLS = Metric(
    "holdfast.loop.stalls",
    Kind.COUNTER,
    "{stall}",
    "How often a handler kept the event loop from running the others for a second or more.",
)
LATENESS = Metric(
    "holdfast.timer.lateness",
    Kind.HISTOGRAM,
    "s",
    "How long after its time a timer's command was handed on, by Redis's clock.",
    buckets=_QUICK_S,
)
DEAD_LETTERS = Metric(
    "holdfast.dead_letters",
    Kind.COUNTER,
    "{letter}",
    "Dead letters that were written, by kind and by what the command, effect or event is called.",
    ("kind", "type"),
)

DEPTH = Metric(
    "holdfast.queue.depth",
    Kind.GAUGE,
    "{item}",
    "What waits for a pool: commands in their queues, unfinished effects, timers that are due.",
    ("pool",),
    Of.INSTALLATION,
)
AGE = Metric(
    "holdfast.queue.age",
    Kind.GAUGE,
    "s",
    "For how long the oldest of that has waited; of commands no transport tells, see holdfast.command.age.",
    ("pool",),
    Of.INSTALLATION,
)
DESERTED = Metric(
    "holdfast.partitions.deserted",
    Kind.GAUGE,
    "{partition}",
    "Partitions that no living worker serves, by pool.",
    ("pool",),
    Of.INSTALLATION,
)
WORKERS = Metric(
    "holdfast.workers", Kind.GAUGE, "{process}", "Worker processes that live.", of=Of.INSTALLATION
)
SCHEDULED = Metric(
    "holdfast.timers.pending",
    Kind.GAUGE,
    "{timer}",
    "Timers whose time has not come.",
    of=Of.INSTALLATION,
)
RETRIES = Metric(
    "holdfast.effects.retries.pending",
    Kind.GAUGE,
    "{effect}",
    "Effects that wait in the schedule for their next attempt; of each partition the next 500 entries are looked at.",
    of=Of.INSTALLATION,
)
KEPT = Metric(
    "holdfast.dead_letters.kept",
    Kind.GAUGE,
    "{letter}",
    "Dead letters that wait for a person.",
    of=Of.INSTALLATION,
)
LAG_RECORDS = Metric(
    "holdfast.projection.lag.records",
    Kind.GAUGE,
    "{record}",
    "Records that the live read model does not have yet.",
    ("projection",),
    Of.INSTALLATION,
)
LAG_TIME = Metric(
    "holdfast.projection.lag.time",
    Kind.GAUGE,
    "s",
    "For how long the oldest of them has waited.",
    ("projection",),
    Of.INSTALLATION,
)
PARKED = Metric(
    "holdfast.projection.parked",
    Kind.GAUGE,
    "{instance}",
    "Instances that the live read model has parked.",
    ("projection",),
    Of.INSTALLATION,
)
INSTANCES = Metric(
    "holdfast.instances",
    Kind.GAUGE,
    "{instance}",
    "Instances by workflow and run state.",
    ("workflow", "run_state"),
    Of.INSTALLATION,
)

METRICS = (
    COMMANDS,
    COMMAND_AGE,
    TURN_DURATION,
    TURN_SIZE,
    COMMITS,
    CACHE,
    PARTITIONS,
    HANDOVERS,
    ATTEMPTS,
    STALLS,
    LATENESS,
    DEAD_LETTERS,
    DEPTH,
    AGE,
    DESERTED,
    WORKERS,
    SCHEDULED,
    RETRIES,
    KEPT,
    LAG_RECORDS,
    LAG_TIME,
    PARKED,
    INSTANCES,
)
