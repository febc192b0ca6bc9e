"""Every port in memory: the readable specification of the others, and what tests and the simulator run on.

Nothing here survives the process. All ports of one `MemoryServer` share its state, as clients of one server would.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime

from holdfast.brokers.care import company
from holdfast.brokers.cursor import decode_cursor, encode_cursor
from holdfast.brokers.keys import name_of_effect
from holdfast.runtime.clock import Clock, SystemClock, from_ms, to_ms
from holdfast.runtime.dead_letter import DeadLetter, Wanted
from holdfast.runtime.effect_queue import Ended, Note
from holdfast.runtime.errors import PublishFailed
from holdfast.runtime.feed import Generations, Order, ParkedKey, Reader
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.observation import Observation
from holdfast.runtime.ports import (
    NO_LEASE,
    Commit,
    CommitResult,
    Committed,
    Conflict,
    Delivery,
    Fenced,
    Held,
    Listed,
    Member,
    Opened,
    Page,
    Roll,
    Share,
)
from holdfast.runtime.record import EffectEntry, Snapshot, TimerEntry


@dataclass
class _Instance:
    """What the server keeps of one instance."""

    seq: int = 0
    head: str = ""
    token: int = 0
    owner: str = ""
    lease_until_ms: int = 0
    run_state: RunState = RunState.RUNNING
    created_ms: int = 0
    updated_ms: int = 0
    log: list[bytes] = field(default_factory=list)
    snapshot: Snapshot | None = None
    #: The sequence number before the log's first entry: what was before it was deleted.
    start: int = 0
    #: Commands that are kept until it is resumed, in order: (id, envelope).
    parked: list[tuple[str, bytes]] = field(default_factory=list)
    reason: str = ""
    unique: str = ""


@dataclass
class ReaderState:
    """What the server keeps of a reader of a partition's feed, beside its position."""

    walk: str | None = ""
    walked: int = 0


@dataclass
class _Reading:
    """What the server keeps for projections, by (partition, reader) where nothing else is said."""

    #: By projection, its generations and how many orders were given.
    generations: dict[str, Generations] = field(default_factory=dict)
    orders: dict[str, int] = field(default_factory=dict)
    readers: dict[tuple[int, Reader], ReaderState] = field(default_factory=dict)
    parked: dict[tuple[int, Reader], dict[Ref, ParkedKey]] = field(default_factory=dict)
    ordered: int = 0
    orders_given: dict[tuple[int, Reader], dict[Ref, Order]] = field(default_factory=dict)
    applied: dict[tuple[int, Reader], dict[Ref, int]] = field(default_factory=dict)


class MemoryServer:
    """The state that all memory ports of one installation share."""

    def __init__(self, partitions: int = 16, clock: Clock | None = None) -> None:
        self.partitions = partitions
        self.clock = clock or SystemClock()
        self.changed = threading.Condition()
        self.instances: dict[Ref, _Instance] = {}
        self.effects: dict[int, list[EffectEntry]] = {p: [] for p in range(partitions)}
        #: By (partition, effect name): where an effect is in its outbox, who began it how often and when, why it waits.
        self.effects_seen = 0
        self.effect_positions: dict[tuple[int, str], int] = {}
        self.begun: dict[tuple[int, str], tuple[int, int, str]] = {}
        self.effect_notes: dict[tuple[int, str], Note] = {}
        #: By partition, the last effects that led to no command.
        self.effects_ended: dict[int, dict[str, Ended]] = {p: {} for p in range(partitions)}
        #: By limit, who holds a place and until when; by rate, when effects began or may begin, and whose turn that is.
        self.slots: dict[str, dict[str, int]] = {}
        self.starts: dict[str, list[tuple[int, str]]] = {}
        self.timers: dict[int, dict[str, tuple[int, TimerEntry]]] = {p: {} for p in range(partitions)}
        #: Timers whose time has come and that were not sent yet: by partition and id, (name, due_ms, envelope).
        self.due: dict[int, dict[str, tuple[str, int, bytes]]] = {p: {} for p in range(partitions)}
        self.fired = 0
        #: Every record since somebody reads: (id, instance, seq, entry).
        self.feeds: dict[int, list[tuple[str, Ref, int, bytes]]] = {p: [] for p in range(partitions)}
        self.fed = 0
        #: By projection, up to which id it has read.
        self.readers: dict[int, dict[str, str]] = {p: {} for p in range(partitions)}
        #: The last id that each feed gave, and what else projections need.
        self.feed_ends: dict[int, str] = {}
        self.reading = _Reading()
        #: By workflow and unique key: holder, the record that has it, and until when it is only claimed.
        self.uniques: dict[tuple[str, str], tuple[str, int, int]] = {}
        self.observations: dict[Ref, list[Observation]] = {}
        #: Wrapped data keys, where payloads are encrypted.
        self.secrets: dict[Ref, bytes] = {}
        self.refusals: dict[tuple[int, str], bytes] = {}
        self.suspects: dict[tuple[int, str], int] = {}
        self.mail: dict[str, Future[bytes]] = {}
        self.dead: dict[str, DeadLetter] = {}
        self.members: dict[str, tuple[Member, int]] = {}
        #: By member, the workflows that it knows.
        self.known: dict[str, set[str]] = {}
        self.owners: dict[tuple[str, int], str] = {}
        self.published = 0
        self.queues: dict[int, deque[Delivery]] = {p: deque() for p in range(partitions)}
        self.consumers: dict[int, MemoryConsumer] = {}

    def now_ms(self) -> int:
        """Return the server's time."""
        return to_ms(self.clock.now())


class MemoryJournal:
    """The journal and the outbox."""

    def __init__(self, server: MemoryServer, *, lease_ms: int = 10_000, leases: bool = True) -> None:
        self._server = server
        self._lease_ms = lease_ms
        self._leases = leases

    def open(self, refs: Sequence[Ref], owner: str) -> list[Opened | Held]:
        """Take the lease of each instance that exists, is free, is ours, or whose holder lost the partition to us."""
        with self._server.changed:
            return [self._open(ref, owner) for ref in refs]

    def _open(self, ref: Ref, owner: str) -> Opened | Held:
        now = self._server.now_ms()
        instance = self._server.instances.get(ref)
        if instance is None or not self._leases:
            return self._opened(ref, 0 if instance is None else NO_LEASE, snapshots=True)
        if instance.owner != owner:
            serving = self._server.owners.get(("command", ref.partition))
            if instance.owner and instance.lease_until_ms > now and serving != owner:
                return Held(ref, instance.owner, instance.lease_until_ms - now)
            instance.token += 1
            instance.owner = owner
        instance.lease_until_ms = now + self._lease_ms
        return self._opened(ref, instance.token, snapshots=True)

    def read(self, refs: Sequence[Ref], *, snapshots: bool = True) -> list[Opened]:
        """Return each instance as it is."""
        with self._server.changed:
            return [
                self._opened(ref, NO_LEASE if ref in self._server.instances else 0, snapshots=snapshots)
                for ref in refs
            ]

    def _opened(self, ref: Ref, token: int, *, snapshots: bool) -> Opened:
        instance = self._server.instances.get(ref) or _Instance()
        snapshot = instance.snapshot if snapshots else None
        start = max(snapshot.seq if snapshot else 0, instance.start)
        tail = list(enumerate(instance.log[start - instance.start :], start + 1))
        return Opened(
            ref,
            instance.seq,
            instance.head,
            token,
            instance.run_state,
            snapshot,
            tail,
            len(instance.parked),
            instance.reason,
            instance.unique,
        )

    def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
        """Check everything of a commit, then write all of it."""
        with self._server.changed:
            results = [self._commit(commit, owner) for commit in commits]
            self._server.changed.notify_all()
            return results

    def _commit(self, commit: Commit, owner: str) -> CommitResult:
        now = self._server.now_ms()
        instance = self._server.instances.get(commit.ref) or _Instance()
        claims = self._leases and commit.token != NO_LEASE
        if claims and commit.token > 0 and (instance.owner != owner or instance.token != commit.token):
            return Fenced(instance.token)
        if instance.seq != commit.seq or instance.head != commit.head:
            return Conflict(instance.seq)
        if claims and commit.token == 0 and instance.seq:
            return Fenced(instance.token)
        partition, told = commit.ref.partition, self._server.refusals
        if any((partition, name) in told for name in commit.unless_refused):
            return Conflict(instance.seq)
        if commit.unique_until_ms and now >= commit.unique_until_ms:
            return Conflict(instance.seq)
        told.update({(partition, name): answer for name, answer in commit.refusals})
        if commit.empty:
            return Committed(commit.token)
        parked, crowded_out = self._park(commit, instance)
        self._server.dead.update({letter.id: letter for letter in commit.dead})
        if not commit.entries:
            return Committed(commit.token, parked=parked, crowded_out=crowded_out)
        if instance.seq == 0:
            self._server.instances[commit.ref] = instance
            instance.created_ms = now
        instance.seq += len(commit.entries)
        instance.head = commit.new_head
        instance.run_state = commit.run_state
        instance.updated_ms = now
        instance.log += commit.entries
        instance.reason = instance.reason if commit.reason is None else commit.reason
        instance.unique = instance.unique if commit.unique is None else commit.unique
        if commit.wipe is not None:
            instance.start, instance.log = instance.seq - 1, instance.log[-1:]
            instance.snapshot = commit.wipe
            instance.parked.clear()
            self._server.observations.pop(commit.ref, None)
            if commit.secret:
                self._server.secrets[commit.ref] = commit.secret
        if claims:
            instance.token = max(instance.token, 1)
            instance.owner = owner
            instance.lease_until_ms = now + self._lease_ms
        begun = self._effects(commit, owner, now)
        timers = self._server.timers[commit.ref.partition]
        for name in commit.cancels:
            timers.pop(name, None)
        for timer in commit.timers:
            due_ms = timer.due_ms or now + timer.delay_ms
            timers[timer.name] = (due_ms, TimerEntry(timer.name, timer.envelope, 0, due_ms))
        token = instance.token if claims else commit.token
        return Committed(token, self._feed(commit, instance), parked, crowded_out, begun)

    def _effects(self, commit: Commit, owner: str, now: int) -> tuple[str, ...]:
        """Put effects into the outbox; return where those are that begin at once."""
        server, partition = self._server, commit.ref.partition
        server.effects[partition] += commit.effects
        if server.owners.get(("effect", partition)) != owner:
            return ()
        positions = []
        for entry, begins in zip(commit.effects, commit.begins, strict=False):
            if begins:
                name = (partition, name_of_effect(entry.workflow, entry.key, entry.id))
                server.effects_seen += 1
                server.effect_positions[name] = server.effects_seen
                server.begun[name] = (1, now, owner)
                positions.append(f"{server.effects_seen}-0")
        return tuple(positions)

    def _park(self, commit: Commit, instance: _Instance) -> tuple[int | None, tuple[str, ...]]:
        """Keep commands and let others go; return how many there are, where anything changed, and who found no room."""
        if not (commit.parks or commit.unparks) and commit.reason is None:
            return None, ()
        kept = [one for one in instance.parked if one[0] not in commit.unparks]
        crowded_out: list[str] = []
        for command_id, body, first in commit.parks:
            if any(command_id == known for known, _ in kept):
                continue
            if len(kept) >= commit.parks_max:
                crowded_out.append(command_id)
            else:
                kept.insert(0 if first else len(kept), (command_id, body))
        instance.parked = kept
        return len(kept), tuple(crowded_out)

    def parked(self, refs: Sequence[Ref], limit: int) -> list[list[tuple[str, bytes]]]:
        """Return the first commands that are kept."""
        with self._server.changed:
            return [(self._server.instances.get(ref) or _Instance()).parked[:limit] for ref in refs]

    def _feed(self, commit: Commit, instance: _Instance) -> str:
        """Show records to projections, while there are any; return where the last one is."""
        partition = commit.ref.partition
        if not self._server.readers[partition]:
            return ""
        feed, first = self._server.feeds[partition], instance.seq - len(commit.entries) + 1
        for seq, entry in enumerate(commit.entries, first):
            self._server.fed += 1
            feed.append((f"{self._server.fed}-0", commit.ref, seq, entry))
        self._server.feed_ends[partition] = feed[-1][0]
        return feed[-1][0]

    def snapshot(self, snapshots: Sequence[tuple[Ref, Snapshot]]) -> None:
        """Keep the snapshots that are at their log's head."""
        with self._server.changed:
            for ref, snapshot in snapshots:
                instance = self._server.instances.get(ref)
                if instance and (instance.seq, instance.head) == (snapshot.seq, snapshot.head):
                    instance.snapshot = snapshot

    def trim(self, ref: Ref, upto: int) -> int:
        """Delete what a snapshot has."""
        with self._server.changed:
            instance = self._server.instances.get(ref)
            if instance is None or instance.snapshot is None or self._server.readers[ref.partition]:
                return 0
            count = max(0, min(upto, instance.snapshot.seq) - instance.start)
            instance.start += count
            del instance.log[:count]
            return count

    def release(self, refs: Sequence[tuple[Ref, int]], owner: str) -> None:
        """Free the leases that are still ours."""
        with self._server.changed:
            for ref, token in refs:
                instance = self._server.instances.get(ref)
                if instance and (instance.owner, instance.token) == (owner, token):
                    instance.owner, instance.lease_until_ms = "", 0

    def entries(self, ref: Ref, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return a stretch of the log."""
        with self._server.changed:
            instance = self._server.instances.get(ref) or _Instance()
            first = max(after, instance.start)
            log = instance.log[first - instance.start :]
            return list(enumerate(log[:limit], first + 1))

    def entry(self, wanted: Sequence[tuple[Ref, int]]) -> list[bytes | None]:
        """Return single entries."""
        found = ((seq, self.entries(ref, seq - 1, 1)) for ref, seq in wanted)
        return [entries[0][1] if entries and entries[0][0] == seq else None for seq, entries in found]

    def follow(self, ref: Ref, after: int, limit: int, timeout_s: float) -> list[tuple[int, bytes]]:
        """Wait for the log to grow."""
        with self._server.changed:
            grown = self._server.changed.wait_for(
                lambda: (self._server.instances.get(ref) or _Instance()).seq > after, timeout_s
            )
            return self.entries(ref, max(0, after - 1), limit) if grown else []

    def barrier(self) -> None:
        """Promise nothing: memory is the level `memory`."""

    def effects(self, partition: int, limit: int) -> list[EffectEntry]:
        """Return the oldest effects."""
        with self._server.changed:
            return self._server.effects[partition][:limit]

    def timers(self, partition: int, limit: int) -> list[tuple[int, TimerEntry]]:
        """Return the next timers."""
        with self._server.changed:
            return sorted(self._server.timers[partition].values(), key=lambda pair: (pair[0], pair[1].name))[
                :limit
            ]


class MemoryAnswers:
    """Answers and refusals, and the suspects beside them."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def remember(self, refusals: Sequence[tuple[int, str, bytes]]) -> None:
        """Keep refusals."""
        with self._server.changed:
            self._server.refusals.update({(partition, id_): answer for partition, id_, answer in refusals})

    def recall(self, wanted: Sequence[tuple[int, str]]) -> list[bytes | None]:
        """Return refusals."""
        with self._server.changed:
            return [self._server.refusals.get(one) for one in wanted]

    def reply(self, answers: Sequence[tuple[str, bytes]]) -> None:
        """End the futures of whoever waits."""
        for address, answer in answers:
            future = self._server.mail.pop(address, None)
            if future is not None:
                future.set_result(answer)

    def expect(self, address: str) -> Future[bytes]:
        """Return a future that the answer to this address ends, and nobody can cancel."""
        future = self._server.mail.setdefault(address, Future())
        if not future.running():
            future.set_running_or_notify_cancel()
        return future

    def forget(self, address: str) -> None:
        """Stop expecting an answer."""
        self._server.mail.pop(address, None)

    def begin(self, commands: Sequence[tuple[int, str]]) -> list[int]:
        """Count a turn."""
        with self._server.changed:
            for command in commands:
                self._server.suspects[command] = self._server.suspects.get(command, 0) + 1
            return [self._server.suspects[command] for command in commands]

    def clear(self, commands: Sequence[tuple[int, str]]) -> None:
        """Forget the counts."""
        with self._server.changed:
            for command in commands:
                self._server.suspects.pop(command, None)

    def close(self) -> None:
        """Do nothing: there is no connection."""


class MemoryDeadLetters:
    """The dead-letter index."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def _wanted(self, wanted: Wanted) -> list[DeadLetter]:
        with self._server.changed:
            found = [letter for letter in self._server.dead.values() if wanted.admits(letter)]
        return sorted(found, key=lambda letter: (letter.at_ms, letter.id), reverse=True)

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters."""
        with self._server.changed:
            self._server.dead.update({letter.id: letter for letter in letters})

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
        """Return the newest that match."""
        wanted = Wanted(workflow, key, kind, message_type, to_ms(since) if since else None)
        return self._wanted(wanted)[:limit]

    def count(
        self,
        *,
        workflow: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        message_type: str | None = None,
        since: datetime | None = None,
    ) -> int:
        """Return how many match."""
        return len(self._wanted(Wanted(workflow, key, kind, message_type, to_ms(since) if since else None)))

    def get(self, id: str) -> DeadLetter | None:  # noqa: A002 - the field's name
        """Return one."""
        return self._server.dead.get(id)

    def remove(self, id: str) -> bool:  # noqa: A002 - the field's name
        """Forget one."""
        with self._server.changed:
            return self._server.dead.pop(id, None) is not None

    def revive(self, id: str, entry: EffectEntry) -> bool:  # noqa: A002 - the field's name
        """Put an effect back."""
        with self._server.changed:
            letter = self._server.dead.pop(id, None)
            if letter is not None:
                self._server.effects[letter.partition].append(entry)
                self._server.changed.notify_all()
            return letter is not None


class MemoryDirectory:
    """The directory of instances."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

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
        """Return instances, the latest changed first."""
        low = to_ms(since) if since else 0
        high = to_ms(until) if until else float("inf")
        with self._server.changed:
            found = sorted(
                (
                    (instance.updated_ms, ref.key, instance)
                    for ref, instance in self._server.instances.items()
                    if ref.workflow == workflow and run_state in (None, instance.run_state)
                    if low <= instance.updated_ms <= high
                ),
                key=lambda line: (line[0], line[1].encode()),
                reverse=True,
            )
        if cursor is not None:
            last = decode_cursor(cursor)
            found = [line for line in found if (line[0], line[1].encode()) < (last[0], last[1].encode())]
        lines = [
            Listed(workflow, key, one.run_state, one.seq, from_ms(one.created_ms), from_ms(updated))
            for updated, key, one in found[:limit]
        ]
        more = len(found) > limit
        return Page(lines, encode_cursor(found[limit - 1][0], found[limit - 1][1]) if more else None)

    def count(self, workflow: str, run_state: RunState) -> int:
        """Return how many instances are in a run state."""
        with self._server.changed:
            return sum(
                ref.workflow == workflow and one.run_state is run_state
                for ref, one in self._server.instances.items()
            )


class MemoryMembership:
    """Who lives and who serves what."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def beat(
        self, member: Member, ttl_ms: int, serving: Collection[Share] = (), knows: Sequence[str] = ()
    ) -> Roll:
        """Live for so long."""
        with self._server.changed:
            self._server.known[member.id] = set(knows)
            self._server.members[member.id] = (member, self._server.now_ms() + ttl_ms)
            lost = {share for share in serving if self._server.owners.get(share) != member.id}
            return Roll(self.living(), lost)

    def living(self) -> list[Member]:
        """Return who has said so lately enough."""
        with self._server.changed:
            now = self._server.now_ms()
            return sorted(member for member, until in self._server.members.values() if until > now)

    def known(self) -> dict[str, set[str]]:
        """Return what the living know."""
        with self._server.changed:
            found = {member.id: self._server.known.get(member.id) for member in self.living()}
            return {name: set(known) for name, known in found.items() if known}

    def leave(self, member_id: str) -> None:
        """Go, and serve nothing more."""
        with self._server.changed:
            self._server.known.pop(member_id, None)
            self._server.members.pop(member_id, None)
            for share in [share for share, owner in self._server.owners.items() if owner == member_id]:
                del self._server.owners[share]

    def claim(self, partition: int, pool: str, member_id: str, living: Sequence[str]) -> bool:
        """Take a partition that nobody alive serves."""
        with self._server.changed:
            owner = self._server.owners.get((pool, partition))
            alive = {*living, *(member.id for member in self.living())}
            if owner is not None and owner != member_id and owner in alive:
                return False
            self._server.owners[pool, partition] = member_id
            return True

    def yield_(self, partition: int, pool: str, member_id: str) -> None:
        """Give a partition back."""
        with self._server.changed:
            if self._server.owners.get((pool, partition)) == member_id:
                del self._server.owners[pool, partition]

    def owners(self, pool: str) -> list[str | None]:
        """Return who serves each partition."""
        with self._server.changed:
            return [
                self._server.owners.get((pool, partition)) for partition in range(self._server.partitions)
            ]


class MemoryPublisher:
    """Puts messages into the queues."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._closed = False

    @property
    def crowded(self) -> bool:
        """Whether `publish` would make its caller wait: never."""
        return False

    def publish(self, partition: int, body: bytes) -> Future[None]:
        """Put a message into a queue; it is confirmed at once. Its tag is its place among all that were published."""
        with self._server.changed:
            if self._closed:
                message = "the publisher is closed"
                raise PublishFailed(message)
            self._server.published += 1
            self._server.queues[partition].append(Delivery(partition, body, 0, self._server.published))
            self._server.changed.notify_all()
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        """Take nothing more; nothing is on its way."""
        with self._server.changed:
            self._closed = True


class MemoryConsumer:
    """Takes messages out of the queues; what it does not acknowledge goes back to their front, in order."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._assigned: set[int] = set()
        self._taken: dict[int, list[Delivery]] = {}
        self._woken = False

    def assign(self, partition: int) -> None:
        """Take from a partition as soon as nobody else does."""
        with self._server.changed:
            self._assigned.add(partition)

    def revoke(self, partition: int) -> None:
        """Take no more from a partition."""
        with self._server.changed:
            self._assigned.discard(partition)
            self._let_go(partition)

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        """Return what has arrived; what was handed out before comes in small batches, at last alone."""
        taken: list[Delivery] = []
        with self._server.changed:
            self._server.changed.wait_for(lambda: self._woken or self._has_some(), timeout_s)
            self._woken = False
            for partition in sorted(self._assigned):
                if self._server.consumers.setdefault(partition, self) is not self:
                    continue
                queue = self._server.queues[partition]
                while queue and len(taken) < (limit := company(queue[0].redeliveries, limit)):
                    taken.append(queue.popleft())
                    self._taken.setdefault(partition, []).append(taken[-1])
        return taken

    def wake(self) -> None:
        """Have a `take` that waits return; one that begins just now returns at once."""
        with self._server.changed:
            self._woken = True
            self._server.changed.notify_all()

    def _has_some(self) -> bool:
        return any(
            self._server.queues[p] and self._server.consumers.get(p, self) is self for p in self._assigned
        )

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forget messages that are done with."""
        done = {id(delivery) for delivery in deliveries}
        with self._server.changed:
            for partition, taken in self._taken.items():
                self._taken[partition] = [delivery for delivery in taken if id(delivery) not in done]
                if partition not in self._assigned:
                    self._let_go(partition)

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages back to where they were."""
        with self._server.changed:
            self._put_back(deliveries)
        self.ack(deliveries)

    def _put_back(self, deliveries: Sequence[Delivery]) -> None:
        queues = self._server.queues
        for partition in {delivery.partition for delivery in deliveries}:
            again = [
                Delivery(partition, one.body, one.redeliveries + 1, one.tag)
                for one in deliveries
                if one.partition == partition
            ]
            queues[partition] = deque(sorted([*again, *queues[partition]], key=lambda one: one.tag))

    def outstanding(self, partition: int) -> int:
        """Return how many messages are taken and not done."""
        return len(self._taken.get(partition, ()))

    def _let_go(self, partition: int) -> None:
        if not self._taken.get(partition) and self._server.consumers.get(partition) is self:
            del self._server.consumers[partition]
            self._server.changed.notify_all()

    def close(self) -> None:
        """Put everything back that is not acknowledged."""
        with self._server.changed:
            for taken in self._taken.values():
                self._put_back(taken)
            self._taken.clear()
            self._assigned.clear()
            for partition in [p for p, consumer in self._server.consumers.items() if consumer is self]:
                del self._server.consumers[partition]
            self._server.changed.notify_all()


class MemoryTransport:
    """Carries commands within the process."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def publisher(self) -> MemoryPublisher:
        """Return a publisher."""
        return MemoryPublisher(self._server)

    def consumer(self, owner: str = "") -> MemoryConsumer:  # noqa: ARG002 - nobody is thought dead in memory
        """Return a consumer."""
        return MemoryConsumer(self._server)

    def depth(self, partition: int) -> int:
        """Return how many messages wait or are taken."""
        consumer = self._server.consumers.get(partition)
        return len(self._server.queues[partition]) + (consumer.outstanding(partition) if consumer else 0)

    def depths(self) -> list[int]:
        """Return the depth of every partition."""
        return [self.depth(partition) for partition in range(self._server.partitions)]
