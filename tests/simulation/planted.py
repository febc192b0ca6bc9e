"""
Classic bugs, each planted in the product from outside: what a simulation that is worth its time must find.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from holdfast.actors import commands, effects, projections, timers
from holdfast.actors.effect_desk import Desk
from holdfast.actors.effect_job import Job
from holdfast.actors.simulation.store import MemoryWriting
from holdfast.brokers.memory import MemoryJournal, MemoryServer
from holdfast.brokers.memory_timers import MemoryTimers
from holdfast.brokers.memory_uniques import MemoryUniques
from holdfast.runtime.actor import Actor, Handled
from holdfast.runtime.head_start import HeadStart
from holdfast.runtime.loopback import LoopbackConsumer, Parcel
from holdfast.runtime.ports import Commit, CommitResult, Delivery
from holdfast.runtime.timers import Fired
from holdfast.runtime.turn import Turn
from holdfast.runtime.turn_result import TurnResult
from holdfast.runtime.uniques import Claim, Claimed, ClaimResult, Contested

Patch = pytest.MonkeyPatch


def no_fencing(patch: Patch) -> None:
    """
    A commit checks neither token nor sequence number nor head: who slept writes over others.
    """
    honest = MemoryJournal._commit

    def commit(self: MemoryJournal, one: Commit, owner: str) -> CommitResult:
        instance = self._server.instances.get(one.ref)
        if instance is not None and one.entries:
            one.seq, one.head, one.token = instance.seq, instance.head, instance.token
            instance.owner = owner
        return honest(self, one, owner)

    patch.setattr(MemoryJournal, "_commit", commit)


def acknowledged_before_the_commit(patch: Patch) -> None:
    """
    A batch is acknowledged as soon as it was taken.
    """
    honest = commands.CommandLane.work

    def work(self: commands.CommandLane, batch: commands.CommandBatch) -> None:
        self._consumer.ack(batch.deliveries)
        honest(self, batch)

    patch.setattr(commands.CommandLane, "work", work)


def position_before_the_read_model(patch: Patch) -> None:
    """
    How far a read model goes is stored before what is written to it.
    """

    def keep(self: MemoryWriting, seqs: Sequence[Any], _positions: object) -> None:
        self._kept += seqs
        self._store._seqs.update({(self._generation, ref): seq for ref, seq in seqs})
        self._read.clear()

    patch.setattr(MemoryWriting, "keep", keep)


def acknowledged_before_the_read_model(patch: Patch) -> None:
    """
    The feed is acknowledged up to where a batch goes, and only then is the batch applied.
    """
    honest = projections.ProjectionLane._apply

    def apply(self: projections.ProjectionLane, batch: projections.ProjectionBatch) -> None:
        if batch.steps:
            self._ports.feed.acknowledge(batch.track.reader, batch.steps, self._owner)
        honest(self, batch)

    patch.setattr(projections.ProjectionLane, "_apply", apply)


def timer_removed_before_it_is_sent(patch: Patch) -> None:
    """
    What is due is forgotten before it is published.
    """
    honest = timers.TimerLane.work

    def work(self: timers.TimerLane, batch: timers.TimerBatch) -> None:
        self._ports.timers.remove(batch.due)
        honest(self, batch)

    patch.setattr(timers.TimerLane, "work", work)


def timer_too_early(patch: Patch) -> None:
    """
    Timers are moved by a clock that is half a second fast.
    """
    honest = MemoryTimers._fire

    def fire(self: MemoryTimers, partition: int, owner: str, limit: int) -> Fired:
        server = self._server
        server.__dict__["now_ms"] = lambda: MemoryServer.now_ms(server) + 500
        try:
            return honest(self, partition, owner, limit)
        finally:
            del server.__dict__["now_ms"]

    patch.setattr(MemoryTimers, "_fire", fire)


def cancels_ignored(patch: Patch) -> None:
    """
    A cancelled timer stays.
    """
    honest = MemoryJournal._commit

    def commit(self: MemoryJournal, one: Commit, owner: str) -> CommitResult:
        cancels, one.cancels = one.cancels, []
        try:
            return honest(self, one, owner)
        finally:
            one.cancels = cancels

    patch.setattr(MemoryJournal, "_commit", commit)


def effect_finished_before_its_result_is_sent(patch: Patch) -> None:
    """
    An effect leaves the outbox when its handler has ended, before its result is confirmed.
    """
    honest = Desk._publish

    def publish(self: Desk, job: Job) -> None:
        self._ports.effects.finish([job.ticket], self._owner)
        honest(self, job)

    patch.setattr(Desk, "_publish", publish)


def handled_commands_forgotten(patch: Patch) -> None:
    """
    Nobody remembers which commands were handled.
    """

    def remember(self: Actor, command_id: str, handled: Handled) -> None:
        pass

    patch.setattr(Actor, "remember", remember)


def handled_commands_forgotten_by_snapshots(patch: Patch) -> None:
    """
    A snapshot has no ids of handled commands.
    """
    honest = Actor.snapshot

    def snapshot(self: Actor) -> Any:
        import msgspec

        return msgspec.structs.replace(honest(self), handled=())

    patch.setattr(Actor, "snapshot", snapshot)


def no_barrier_before_effects(patch: Patch) -> None:
    """
    Effects begin before the decision that asked for them is durable.
    """
    honest = effects.EffectLane._begin

    def begin(self: effects.EffectLane, ports: Any, left: Any) -> None:
        class Journal:
            def __getattr__(self, name: str) -> Any:
                return (lambda: None) if name == "barrier" else getattr(ports.journal, name)

        import dataclasses

        honest(self, dataclasses.replace(ports, journal=Journal()), left)

    patch.setattr(effects.EffectLane, "_begin", begin)


def no_barrier_before_acknowledging(patch: Patch) -> None:
    """
    Commands are acknowledged before their records are durable.
    """
    honest = commands.CommandLane._run

    def run(self: commands.CommandLane, deliveries: list[Delivery]) -> TurnResult:
        class Journal:
            def barrier(self) -> None:
                pass

        journal, self._ports.journal = self._ports.journal, Journal()  # type: ignore[assignment]
        try:
            return honest(self, deliveries)
        finally:
            self._ports.journal = journal

    patch.setattr(commands.CommandLane, "_run", run)


def conflicts_taken_for_success(patch: Patch) -> None:
    """
    What was not committed is done with all the same.
    """
    honest = Turn._attempt

    def attempt(self: Turn, result: TurnResult, pending: Any) -> Any:
        boxes = dict(pending)
        plans, lost = honest(self, result, pending)
        if lost:
            for box in boxes.values():
                result.done += [letter.delivery for letter in box.letters]
            pending.clear()
        return plans, 0

    patch.setattr(Turn, "_attempt", attempt)


def effects_kept_in_memory(patch: Patch) -> None:
    """
    An effect is finished when it begins: who dies takes it along.
    """
    honest = effects.EffectLane._begin

    def begin(self: effects.EffectLane, ports: Any, left: dict[Any, Job]) -> None:
        jobs = list(left.values())
        honest(self, ports, left)
        ports.effects.finish([job.ticket for job in jobs], self._owner)

    patch.setattr(effects.EffectLane, "_begin", begin)


def claims_forgotten(patch: Patch) -> None:
    """
    A steward does not give back what it claimed without hearing the answer, as it was until the simulator said so.
    """
    from holdfast.actors.partitions import Steward

    honest = Steward._step

    def step(self: Steward) -> None:
        before = set(self._leaving)
        try:
            honest(self)
        except Exception:
            self._leaving &= before | self._serving
            raise

    patch.setattr(Steward, "_step", step)


def senders_told_when_their_command_is_taken(patch: Patch) -> None:
    """
    What goes the short way is taken for done when it is taken out of the inbox.
    """
    honest = LoopbackConsumer._from_inbox

    def taken(self: LoopbackConsumer, limit: int) -> list[Delivery]:
        found = honest(self, limit)
        for delivery in found:
            delivery.tag.end()
        return found

    patch.setattr(LoopbackConsumer, "_from_inbox", taken)


def short_way_ends_with_the_partition(patch: Patch) -> None:
    """
    What goes the short way is not put into the queue when its partition is handed over.
    """
    patch.setattr(Parcel, "copy", Parcel.end)


def head_start_before_the_barrier(patch: Patch) -> None:
    """
    What a commit has begun is run as soon as the commit is answered.
    """
    honest = HeadStart.settle

    def settle(self: HeadStart, commit: Commit, positions: Sequence[str] = ()) -> None:
        honest(self, commit, positions)
        self.start()

    patch.setattr(HeadStart, "settle", settle)


def places_are_not_given_back(patch: Patch) -> None:
    """
    What was reserved for a commit that nobody had an answer to stays reserved.
    """
    patch.setattr(HeadStart, "abandon", lambda _self: None)


def what_may_be_held_is_forgotten(patch: Patch) -> None:
    """
    An effect of which nobody knows whether its commit has begun it is left to whoever reads it, here or elsewhere.
    """
    patch.setattr(Desk, "doubt", lambda _self, _partitions: None)


def unique_keys_for_everybody(patch: Patch) -> None:
    """
    Whoever claims a unique key gets it.
    """
    patch.setattr(MemoryUniques, "_has", lambda *_: False)


def claims_that_nobody_minds(patch: Patch) -> None:
    """
    What another is just about to have is given away.
    """
    honest = MemoryUniques._claim

    def claim(self: MemoryUniques, one: Claim) -> ClaimResult:
        found = honest(self, one)
        return Claimed(self._server.now_ms() + 10_000) if isinstance(found, Contested) else found

    patch.setattr(MemoryUniques, "_claim", claim)


def the_last_comes_first(patch: Patch) -> None:
    """
    A batch is decided from its end.
    """
    honest = Turn.run

    def run(self: Turn, deliveries: Sequence[Delivery]) -> TurnResult:
        return honest(self, deliveries[::-1])

    patch.setattr(Turn, "run", run)


#: Bugs with unique keys, which the tenants find.
UNIQUE_BUGS = (unique_keys_for_everybody, claims_that_nobody_minds)

#: Every other bug, and what its finder says.
BUGS: dict[Callable[[Patch], None], str] = {
    no_fencing: "is not what the workflow decides|was written, which had|written under an old token|applied twice",
    acknowledged_before_the_commit: "was acknowledged, but was neither",
    position_before_the_read_model: "was (never )?told of event",
    acknowledged_before_the_read_model: "was (never )?told of event",
    timer_removed_before_it_is_sent: "was removed before it was sent",
    timer_too_early: "too early|before its time",
    cancels_ignored: "cancelled or replaced",
    effect_finished_before_its_result_is_sent: "no attempt came to an end|result was not sent",
    handled_commands_forgotten: "was applied twice|answered accepted first",
    handled_commands_forgotten_by_snapshots: "was applied twice|answered accepted first",
    no_barrier_before_effects: "begun before the decision that asked for it was durable",
    no_barrier_before_acknowledging: "(acknowledged|answered) before its record was durable",
    conflicts_taken_for_success: "was acknowledged, but was neither",
    effects_kept_in_memory: "no attempt came to an end|result was not sent",
    claims_forgotten: "there is still work",
    senders_told_when_their_command_is_taken: "was confirmed, but was neither",
    short_way_ends_with_the_partition: "was confirmed, but was neither",
    head_start_before_the_barrier: "begun before the decision that asked for it was durable",
    places_are_not_given_back: "there is still work",
}
