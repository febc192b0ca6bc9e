"""Ports: what the heart needs from the outside world. Few verbs, one sentence each.

Every port has an in-memory twin in `brokers/memory.py`, short enough to be its specification; the contract suites in
`tests/contract/` run against every adapter. All verbs take many at once, so that a batch is one round trip.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.feed import Feed as Feed  # noqa: PLC0414 - a port like those below
from holdfast.runtime.feed import Parking as Parking  # noqa: PLC0414 - a port like those below
from holdfast.runtime.feed import ReadModel as ReadModel  # noqa: PLC0414 - a port like those below
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.observation import Observation
from holdfast.runtime.record import EffectEntry, Snapshot, TimerEntry
from holdfast.runtime.timers import Timers as Timers  # noqa: PLC0414 - shown here with the other ports

#: The token of a commit that claims no lease: the exact sequence number and head alone protect it.
NO_LEASE = -1

#: What is to be said of a log and an instance that do not end at the same record.
OUT_OF_STEP = "one of the two was lost or restored without the other; restore both from one backup, then retry the dead letters"


@dataclass(frozen=True, slots=True)
class Opened:
    """An instance as the journal has it; `seq` is 0 when it does not exist."""

    ref: Ref
    seq: int
    #: The command id of the last record; empty when there is none.
    head: str
    #: The token of the lease that was taken; 0 when there is nothing to lease yet.
    token: int
    run_state: RunState
    snapshot: Snapshot | None
    #: The log's entries after the snapshot, as stored: (seq, bytes).
    tail: Sequence[tuple[int, bytes]]
    #: How many commands are kept for it until it is resumed.
    parked: int = 0
    #: Why it is in its run state, where somebody said so.
    reason: str = ""
    #: The unique key that it holds; empty for none.
    unique: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """Another process holds the lease."""

    ref: Ref
    owner: str
    #: Until when, in milliseconds from now, unless its holder renews it.
    remaining_ms: int


class Park(NamedTuple):
    """A command to keep until its instance is resumed."""

    command_id: str
    #: Its envelope, as it arrived.
    body: bytes
    #: Whether it goes before what is kept already.
    first: bool = False


@dataclass(slots=True)
class Commit:
    """What one instance's decisions ask to be written, all or nothing.

    Without entries or parked commands it writes nothing and only checks that the view it is based on still holds.
    """

    ref: Ref
    #: The view that the decisions are based on.
    seq: int
    head: str
    token: int
    #: Entries to append, and the command id of the last of them.
    entries: list[bytes] = field(default_factory=list)
    new_head: str = ""
    was: RunState = RunState.RUNNING
    run_state: RunState = RunState.RUNNING
    effects: list[EffectEntry] = field(default_factory=list)
    #: Names of timers to cancel; applied before `timers`.
    cancels: list[str] = field(default_factory=list)
    timers: list[TimerEntry] = field(default_factory=list)
    #: Commands to keep; one that is kept already stays as and where it is.
    parks: Sequence[Park] = ()
    #: How many may be kept: those that find no room are not, and everything else is written all the same.
    parks_max: int = 10_000
    #: Ids of commands that are kept no longer.
    unparks: Sequence[str] = ()
    #: Why the instance will be in its run state; None to leave that as it is.
    reason: str | None = None
    #: The unique key that it will hold, empty for none; None to leave that as it is. See `Uniques`.
    unique: str | None = None
    #: Until when the claim on that key lasts, by the journal's clock: later the commit is a conflict.
    unique_until_ms: int = 0
    #: Delete everything recorded but the last entry, and have this as the snapshot.
    wipe: Snapshot | None = None
    #: Dead letters that nothing else would bring back if they were written later.
    dead: Sequence[DeadLetter] = ()
    #: With `wipe`, and where payloads are encrypted: what takes the place of the instance's data key.
    secret: bytes = b""
    #: Refusals that callers are about to be told, to be remembered together with the commit: the name of the command in
    #: its partition, and the answer.
    refusals: Sequence[tuple[str, bytes]] = ()
    #: Names of commands that another may have refused meanwhile: if one was, the commit is a conflict.
    unless_refused: Sequence[str] = ()
    #: Which of `effects` begin their first attempt with this commit, the journal's owner their holder, if that serves
    #: the partition's effects; none where it is empty.
    begins: Sequence[bool] = ()

    @property
    def plain(self) -> bool:
        """Whether it asks for nothing but what every decision may."""
        return (
            self.reason is None
            and self.unique is None
            and self.wipe is None
            and not (self.parks or self.unparks or self.dead or self.unique_until_ms)
        )

    @property
    def empty(self) -> bool:
        """Whether it writes nothing."""
        return not (self.entries or self.parks or self.unparks or self.dead)


class Committed(NamedTuple):
    """Everything was written."""

    #: The token of the lease that now holds.
    token: int
    #: Where the last record is in the partition's feed; empty while nobody reads that.
    feed_id: str = ""
    #: How many commands are kept now; None where the commit neither touched them nor moved the run.
    parked: int | None = None
    #: Ids of commands that found no room.
    crowded_out: tuple[str, ...] = ()
    #: Where in the outbox the effects are that have begun.
    begun: tuple[str, ...] = ()


class Conflict(NamedTuple):
    """Nothing was written: the log is not where the decisions thought it was."""

    seq: int


class Fenced(NamedTuple):
    """Nothing was written: the lease is another's."""

    token: int


class Ahead(NamedTuple):
    """Nothing was written: the log goes beyond its instance, which is where the decisions thought it was.

    One of the two was lost or restored without the other. No writer of ours leaves them so, and trying again helps
    nobody.
    """

    #: Where the instance is.
    seq: int

    def sentence(self, ref: Ref) -> str:
        """Return what is wrong, and what to do, for people."""
        return f"the log of {ref} goes beyond its instance, which ends at {self.seq}: {OUT_OF_STEP}"


CommitResult = Committed | Conflict | Fenced | Ahead


class Journal(Protocol):
    """Keeps the logs; proved by tests/contract/test_journal.py, test_logs.py and test_races.py."""

    def open(self, refs: Sequence[Ref], owner: str) -> list[Opened | Held]:
        """Take or confirm the lease of each instance, and return what it takes to fold its state."""
        ...

    def read(self, refs: Sequence[Ref], *, snapshots: bool = True) -> list[Opened]:
        """Return each instance without touching its lease; `snapshots=False` returns the whole log as the tail."""
        ...

    def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
        """Write each commit whose lease, token, sequence number and head all still hold, and renew its lease."""
        ...

    def snapshot(self, snapshots: Sequence[tuple[Ref, Snapshot]]) -> None:
        """Keep each snapshot that is newer than the kept one and still at the log's head."""
        ...

    def trim(self, ref: Ref, upto: int) -> int:
        """Delete a log's entries up to a sequence number, as far as a snapshot has them and nobody reads the feed.

        Return how many those were.
        """
        ...

    def release(self, refs: Sequence[tuple[Ref, int]], owner: str) -> None:
        """Give up the leases that are still held with these tokens."""
        ...

    def entries(self, ref: Ref, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to `limit` of the log's entries after a sequence number."""
        ...

    def entry(self, wanted: Sequence[tuple[Ref, int]]) -> list[bytes | None]:
        """Return single entries by sequence number; None for one that is not (or no longer) there."""
        ...

    def parked(self, refs: Sequence[Ref], limit: int) -> list[list[tuple[str, bytes]]]:
        """Return for each instance the first commands that are kept for it, in order: (command id, envelope)."""
        ...

    def follow(self, ref: Ref, after: int, limit: int, timeout_s: float) -> list[tuple[int, bytes]]:
        """Wait until the log has an entry after this sequence number; return up to `limit`, or nothing if it has none.

        The first is the one with this number, where that is there: so it can be seen whether the log is still the same.
        `limit` is 2 at the least, therefore.
        """
        ...

    def barrier(self) -> None:
        """Return once everything that this thread wrote is as durable as configured, or raise NotDurable."""
        ...


class Outbox(Protocol):
    """Shows what effects and timers were asked for; proved by tests/contract/test_outbox.py."""

    def effects(self, partition: int, limit: int) -> list[EffectEntry]:
        """Return effects that nobody has finished, oldest first."""
        ...

    def timers(self, partition: int, limit: int) -> list[tuple[int, TimerEntry]]:
        """Return pending timers by due time: (milliseconds since 1970, timer)."""
        ...


class Remains(Protocol):
    """Clears away what an instance that is over has left elsewhere; proved by tests/contract/test_remains.py."""

    def withdraw(self, ref: Ref) -> int:
        """Remove a finished instance's pending timers and the effects in the outbox; return how many there were."""
        ...

    def scrub(self, ref: Ref) -> int:
        """Do what `withdraw` does, and forget dead letters and observations of an instance whose data was deleted."""
        ...


class Answers(Protocol):
    """Carries outcomes to waiting callers and remembers refusals; proved by tests/contract/test_answers.py."""

    def remember(self, refusals: Sequence[tuple[int, str, bytes]]) -> None:
        """Keep refusals that callers are about to be told: (partition, command id, answer)."""
        ...

    def recall(self, wanted: Sequence[tuple[int, str]]) -> list[bytes | None]:
        """Return the refusals kept for these commands: (partition, command id)."""
        ...

    def reply(self, answers: Sequence[tuple[str, bytes]]) -> None:
        """Publish answers to whoever still waits for them: (reply address, answer)."""
        ...


class Suspects(Protocol):
    """Counts the turns that a command's workers did not survive; proved by tests/contract/test_dead_letters.py."""

    def begin(self, commands: Sequence[tuple[int, str]]) -> list[int]:
        """Count one more turn for each (partition, command id), and return the counts."""
        ...

    def clear(self, commands: Sequence[tuple[int, str]]) -> None:
        """Forget commands whose turn came to an end."""
        ...


class DeadLetters(Protocol):
    """Keeps what was given up on; proved by tests/contract/test_dead_letters.py."""

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters; one with a known id replaces it."""
        ...

    def list(
        self,
        *,
        workflow: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        message_type: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Return dead letters, newest first."""
        ...

    def count(
        self,
        *,
        workflow: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        message_type: str | None = None,
        since: datetime | None = None,
    ) -> int:
        """Return how many dead letters there are."""
        ...

    def get(self, id: str) -> DeadLetter | None:  # noqa: A002 - the field's name
        """Return one dead letter."""
        ...

    def remove(self, id: str) -> bool:  # noqa: A002 - the field's name
        """Forget a dead letter; return whether it was there."""
        ...

    def revive(self, id: str, entry: EffectEntry) -> bool:  # noqa: A002 - the field's name
        """Put an effect back into the outbox, as one that nobody has begun, and forget its dead letter, in one step.

        Return whether the letter was there; without it nothing is put back.
        """
        ...


class Observations(Protocol):
    """Keeps what came to instances, the latest of each; proved by tests/contract/test_observations.py."""

    def observe(self, seen: Sequence[tuple[Ref, Observation]]) -> None:
        """Keep observations."""
        ...

    def observations(self, ref: Ref, limit: int) -> list[Observation]:
        """Return the latest observations of an instance, newest first."""
        ...


class Listed(NamedTuple):
    """One line of the directory."""

    workflow: str
    key: str
    run_state: RunState
    seq: int
    created: datetime
    updated: datetime


class Page(NamedTuple):
    """Some lines of the directory, and where the next ones start; no cursor when there are no more."""

    instances: list[Listed]
    cursor: str | None


class Directory(Protocol):
    """Finds instances; proved by tests/contract/test_directory.py."""

    def instances(
        self,
        workflow: str,
        *,
        run_state: RunState | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Return instances of a workflow by time of last change, the latest first."""
        ...

    def count(self, workflow: str, run_state: RunState) -> int:
        """Return how many instances are in a run state."""
        ...


class Size(NamedTuple):
    """How much room the instances of a workflow take, as far as a sample tells."""

    workflow: str
    instances: int
    #: Of all of them, reckoned from the sample.
    bytes: int
    sampled: int
    #: The largest of the sample: (key, bytes).
    largest: list[tuple[str, int]]


class Sizes(Protocol):
    """Measures what instances take; proved by tests/contract/test_sizes.py."""

    def sizes(self, workflows: Sequence[str], sample: int) -> list[Size]:
        """Measure up to `sample` instances of each workflow, picked by chance."""
        ...


#: The kinds of work that processes divide among themselves.
POOLS = ("command", "effect", "timer", "projection")


class Member(NamedTuple):
    """One living worker process."""

    id: str
    pools: tuple[str, ...]
    host: str
    pid: int
    since: datetime


#: One partition in one pool.
Share = tuple[str, int]


class Roll(NamedTuple):
    """What a member hears when it says that it lives."""

    #: All that live.
    living: list[Member]
    #: What it serves, but is not claimed for it: it is another's, or nobody's.
    lost: set[Share]


class Membership(Protocol):
    """Knows the living and who serves what; proved by tests/contract/test_membership.py."""

    def beat(
        self, member: Member, ttl_ms: int, serving: Collection[Share] = (), knows: Sequence[str] = ()
    ) -> Roll:
        """Say that a member lives for so long and serves this; return who lives, and what is not claimed for it.

        `knows` are the types of its workflows, which do not change while it lives.
        """
        ...

    def living(self) -> list[Member]:
        """Return the living members."""
        ...

    def known(self) -> dict[str, set[str]]:
        """Return, by living member, which workflows it knows; of those that have said so."""
        ...

    def leave(self, member_id: str) -> None:
        """Say that a member is gone, and free all that it served."""
        ...

    def claim(self, partition: int, pool: str, member_id: str, living: Sequence[str]) -> bool:
        """Become the one who serves a partition, unless one of the living does; return whether we do.

        `living` are those whom the caller knows to live; of anyone else it is found out before he is replaced.
        """
        ...

    def yield_(self, partition: int, pool: str, member_id: str) -> None:
        """Stop being the one who serves a partition."""
        ...

    def owners(self, pool: str) -> list[str | None]:
        """Return who serves each partition."""
        ...


@dataclass(slots=True)
class Delivery:
    """A message that was taken from a partition's queue and is not yet acknowledged."""

    partition: int
    body: bytes
    #: How often it was handed out before this time; 0 for a fresh one.
    redeliveries: int
    #: The transport's own handle.
    tag: Any
    #: When this process first put it off, on the monotonic clock; 0 if it never did.
    deferred_since: float = 0.0
    #: What a foreign sender said beside the body: content_type, message_id, type, traceparent.
    attributes: dict[str, str] | None = None
    #: How many turns of this process it was in, this one included.
    turns: int = 0
    #: How many bytes it had, where it was too large to be anything and `body` is only its beginning; else 0.
    whole: int = 0
    #: The span of its decision, from when that was first asked for; None where it is not traced.
    span: Any = None

    @property
    def fresh(self) -> bool:
        """Whether nobody has worked on it before: a command in it that is known already came in another message."""
        return self.redeliveries == 0 and self.turns <= 1


class Publisher(Protocol):
    """Hands commands to the transport, from any thread; proved by tests/contract/test_transport.py."""

    @property
    def crowded(self) -> bool:
        """Whether so much waits to be sent that `publish` would make its caller wait."""
        ...

    def publish(self, partition: int, body: bytes) -> Future[None]:
        """Send a message; the future ends when the transport has confirmed it, or with PublishFailed.

        Raises:
            Overloaded: So much waits to be sent that this was not taken.
        """
        ...

    def close(self) -> None:
        """Wait a short while for what is on its way, and stop."""
        ...


class Consumer(Protocol):
    """Takes messages from the partitions that it is given; proved by tests/contract/test_transport.py."""

    def assign(self, partition: int) -> None:
        """Begin to take from a partition, once its former consumer is gone."""
        ...

    def revoke(self, partition: int) -> None:
        """Stop taking from a partition; what was taken stays ours until it is acknowledged or returned."""
        ...

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Return what has arrived, in order within each partition; an empty list after the timeout."""
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages: they are done with."""
        ...

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return messages of partitions that were revoked, for the next consumer to get in order."""
        ...

    def outstanding(self, partition: int) -> int:
        """Return how many messages of a partition were handed to us and are neither acknowledged nor given back."""
        ...

    def close(self) -> None:
        """Return everything that is not acknowledged, and stop."""
        ...


class Door(Protocol):
    """A transport that foreign messages come through as well."""

    def doorman(self) -> Consumer:
        """Return a consumer of them."""
        ...

    def publisher(self) -> Publisher:
        """Return a new publisher."""
        ...


class Transport(Protocol):
    """Carries commands to the partitions, in order per sender and partition; proved by tests/contract/test_transport.py."""

    def publisher(self) -> Publisher:
        """Return a new publisher."""
        ...

    def consumer(self, owner: str = "") -> Consumer:
        """Return a new consumer without partitions.

        With an `owner` it never takes what is new in a partition that somebody else serves, whatever it is assigned.
        """
        ...

    def depth(self, partition: int) -> int:
        """Return how many messages of a partition wait.

        Those that are being worked on count where the transport knows of them: RabbitMQ does not say.
        """
        ...

    def depths(self) -> list[int]:
        """Return the depth of every partition, in one go."""
        ...
