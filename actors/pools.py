"""Pools: what a worker process serves, put together from the ports that the wiring opens."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from holdfast.actors.caretaker import Caretaker
from holdfast.actors.commands import CommandLane, CommandPorts
from holdfast.actors.doorman import DOOR, Doorman
from holdfast.actors.effects import EffectLane, EffectPorts
from holdfast.actors.partitions import Holder, Steward, this_host
from holdfast.actors.pool import Lane, PoolBroker, Service
from holdfast.actors.projections import ProjectionLane, ProjectionPorts
from holdfast.actors.reader import Reader
from holdfast.actors.ticks import Ticks
from holdfast.actors.timers import TimerLane, TimerPorts
from holdfast.actors.wiring import limits, open_ports, open_read_model, open_transport
from holdfast.brokers.rabbitmq import DEAD, INGRESS, RabbitTransport
from holdfast.runtime.app import App
from holdfast.runtime.clock import SystemClock
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import UsageError
from holdfast.runtime.ids import new_id
from holdfast.runtime.ports import Member, Transport
from holdfast.runtime.projection_definition import ProjectionDefinition
from holdfast.runtime.turn import Turn

log = logging.getLogger(__name__)


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


def _effect_pool(process: Process) -> Pool:
    for name in process.app.unhandled:
        log.warning("effect has no handler in this process", extra={"effect": name})
    settings = process.settings
    ports = EffectPorts(
        open_ports(settings), open_ports(settings), open_ports(settings), process.transport.publisher()
    )
    lane = EffectLane("effect", process.owner, process.app, ports, settings)
    return Pool([lane], lambda _partition: [lane])


def _timer_pool(process: Process) -> Pool:
    ports = open_ports(process.settings)
    lane = TimerLane(
        "timer.0",
        process.owner,
        process.transport.publisher(),
        TimerPorts(ports.timers, ports.journal, ports.close),
        Ticks(
            process.app,
            ports.journal,
            SystemClock(),
            partitions=process.settings.partitions,
            payload_bytes_max=process.settings.payload_bytes_max,
        ),
    )
    return Pool([lane], lambda _partition: [lane])


def _projection_pool(process: Process) -> Pool:
    lanes = [_projection_lane(process, definition) for definition in process.app.projections]
    return Pool(lanes, lambda _partition: lanes)


#: How each pool is put together.
BUILDERS: dict[str, Callable[[Process], Pool]] = {
    "command": _command_pool,
    "effect": _effect_pool,
    "timer": _timer_pool,
    "projection": _projection_pool,
}

#: The pools that exist.
POOLS = tuple(BUILDERS)


#: Pools that not every app has work for.
NEEDED: dict[str, Callable[[App], bool]] = {
    "effect": lambda app: any(definition.effect_classes for definition in app.definitions),
    "projection": lambda app: bool(app.projections),
}


def needed(app: App, pools: Sequence[str]) -> tuple[str, ...]:
    """Return the pools among these that an app has work for.

    Raises:
        UsageError: It has work for none.
    """
    found = tuple(name for name in pools if name not in NEEDED or NEEDED[name](app))
    if not found:
        message = f"the app has no work for the {' and '.join(pools)} pool"
        raise UsageError(message)
    return found


def worker_broker(app: App, settings: Settings, *, pools: Sequence[str] = POOLS, lanes: int) -> PoolBroker:
    """Return the dramatiq broker of a process that serves some pools.

    Args:
        app, settings: What is served, and on what.
        pools: Which kinds of work.
        lanes: Streams of batches of the command pool; they share its partitions.

    Raises:
        SetupError: A server refuses us or cannot give the configured durability, or was set up otherwise.
        Unavailable: It cannot be reached.
        UsageError: The app has no work for any of the pools.
    """
    ports = open_ports(settings)
    process = Process(app, settings, open_transport(settings), new_id().partition(".")[0], lanes)
    built = {name: BUILDERS[name](process) for name in needed(app, pools)}
    member = Member(process.owner, tuple(built), this_host(), os.getpid(), datetime.now(UTC))
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


def _projection_lane(process: Process, definition: ProjectionDefinition) -> ProjectionLane:
    ports = open_ports(process.settings)
    lane_ports = ProjectionPorts(
        ports.feed,
        ports.parking,
        ports.dead_letters,
        open_read_model(process.settings, definition),
        ports.journal,
        ports.close,
    )
    return ProjectionLane(
        definition,
        process.owner,
        lane_ports,
        SystemClock(),
        partitions=process.settings.partitions,
        batch_max=process.settings.batch_max,
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
