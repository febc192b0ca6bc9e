"""The witness: sees everything that a simulation does, and says so when it breaks a promise.

It believes nobody. What the ports report and what the lanes do is compared with what follows from the commits, the
messages and the workflows alone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec

from holdfast.actors.effect_desk import Lethal
from holdfast.actors.simulation.stage import SimulatedFailure
from holdfast.actors.simulation.strands import Crash
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.control import decode_control
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.decision import Accept
from holdfast.runtime.definition import Definition
from holdfast.runtime.effect import EffectContext, EffectTimeout
from holdfast.runtime.effect_queue import Ticket
from holdfast.runtime.errors import Conflicted, HoldfastError, NotDurable, Unavailable, Undecodable
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.message import Envelope
from holdfast.runtime.outcome import Answer
from holdfast.runtime.plan import CrowdedOut
from holdfast.runtime.ports import Commit, CommitResult, Committed, Delivery
from holdfast.runtime.projection import ProjectionContext
from holdfast.runtime.record import EffectEntry, Entry
from holdfast.runtime.suspicion import PoisonCommand
from holdfast.runtime.timers import Due, Fired
from holdfast.runtime.timetable import SCHEDULE_TYPE

if TYPE_CHECKING:
    from holdfast.actors.simulation.machine import Machine
    from holdfast.actors.simulation.world import World

_answers = msgspec.msgpack.Decoder(Answer)


#: What is no error of the app's own code: garbage, and what a simulation or other work leads to.
PROVOKED = frozenset(
    kind.__name__
    for kind in (
        SimulatedFailure,
        Undecodable,
        PoisonCommand,
        Lethal,
        EffectTimeout,
        CrowdedOut,
        Conflicted,
        Unavailable,
        NotDurable,
    )
)


class BrokenPromise(AssertionError):
    """Something happened that must never happen."""


class Name(NamedTuple):
    """Which command: ids are unique within an instance."""

    workflow: str
    key: str
    id: str

    def __str__(self) -> str:
        return f"{self.id} of {self.workflow}/{self.key}"


@dataclass(slots=True)
class Sighting:
    """A command that was published, however often."""

    envelope: Envelope
    #: Where the log of its instance was when it was first published, and what time it was.
    seq: int
    at_ms: int
    confirmed: bool = False
    #: Whether it was acknowledged although nothing was recorded: then it was refused.
    refused: bool = False
    #: Whether it was acknowledged because it is kept for a paused instance.
    parked: bool = False
    answer: Answer | None = None


@dataclass(slots=True)
class Intent:
    """An effect that a commit asked for."""

    entry: EffectEntry
    #: The number of the commit: it is durable when a barrier was taken after it.
    commit: int
    attempts: int = 0
    #: How many commands the attempts that came to an end returned, one number for each.
    ended: list[int] = field(default_factory=list)
    finished: bool = False


@dataclass(slots=True)
class Alarm:
    """A timer that a commit asked for."""

    name: str
    partition: int
    due_ms: int
    commit: int
    moved: bool = False
    cancelled: bool = False


@dataclass(slots=True)
class Told:
    """What a projection was told of one instance, in the order of the transactions that stand."""

    #: Up to which (record, event) it has come without a gap.
    place: tuple[int, int] = (0, 0)


class Reading:
    """One transaction of a read model."""

    def __init__(self, witness: Witness, reader: str, *, once: bool) -> None:
        self._witness = witness
        self.reader = reader
        self.once = once
        self.events: list[tuple[Ref, int, int]] = []

    def committed(self) -> None:
        """Take what was written as written."""
        told = self._witness.told
        for ref, seq, index in self.events:
            self._witness.applied(self, ref, seq, index, told.setdefault((self.reader, ref), Told()))


class Witness:
    """Sees everything."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.messages: dict[Name, Sighting] = {}
        #: What is in the logs, by command: the instance's record and the number of the commit.
        self.records: dict[Name, tuple[int, int]] = {}
        self.dead: dict[Name, DeadLetter] = {}
        #: What the app's own code made dead letters with.
        self.errors: Counter[str] = Counter()
        self.intents: dict[tuple[str, str, str], Intent] = {}
        self.alarms: dict[Name, Alarm] = {}
        self._pending: dict[tuple[int, str], Name] = {}
        #: By effect id, the confirmed commands that it led to.
        self.led_to: dict[str, set[Name]] = {}
        self.keys: dict[str, tuple[str, str, str]] = {}
        self.told: dict[tuple[str, Ref], Told] = {}
        self.readings: dict[int, Reading] = {}
        #: By instance, its states by sequence number.
        self.states: dict[Ref, list[Any]] = {}
        self.entries: dict[Ref, list[Entry[Any]]] = {}
        #: By workflow and unique key, the unfinished instance that has it by its state, and the other way round.
        self.holders: dict[tuple[str, str], Ref] = {}
        self._held: dict[Ref, tuple[str, str]] = {}
        self.commits = 0
        self.durable = 0
        self.sights: dict[str, Callable[..., None]] = {
            "journal.commit": self._committed,
            "journal.barrier": self._barrier,
            "dead-letters.add": self._buried,
            "answers.reply": self._replied,
            "effects.finish": self._finished,
            "effects.put_off": self._put_off,
            "timers.fire": self._fired,
            "timers.remove": self._removed,
            "membership.claim": self._claimed,
        }

    def broken(self, what: str) -> NoReturn:
        """Say that a promise was broken; nothing goes on after that."""
        self._world.tell("witness", what)
        self._world.scheduler.fail(BrokenPromise(what))
        raise Crash

    # -- commands on their way

    def published(self, machine: Machine, partition: int, body: bytes) -> None:
        """See a message go into a queue."""
        try:
            envelope = decode_envelope(body)
        except Undecodable:
            return
        name = Name(envelope.workflow, envelope.key, envelope.id)
        world = self._world
        world.tell(machine.name, f"publishes {world.tag(envelope)} {name}")
        if name not in self.messages:
            ref = Ref(partition, envelope.workflow, envelope.key)
            self.messages[name] = Sighting(envelope, self._seq(ref), world.server.now_ms())
        alarm = self.alarms.get(name)
        if alarm is None:
            return
        if alarm.cancelled:
            self.broken(f"timer {name} was sent although it had been cancelled or replaced")
        if world.server.now_ms() < alarm.due_ms:
            self.broken(f"timer {name} was sent {alarm.due_ms - world.server.now_ms()} ms before its time")
        if alarm.commit > self.durable:
            self.broken(f"timer {name} was sent before the decision that set it was durable")

    def _seq(self, ref: Ref) -> int:
        return len(self.entries.get(ref, ()))

    def confirmed(self, body: bytes) -> None:
        """See a message's confirm."""
        try:
            envelope = decode_envelope(body)
        except Undecodable:
            return
        name = Name(envelope.workflow, envelope.key, envelope.id)
        self.messages[name].confirmed = True
        if envelope.cause is not None:
            self.led_to.setdefault(envelope.cause, set()).add(name)

    def delivered(self, machine: Machine, deliveries: Sequence[Delivery]) -> None:
        """See messages handed out."""
        self._world.tell(machine.name, f"takes {self._names(deliveries)}")

    def _names(self, deliveries: Sequence[Delivery]) -> str:
        return ", ".join(
            f"{name.id if name else 'garbage'}{' again' if one.redeliveries else ''}"
            for one in deliveries
            for name in [_name_of(one)]
        )

    def acked(self, machine: Machine, deliveries: Sequence[Delivery]) -> None:
        """See messages acknowledged: all that they led to must be there, and durable."""
        if deliveries:
            self._world.tell(machine.name, f"acknowledges {self._names(deliveries)}")
        for delivery in deliveries:
            name = _name_of(delivery)
            if name is None:
                if not any(letter.body == delivery.body for letter in self._world.server.dead.values()):
                    self.broken("a message that nobody can read was dropped")
                continue
            self._decided(name, delivery)

    def _decided(self, name: Name, delivery: Delivery) -> None:
        record = self.records.get(name)
        if record is not None:
            if record[1] > self.durable:
                self.broken(f"command {name} was acknowledged before its record was durable")
            return
        ref = Ref(delivery.partition, name.workflow, name.key)
        instance = self._world.server.instances.get(ref)
        if instance is not None and any(one[0] == name.id for one in instance.parked):
            self.messages[name].parked = True
            return
        if name in self.dead or self.refusable(name, ref):
            self.messages[name].refused = True
            return
        self.broken(f"command {name} was acknowledged, but was neither decided nor refused nor given up")

    def refusable(self, name: Name, ref: Ref, until: int | None = None) -> bool:
        """Return whether the workflow refuses a command in a state that there was since it was published.

        Args:
            name: The command.
            ref: Its instance.
            until: Only in states that there were before this record.
        """
        sighting, world = self.messages[name], self._world
        instance = world.server.instances.get(ref)
        if until is None and instance is not None and instance.run_state.finished:
            return True
        definition = world.app.definition(name.workflow)
        try:
            command = definition.commands.decode(sighting.envelope.payload)
        except HoldfastError:
            # A control, which the table of run states refuses.
            return decode_control(sighting.envelope.payload) is not None
        workflow, now = definition.workflow, world.clock.now()
        states = self.states.get(ref, [workflow.initial()])
        for seen in states[sighting.seq : until]:
            state = own_copy(definition, seen)
            decision = workflow.decide(now, state, command)
            if not isinstance(decision, Accept) or workflow.is_terminal(state):
                return True
            if definition.has_unique_key and self._wants_another_key(workflow, state, decision.events):
                return True
        return False

    @staticmethod
    def _wants_another_key(workflow: Any, state: Any, events: Sequence[Any]) -> bool:
        """Return whether an instance needs a unique key that it does not have: another may have had it just then."""
        after = state
        for event in events:
            after = workflow.evolve(after, event)
        return bool(workflow.unique_key(after)) and workflow.unique_key(after) != workflow.unique_key(state)

    def _replied(self, _machine: Machine, _result: None, answers: Sequence[tuple[str, bytes]]) -> None:
        for address, data in answers:
            name = self._world.callers.get(address)
            if name is None:
                continue
            answer, sighting = _answers.decode(data), self.messages[name]
            if answer.kind == "accepted":
                record = self.records.get(name)
                if record is None or record[0] != answer.seq:
                    self.broken(f"{name} was answered with record {answer.seq}, which is not its own")
                if record[1] > self.durable:
                    self.broken(f"{name} was answered before its record was durable")
            before = sighting.answer
            if before is not None and {before.kind, answer.kind} == {"accepted", "rejected"}:
                self.broken(f"{name} was answered {before.kind} first, and {answer.kind} then")
            sighting.answer = answer

    # -- commits

    def _committed(
        self, machine: Machine, results: Sequence[CommitResult], commits: Sequence[Commit], _owner: str
    ) -> None:
        world, self.commits = self._world, self.commits + 1
        for commit, result in zip(commits, results, strict=True):
            ref = commit.ref
            if not isinstance(result, Committed):
                world.tell(machine.name, f"cannot commit {ref.workflow}/{ref.key}: {result}")
                world.counts["conflicts"] += 1
                continue
            for letter in commit.dead:
                self._bury(letter)
            if commit.entries:
                self._recorded(machine, commit)
        for signal in ("effects", "timers", "feed"):
            world.signal(signal)

    def _recorded(self, machine: Machine, commit: Commit) -> None:
        world, ref = self._world, commit.ref
        definition = world.app.definition(ref.workflow)
        log = self.entries.setdefault(ref, [])
        states = self.states.setdefault(ref, [definition.workflow.initial()])
        where = f"{ref.workflow}/{ref.key}"
        if commit.seq != len(log):
            self.broken(
                f"a commit on record {commit.seq} of {where} was written, which had {len(log)} records"
            )
        for data in commit.entries:
            entry = definition.entries.decode(data, "a record")
            name = Name(ref.workflow, ref.key, entry.command_id)
            if name in self.records:
                self.broken(f"command {name} was applied twice: as record {self.records[name][0]} and again")
            if log and entry.token < log[-1].token:
                self.broken(f"record {len(log) + 1} of {where} was written under an old token")
            log.append(entry)
            state = own_copy(definition, states[-1])
            for event in entry.events:
                state = definition.workflow.evolve(state, event)
            if entry.control is not None and entry.control.erases:
                state = definition.workflow.initial()
            states.append(state)
            self.records[name] = (len(log), self.commits)
            events = ", ".join(type(event).__name__ for event in entry.events)
            verb = entry.control.verb if entry.control is not None else events
            world.tell(machine.name, f"commits record {len(log)} of {where}: {entry.command_id} -> {verb}")
            world.counts["records"] += 1
        if definition.has_unique_key:
            self._holds(ref, definition.workflow.unique_key(states[-1]) or "")
        for effect in commit.effects:
            self.intents[effect.workflow, effect.key, effect.id] = Intent(effect, self.commits)
        self._set_timers(commit)

    def _holds(self, ref: Ref, unique: str) -> None:
        """See which unique key an instance has after a commit."""
        server, definition = self._world.server, self._world.app.definition(ref.workflow)
        before = self._held.pop(ref, None)
        if before is not None:
            del self.holders[before]
        over = server.instances[ref].run_state.finished or definition.workflow.is_terminal(
            self.states[ref][-1]
        )
        if not unique or over:
            return
        other = self.holders.setdefault((ref.workflow, unique), ref)
        if other != ref:
            self.broken(
                f"{ref.workflow}/{ref.key} has the unique key {unique!r}, which {other.workflow}/{other.key} has too"
            )
        self._held[ref] = ref.workflow, unique

    def _set_timers(self, commit: Commit) -> None:
        now_ms, partition = self._world.server.now_ms(), commit.ref.partition
        for name in (*commit.cancels, *(timer.name for timer in commit.timers)):
            was = self._pending.pop((partition, name), None)
            if was is not None:
                self.alarms[was].cancelled = True
        for timer in commit.timers:
            envelope = decode_envelope(timer.envelope)
            own = Name(envelope.workflow, envelope.key, envelope.id)
            due_ms = timer.due_ms or now_ms + timer.delay_ms
            self._pending[partition, timer.name] = own
            self.alarms[own] = Alarm(timer.name, partition, due_ms, self.commits)

    def _barrier(self, _machine: Machine, _result: None) -> None:
        self.durable = self.commits

    def _buried(self, machine: Machine, _result: None, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self._world.tell(machine.name, f"buries {letter.command_id or 'garbage'}: {letter.error[:100]}")
            self._bury(letter)

    def _bury(self, letter: DeadLetter) -> None:
        self._world.counts["dead letters"] += 1
        if letter.error.partition(":")[0] not in PROVOKED:
            self.errors[letter.error] += 1
        self.dead[Name(letter.workflow, letter.key, letter.command_id)] = letter

    # -- effects

    def begins(self, context: EffectContext, kind: str) -> Intent:
        """See a handler begin."""
        name = (context.workflow, context.key, context.effect_id)
        intent = self.intents.get(name)
        self._world.tell(
            self._world.here, f"runs {kind} {context.idempotency_key}, attempt {context.attempt}"
        )
        self._world.counts["attempts"] += 1
        if intent is None:
            self.broken(f"effect {name} was run, which nobody asked for")
        if intent.commit > self.durable:
            self.broken(f"effect {name} was begun before the decision that asked for it was durable")
        if self.keys.setdefault(context.idempotency_key, name) != name:
            self.broken(f"two effects have the idempotency key {context.idempotency_key}")
        if context.idempotency_key != f"{context.workflow}/{context.key}/{context.effect_id}":
            self.broken(f"the idempotency key of {name} is another one: {context.idempotency_key}")
        intent.attempts += 1
        return intent

    def _finished(
        self,
        machine: Machine,
        results: Sequence[bool],
        tickets: Sequence[Ticket],
        _owner: str,
        _attempts: Sequence[int] = (),
    ) -> None:
        for ticket, done in zip(tickets, results, strict=True):
            intent = self.intents.get((ticket.workflow, ticket.key, ticket.id))
            if not done or intent is None:
                continue
            self._world.tell(machine.name, f"finishes {ticket.id} of {ticket.workflow}/{ticket.key}")
            intent.finished = True
            wrong = self.wrong_result(ticket.workflow, ticket.key, ticket.id)
            if wrong:
                self.broken(wrong)

    def _put_off(
        self, machine: Machine, _results: Sequence[bool], delays: Sequence[Any], _owner: str
    ) -> None:
        for delay in delays:
            self._world.tell(machine.name, f"puts {delay.ticket.id} off by {delay.delay_ms} ms")
        self._world.signal("timers")

    def wrong_result(self, workflow: str, key: str, id_: str) -> str:
        """Return what is wrong with an effect that is gone: what it led to must have been sent, or it is a dead letter."""
        intent = self.intents[workflow, key, id_]
        if Name(workflow, key, id_) in self.dead:
            return ""
        if not intent.ended:
            return f"effect {id_} of {workflow}/{key} is gone, but no attempt came to an end"
        if len(self.led_to.get(id_, ())) < min(intent.ended):
            return f"effect {id_} of {workflow}/{key} is gone, but its result was not sent"
        return ""

    # -- timers

    def _fired(self, machine: Machine, found: Sequence[Fired], *_arguments: Any) -> None:
        server = self._world.server
        for fired in found:
            if fired.moved:
                self._world.signal("effects")
            for one in fired.due:
                name = _name_in(one.body)
                alarm = self.alarms.get(name) if name is not None else None
                if alarm is None or alarm.moved:
                    continue
                self._world.tell(machine.name, f"moves timer {name}")
                if alarm.cancelled:
                    self.broken(f"timer {name} became due although it had been cancelled or replaced")
                if server.now_ms() < alarm.due_ms:
                    self.broken(f"timer {name} became due {alarm.due_ms - server.now_ms()} ms too early")
                alarm.moved = True
                self._pending.pop((alarm.partition, alarm.name), None)

    def _removed(self, _machine: Machine, _result: None, sent: Sequence[Due]) -> None:
        for one in sent:
            name = _name_in(one.body)
            if name is not None and name.workflow != SCHEDULE_TYPE:
                sighting = self.messages.get(name)
                if sighting is None or not sighting.confirmed:
                    self.broken(f"timer {name} was removed before it was sent")

    def _claimed(self, machine: Machine, ours: bool, partition: int, pool: str, *_rest: Any) -> None:
        if ours:
            self._world.tell(machine.name, f"serves partition {partition} in the {pool} pool")

    # -- projections

    def reading(self, projection: str, generation: int, *, once: bool) -> Reading:
        """Return what keeps the events of one transaction."""
        return Reading(self, f"{projection}@{generation}", once=once)

    def tells(self, context: ProjectionContext) -> None:
        """See a projection be told of an event."""
        world = self._world
        partition = partition_of(context.workflow, context.key, world.settings.partitions)
        ref = Ref(partition, context.workflow, context.key)
        record = self.records.get(Name(context.workflow, context.key, context.command_id))
        if record is None or record[0] != context.seq:
            self.broken(f"a projection was told of {context.event_id}, which is in no log")
        if record[1] > self.durable:
            self.broken(f"a projection was told of {context.event_id} before it was durable")
        reading = self.readings.get(world.scheduler.current.ident)
        world.counts["events applied"] += 1
        if reading is not None:
            index = int(context.event_id.rpartition(".")[2])
            reading.events.append((ref, context.seq, index))
            if not reading.once:
                told = self.told.setdefault((reading.reader, ref), Told())
                self.applied(reading, ref, context.seq, index, told)

    def applied(self, reading: Reading, ref: Ref, seq: int, index: int, told: Told) -> None:
        """See an event take effect in a read model."""
        if (seq, index) <= told.place:
            if reading.once:
                self.broken(f"{reading.reader} has event {seq}.{index} of {ref.workflow}/{ref.key} twice")
            return
        expected = self.next_event(reading.reader, ref, told.place)
        if expected != (seq, index):
            self.broken(
                f"{reading.reader} was told of event {seq}.{index} of {ref.workflow}/{ref.key}, before {expected}"
            )
        told.place = (seq, index)

    def next_event(self, reader: str, ref: Ref, place: tuple[int, int]) -> tuple[int, int] | None:
        """Return the first event behind a place that a projection is to be told of."""
        definition = self._world.app.projection(reader.rpartition("@")[0])
        seq, index = place
        log = self.entries.get(ref, [])
        for number in range(max(seq, 1), len(log) + 1):
            for at, event in enumerate(log[number - 1].events):
                if definition.handler(type(event)) is not None and (
                    number > seq or (number == seq and at > index)
                ):
                    return number, at
        return None


def own_copy(definition: Definition, state: Any) -> Any:
    """Return a state that user code may do with what it wants."""
    return state if definition.state_is_immutable else copy.deepcopy(state)


def _name_of(delivery: Delivery) -> Name | None:
    return _name_in(delivery.body)


def _name_in(body: bytes) -> Name | None:
    try:
        envelope = decode_envelope(body)
    except Undecodable:
        return None
    return Name(envelope.workflow, envelope.key, envelope.id)
