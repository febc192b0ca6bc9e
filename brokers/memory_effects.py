"""The outbox as a queue, in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from holdfast.brokers.effect_line import line_of
from holdfast.brokers.keys import PUT_OFF, effect_name
from holdfast.brokers.memory import MemoryServer
from holdfast.runtime.codec import encode
from holdfast.runtime.effect_queue import (
    ENDED_MAX,
    Begun,
    Ended,
    HeldBy,
    PendingEffect,
    PutOff,
    Refusal,
    Ticket,
    Waiting,
)
from holdfast.runtime.record import EffectEntry, TimerEntry

_effect_decoder = msgspec.msgpack.Decoder(EffectEntry)


class MemoryEffects:
    """Hands out what the journal in memory was asked for."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def arrivals(self, after: Mapping[int, str], limit: int, timeout_s: float) -> list[Waiting]:
        """Wait for more, and return it."""

        def found() -> list[Waiting]:
            return [
                Waiting(partition, position, encode(entry))
                for partition, start in after.items()
                for position, entry in self._behind(partition, start)[:limit]
            ]

        with self._server.changed:
            return self._server.changed.wait_for(found, timeout_s) or []

    def _behind(self, partition: int, after: str) -> list[tuple[str, EffectEntry]]:
        """Return what is behind a position; an entry has its position from when it was first looked at."""
        positions, last = self._server.effect_positions, _number(after)
        found = []
        for entry in self._server.effects[partition]:
            name = (partition, effect_name(_ticket(partition, "", entry)))
            if name not in positions:
                self._server.effects_seen += 1
                positions[name] = self._server.effects_seen
            if positions[name] > last:
                found.append((f"{positions[name]}-0", entry))
        return found

    def _there(self, ticket: Ticket) -> EffectEntry | None:
        for position, entry in self._behind(ticket.partition, "0-0"):
            if position == ticket.position:
                return entry
        return None

    def begin(
        self, tickets: Sequence[Ticket], owner: str, dead: Collection[str] = ()
    ) -> list[Begun | HeldBy | Refusal]:
        """Hold what is there and nobody alive holds."""
        with self._server.changed:
            return [self._begin(ticket, owner, dead) for ticket in tickets]

    def _begin(self, ticket: Ticket, owner: str, dead: Collection[str]) -> Begun | HeldBy | Refusal:
        server, name = self._server, (ticket.partition, effect_name(ticket))
        if server.owners.get(("effect", ticket.partition)) not in (None, owner):
            return Refusal.FENCED
        if self._there(ticket) is None:
            return Refusal.GONE
        count, since_ms, holder = server.begun.get(name, (0, 0, ""))
        if holder not in ("", owner) and holder not in dead:
            return HeldBy(holder, count)
        if holder != owner or count <= ticket.seen:
            count, since_ms = count + 1, server.now_ms()
        server.begun[name] = (count, since_ms, owner)
        return Begun(count)

    def holders(self, tickets: Sequence[Ticket]) -> list[str]:
        """Look who has begun them."""
        with self._server.changed:
            names = [(ticket.partition, effect_name(ticket)) for ticket in tickets]
            return [self._server.begun.get(name, (0, 0, ""))[2] for name in names]

    def holds(self, tickets: Sequence[Ticket], owner: str) -> list[bool]:
        """Look."""
        with self._server.changed:
            return [self._ours(ticket, owner) is not None for ticket in tickets]

    def _ours(self, ticket: Ticket, owner: str) -> EffectEntry | None:
        _, _, holder = self._server.begun.get((ticket.partition, effect_name(ticket)), (0, 0, ""))
        serving = self._server.owners.get(("effect", ticket.partition))
        if holder == owner or (holder == "" and serving in (None, owner)):
            return self._there(ticket)
        return None

    def finish(self, tickets: Sequence[Ticket], owner: str, attempts: Sequence[int] = ()) -> list[bool]:
        """Remove what is ours."""
        with self._server.changed:
            done = [self._finish(ticket, owner) for ticket in tickets]
            for ticket, ours, count in zip(tickets, done, attempts, strict=False):
                if ours and count:
                    ended = self._server.effects_ended[ticket.partition]
                    ended[ticket.mark] = Ended(count, self._server.now_ms())
                    if len(ended) > ENDED_MAX:
                        del ended[next(iter(ended))]
            return done

    def ended(self, partition: int) -> dict[str, Ended]:
        """Return what is remembered."""
        with self._server.changed:
            return dict(self._server.effects_ended[partition])

    def _finish(self, ticket: Ticket, owner: str) -> bool:
        entry = self._ours(ticket, owner)
        if entry is None:
            return False
        name = (ticket.partition, effect_name(ticket))
        self._remove(ticket, entry)
        self._server.begun.pop(name, None)
        self._server.effect_notes.pop(name, None)
        return True

    def _remove(self, ticket: Ticket, entry: EffectEntry) -> None:
        self._server.effects[ticket.partition].remove(entry)
        self._server.effect_positions.pop((ticket.partition, effect_name(ticket)), None)
        self._server.changed.notify_all()

    def put_off(self, delays: Sequence[PutOff], owner: str) -> list[bool]:
        """Move what is ours to the timers."""
        with self._server.changed:
            return [self._put_off(delay, owner) for delay in delays]

    def _put_off(self, delay: PutOff, owner: str) -> bool:
        ticket, server = delay.ticket, self._server
        entry = self._ours(ticket, owner)
        if entry is None:
            return False
        name = effect_name(ticket)
        due_ms = server.now_ms() + delay.delay_ms
        timer = TimerEntry(PUT_OFF + name, encode(entry), 0, due_ms)
        server.timers[ticket.partition][timer.name] = (due_ms, timer)
        server.effect_notes[ticket.partition, name] = delay.note
        if (ticket.partition, name) in server.begun:
            count, since_ms, _ = server.begun[ticket.partition, name]
            server.begun[ticket.partition, name] = (count, since_ms, "")
        self._remove(ticket, entry)
        return True

    def let_go(self, partition: int, owner: str, keeping: Collection[Ticket]) -> bool:
        """Hold nothing but these."""
        with self._server.changed:
            if self._server.owners.get(("effect", partition)) == owner:
                return False
            kept = {(partition, effect_name(ticket)) for ticket in keeping}
            for name, (count, since_ms, holder) in list(self._server.begun.items()):
                if name[0] == partition and holder == owner and name not in kept:
                    if count <= 1:
                        del self._server.begun[name]
                    else:
                        self._server.begun[name] = (count - 1, since_ms, "")
            return True

    def restore(self, ticket: Ticket, data: bytes) -> None:
        """Put an effect back as if it were new."""
        with self._server.changed:
            self._server.begun.pop((ticket.partition, effect_name(ticket)), None)
            self._server.effects[ticket.partition].append(_effect_decoder.decode(data))
            self._server.changed.notify_all()

    def pending(self, partition: int, limit: int) -> list[PendingEffect]:
        """Return what waits and runs."""
        server = self._server
        with server.changed:
            lines = []
            for entry in server.effects[partition]:
                name = effect_name(_ticket(partition, "", entry))
                begun = server.begun.get((partition, name), (0, 0, ""))
                lines.append(
                    line_of(partition, encode(entry), begun, server.effect_notes.get((partition, name)))
                )
            for timer_name, (due_ms, timer) in sorted(server.timers[partition].items()):
                if timer_name.startswith(PUT_OFF):
                    name = timer_name.removeprefix(PUT_OFF)
                    begun = server.begun.get((partition, name), (0, 0, ""))
                    note = server.effect_notes.get((partition, name))
                    lines.append(line_of(partition, timer.envelope, begun, note, due_ms))
            return lines[:limit]


def _number(position: str) -> int:
    return int(position.partition("-")[0])


def _ticket(partition: int, position: str, entry: EffectEntry) -> Ticket:
    return Ticket(partition, position, entry.workflow, entry.key, entry.id)
