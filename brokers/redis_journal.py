"""The journal and the outbox in Redis: one script per transition, all instances of a batch in one pipeline."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.brokers import scripts
from holdfast.brokers.durability import Barrier
from holdfast.brokers.keys import Keys, name_of_effect
from holdfast.brokers.redis_link import BARE, RedisLink, unavailable
from holdfast.brokers.redis_log import bare_records_in, record_in, records_in, seq_of
from holdfast.brokers.scripts import (
    Call,
    CommitCall,
    CommitOne,
    DeadCall,
    MoreCall,
    ParkCall,
    Script,
    TimerCall,
)
from holdfast.runtime.codec import encode
from holdfast.runtime.config import Settings
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import (
    NO_LEASE,
    Ahead,
    Commit,
    CommitResult,
    Committed,
    Conflict,
    Fenced,
    Held,
    Opened,
)
from holdfast.runtime.record import EffectEntry, Snapshot, TimerEntry

#: Instances per script call: a call must stay around a millisecond, since Redis does nothing else meanwhile.
INSTANCES_PER_CALL = 64
#: Log entries that one call returns for one instance, and that one further page has.
ENTRIES_PER_CALL = 1_000
#: Further pages of a log that are asked for in one round trip: Redis reads one while we take in the one before.
PAGES_PER_TRIP = 10
#: Log entries that one call deletes.
TRIM_PER_CALL = 5_000
#: The longest single wait on a log, so that a dead connection is noticed.
WAIT_STEP_S = 5.0

#: What open.lua says in place of where a tail begins that has to be read entry by entry.
_IRREGULAR = b"irregular"

_snapshot_decoder = msgspec.msgpack.Decoder(Snapshot)
_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)


class RedisJournal:
    """Keeps the logs in Redis. One for each thread."""

    def __init__(self, settings: Settings, link: RedisLink, barrier: Barrier | None = None) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._lease_ms = settings.lease_ms
        self._leases = settings.leases
        self._refusals_ms = settings.refusals_s * 1000
        self._barrier = barrier

    def open(self, refs: Sequence[Ref], owner: str) -> list[Opened | Held]:
        """Take or confirm leases; see open.lua."""
        return self._open(refs, owner, take=self._leases, snapshots=True)

    def read(self, refs: Sequence[Ref], *, snapshots: bool = True) -> list[Opened]:
        """Return instances without touching their leases."""
        found = self._open(refs, "", take=False, snapshots=snapshots)
        return [opened for opened in found if isinstance(opened, Opened)]

    def _open(self, refs: Sequence[Ref], owner: str, *, take: bool, snapshots: bool) -> list[Opened | Held]:
        chunks = _chunks(refs)
        calls = []
        for chunk in chunks:
            keys = [self._keys.serving(refs[chunk[0]].partition)]
            for index in chunk:
                ref = refs[index]
                keys += (self._keys.actor(ref), self._keys.snap(ref), self._keys.log(ref))
            args = (owner, self._lease_ms, ENTRIES_PER_CALL, "1" if take else "0", "1" if snapshots else "0")
            calls.append(Call(Script.OPEN, keys, args))
        replies = self._run(chunks, calls)
        return [self._opened(ref, replies[index], leased=take) for index, ref in enumerate(refs)]

    def _run(self, chunks: Sequence[Sequence[int]], calls: Sequence[Call]) -> dict[int, Any]:
        """Make one call for each chunk, and return the replies by the positions that the chunks name."""
        found: dict[int, Any] = {}
        for chunk, replies in zip(chunks, scripts.run(self._link, calls), strict=True):
            found.update(zip(chunk, replies, strict=True))
        return found

    def _opened(self, ref: Ref, reply: list[Any], *, leased: bool) -> Opened | Held:
        if reply[0] == b"absent":
            return Opened(ref, 0, "", 0, RunState.RUNNING, None, [])
        if reply[0] == b"held":
            return Held(ref, reply[1].decode(), int(reply[2]))
        _, seq, head, token, run_state, parked, reason, unique, snapshot, first, *tail = reply
        kept = _snapshot_decoder.decode(snapshot) if snapshot else None
        if first == _IRREGULAR:
            entries = self.entries(ref, kept.seq if kept is not None else 0, ENTRIES_PER_CALL)
        else:
            entries = list(enumerate(tail, seq_of(first))) if tail else []
        # The rest of a long tail is read up to where the log was: others may be writing to it.
        while entries and entries[-1][0] < int(seq):
            more = self._further(ref, entries[-1][0] + 1, int(seq))
            if not more:
                break  # the log ends before its instance; whoever folds it says so
            entries += more
        return Opened(
            ref,
            int(seq),
            head.decode(),
            int(token) if leased else NO_LEASE,
            RunState(run_state.decode()),
            kept,
            entries,
            int(parked),
            reason.decode(),
            unique.decode(),
        )

    def _further(self, ref: Ref, first: int, last: int) -> list[tuple[int, bytes]]:
        """Return the next entries of a long log, several pages in one round trip, read as they come.

        Where all of these are gone, the next that are left.
        """
        starts = range(first, last + 1, ENTRIES_PER_CALL)[:PAGES_PER_TRIP]
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for start in starts:
                end = min(start + ENTRIES_PER_CALL - 1, last)
                pipe.execute_command("XRANGE", self._keys.log(ref), f"{start}-0", f"{end}-0", **BARE)
            found = [one for page in pipe.execute() for one in bare_records_in(page)]
        return found or [one for one in self.entries(ref, first - 1, ENTRIES_PER_CALL) if one[0] <= last]

    def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
        """Write commits; see commit.lua."""
        chunks = _chunks([commit.ref for commit in commits])
        calls = [self._commit_call([commits[index] for index in chunk], owner) for chunk in chunks]
        replies = self._run(chunks, calls)
        return [
            _committed(int(number), *more) if more else _REFUSALS[status](int(number))
            for status, number, *more in map(replies.__getitem__, range(len(commits)))
        ]

    def _commit_call(self, commits: list[Commit], owner: str) -> Call:
        partition = commits[0].ref.partition
        own = self._keys
        keys = [
            own.feed(partition),
            own.effects(partition),
            own.schedule(partition),
            own.timers(partition),
            own.readers(partition),
            own.timer_names(partition),
            own.serving(partition),
            own.begun(partition),
            own.refused(partition),
            own.refused_at(partition),
        ]
        for commit in commits:
            ref = commit.ref
            keys += (
                own.actor(ref),
                own.log(ref),
                own.instances(partition, ref.workflow, commit.was),
                own.instances(partition, ref.workflow, commit.run_state),
            )
        blobs: list[bytes] = []
        ones = [_commit_one(commit, blobs, self._more(commit, keys, blobs)) for commit in commits]
        call = CommitCall(owner, self._lease_ms, self._leases, self._refusals_ms, ones)
        return Call(Script.COMMIT, keys, (encode(call), *blobs))

    def _more(self, commit: Commit, keys: list[str], blobs: list[bytes]) -> MoreCall | None:
        """Return what only some commits ask for, and put its keys behind `keys`."""
        if commit.plain:
            return None
        more = MoreCall(
            len(keys) + 1,
            [ParkCall(id_, _placed(body, blobs), first) for id_, body, first in commit.parks] or None,
            commit.parks_max if commit.parks else None,
            commit.unparks or None,
            commit.reason,
            commit.unique,
            commit.unique_until_ms or None,
            _placed(encode(commit.wipe), blobs) if commit.wipe is not None else None,
            [DeadCall(one.id, one.at_ms, _placed(encode(one), blobs)) for one in commit.dead] or None,
            commit.ref.scope if commit.secret else None,
            _placed(commit.secret, blobs) if commit.secret else None,
        )
        own, ref = self._keys, commit.ref
        keys += (own.parked(ref), own.parked_bodies(ref), own.snap(ref))
        keys += (own.dead(ref.partition), own.dead_letters(ref.partition), own.observations(ref))
        if commit.secret:
            keys.append(own.secrets(ref.partition))
        return more

    def parked(self, refs: Sequence[Ref], limit: int) -> list[list[tuple[str, bytes]]]:
        """Return the first commands that are kept."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for ref in refs:
                pipe.zrange(self._keys.parked(ref), 0, limit - 1)
            ids: list[list[bytes]] = pipe.execute()
            for ref, found in zip(refs, ids, strict=True):
                if found:
                    pipe.hmget(self._keys.parked_bodies(ref), found)
            bodies = iter(pipe.execute())
        return [
            [(id_.decode(), body) for id_, body in zip(found, next(bodies), strict=True)] if found else []
            for found in ids
        ]

    def snapshot(self, snapshots: Sequence[tuple[Ref, Snapshot]]) -> None:
        """Keep snapshots; see snapshot.lua."""
        calls = [
            Call(
                Script.SNAPSHOT,
                (self._keys.actor(ref), self._keys.snap(ref)),
                (snapshot.seq, snapshot.head, encode(snapshot)),
            )
            for ref, snapshot in snapshots
        ]
        scripts.run(self._link, calls)

    def trim(self, ref: Ref, upto: int) -> int:
        """Delete what a snapshot has; see trim.lua."""
        keys = (self._keys.log(ref), self._keys.snap(ref), self._keys.readers(ref.partition))
        return int(scripts.run(self._link, [Call(Script.TRIM, keys, (upto, TRIM_PER_CALL))])[0])

    def release(self, refs: Sequence[tuple[Ref, int]], owner: str) -> None:
        """Give up leases; see release.lua."""
        calls = [
            Call(
                Script.RELEASE,
                [self._keys.actor(refs[index][0]) for index in chunk],
                (owner, *(refs[index][1] for index in chunk)),
            )
            for chunk in _chunks([ref for ref, _ in refs])
        ]
        scripts.run(self._link, calls)

    def entries(self, ref: Ref, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return a stretch of the log."""
        with unavailable(self._link):
            found: Any = self._link.client.xrange(self._keys.log(ref), f"({after}-0", "+", count=limit)
        return records_in(found)

    def entry(self, wanted: Sequence[tuple[Ref, int]]) -> list[bytes | None]:
        """Return single entries."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for ref, seq in wanted:
                pipe.xrange(self._keys.log(ref), f"{seq}-0", f"{seq}-0")
            return [record_in(found[0][1]) if found else None for found in pipe.execute()]

    def follow(self, ref: Ref, after: int, limit: int, timeout_s: float) -> list[tuple[int, bytes]]:
        """Wait on the log; the server wakes us, and reads then what we asked for in the same breath."""
        log, deadline = self._keys.log(ref), time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            with unavailable(self._link):
                pipe = self._link.client.pipeline(transaction=False)
                if left > 0:
                    step_ms = max(1, int(min(left, WAIT_STEP_S) * 1000))
                    pipe.xread({log: f"{after}-0"}, count=1, block=step_ms)
                pipe.xrange(log, f"({max(0, after - 1)}-0", "+", count=limit)
                found = records_in(pipe.execute()[-1])
            if found and found[-1][0] > after:
                return found
            if left <= 0:
                return []

    def barrier(self) -> None:
        """Wait until this connection's writes are as durable as configured."""
        if self._barrier is not None:
            self._barrier.take()

    def effects(self, partition: int, limit: int) -> list[EffectEntry]:
        """Return the oldest effects."""
        with unavailable(self._link):
            found: Any = self._link.client.xrange(self._keys.effects(partition), count=limit)
        return [_effect_decoder.decode(fields[b"e"]) for _, fields in found]

    def timers(self, partition: int, limit: int) -> list[tuple[int, TimerEntry]]:
        """Return the next timers."""
        with unavailable(self._link):
            due: Any = self._link.client.zrange(self._keys.schedule(partition), 0, limit - 1, withscores=True)
            names = [name for name, _ in due]
            found: Any = self._link.client.hmget(self._keys.timers(partition), names) if names else []
        return [
            (int(due_ms), TimerEntry(name.decode(), data, 0, int(due_ms)))
            for (name, due_ms), data in zip(due, found, strict=True)
            if data is not None
        ]


_REFUSALS: dict[bytes, type[Conflict | Fenced | Ahead]] = {
    b"ahead": Ahead,
    b"conflict": Conflict,
    b"fenced": Fenced,
}


def _committed(
    token: int, feed_id: bytes, parked: int, crowded_out: Sequence[bytes] = (), begun: Sequence[bytes] = ()
) -> Committed:
    out = tuple(id_.decode() for id_ in crowded_out) if crowded_out else ()
    at = tuple(position.decode() for position in begun) if begun else ()
    return Committed(token, feed_id.decode() if feed_id else "", None if parked < 0 else int(parked), out, at)


def _placed(data: bytes, blobs: list[bytes]) -> int:
    """Put bytes behind `blobs`, and return where in ARGV they will be."""
    blobs.append(data)
    return len(blobs) + 1  # ARGV counts from 1, and ARGV[1] is the call


def _commit_one(commit: Commit, blobs: list[bytes], more: MoreCall | None) -> CommitOne:
    """Return a commit as the script reads it, and put the bytes that it refers to behind `blobs`."""
    return CommitOne(
        commit.ref.workflow,
        commit.ref.key,
        commit.seq,
        commit.head,
        commit.token,
        [_placed(entry, blobs) for entry in commit.entries],
        commit.new_head,
        commit.was,
        commit.run_state,
        [_placed(encode(effect), blobs) for effect in commit.effects] if commit.effects else (),
        commit.cancels,
        [
            TimerCall(timer.name, timer.due_ms, timer.delay_ms, _placed(timer.envelope, blobs))
            for timer in commit.timers
        ]
        if commit.timers
        else (),
        more,
        [
            name_of_effect(effect.workflow, effect.key, effect.id) if begins else ""
            for effect, begins in zip(commit.effects, commit.begins, strict=True)
        ]
        if commit.begins
        else None,
        [(name, _placed(answer, blobs)) for name, answer in commit.refusals] if commit.refusals else None,
        commit.unless_refused or None,
    )


def _chunks(refs: Sequence[Ref]) -> list[list[int]]:
    """Return the positions of refs by partition and in order, in pieces that one script call may take."""
    by_partition: dict[int, list[int]] = defaultdict(list)
    for index, ref in enumerate(refs):
        by_partition[ref.partition].append(index)
    return [
        found[start : start + INSTANCES_PER_CALL]
        for found in by_partition.values()
        for start in range(0, len(found), INSTANCES_PER_CALL)
    ]
