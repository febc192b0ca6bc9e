"""The outbox as a queue, in Redis: one blocking read over all streams, and one script per transition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from holdfast.brokers import scripts
from holdfast.brokers.effect_line import line_of
from holdfast.brokers.keys import PUT_OFF, Keys, effect_name
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.codec import encode
from holdfast.runtime.config import Settings
from holdfast.runtime.effect_queue import (
    ENDED_MAX,
    Begun,
    Ended,
    HeldBy,
    Note,
    PendingEffect,
    PutOff,
    Refusal,
    Ticket,
    Waiting,
)

#: Effects per script call: a call must stay around a millisecond.
EFFECTS_PER_CALL = 128
#: The longest single wait, below the link's own timeout, so that a dead connection is noticed.
WAIT_STEP_S = 5.0
#: Before every entry.
START = "0-0"
#: Notes looked at in one step of a listing.
SCAN_STEP = 500

_note_decoder = msgspec.msgpack.Decoder(Note)


class RedisEffects:
    """Hands out the effects of the partitions' outboxes. One for each thread."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._changes = link.changes
        #: Partitions that are read from the beginning: another server's ids may be lower than the former one's.
        self._anew: set[int] = set()
        self._keys = Keys(settings.namespace)

    def arrivals(self, after: Mapping[int, str], limit: int, timeout_s: float) -> list[Waiting]:
        """Wait on all streams at once; the server wakes us."""
        if not after:
            return []
        partitions = {self._keys.effects(partition): partition for partition in after}
        wanted = {
            name: START if partition in self._anew else after[partition]
            for name, partition in partitions.items()
        }
        block_ms = max(1, int(min(timeout_s, WAIT_STEP_S) * 1000))
        with unavailable(self._link):
            found = self._link.read_streams(wanted, limit, block_ms)
        arrived = [
            Waiting(partitions[stream.decode()], position.decode(), _data(fields))
            for stream, entries in found
            for position, fields in entries
        ]
        if self._link.changes != self._changes:
            self._changes = self._link.changes
            self._anew = set(after)
        else:
            self._anew.difference_update(one.partition for one in arrived)
        return arrived

    def begin(
        self, tickets: Sequence[Ticket], owner: str, dead: Collection[str] = ()
    ) -> list[Begun | HeldBy | Refusal]:
        """Become the holder; see begin.lua."""

        def call(partition: int, chunk: Sequence[Ticket]) -> Call:
            keys = self._keys
            args: list[str | bytes | int] = [owner, len(dead), *dead]
            for ticket in chunk:
                args += (ticket.position, effect_name(ticket), ticket.seen)
            return Call(
                Script.BEGIN, (keys.effects(partition), keys.serving(partition), keys.begun(partition)), args
            )

        return [_begun(reply) for reply in self._run(tickets, call)]

    def holders(self, tickets: Sequence[Ticket]) -> list[str]:
        """Look who has begun them."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for ticket in tickets:
                pipe.hget(self._keys.begun(ticket.partition), effect_name(ticket))
            return [_parsed(found)[2] for found in pipe.execute()]

    def holds(self, tickets: Sequence[Ticket], owner: str) -> list[bool]:
        """Look; see finish.lua."""
        return self._finish(tickets, owner, "0", {})

    def finish(self, tickets: Sequence[Ticket], owner: str, attempts: Sequence[int] = ()) -> list[bool]:
        """Remove; see finish.lua."""
        return self._finish(tickets, owner, "1", dict(zip(tickets, attempts, strict=False)))

    def _finish(
        self, tickets: Sequence[Ticket], owner: str, remove: str, attempts: Mapping[Ticket, int]
    ) -> list[bool]:
        def call(partition: int, chunk: Sequence[Ticket]) -> Call:
            args: list[str | bytes | int] = [owner, remove, ENDED_MAX]
            for ticket in chunk:
                count = attempts.get(ticket, 0)
                mark = ticket.mark if count else ""
                args += (ticket.position, effect_name(ticket), mark, count)
            return Call(Script.FINISH, (*self._four(partition), self._keys.effects_ended(partition)), args)

        return [bool(reply) for reply in self._run(tickets, call)]

    def _four(self, partition: int) -> tuple[str, str, str, str]:
        keys = self._keys
        return (
            keys.effects(partition),
            keys.serving(partition),
            keys.begun(partition),
            keys.effect_notes(partition),
        )

    def put_off(self, delays: Sequence[PutOff], owner: str) -> list[bool]:
        """Move to the schedule; see put_off.lua."""
        by_ticket = {delay.ticket: delay for delay in delays}

        def call(partition: int, chunk: Sequence[Ticket]) -> Call:
            args: list[str | bytes | int] = [owner, PUT_OFF]
            for ticket in chunk:
                delay = by_ticket[ticket]
                args += (ticket.position, effect_name(ticket), delay.delay_ms, encode(delay.note))
            own = self._keys
            schedule = (own.schedule(partition), own.timers(partition), own.timer_names(partition))
            keys = (*self._four(partition), *schedule)
            return Call(Script.PUT_OFF, keys, args)

        return [bool(reply) for reply in self._run([delay.ticket for delay in delays], call)]

    def let_go(self, partition: int, owner: str, keeping: Collection[Ticket]) -> bool:
        """See let_go.lua."""
        keys = (self._keys.serving(partition), self._keys.begun(partition))
        call = Call(Script.LET_GO, keys, (owner, *map(effect_name, keeping)))
        return int(scripts.run(self._link, [call])[0]) >= 0

    def restore(self, ticket: Ticket, data: bytes) -> None:
        """Put an effect back as if it were new, in one transaction."""
        with unavailable(self._link):
            pipe = self._link.at(self._keys.effects(ticket.partition)).pipeline(transaction=True)
            pipe.hdel(self._keys.begun(ticket.partition), effect_name(ticket))
            pipe.xadd(self._keys.effects(ticket.partition), {"e": data})
            pipe.execute()

    def ended(self, partition: int) -> dict[str, Ended]:
        """Return what the stream remembers, which may be some more than that many."""
        with unavailable(self._link):
            found: Any = self._link.client.xrange(self._keys.effects_ended(partition))
        return {
            fields[b"m"].decode(): Ended(int(fields[b"a"]), int(id_.partition(b"-")[0]))
            for id_, fields in found
        }

    def pending(self, partition: int, limit: int) -> list[PendingEffect]:
        """Return the outbox, and then what the notes say was put off and the schedule still has."""
        keys, client = self._keys, self._link.client
        with unavailable(self._link):
            found: Any = client.xrange(keys.effects(partition), count=limit)
            stored = [_data(fields) for _, fields in found]
            names = [_name_of(partition, data) for data in stored]
            begun: Any = client.hmget(keys.begun(partition), names) if names else []
            notes: Any = client.hmget(keys.effect_notes(partition), names) if names else []
            lines = [
                line_of(partition, data, _parsed(one), _note_decoder.decode(note) if note else None)
                for data, one, note in zip(stored, begun, notes, strict=True)
            ]
            waiting: list[tuple[bytes, bytes]] = []
            cursor = 0
            while len(lines) + len(waiting) < limit:
                reply: Any = client.hscan(keys.effect_notes(partition), cursor, count=SCAN_STEP)
                cursor, page = reply
                waiting += page.items()
                if not cursor:
                    break
            waiting = sorted(dict(waiting).items())
            if waiting:
                put_off = [PUT_OFF.encode() + name for name, _ in waiting]
                pipe = client.pipeline(transaction=False)
                pipe.zmscore(keys.schedule(partition), [name.decode() for name in put_off])
                pipe.hmget(keys.timers(partition), put_off)
                pipe.hmget(keys.begun(partition), [name for name, _ in waiting])
                due, data, attempts = pipe.execute()
                lines += [
                    line_of(partition, one, _parsed(count), _note_decoder.decode(note), int(due_ms))
                    for (_, note), due_ms, one, count in zip(waiting, due, data, attempts, strict=True)
                    if due_ms is not None and one is not None
                ]
        return lines[:limit]

    def _run(self, tickets: Sequence[Ticket], call: Any) -> list[Any]:
        """Make one call for each chunk of a partition, and return the replies in the order of the tickets."""
        by_partition: dict[int, list[int]] = defaultdict(list)
        for index, ticket in enumerate(tickets):
            by_partition[ticket.partition].append(index)
        chunks = [
            found[start : start + EFFECTS_PER_CALL]
            for found in by_partition.values()
            for start in range(0, len(found), EFFECTS_PER_CALL)
        ]
        calls = [call(tickets[chunk[0]].partition, [tickets[index] for index in chunk]) for chunk in chunks]
        replies: list[Any] = [None] * len(tickets)
        for chunk, answer in zip(chunks, scripts.run(self._link, calls) if calls else [], strict=True):
            whole = [answer] * len(chunk) if isinstance(answer, bytes) else answer
            for index, reply in zip(chunk, whole, strict=True):
                replies[index] = reply
        return replies


def _begun(reply: Any) -> Begun | HeldBy | Refusal:
    if reply == b"fenced":
        return Refusal.FENCED
    if reply[0] == b"begun":
        return Begun(int(reply[1]))
    if reply[0] == b"held":
        return HeldBy(reply[1].decode(), int(reply[2]))
    return Refusal.GONE


def _data(fields: Any) -> bytes:
    """Return the bytes of an entry: its one field."""
    data: bytes = fields[b"e"] if isinstance(fields, dict) else fields[1]
    return data


def _parsed(value: bytes | None) -> tuple[int, int, str]:
    """Return attempts, when the last one was begun, and who holds it."""
    if value is None:
        return 0, 0, ""
    count, since, owner = value.decode().split("|", 2)
    return int(count), int(since or 0), owner


def _name_of(partition: int, data: bytes) -> str:
    line = line_of(partition, data, (0, 0, ""), None)
    return effect_name(Ticket(partition, "", line.workflow, line.key, line.id))
