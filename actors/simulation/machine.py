"""A simulated machine: one worker process with all its pools, which dies, stands still, or is stopped."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from holdfast.actors.effect_job import Job
from holdfast.actors.needs import has_work
from holdfast.actors.pace import Pace
from holdfast.actors.partitions import Steward
from holdfast.actors.pool import Lane
from holdfast.actors.pools import POOLS, Pool, Process, build, steward_of
from holdfast.actors.runners import Ended
from holdfast.actors.simulation.gates import EffectsGate, FeedGate, Gate, ModelGate, TimersGate
from holdfast.actors.simulation.pace import SimulatedPace, SkewedClock
from holdfast.actors.simulation.short_way import SimulatedLoopback
from holdfast.actors.simulation.transport import SimulatedTransport
from holdfast.actors.wiring import Ports, memory_ports
from holdfast.brokers.memory_feed import MemoryCheckpoints
from holdfast.runtime.errors import HoldfastError, UsageError
from holdfast.runtime.projection import CheckpointStore
from holdfast.runtime.projection_definition import ProjectionDefinition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.actors.simulation.world import World

#: How long a lane is asked to wait for work at a time, as dramatiq does.
TAKE_S = 1.0
#: How long dramatiq waits when a lane's consumer failed.
RESTART_S = 3.0


class Machine:
    """One process: what it has in memory is lost when it dies."""

    def __init__(self, world: World, name: str, skew_s: float = 0.0, *, mortal: bool = True) -> None:
        self.name = name
        self.mortal = mortal
        self.dead = False
        self.stalled_until = 0.0
        self.stopping = False
        self._world = world
        self._built: dict[str, Pool] = {}
        self._lanes: list[Lane] = []
        self._steward: Steward | None = None
        self.pace: Pace = SimulatedPace(world.scheduler, SkewedClock(world.clock, skew_s), self)
        self.transport = SimulatedTransport(world, self)

    # -- its life

    def boot(self) -> None:
        """Begin to serve."""
        world = self._world
        process = Process(
            world.app,
            world.settings,
            self.transport,
            self.name,
            1,
            self.open_ports,
            self._read_model,
            self.pace,
            lambda ended: SimulatedThreads(world, self, ended),
            # Nobody can see whether a process of another machine lives.
            host=f"machine of {self.name}",
            pid=1,
            loopback=SimulatedLoopback(world, self),
        )
        pools = [pool for pool in POOLS if has_work(world.app, pool)]
        self._built = build(process, pools)
        self._steward = steward_of(process, self._built)
        self._lanes = [lane for pool in self._built.values() for lane in pool.lanes]
        for lane in self._lanes:
            world.scheduler.spawn(functools.partial(self._serve, lane), f"{self.name} {lane.name}", self)
        self._steward.start()

    def _serve(self, lane: Lane) -> None:
        """Do what dramatiq's threads do with a lane."""
        while not self.stopping:
            try:
                batch: Any = lane.take(TAKE_S)
            except Exception as error:  # noqa: BLE001 - dramatiq catches everything
                self._world.unexpected(self, lane.name, error)
                self.pace.sleep(RESTART_S)
                continue
            if batch is None:
                continue
            try:
                lane.work(batch)
            except Exception as error:  # noqa: BLE001 - as above
                self._world.unexpected(self, lane.name, error)
            try:
                lane.settle(batch)
            except Exception as error:  # noqa: BLE001 - as above
                self._world.unexpected(self, lane.name, error)

    def stop(self) -> None:
        """Stop cleanly: hand everything over, then end."""
        if self._steward is not None:
            self._steward.stop()
        self.stopping = True
        for lane in self._lanes:
            lane.close()
        self.dead = True

    # -- its ports

    def open_ports(self) -> Ports:
        """Return ports that fail now and then."""
        world = self._world
        ports = memory_ports(world.server, world.settings)

        def gate(name: str, port: Any) -> Any:
            return Gate(world, self, name, port)

        return Ports(
            journal=gate("journal", ports.journal),
            outbox=gate("outbox", ports.outbox),
            answers=gate("answers", ports.answers),
            suspects=gate("suspects", ports.suspects),
            dead_letters=gate("dead-letters", ports.dead_letters),
            directory=gate("directory", ports.directory),
            membership=gate("membership", ports.membership),
            effects=EffectsGate(world, self, "effects", ports.effects),
            slots=gate("slots", ports.slots),
            timers=TimersGate(world, self, "timers", ports.timers),
            feed=FeedGate(world, self, "feed", ports.feed),
            parking=gate("parking", ports.parking),
            remains=gate("remains", ports.remains),
            uniques=gate("uniques", ports.uniques),
            sizes=gate("sizes", ports.sizes),
            observations=gate("observations", ports.observations),
            backlog=gate("backlog", ports.backlog),
            losses=None,
            secrets=ports.secrets,
            close=lambda: None,
        )

    def _read_model(self, definition: ProjectionDefinition) -> ModelGate:
        world, store = self._world, definition.projection.store
        if isinstance(store, CheckpointStore):
            return ModelGate(world, self, definition.name, MemoryCheckpoints(world.server, definition.name))
        opener = getattr(store, "open", None)
        if not callable(opener):
            message = f"{definition.kind}.store is {store!r}, which cannot be simulated"
            raise UsageError(message)
        return ModelGate(world, self, definition.name, opener(world.settings, definition.name))


class SimulatedThreads:
    """Runs each `def` handler on a strand of its own."""

    def __init__(self, world: World, machine: Machine, ended: Ended) -> None:
        self._world = world
        self._machine = machine
        self._ended = ended

    def run(self, jobs: Sequence[Job]) -> None:
        """Begin attempts."""
        for job in jobs:
            self._world.scheduler.spawn(
                functools.partial(self._run, job), f"{self._machine.name} effect", self._machine
            )

    def _run(self, job: Job) -> None:
        result, error = None, None
        handler = job.handler
        assert handler is not None  # noqa: S101 - only what was read is run
        # Nothing stops a thread that waits for something: it goes on, and nobody listens any more.
        job.interrupt = lambda: None
        context, claim = job.start()
        try:
            result = handler.call(job.effect, context)
        except Exception as caught:  # noqa: BLE001 - whatever a handler raises is its own failure
            error = caught
        if job.end(claim):
            self._ended(job, result, error)

    def watch(self) -> None:
        """Do nothing: there are always strands to be had."""

    def close(self) -> None:
        """Do nothing: what runs ends with its process."""


def is_expected(error: BaseException) -> bool:
    """Return whether an error is one that lanes may raise, because a server is away."""
    return isinstance(error, HoldfastError)
