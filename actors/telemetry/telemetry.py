"""Telemetry: what a worker is put together with, so that it can say how it does. Off, it hands on what it is given."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.actors.effect_job import Job
from holdfast.actors.logs import secrets_of
from holdfast.actors.partitions import Holder, Steward
from holdfast.actors.pool import Lane, Service
from holdfast.actors.telemetry.endpoint import Endpoint
from holdfast.actors.telemetry.exporters import Exporting, open_exporters, wants_port
from holdfast.actors.telemetry.health import Health
from holdfast.actors.telemetry.meter import Meter, Values
from holdfast.actors.telemetry.metrics import PARTITIONS, STALLS
from holdfast.actors.telemetry.probe import Probe
from holdfast.actors.telemetry.survey import Surveyor
from holdfast.actors.telemetry.taps import (
    AttemptTap,
    CacheTap,
    CommandTally,
    DeadLettersTap,
    HandoverTap,
    JournalTap,
    LaneTap,
    Names,
    TimersTap,
)
from holdfast.actors.telemetry.vitals import Vitals
from holdfast.actors.wiring import Ports
from holdfast.runtime.app import App
from holdfast.runtime.cache import ActorCache
from holdfast.runtime.clock import SystemClock, monotonic
from holdfast.runtime.config import Settings, TransportKind
from holdfast.runtime.ports import Transport
from holdfast.runtime.turn_result import Tally

#: How often servers are asked whether they are there. Each question to RabbitMQ takes a connection.
REDIS_S = 2.0
RABBITMQ_S = 10.0


class Telemetry:
    """Everything that a worker process says of itself."""

    def __init__(
        self,
        app: App | None = None,
        settings: Settings | None = None,
        exporting: Exporting | None = None,
        endpoint: Endpoint | None = None,
        health: Health | None = None,
    ) -> None:
        self._settings = settings
        self._app = app
        self._exporting = exporting
        self._endpoint = endpoint
        self._health = health
        self._meter = Meter(exporting.provider.get_meter("holdfast")) if exporting is not None else None
        self._names = Names(app) if app is not None else None
        self._flushes: dict[str, Callable[[], None]] = {}

    # -- what is wrapped where the pools are put together

    def ports(self, ports: Ports) -> Ports:
        """Return ports that count what goes through them."""
        meter, names = self._meter, self._names
        if meter is None or names is None:
            return ports
        journal: Any = JournalTap(ports.journal, meter)
        taps: dict[str, Any] = {
            "dead_letters": DeadLettersTap(ports.dead_letters, meter, names),
            "timers": TimersTap(ports.timers, meter, monotonic),
        }
        return dataclasses.replace(ports, journal=journal, **taps)

    def cache(self) -> ActorCache | None:
        """Return a cache that counts what is found in it, or None for the usual one."""
        return CacheTap(self._meter) if self._meter is not None else None

    def tally(self, lane: str) -> Tally | None:
        """Return what counts the commands of a lane."""
        if self._meter is None or self._names is None:
            return None
        tally = CommandTally(self._meter, self._names, SystemClock())
        self._flushes[lane] = tally.flush
        return tally

    def attempts(self) -> Callable[[Job, BaseException | None], None] | None:
        """Return what measures attempts of effects."""
        return AttemptTap(self._meter, monotonic) if self._meter is not None else None

    def stalled(self) -> Callable[[], None]:
        """Return what counts stalls of the event loop."""
        if self._meter is None:
            return lambda: None
        return self._meter.tally(STALLS, ()).count

    def holders(
        self, pools: Mapping[str, Callable[[int], Sequence[Holder]]]
    ) -> Mapping[str, Callable[[int], Sequence[Holder]]]:
        """Return the holders of each pool's partitions, with one more that counts."""
        if self._meter is None:
            return pools
        return {pool: _with(HandoverTap(self._meter, pool), holders) for pool, holders in pools.items()}

    def lane(self, lane: Lane, vitals: list[Vitals]) -> Lane:
        """Return a lane that notes what it does, where anybody asks."""
        if self._meter is None and self._health is None:
            return lane
        vitals.append(Vitals(lane.name))
        return LaneTap(lane, vitals[-1], self._meter, self._flushes.get(lane.name, lambda: None))

    # -- what runs beside

    def services(
        self,
        steward: Steward,
        vitals: Sequence[Vitals],
        transport: Transport,
        open_ports: Callable[[], Ports],
    ) -> list[Service]:
        """Return what looks around while the worker runs."""
        found: list[Service] = []
        if self._meter is not None and self._app is not None:
            pools = steward.pools
            self._meter.gauge(PARTITIONS, lambda: _owned(steward, pools))
            surveyor = Surveyor(self._app, open_ports, transport, lambda: ("command", 0) in steward.serving)
            surveyor.report_to(self._meter)
            found.append(surveyor)
        if self._health is not None and self._settings is not None:
            probes = self._probes(self._settings, transport, open_ports)
            self._health.attach(steward, vitals, probes)
            found += probes
        return found

    def _probes(
        self, settings: Settings, transport: Transport, open_ports: Callable[[], Ports]
    ) -> list[Probe]:
        opened: list[Ports] = []

        def ask_redis() -> None:
            if not opened:
                opened.append(open_ports())
            opened[0].membership.living()

        def close() -> None:
            for ports in opened:
                ports.close()

        urls = secrets_of(settings)
        probes = [Probe("redis", REDIS_S, ask_redis, close, urls)]
        if settings.transport is TransportKind.RABBITMQ:
            probes.append(Probe("rabbitmq", RABBITMQ_S, lambda: transport.depth(0), urls=urls))
        return probes

    def start(self) -> None:
        """Answer from now on, if only that the worker is starting."""
        if self._endpoint is not None:
            self._endpoint.start()

    def close(self) -> None:
        """Say the last words, and end."""
        if self._health is not None:
            self._health.over = True
        if self._exporting is not None:
            self._exporting.close()
        if self._endpoint is not None:
            self._endpoint.stop()


#: Says nothing, and costs nothing.
OFF = Telemetry()


def telemetry_of(
    app: App, settings: Settings, number: int, environment: Mapping[str, str] | None = None
) -> Telemetry:
    """Return the telemetry that settings and OTEL_* variables ask for.

    To be called in the process that is to be measured, after all forks: exporters have threads.

    Args:
        app, settings: What is served, and how.
        number: Which of the processes of one `holdfast worker` this is: each has a port of its own.
        environment: Where OTEL_* variables are; the process's own without it.
    """
    environment = os.environ if environment is None else environment
    place = wants_port(environment)
    if settings.metrics_port:
        place = settings.metrics_host, settings.metrics_port
    exporting = open_exporters(environment, port=place is not None)
    if place is None:
        return Telemetry(app, settings, exporting) if exporting is not None else OFF
    health = Health(settings.member_ttl_ms)
    page = exporting.page if exporting is not None else None
    endpoint = Endpoint(place[0], place[1] + number, health, page)
    return Telemetry(app, settings, exporting, endpoint, health)


def _with(tap: Holder, holders: Callable[[int], Sequence[Holder]]) -> Callable[[int], Sequence[Holder]]:
    return lambda partition: [*holders(partition), tap]


def _owned(steward: Steward, pools: Sequence[str]) -> dict[Values, float]:
    counts: dict[Values, float] = {(pool,): 0 for pool in pools}
    for pool, _ in steward.serving:
        counts[pool,] += 1
    return counts
