"""Pools: what a worker process serves, put together from the ports that the wiring opens."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from holdfast.actors.caretaker import Caretaker
from holdfast.actors.commands import LINGER_S, CommandLane, CommandPorts
from holdfast.actors.doorman import DOOR, Doorman
from holdfast.actors.effects import EffectLane, EffectPorts
from holdfast.actors.needs import has_work
from holdfast.actors.pace import MACHINE, Pace
from holdfast.actors.partitions import Holder, Steward, this_host
from holdfast.actors.pool import Lane, PoolBroker, Service
from holdfast.actors.projections import ProjectionLane, ProjectionPorts
from holdfast.actors.reader import Reader
from holdfast.actors.runners import Ended, Runner, Threads
from holdfast.actors.telemetry.telemetry import OFF, Telemetry
from holdfast.actors.telemetry.vitals import Vitals
from holdfast.actors.ticks import Ticks
from holdfast.actors.timers import TimerLane, TimerPorts
from holdfast.actors.tracing.commands import CommandSpans, TracedCommandLane, TracedJournal
from holdfast.actors.tracing.dead_letters import TracedDeadLetters
from holdfast.actors.tracing.doorman import TracedDoorman
from holdfast.actors.tracing.effects import EffectSpans
from holdfast.actors.tracing.projections import TracedProjectionLane
from holdfast.actors.tracing.setup import Exporting
from holdfast.actors.tracing.timers import TimerSpans, TracedTicks, TracedTimers
from holdfast.actors.tracing.tracing import Tracing
from holdfast.actors.wiring import Ports, limits, open_ports, open_read_model, open_transport
from holdfast.brokers.rabbitmq import DEAD, INGRESS
from holdfast.runtime.app import App
from holdfast.runtime.clock import to_ms
from holdfast.runtime.config import Settings, TransportKind
from holdfast.runtime.errors import UsageError
from holdfast.runtime.head_start import Crossing
from holdfast.runtime.ids import new_id
from holdfast.runtime.loopback import Loopback, LoopbackPublisher, WakefulConsumer
from holdfast.runtime.loss import Watchman
from holdfast.runtime.ports import Consumer, Door, Journal, Member, ReadModel, Timers, Transport
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
    #: What opens connections of its own for each thread, and what projections write to.
    open_ports: Callable[[], Ports]
    open_read_model: Callable[[ProjectionDefinition], ReadModel]
    pace: Pace = MACHINE
    #: Where `def` handlers run.
    threads: Callable[[Ended], Runner] = Threads
    #: Where commands go from one pool to another without the transport; its consumers must be wakeful.
    loopback: Loopback | None = None
    #: Where commits begin the effects that are run in this process.
    crossing: Crossing = field(default_factory=Crossing)
    #: What makes spans; None where nothing is traced.
    tracing: Tracing | None = None
    telemetry: Telemetry = OFF
    host: str = field(default_factory=this_host)
    pid: int = field(default_factory=os.getpid)


def process_of(
    app: App,
    settings: Settings,
    lanes: int,
    tracing: Tracing | None = None,
    telemetry: Telemetry = OFF,
) -> Process:
    """Return this process, as it serves an app on the servers that the settings name."""
    return Process(
        app,
        settings,
        open_transport(settings),
        new_id().partition(".")[0],
        lanes,
        lambda: telemetry.ports(open_ports(settings)),
        lambda definition: open_read_model(settings, definition),
        # Who reads Redis Streams waits for Redis, and cannot be woken.
        loopback=None if settings.transport is TransportKind.REDIS else Loopback(),
        tracing=tracing,
        telemetry=telemetry,
    )


@dataclass(frozen=True, slots=True)
class Pool:
    """One kind of work in this process: its lanes, and who holds a partition."""

    lanes: Sequence[Lane]
    holders: Callable[[int], Sequence[Holder]]


def _command_pool(process: Process) -> Pool:
    alone = threading.Lock()
    lanes = [_command_lane(process, number, alone) for number in range(process.lanes)]
    # Not by the class: where payloads are encrypted, another one stands before it.
    foreign = process.settings.transport is TransportKind.RABBITMQ
    doorman = _doorman(process, cast("Door", process.transport)) if foreign else None

    def holders(partition: int) -> list[Holder]:
        lane = lanes[partition % len(lanes)]
        return [lane, doorman] if doorman is not None and partition == DOOR else [lane]

    return Pool([*lanes, doorman] if doorman is not None else lanes, holders)


def _effect_pool(process: Process) -> Pool:
    for name in process.app.unhandled:
        log.warning("effect has no handler in this process", extra={"effect": name})
    settings = process.settings
    desk = _with_letters_traced(process, process.open_ports())
    ports = EffectPorts(process.open_ports(), process.open_ports(), desk, _publisher(process))
    spans = EffectSpans(process.tracing, _now_ms(process)) if process.tracing is not None else None
    lane = EffectLane(
        "effect",
        process.owner,
        process.app,
        ports,
        settings,
        process.pace,
        process.threads,
        spans,
        process.telemetry.attempts(),
        process.telemetry.stalled(),
    )
    process.crossing.starter = lane
    return Pool([lane], lambda _partition: [lane])


def _timer_pool(process: Process) -> Pool:
    ports = process.open_ports()
    timers = ports.timers
    make_ticks: Callable[..., Ticks] = Ticks
    if process.tracing is not None:
        spans = TimerSpans(process.tracing, _now_ms(process))
        timers = cast("Timers", TracedTimers(timers, spans))
        make_ticks = partial(TracedTicks, spans=spans)
    lane = TimerLane(
        "timer.0",
        process.owner,
        _publisher(process),
        TimerPorts(timers, ports.journal, ports.close),
        make_ticks(
            process.app,
            ports.journal,
            process.pace.clock,
            partitions=process.settings.partitions,
            payload_bytes_max=process.settings.payload_bytes_max,
        ),
        process.pace,
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


def needed(app: App, pools: Sequence[str]) -> tuple[str, ...]:
    """Return the pools among these that an app has work for.

    Raises:
        UsageError: It has work for none.
    """
    found = tuple(name for name in pools if has_work(app, name))
    if not found:
        message = f"the app has no work for the {' and '.join(pools)} pool"
        raise UsageError(message)
    return found


def worker_broker(
    app: App,
    settings: Settings,
    *,
    pools: Sequence[str] = POOLS,
    lanes: int,
    tracing: Tracing | None = None,
    telemetry: Telemetry = OFF,
    exporting: Exporting | None = None,
) -> PoolBroker:
    """Return the dramatiq broker of a process that serves some pools.

    Args:
        app, settings: What is served, and on what.
        pools: Which kinds of work.
        lanes: Streams of batches of the command pool; they share its partitions.
        tracing: What makes spans; None to have nothing traced.
        telemetry: What the process says of itself; it is closed with the broker.
        exporting: What exports the spans; the same.

    Raises:
        SetupError: A server refuses us or cannot give the configured durability, or was set up otherwise.
        Unavailable: It cannot be reached.
        UsageError: The app has no work for any of the pools.
    """
    process = process_of(app, settings, lanes, tracing, telemetry)
    built = build(process, needed(app, pools))
    steward = steward_of(process, built)
    services: list[Service] = [steward]
    if "command" in built:
        services.append(_caretaker(process, lambda: ("command", DOOR) in steward.serving))
    vitals: list[Vitals] = []
    watched = [telemetry.lane(lane, vitals) for pool in built.values() for lane in pool.lanes]
    services += telemetry.services(steward, vitals, process.transport, lambda: open_ports(settings))

    def close() -> None:
        # Both at once: a collector that is away holds up the end of the process once.
        if exporting is not None:
            exporting.begin_close()
        telemetry.close()
        if exporting is not None:
            exporting.close()

    return PoolBroker(watched, services, close)


def build(process: Process, pools: Sequence[str]) -> dict[str, Pool]:
    """Return the pools of a process, by name."""
    return {name: BUILDERS[name](process) for name in pools}


def steward_of(process: Process, built: Mapping[str, Pool]) -> Steward:
    """Return what gives the pools of a process their partitions."""
    settings, ports = process.settings, process.open_ports()
    return Steward(
        Member(process.owner, tuple(built), process.host, process.pid, process.pace.clock.now()),
        ports.membership,
        ports.journal,
        process.telemetry.holders({name: pool.holders for name, pool in built.items()}),
        partitions=settings.partitions,
        heartbeat_ms=settings.heartbeat_ms,
        ttl_ms=settings.member_ttl_ms,
        drain_s=settings.drain_s,
        pace=process.pace,
        knows=[definition.type for definition in process.app.definitions],
    )


def _caretaker(process: Process, on_duty: Callable[[], bool]) -> Caretaker:
    ports = process.open_ports()
    partitions = process.settings.partitions
    return Caretaker(
        process.app,
        partitions,
        ports.directory,
        Reader(process.app, partitions, lambda: ports.journal),
        process.transport.publisher(),
        process.pace.clock,
        on_duty=on_duty,
        close=ports.close,
    )


def _now_ms(process: Process) -> Callable[[], int]:
    """Return what tells a process's time in milliseconds since 1970."""
    clock = process.pace.clock
    return lambda: to_ms(clock.now())


def _with_letters_traced(process: Process, ports: Ports) -> Ports:
    """Return ports of which dead letters are traced, where anything is."""
    if process.tracing is None:
        return ports
    traced: Any = TracedDeadLetters(ports.dead_letters, process.tracing, _now_ms(process))
    return replace(ports, dead_letters=traced)


def _command_lane(process: Process, number: int, alone: threading.Lock) -> CommandLane:
    settings = process.settings
    ports = process.open_ports()
    journal, spans = ports.journal, None
    make_lane: Callable[..., CommandLane] = CommandLane
    if process.tracing is not None:
        spans = CommandSpans(process.tracing, _now_ms(process))
        journal = cast("Journal", TracedJournal(journal, spans))
        make_lane = partial(TracedCommandLane, spans=spans)
    head_start = process.crossing.head_start()
    turn = Turn(
        process.app,
        journal,
        ports.answers,
        ports.suspects,
        owner=process.owner,
        clock=process.pace.clock,
        partitions=settings.partitions,
        limits=limits(settings),
        cache=process.telemetry.cache(),
        alone=alone,
        uniques=ports.uniques,
        watchman=_watchman(process, _with_letters_traced(process, ports)),
        spans=spans,
        tally=process.telemetry.tally(f"command.{number}"),
        head_start=head_start,
    )
    lane_ports = CommandPorts(
        ports.journal,
        ports.answers,
        ports.dead_letters,
        ports.remains,
        ports.observations,
        ports.close,
        head_start,
    )
    return make_lane(
        f"command.{number}",
        process.owner,
        _consumer(process),
        turn,
        lane_ports,
        batch_max=settings.batch_max,
        # Nothing reaches a consumer of Redis Streams but a round trip.
        linger_s=LINGER_S if process.loopback is not None else 0.0,
        pace=process.pace,
    )


def _publisher(process: Process) -> LoopbackPublisher:
    """Return a publisher for what this process sends of its own accord."""
    return (process.loopback or Loopback()).publisher(process.transport.publisher())


def _consumer(process: Process) -> Consumer:
    consumer = process.transport.consumer(process.owner)
    if process.loopback is None:
        return consumer
    return process.loopback.consumer(cast("WakefulConsumer", consumer))


def _watchman(process: Process, ports: Ports) -> Watchman | None:
    """Return who notices that records were lost, where that may happen without everything being lost."""
    return None if ports.losses is None else Watchman(ports.losses, ports.dead_letters, process.pace.clock)


def _projection_lane(process: Process, definition: ProjectionDefinition) -> ProjectionLane:
    ports = _with_letters_traced(process, process.open_ports())
    lane_ports = ProjectionPorts(
        ports.feed,
        ports.parking,
        ports.dead_letters,
        process.open_read_model(definition),
        ports.journal,
        ports.close,
        ports.losses,
    )
    make_lane: Callable[..., ProjectionLane] = ProjectionLane
    if process.tracing is not None:
        make_lane = partial(TracedProjectionLane, tracing=process.tracing)
    return make_lane(
        definition,
        process.owner,
        lane_ports,
        process.pace,
        partitions=process.settings.partitions,
        batch_max=process.settings.batch_max,
    )


def _doorman(process: Process, transport: Door) -> Doorman:
    settings = process.settings
    ports = _with_letters_traced(process, process.open_ports())
    make_doorman: Callable[..., Doorman] = Doorman
    if process.tracing is not None:
        make_doorman = partial(TracedDoorman, tracing=process.tracing)
    return make_doorman(
        process.app,
        transport.doorman(),
        transport.publisher(),
        ports.dead_letters,
        process.pace.clock,
        ports.close,
        queues=(INGRESS, DEAD),
        partitions=settings.partitions,
        payload_bytes_max=settings.payload_bytes_max,
        batch_max=settings.batch_max,
        patience_s=settings.patience_s,
    )
