"""Generations: how a rebuilt read model takes the place of the live one, decided by whichever worker looks first.

    live 1 -> live 1, building 2 -> the same, switching -> live 2, retired 1 -> live 2

While it is switching the live generation stands still, so that the new one can draw level with it: readers never see
the read model go back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from holdfast.runtime import faults
from holdfast.runtime.faults import Point
from holdfast.runtime.feed import START, Feed, Generations, Reader, ReadModel, place_of
from holdfast.runtime.projection_definition import ProjectionDefinition

log = logging.getLogger(__name__)


def settle_generations(
    definition: ProjectionDefinition,
    feed: Feed,
    model: ReadModel,
    assigned: Sequence[int],
    partitions: int,
    near: int,
) -> tuple[Generations, int]:
    """Return the generations of a projection and the number of orders, after doing what is due.

    Args:
        definition, feed, model: The projection, and what it works with.
        assigned: The partitions that this process serves: it clears away old readers in them.
        partitions: How many there are.
        near: With at most so many entries to go the new generation may take over.
    """
    name = definition.name
    now, orders = feed.generations(name)
    if now is None:
        feed.change(name, None, Generations())
        now, orders = feed.generations(name)
        now = now or Generations()
    if now.building:
        now = _advance(name, now, feed, model, partitions, near)
    for generation in now.retired:
        reader = Reader(name, generation)
        feed.remove(reader, assigned)
        faults.reach(Point.READERS_REMOVED)
        if not feed.behind(reader):
            model.drop(generation)
            faults.reach(Point.MODEL_DROPPED)
            gone = replace(now, retired=tuple(one for one in now.retired if one != generation))
            now = gone if feed.change(name, now, gone) else now
    return now, orders


def _advance(
    name: str, now: Generations, feed: Feed, model: ReadModel, partitions: int, near: int
) -> Generations:
    new = {one.partition: one for one in feed.behind(Reader(name, now.building))}
    walked = len(new) == partitions and all(one.place.walk is None for one in new.values())
    if not walked or any(one.parked for one in new.values()):
        # Something was parked at the last moment: the live one must not stand still for that.
        return _change(name, feed, now, replace(now, switching=False)) if now.switching else now
    if not now.switching:
        if sum(one.records for one in new.values()) > near:
            return now
        begun = _change(name, feed, now, replace(now, switching=True))
        faults.reach(Point.SWITCH_BEGUN)
        return begun
    old = {one.partition: one.place.position for one in feed.behind(Reader(name, now.live))}
    if any(
        place_of(one.place.position) < place_of(old.get(partition, START)) for partition, one in new.items()
    ):
        return now
    model.switch(now.building)
    faults.reach(Point.MODEL_SWITCHED)
    then = Generations(live=now.building, retired=(*now.retired, now.live))
    log.info("projection switched", extra={"projection": name, "generation": then.live})
    return _change(name, feed, now, then)


def _change(name: str, feed: Feed, old: Generations, new: Generations) -> Generations:
    """Replace the generations; where another was quicker, go on with what he made of them at the next look."""
    return new if feed.change(name, old, new) else feed.generations(name)[0] or Generations()
