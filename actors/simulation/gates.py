"""Gates: the ports as a simulated process reaches them. At each call it may die, be kept waiting, or get no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from holdfast.runtime.effect_queue import Waiting
from holdfast.runtime.ports import ReadModel

if TYPE_CHECKING:
    from holdfast.actors.simulation.machine import Machine
    from holdfast.actors.simulation.world import World


#: What asks no server, or never fails.
_AT_HAND = ("close", "reachable")


#: What asking once more takes at least.
ROUND_TRIP_S = 0.02


class Gate:
    """A port behind a gate: every verb passes it on the way there and on the way back."""

    def __init__(self, world: World, machine: Machine, name: str, port: Any) -> None:
        self._world = world
        self._machine = machine
        self._name = name
        self._port = port

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._port, verb)
        if verb in _AT_HAND or not callable(method):
            return method
        call = self._gated(f"{self._name}.{verb}", method)
        self.__dict__[verb] = call
        return call

    def _gated(self, label: str, method: Callable[..., Any]) -> Callable[..., Any]:
        world, machine = self._world, self._machine
        before, after, seen = world.before, world.after, world.witness.sights.get(label)

        def call(*args: Any, **named: Any) -> Any:
            before(machine, label)
            result = method(*args, **named)
            if seen is not None:
                seen(machine, result, *args)
            after(machine, label)
            return result

        return call

    def _until(self, label: str, signal: str, look: Callable[[], Any], timeout_s: float) -> Any:
        """Return what a look finds, as soon as it finds something or the timeout is over."""
        world, scheduler = self._world, self._world.scheduler
        deadline = scheduler.now + timeout_s
        world.before(self._machine, label)
        while not (found := look()) and scheduler.now < deadline:
            world.wait_for(signal, deadline - scheduler.now)
            if self._machine.dead:
                world.before(self._machine, label)
        world.after(self._machine, label)
        return found


class EffectsGate(Gate):
    """The outbox as a queue, with its wait."""

    def arrivals(self, after: Mapping[int, str], limit: int, timeout_s: float) -> list[Waiting]:
        """Wait for effects."""
        found: list[Waiting] = self._until(
            "effects.arrivals", "effects", lambda: self._port.arrivals(after, limit, 0), timeout_s
        )
        return found


class TimersGate(Gate):
    """The timers, with their wait."""

    def wait(self, partitions: Sequence[int], timeout_s: float) -> set[int]:
        """Wait for a timer."""
        found: set[int] = self._until(
            "timers.wait", "timers", lambda: self._port.wait(partitions, 0), timeout_s
        )
        # Whoever is told of a timer that is another's to fire asks again at once: that takes a while, too.
        self._world.scheduler.wait(ROUND_TRIP_S)
        return found


class FeedGate(Gate):
    """The feed, with its wait."""

    def await_news(self, after: Mapping[int, str], timeout_s: float) -> list[int]:
        """Wait for a commit."""
        found: list[int] = self._until(
            "feed.await_news", "feed", lambda: self._port.await_news(after, 0), timeout_s
        )
        return found


class ModelGate(Gate):
    """A read model: what is written to it may be lost, or its commit not be answered."""

    def __init__(self, world: World, machine: Machine, projection: str, model: ReadModel) -> None:
        super().__init__(world, machine, f"read-model.{projection}", model)
        self._projection = projection
        self._model = model

    @contextmanager
    def transaction(self, generation: int, partitions: Sequence[int]) -> Iterator[Any]:
        """Write, or do not."""
        world, label = self._world, f"{self._name}.commit"
        world.before(self._machine, f"{self._name}.transaction")
        reading = world.witness.reading(self._projection, generation, once=self._model.exactly_once)
        with self._model.transaction(generation, partitions) as writing:
            here = world.scheduler.current.ident
            world.witness.readings[here] = reading
            try:
                yield writing
            finally:
                del world.witness.readings[here]
            world.before(self._machine, label)
        reading.committed()
        world.after(self._machine, label)
