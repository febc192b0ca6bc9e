"""What must hold when a simulation has come to rest: Holdfast's promises, checked on all that the witness saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.actors.simulation.witness import BrokenPromise, Name, Witness, own_copy
from holdfast.runtime.clock import from_ms
from holdfast.runtime.codec import encode
from holdfast.runtime.decision import Accept
from holdfast.runtime.feed import Reader
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.record import Entry
from holdfast.runtime.timetable import SCHEDULE_TYPE

if TYPE_CHECKING:
    from holdfast.actors.simulation.world import World


def check_promises(world: World) -> None:
    """Check all of them.

    Raises:
        BrokenPromise: One was broken.
    """
    for check in (_decided, _folded, _in_order, _effects, _timers, _projections):
        check(world, world.witness)


def _decided(world: World, witness: Witness) -> None:
    """Accepted means decided, and nothing is silently dropped."""
    parked = {
        (ref.workflow, ref.key, id_)
        for ref, instance in world.server.instances.items()
        for id_, _ in instance.parked
    }
    for name, sighting in witness.messages.items():
        known = name in witness.records or name in witness.dead or sighting.refused or name in parked
        if not known and sighting.parked:
            partition = partition_of(name.workflow, name.key, world.settings.partitions)
            known = witness.refusable(name, Ref(partition, name.workflow, name.key))
        if sighting.confirmed and not known:
            message = f"command {name} was confirmed, but was neither decided nor refused nor given up"
            raise BrokenPromise(message)


def _folded(world: World, witness: Witness) -> None:
    """One writer: every record is what the workflow decides in the state that the records before it lead to."""
    for ref, log in witness.entries.items():
        instance = world.server.instances[ref]
        if instance.seq != len(log) or (log and instance.head != log[-1].command_id):
            message = f"the log of {ref.workflow}/{ref.key} ends at {instance.seq}, but {len(log)} records were committed"
            raise BrokenPromise(message)
        if any(entry.control is not None and entry.control.erases for entry in log):
            continue
        for number, entry in enumerate(log, 1):
            if entry.control is None:
                _decided_again(world, witness, ref, number, entry)


def _decided_again(world: World, witness: Witness, ref: Ref, number: int, entry: Entry[Any]) -> None:
    definition = world.app.definition(ref.workflow)
    state = own_copy(definition, witness.states[ref][number - 1])
    where = f"record {number} of {ref.workflow}/{ref.key}"
    sighting = witness.messages.get(Name(ref.workflow, ref.key, entry.command_id))
    if sighting is None:
        message = f"{where} is of command {entry.command_id}, which nobody sent"
        raise BrokenPromise(message)
    if definition.workflow.is_terminal(state):
        message = f"{where} was written to an instance that had finished"
        raise BrokenPromise(message)
    command = definition.commands.decode(sighting.envelope.payload)
    decision = definition.workflow.decide(from_ms(entry.at_ms), state, command)
    if not isinstance(decision, Accept) or encode(decision.events) != encode(entry.events):
        message = (
            f"{where} is not what the workflow decides in the state that the log led to:\n"
            f"  state: {state!r}\n  command: {command!r}\n  recorded: {entry.events!r}\n  decides: {decision!r}"
        )
        raise BrokenPromise(message)
    for index in range(len(decision.effects)):
        if (ref.workflow, ref.key, f"{entry.command_id}:{index}") not in witness.intents:
            message = f"{where} asked for effect {index}, which was not written with it"
            raise BrokenPromise(message)


def _in_order(world: World, witness: Witness) -> None:
    """One sender's commands to one key are decided in the order sent; what was given up aside.

    So is what may have been refused in its turn: of a refusal that nobody was told there is no trace, and when the batch
    is done again the state may have become another.
    """
    for sender in world.senders:
        last: dict[tuple[str, str], tuple[int, Name]] = {}
        for name in sender.confirmed:
            record = witness.records.get(name)
            if record is None:
                continue
            before = last.get(name[:2])
            overtaken = before is not None and before[0] > record[0]
            if before is not None and overtaken and not _refused(world, before[1], record[0]):
                message = f"{name} was decided before {before[1]}, which its sender had sent first"
                raise BrokenPromise(message)
            last[name[:2]] = (record[0], name)


def _refused(world: World, name: Name, seq: int) -> bool:
    """Return whether a command may have been refused before a record was made."""
    partition = partition_of(name.workflow, name.key, world.settings.partitions)
    return world.witness.refusable(name, Ref(partition, name.workflow, name.key), seq)


def _effects(world: World, witness: Witness) -> None:
    """Effects are run, and their results applied; or they are dead letters."""
    for (workflow, key, id_), intent in witness.intents.items():
        ref = Ref(0, workflow, key)
        over = any(
            one.run_state.finished
            for place, one in world.server.instances.items()
            if place[1:] == ref[1:] and not intent.attempts
        )
        if over and not intent.finished:
            continue  # withdrawn with its instance
        wrong = witness.wrong_result(workflow, key, id_)
        if wrong:
            raise BrokenPromise(wrong)


def _timers(world: World, witness: Witness) -> None:
    """Every timer whose time has come was sent."""
    now_ms = min(world.server.now_ms(), world.last_ms)
    for name, alarm in witness.alarms.items():
        if alarm.cancelled or alarm.due_ms > now_ms:
            continue
        sent = [name]
        if name.workflow == SCHEDULE_TYPE:
            # The command of a tick is sent in place of its timer, with a report.
            sent.append(name._replace(id=f"{name.id}:r"))
        if not any(one in witness.messages for one in sent):
            instance = next((one for ref, one in world.server.instances.items() if ref[1:] == name[:2]), None)
            if instance is None or not instance.run_state.finished:
                message = f"timer {name} was set for a time that has come, but was never sent"
                raise BrokenPromise(message)


def _projections(world: World, witness: Witness) -> None:
    """Projections were told of every event, up to where they parked an instance."""
    for definition in world.app.projections:
        reader = Reader(definition.name, 1)
        for ref in witness.entries:
            if ref.workflow not in definition.sources:
                continue
            if ref in world.server.reading.parked.get((ref.partition, reader), {}):
                continue
            told = witness.told.get((str(reader), ref))
            missing = witness.next_event(str(reader), ref, told.place if told is not None else (0, 0))
            if missing is not None:
                message = (
                    f"{reader} was never told of event {missing[0]}.{missing[1]} of {ref.workflow}/{ref.key}"
                )
                raise BrokenPromise(message)
