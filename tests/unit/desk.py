"""
Desk: a turn on ports in memory, with a clock that stands still.
"""

from typing import Any

import msgspec

from holdfast.brokers.memory import MemoryAnswers, MemoryJournal, MemoryServer
from holdfast.brokers.memory_uniques import MemoryUniques
from holdfast.runtime.app import App
from holdfast.runtime.cache import ActorCache
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.message import Command, Envelope
from holdfast.runtime.outcome import Answer
from holdfast.runtime.ports import Delivery, Opened
from holdfast.runtime.record import EffectEntry, Entry
from holdfast.runtime.turn import Limits, Turn, fold_with_fallback
from holdfast.runtime.turn_result import TurnResult
from tests.controls import NOW, PARTITIONS
from tests.unit import trouble

#: What a worker without patience gives up on the second time that it meets it.
IMPATIENT = Limits(patience_s=0.0)


class Desk:
    """
    One worker's turn, and the server that it shares with other desks.
    """

    def __init__(
        self,
        app: App | None = None,
        *,
        beside: "Desk | None" = None,
        owner: str = "w-1",
        leases: bool = True,
        limits: Limits | None = None,
        cache: ActorCache | None = None,
    ) -> None:
        self.app = app or trouble.app()
        self.clock: ManualClock = beside.clock if beside else ManualClock(NOW)
        self.server: MemoryServer = beside.server if beside else MemoryServer(PARTITIONS, self.clock)
        self.journal = MemoryJournal(self.server, leases=leases)
        self.answers = MemoryAnswers(self.server)
        self.limits = limits
        self.turn = self.make_turn(self.journal, owner, limits, cache)

    def make_turn(
        self,
        journal: MemoryJournal,
        owner: str = "w-1",
        limits: Limits | None = None,
        cache: ActorCache | None = None,
    ) -> Turn:
        """
        A turn on this desk's server.
        """
        return Turn(
            self.app,
            journal,
            self.answers,
            self.answers,
            owner=owner,
            clock=self.clock,
            partitions=PARTITIONS,
            limits=limits,
            cache=cache,
            uniques=MemoryUniques(self.server),
        )

    def run(self, *deliveries: Delivery) -> TurnResult:
        """
        Run a batch, and remember its refusals as the command pool does before it answers.
        """
        result = self.turn.run(deliveries)
        self.answers.remember([(partition, name, encode(one)) for partition, name, one in result.refusals])
        return result

    def remembered(self) -> list[Answer]:
        """
        The refusals that somebody was told.
        """
        return [msgspec.msgpack.decode(data, type=Answer) for data in self.server.refusals.values()]

    def restart(self) -> None:
        """
        Go on as another process would: with nothing in memory.
        """
        self.turn = self.make_turn(self.journal, limits=self.limits)

    def forget(self) -> None:
        """
        Drop all actors: the next batch opens them cold.
        """
        self.turn.cache.clear()

    def log(self, ref: Ref) -> list[Entry[Any]]:
        """
        An instance's records.
        """
        definition = self.app.definition(ref.workflow)
        return [
            definition.entries.decode(data, f"record {seq}")
            for seq, data in self.journal.entries(ref, 0, 10_000)
        ]

    def commands(self, ref: Ref) -> list[str]:
        """
        The ids of an instance's commands, in the order of the log.
        """
        return [entry.command_id for entry in self.log(ref)]

    def opened(self, ref: Ref) -> Opened:
        """
        An instance as the journal has it.
        """
        return self.journal.read([ref])[0]

    def state(self, ref: Ref) -> Any:
        """
        An instance's state, read back cold.
        """
        return fold_with_fallback(self.journal, self.app.definition(ref.workflow), self.opened(ref)).state

    def effects(self, ref: Ref) -> list[EffectEntry]:
        """
        The outbox of the instance's partition.
        """
        return self.journal.effects(ref.partition, 1_000)

    def timers(self, ref: Ref) -> dict[str, int]:
        """
        The pending timers of the instance's partition: when each is due, in milliseconds from the desk's beginning.
        """
        start = int(NOW.timestamp() * 1000)
        return {timer.name: due_ms - start for due_ms, timer in self.journal.timers(ref.partition, 1_000)}


def ref(key: str = "t-1", workflow: str = "trouble") -> Ref:
    """
    A troublemaker.
    """
    return Ref(partition_of(workflow, key, PARTITIONS), workflow, key)


def sent(
    command: Command,
    command_id: str = "c-1",
    *,
    reply_to: str | None = None,
    redeliveries: int = 0,
    **changes: Any,
) -> Delivery:
    """
    A command for a troublemaker, as the transport hands it out.
    """
    key = getattr(command, "id", "")
    values: dict[str, Any] = {
        "workflow": "trouble",
        "key": key,
        "payload": encode(command),
        "reply_to": reply_to,
    }
    envelope = Envelope(command_id, **(values | changes))
    partition = partition_of(envelope.workflow, envelope.key, PARTITIONS)
    return Delivery(partition, encode_envelope(envelope), redeliveries, command_id)


def raw(tag: str, command_id: str = "c-1", key: str = "t-1", **fields: Any) -> Delivery:
    """
    A command of any name for a troublemaker, known to it or not.
    """
    payload = encode({"type": tag, "id": key, **fields})
    envelope = Envelope(command_id, "trouble", key, payload)
    return Delivery(partition_of("trouble", key, PARTITIONS), encode_envelope(envelope), 0, command_id)


def ids(deliveries: list[Delivery]) -> list[str]:
    """
    Which commands these deliveries carry.
    """
    return [str(delivery.tag) for delivery in deliveries]


def replies(result: TurnResult) -> dict[str, Answer]:
    """
    The answers by reply address; there is one for each.
    """
    assert len(result.replies) == len(dict(result.replies))
    return dict(result.replies)
