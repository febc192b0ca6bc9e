"""Pools: what a worker process serves, put together from the ports that the wiring opens."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from holdfast.actors.caretaker import Caretaker
from holdfast.actors.commands import CommandLane, CommandPorts
from holdfast.actors.doorman import DOOR, Doorman
from holdfast.actors.partitions import Holder, Steward, this_host
from holdfast.actors.pool import Lane, PoolBroker, Service
from holdfast.actors.reader import Reader
from holdfast.actors.wiring import limits, open_ports, open_transport
from holdfast.brokers.rabbitmq import DEAD, INGRESS, RabbitTransport
from holdfast.runtime.app import App
from holdfast.runtime.clock import SystemClock
from holdfast.runtime.config import Settings
from holdfast.runtime.ids import new_id
from holdfast.runtime.ports import Member, Transport
from holdfast.runtime.turn import Turn


@dataclass(frozen=True, slots=True)
class Process:
    """What all pools of one worker process have in common."""

    app: App
    settings: Settings
    transport: Transport
    #: The id of this process among the living.
    owner: str
    #: How many lanes the command pool has.
    lanes: int


@dataclass(frozen=True, slots=True)
class Pool:
    """One kind of work in this process: its lanes, and who holds a partition."""

    lanes: Sequence[Lane]
    holders: Callable[[int], Sequence[Holder]]


def _command_pool(process: Process) -> Pool:
    alone = threading.Lock()
    lanes = [_command_lane(process, number, alone) for number in range(process.lanes)]
    doorman = _doorman(process, process.transport) if isinstance(process.transport, RabbitTransport) else None

    def holders(partition: int) -> list[Holder]:
        lane = lanes[partition % len(lanes)]
        return [lane, doorman] if doorman is not None and partition == DOOR else [lane]

    return Pool([*lanes, doorman] if doorman is not None else lanes, holders)


#: How each pool is put together.
BUILDERS: dict[str, Callable[[Process], Pool]] = {"command": _command_pool}

#: The pools that exist.
POOLS = tuple(BUILDERS)


def worker_broker(app: App, settings: Settings, *, pools: Sequence[str] = POOLS, lanes: int) -> PoolBroker:
    """Return the dramatiq broker of a process that serves some pools.

    Args:
        app, settings: What is served, and on what.
        pools: Which kinds of work.
        lanes: Streams of batches of the command pool; they share its partitions.

    Raises:
        SetupError: A server refuses us or cannot give the configured durability, or was set up otherwise.
        Unavailable: It cannot be reached.
    """
    ports = open_ports(settings)
    member = Member(new_id().partition(".")[0], tuple(pools), this_host(), os.getpid(), datetime.now(UTC))
    process = Process(app, settings, open_transport(settings), member.id, lanes)
    built = {name: BUILDERS[name](process) for name in pools}
    steward = Steward(
        member,
        ports.membership,
        ports.journal,
        {name: pool.holders for name, pool in built.items()},
        partitions=settings.partitions,
        heartbeat_ms=settings.heartbeat_ms,
        ttl_ms=settings.member_ttl_ms,
        drain_s=settings.drain_s,
    )
    services: list[Service] = [steward]
    if "command" in built:
        services.append(_caretaker(process, lambda: ("command", DOOR) in steward.serving))
    return PoolBroker([lane for pool in built.values() for lane in pool.lanes], services)


def _caretaker(process: Process, on_duty: Callable[[], bool]) -> Caretaker:
    ports = open_ports(process.settings)
    partitions = process.settings.partitions
    return Caretaker(
        process.app,
        partitions,
        ports.directory,
        Reader(process.app, partitions, lambda: ports.journal),
        process.transport.publisher(),
        SystemClock(),
        on_duty=on_duty,
        close=ports.close,
    )


def _command_lane(process: Process, number: int, alone: threading.Lock) -> CommandLane:
    settings = process.settings
    ports = open_ports(settings)
    turn = Turn(
        process.app,
        ports.journal,
        ports.answers,
        ports.suspects,
        owner=process.owner,
        clock=SystemClock(),
        partitions=settings.partitions,
        limits=limits(settings),
        alone=alone,
        uniques=ports.uniques,
    )
    lane_ports = CommandPorts(
        ports.journal, ports.answers, ports.dead_letters, ports.remains, ports.observations, ports.close
    )
    return CommandLane(
        f"command.{number}",
        process.owner,
        process.transport.consumer(process.owner),
        turn,
        lane_ports,
        batch_max=settings.batch_max,
    )


def _doorman(process: Process, transport: RabbitTransport) -> Doorman:
    settings = process.settings
    ports = open_ports(settings)
    return Doorman(
        process.app,
        transport.doorman(),
        transport.publisher(),
        ports.dead_letters,
        SystemClock(),
        ports.close,
        queues=(INGRESS, DEAD),
        partitions=settings.partitions,
        payload_bytes_max=settings.payload_bytes_max,
        batch_max=settings.batch_max,
        patience_s=settings.patience_s,
    )
