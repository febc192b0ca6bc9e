"""The desk where a person looks after read models."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace

from holdfast.brokers.keys import Keys
from holdfast.runtime.app import App
from holdfast.runtime.clock import monotonic
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import RecordsLost, Refused, ReplyTimeout, UsageError
from holdfast.runtime.feed import Feed, Generations, ParkedKey, Parking, Reader, place_of, position_of
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.outcome import Accepted, Duplicate, Outcome
from holdfast.runtime.projection import Projection

#: How long a wait goes without looking whether a rebuilt read model has taken over.
LOOK_STEP_S = 1.0

#: What names a projection.
Named = Projection | type[Projection] | str


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """How far one generation of a projection is."""

    name: str
    generation: int
    #: live, building, switching (it is about to take over), or retired (it is being cleared away).
    state: str
    #: Whether the app has the projection.
    known: bool
    #: Records in the feeds that it has still to look at, and for how long the oldest of them has been there.
    records: int
    seconds: float
    #: How much of the walk over all instances is done; 100 when it follows the feed.
    percent: float
    #: Instances that are parked, or about to be tried again.
    parked: int


class ProjectionDesk:
    """Lists read models, waits for them, and deals with what they parked."""

    def __init__(self, app: App | None, feed: Feed, parking: Parking, settings: Settings) -> None:
        self._app = app
        self._feed = feed
        self._parking = parking
        self._settings = settings

    # -- looking

    def list(self) -> builtins.list[ProjectionStatus]:
        """Return how far every generation of every projection is: those of the app, and those that were served once."""
        known = [definition.name for definition in self._app.projections] if self._app else []
        names = sorted({*known, *self._feed.projections()})
        return [status for name in names for status in self._statuses(name, known=name in known)]

    def lag(self, projection: Named) -> builtins.list[ProjectionStatus]:
        """Return how far every generation of one projection is.

        Raises:
            UsageError: There is no such projection.
        """
        name, known = self._find(projection)
        return list(self._statuses(name, known=known))

    def _find(self, projection: Named) -> tuple[str, bool]:
        """Return a projection's name, and whether the app has it; one that the app has no more may still be named."""
        if isinstance(projection, str) and projection in self._feed.projections():
            known = self._app is not None and any(one.name == projection for one in self._app.projections)
            return projection, known
        if self._app is None:
            message = f"{projection!r} is no projection that was ever served"
            raise UsageError(message)
        return self._app.projection(projection).name, True

    def _generations(self, name: str) -> Generations:
        return self._feed.generations(name)[0] or Generations()

    def _statuses(self, name: str, *, known: bool) -> Iterator[ProjectionStatus]:
        now = self._generations(name)
        total = self._total(name) if known else 0
        for generation in (*now.active, *now.retired):
            state = "live" if generation == now.live else "retired"
            if generation == now.building:
                state = "switching" if now.switching else "building"
            found = self._feed.behind(Reader(name, generation))
            walking = known and (
                len(found) < self._settings.partitions or any(one.place.walk is not None for one in found)
            )
            walked = sum(one.place.walked for one in found)
            yield ProjectionStatus(
                name,
                generation,
                state,
                known,
                sum(one.records for one in found),
                max((one.seconds for one in found), default=0.0),
                min(99.9, round(100 * walked / total, 1) if total else 0.0) if walking else 100.0,
                sum(one.parked for one in found),
            )

    def _total(self, name: str) -> int:
        return self._feed.count(sorted(self._app.projection(name).sources)) if self._app else 0

    def key(self, projection: Named, name: str) -> str:
        """Return the Redis key under which the live generation of a projection with a RedisStore has this name."""
        found = self._find(projection)[0]
        return Keys(self._settings.namespace).model(found, self._generations(found).live, name)

    # -- reading what one has written

    def wait_for(self, projection: Named, outcome: Outcome | str, timeout: float) -> None:
        """Return as soon as a read model has what an outcome says; see `Client.wait_for`."""
        name = self._find(projection)[0]
        wanted = self._positions(outcome)
        if wanted is None:
            return
        deadline = monotonic() + timeout
        ends = self._feed.end(list(wanted))
        for (partition, position), end in zip(wanted.items(), ends, strict=True):
            if place_of(position) > place_of(end):
                message = (
                    f"the feed of partition {partition} ends at {end}, before {position}: a server lost its end, and "
                    "the record with it. Look at the instance, and send its command again"
                )
                raise RecordsLost(message)
        while (left := deadline - monotonic()) > 0:
            reader = Reader(name, self._generations(name).live)
            if self._feed.await_positions(reader, wanted, min(left, LOOK_STEP_S)):
                return
        message = f"projection {name!r} was not that far within {timeout:g} s; is a worker with the projection pool running?"
        raise ReplyTimeout(message)

    def _positions(self, outcome: Outcome | str) -> dict[int, str] | None:
        """Return the positions to wait for, or None where nothing was recorded."""
        first: Any = outcome.first if isinstance(outcome, Duplicate) else outcome
        position = first.position if isinstance(first, Accepted) else first
        if isinstance(position, str) and position:
            partition, id_ = position_of(position, self._settings.partitions)
            return {partition: id_}
        if isinstance(first, Accepted):
            everywhere = range(self._settings.partitions)
            return dict(zip(everywhere, self._feed.end(everywhere), strict=True))
        if isinstance(first, str):
            position_of(first, self._settings.partitions)
        return None

    # -- what was parked

    def parked(
        self, projection: Named, *, key: str | None = None, limit: int = 100
    ) -> builtins.list[tuple[int, ParkedKey]]:
        """Return what is parked, the longest parked first: (generation, instance).

        Raises:
            UsageError: There is no such projection.
        """
        name, _ = self._find(projection)
        everywhere = range(self._settings.partitions)
        found = [
            (generation, one)
            for generation in self._generations(name).active
            for one, _ in self._parking.parked(Reader(name, generation), everywhere)
            if key is None or one.key == key
        ]
        return found[:limit]

    def retry(self, projection: Named, workflow: str | None = None, key: str | None = None) -> int:
        """Have parked instances tried again, all of them or those of a workflow or key; return how many.

        Raises:
            UsageError: There is no such projection.
        """
        return self._order(projection, workflow, key, "retry")

    def skip(self, projection: Named, workflow: str, key: str) -> bool:
        """Have the event at which an instance is parked left out, for good; False if the instance is not parked.

        What a parked instance has beside that event is applied. Where its record cannot be read or is gone, the whole
        record is left out.

        Raises:
            UsageError: There is no such projection.
        """
        return bool(self._order(projection, workflow, key, "skip"))

    def _order(
        self,
        projection: Named,
        workflow: str | None,
        key: str | None,
        order: Literal["retry", "skip"],
    ) -> int:
        name, _ = self._find(projection)
        everywhere: Any = range(self._settings.partitions)
        if workflow is not None and key is not None:
            everywhere = [partition_of(workflow, key, self._settings.partitions)]
        count = 0
        for generation in self._generations(name).active:
            reader = Reader(name, generation)
            refs: builtins.list[Ref] = [
                one.ref
                for one, _ in self._parking.parked(reader, everywhere)
                if workflow in (None, one.workflow) and key in (None, one.key)
            ]
            if refs:
                count += sum(self._parking.order(reader, refs, order))
        return count

    # -- generations

    def rebuild(self, projection: Named) -> int:
        """Begin a new generation of a read model from the logs, and return its number.

        It is built beside the live one and takes its place when it has drawn level. While anything of it is parked it
        does not.

        Raises:
            UsageError: There is no such projection.
            Refused: It is being rebuilt already.
        """
        name = self._app.projection(projection).name if self._app else self._find(projection)[0]
        while True:
            old, _ = self._feed.generations(name)
            now = old or Generations()
            if now.building:
                message = f"{name!r} is being rebuilt already, as generation {now.building}"
                raise Refused(message)
            new = replace(now, building=max(now.live, *now.retired, 0) + 1)
            if self._feed.change(name, old, new):
                return new.building

    def remove(self, projection: str) -> None:
        """Forget a projection that no app has any more: its place in the feeds, and what it parked.

        Its tables or keys stay; they are yours to drop. A worker that still has it would begin it anew.

        Raises:
            UsageError: It was never served.
            Refused: The app has it.
        """
        name, known = self._find(projection)
        if known:
            message = f"{name!r} is in the app; take it out and deploy that first, or it begins anew"
            raise Refused(message)
        everywhere = range(self._settings.partitions)
        while True:
            now, _ = self._feed.generations(name)
            if now is None:
                return
            for generation in (*now.active, *now.retired):
                self._feed.remove(Reader(name, generation), everywhere)
            if self._feed.change(name, now, None):
                return
