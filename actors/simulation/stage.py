"""The stage: the app of a simulation, with handlers that are watched, are slow, and fail."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from holdfast.runtime.app import App
from holdfast.runtime.effect import EffectContext, Handler
from holdfast.runtime.message import Command
from holdfast.runtime.projection import ProjectionContext
from holdfast.runtime.projection_definition import ProjectionDefinition

if TYPE_CHECKING:
    from holdfast.actors.simulation.witness import Intent
    from holdfast.actors.simulation.world import World


class SimulatedFailure(Exception):
    """The simulation had an attempt fail: the provider did not answer, say."""


def staged(app: App, world: World) -> App:
    """Return the same app, with its handlers under the eyes of the witness."""
    copied = copy.copy(app)
    copied._handlers = {kind: _handler(one, world) for kind, one in app._handlers.items()}
    copied._projections = {name: _projection(one, world) for name, one in app._projections.items()}
    return copied


def _handler(handler: Handler, world: World) -> Handler:
    inner: Callable[[Any, EffectContext], Any] = handler.call
    kind = handler.kind.__name__

    def ended(intent: Intent, result: Any) -> None:
        if isinstance(result, Command):
            intent.ended.append(1)
        elif result is None or isinstance(result, Sequence):
            intent.ended.append(len(result or ()))

    @functools.wraps(inner)
    def call(effect: Any, context: EffectContext) -> Any:
        intent = world.witness.begins(context, kind)
        _fail(world)
        seconds = world.takes()
        if seconds:
            world.scheduler.wait(seconds / 2)
        result = inner(effect, context)
        if seconds:
            world.scheduler.wait(seconds / 2)
        _fail(world)
        ended(intent, result)
        return result

    @functools.wraps(inner)
    async def call_async(effect: Any, context: EffectContext) -> Any:
        intent = world.witness.begins(context, kind)
        _fail(world)
        seconds = world.takes()
        if seconds:
            await asyncio.sleep(seconds / 2)
        result = await inner(effect, context)
        if seconds:
            await asyncio.sleep(seconds / 2)
        _fail(world)
        ended(intent, result)
        return result

    return replace(handler, call=call_async if handler.is_async else call)


def _fail(world: World) -> None:
    if not world.calm and world.chance() < world.faults.failing_effects / 2:
        world.tell(world.here, "has an attempt fail")
        message = "the simulation had this attempt fail"
        raise SimulatedFailure(message)


def _projection(definition: ProjectionDefinition, world: World) -> ProjectionDefinition:
    copied = copy.copy(definition)

    def told(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        @functools.wraps(method)
        def call(event: Any, context: ProjectionContext) -> Any:
            result = method(event, context)
            world.witness.tells(context)
            return result

        return call

    copied._handlers = {event: told(method) for event, method in definition._handlers.items()}
    copied._rest = told(definition._rest) if definition._rest is not None else None
    return copied
