"""Proof: reads every log back, cold, and compares it with what was sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from holdfast.actors import wiring
from holdfast.actors.reader import Reader
from holdfast.demo.orders import Order, Status, app
from holdfast.demo.story import order_id, sendings
from holdfast.runtime.config import Settings
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import partition_of

#: How many differences are told.
DIFFERENCES_MAX = 5


@dataclass(frozen=True)
class Kill:
    """A worker that was killed in the middle."""

    pid: int
    #: What it served.
    partitions: frozenset[int]
    #: When the signal was sent, and when the process was gone.
    sent: datetime
    gone: datetime


@dataclass
class Proof:
    """What the logs say."""

    orders: int
    sent: int = 0
    twice: int = 0
    records: int = 0
    right: int = 0
    refused: int = 0
    missing: int = 0
    duplicates: int = 0
    delivered: int = 0
    completed: int = 0
    waiting: int = 0
    dead_letters: int = 0
    #: Seconds from the kill to the first record in a partition of the killed worker.
    went_on_s: float | None = None
    differences: list[str] = field(default_factory=list)


def prove(settings: Settings, orders: int, kill: Kill | None) -> Proof:
    """Return what is found in the logs of all orders."""
    proof = Proof(orders)
    ports = wiring.open_ports(settings)
    transport = wiring.open_transport(settings)
    try:
        reader = Reader(app, settings.partitions, lambda: ports.journal)
        keys = {order_id(number): number for number in range(orders)}
        went_on: datetime | None = None
        for key, records in reader.histories(Order, keys):
            _compare(proof, keys[key], [record.command_id for record in records])
            state, order = Order().initial(), Order()
            for record in records:
                for event in record.events:
                    state = order.evolve(state, event)
            proof.delivered += state.status is Status.DELIVERED
            if kill is not None and partition_of(Order.type, key, settings.partitions) in kill.partitions:
                later = (record.at for record in records if record.at > kill.gone)
                went_on = min((*later, went_on) if went_on is not None else later, default=None)
        if kill is not None and went_on is not None:
            proof.went_on_s = (went_on - kill.sent).total_seconds()
        proof.completed = ports.directory.count(Order.type, RunState.COMPLETED)
        proof.dead_letters = ports.dead_letters.count()
        proof.waiting = sum(transport.depths())
    finally:
        ports.close()
    return proof


def _compare(proof: Proof, number: int, found: list[str]) -> None:
    """Compare the command ids in a log with those that were sent."""
    sent = sendings(number)
    expected = [sending.id for sending in sent if sending.accepted]
    proof.sent += len(sent)
    proof.twice += sum(sending.twice for sending in sent)
    proof.refused += sum(not sending.accepted and sending.id not in found for sending in sent)
    proof.records += len(found)
    proof.missing += len(set(expected) - set(found))
    proof.duplicates += len(found) - len(set(found))
    if found == expected:
        proof.right += 1
    elif len(proof.differences) < DIFFERENCES_MAX:
        proof.differences.append(f"{order_id(number)} should have {expected} and has {found}")
