"""The projection pool: follows the feeds of its partitions and keeps a read model up to date, with a lane for each.

    take (the walk over the logs, tries that are due, the feed) -> apply -> park what failed -> acknowledge -> trim

Nothing is acknowledged before the read model has it. While a store or a server is away the batch is tried again until
it is back, or until its partitions are somebody else's.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential
from tenacity.nap import sleep_using_event

from holdfast.actors.generations import settle_generations
from holdfast.actors.pace import MACHINE, Pace
from holdfast.runtime import faults
from holdfast.runtime.applying import Applier, Work
from holdfast.runtime.clock import to_ms
from holdfast.runtime.errors import HoldfastError, message_of
from holdfast.runtime.faults import Point
from holdfast.runtime.feed import (
    Feed,
    FeedEntry,
    Generations,
    Order,
    ParkedKey,
    Parking,
    Reader,
    ReadModel,
    Stale,
    Step,
    letter_id,
    place_of,
)
from holdfast.runtime.keys import Ref
from holdfast.runtime.loss import Losses
from holdfast.runtime.ports import DeadLetters, Journal
from holdfast.runtime.projection_definition import ProjectionDefinition

log = logging.getLogger(__name__)

#: How often a lane looks whether a rebuild, a retry or a skip was ordered.
LOOK_STEP_S = 0.5
#: How long one wait for news lasts at most: a partition that was assigned meanwhile is seen after it.
NEWS_STEP_S = 0.25
#: Instances that one batch of a walk takes.
WALK_MAX = 100
#: Entries that are done with before the feed is trimmed again.
TRIM_EVERY = 1_000
#: The fewest entries that are read from a partition at a time.
READ_MIN = 20
#: Waits while a store or a server is away.
RETRY_MIN_S = 0.05
RETRY_MAX_S = 2.0


@dataclass(slots=True)
class ProjectionPorts:
    """What a lane works with; for one thread at a time."""

    feed: Feed
    parking: Parking
    dead_letters: DeadLetters
    model: ReadModel
    journal: Journal
    close: Callable[[], None]
    #: None where nothing can get lost but everything.
    losses: Losses | None = None


@dataclass(slots=True)
class _Share:
    """A generation in one partition: how far it is, and what it parked."""

    position: str
    walk: str | None
    parked: dict[Ref, ParkedKey]
    #: Whether the log may have lost its end, so that the walk looks for instances of which we have more.
    doubted: bool = False
    #: Whether there may be something behind the position.
    news: bool = True
    #: What a person wants for parked instances now.
    ordered: dict[Ref, Order] = field(default_factory=dict)

    def due(self, now_ms: int) -> list[Ref]:
        """Return the parked instances that are to be tried now."""
        return [ref for ref, one in self.parked.items() if ref in self.ordered or 0 < one.due_ms <= now_ms]


@dataclass(slots=True)
class _Track:
    """A generation of the projection in this process."""

    reader: Reader
    applier: Applier
    shares: dict[int, _Share] = field(default_factory=dict)
    #: Whether the walk comes before the feed next time: neither waits for the end of the other.
    walk_first: bool = False


@dataclass(slots=True)
class ProjectionBatch:
    """Work of one generation, and what there is to say when it is done."""

    track: _Track
    works: list[Work]
    steps: list[Step]
    partitions: frozenset[int]
    #: Partitions of which more may be waiting.
    more: set[int] = field(default_factory=set)
    done: bool = False


class ProjectionLane:
    """One projection in this process."""

    def __init__(
        self,
        definition: ProjectionDefinition,
        owner: str,
        ports: ProjectionPorts,
        pace: Pace = MACHINE,
        *,
        partitions: int,
        batch_max: int,
    ) -> None:
        self.name = f"projection.{definition.name}"
        #: How many events were applied since this lane began.
        self.events = 0
        self._definition = definition
        self._owner = owner
        self._ports = ports
        self._pace = pace
        self._clock = pace.clock
        self._partitions = partitions
        self._batch_max = batch_max
        self._tracks: dict[int, _Track] = {}
        self._generations = Generations()
        self._orders = -1
        self._looked = 0.0
        self._turn = 0
        self._untrimmed = 0
        self._runner: asyncio.Runner | None = None
        self._lock = threading.Lock()
        self._assigned: set[int] = set()
        self._busy: frozenset[int] = frozenset()
        #: Partitions that the server had forgotten, with our readers in them.
        self._renewed: set[int] = set()
        self._stopping = pace.event()
        #: Who answered when we last looked for losses.
        self._epoch = ports.losses.epoch() if ports.losses is not None else 0

    # -- what dramatiq's threads do

    def take(self, timeout_s: float) -> ProjectionBatch | None:
        """Return what there is to do for one generation; they take turns."""
        with self._lock:
            assigned = frozenset(self._assigned)
        if not assigned:
            self._stopping.wait(min(timeout_s, NEWS_STEP_S))
            return None
        try:
            self._look(assigned)
            self._hear()
            batch = self._gather()
            if batch is None:
                self._await_news(timeout_s)
                batch = self._gather()
        except HoldfastError as error:
            log.warning("projection failed", extra={"lane": self.name, "error": str(error)})
            self._rest()
            return None
        except Exception:
            log.exception("projection failed", extra={"lane": self.name})
            self._rest()
            return None
        if batch is None:
            return None
        with self._lock:
            if not batch.partitions <= self._assigned:
                return None
            self._busy = batch.partitions
        return batch

    def _rest(self) -> None:
        """Wait a while, and then look at everything anew."""
        self._looked = 0.0
        self._stopping.wait(RETRY_MAX_S)

    def work(self, batch: ProjectionBatch) -> None:
        """Apply a batch, until that goes through."""

        def over(_state: RetryCallState) -> bool:
            with self._lock:
                return self._stopping.is_set() or not batch.partitions <= self._assigned

        def told(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if not isinstance(error, Stale):
                facts = {"lane": self.name, "attempt": state.attempt_number, "error": str(error)}
                log.warning("projection cannot be written; trying again", extra=facts)

        again = Retrying(
            retry=retry_if_exception_type(HoldfastError),
            stop=over,
            wait=wait_exponential(multiplier=RETRY_MIN_S, max=RETRY_MAX_S),
            sleep=sleep_using_event(self._stopping),
            before_sleep=told,
            reraise=True,
        )
        try:
            again(self._apply, batch)
        except HoldfastError as error:
            log.warning("projection batch is left to others", extra={"lane": self.name, "error": str(error)})
        except Exception:
            log.exception("projection batch failed", extra={"lane": self.name})
            self._stopping.wait(RETRY_MAX_S)

    def _apply(self, batch: ProjectionBatch) -> None:
        faults.reach(Point.PROJECTION_READ)
        track, ports = batch.track, self._ports
        positions = {step.partition: step.position for step in batch.steps}
        applied = track.applier.apply(batch.works, positions)
        # At once: what is stored is passed over when the batch is tried again because of what comes now.
        self.events += applied.events
        failed = {one.ref: one for one in applied.parked}
        if failed:
            self._write_letters(track.reader, [one for one in applied.parked if one.given_up])
            done = {ref: track.shares[ref.partition].ordered.get(ref, Order()) for ref in failed}
            ports.parking.park(track.reader, applied.parked, done)
            faults.reach(Point.PARKED)
        freed = [work.ref for work in batch.works if work.parked is not None and work.ref not in failed]
        if freed:
            # The letters first: what is still parked after a crash is tried again, but nobody would look at them.
            for ref in freed:
                ports.dead_letters.remove(letter_id(track.reader, ref))
            faults.reach(Point.PARKED_LETTERS_REMOVED)
            ports.parking.unpark(track.reader, freed)
            faults.reach(Point.UNPARKED)
        kept = ports.feed.acknowledge(track.reader, batch.steps, self._owner) if batch.steps else []
        faults.reach(Point.FEED_ACKNOWLEDGED)
        for one in applied.parked:
            facts = {
                "projection": str(track.reader),
                "workflow": one.workflow,
                "key": one.key,
                "seq": one.seq,
            }
            log.log(
                logging.ERROR if one.given_up else logging.WARNING,
                "projection parked an instance" if one.given_up else "projection will try an instance again",
                extra=facts | {"attempts": one.attempts, "error": one.error},
            )
        self._note(batch, failed, freed, kept)
        batch.done = True

    def _write_letters(self, reader: Reader, given_up: Sequence[ParkedKey]) -> None:
        """Put what waits for a person into the index of all that was given up on."""
        if given_up:
            found = self._ports.feed.records([(one.ref, one.seq - 1) for one in given_up], 1)
            letters = [
                one.letter(reader, records[0][1] if records else b"")
                for one, records in zip(given_up, found, strict=True)
            ]
            self._ports.dead_letters.add(letters)
            faults.reach(Point.PARKED_LETTERS_WRITTEN)

    def _note(
        self, batch: ProjectionBatch, failed: Mapping[Ref, ParkedKey], freed: list[Ref], kept: list[bool]
    ) -> None:
        """Have the shares say what was done."""
        shares = batch.track.shares
        for ref in freed:
            shares[ref.partition].parked.pop(ref, None)
            shares[ref.partition].ordered.pop(ref, None)
        for ref, one in failed.items():
            shares[ref.partition].parked[ref] = one
            shares[ref.partition].ordered.pop(ref, None)
        for step, ours in zip(batch.steps, kept, strict=True):
            if not ours:
                # Another serves it, or the reader was removed: what we know of it is worth nothing any more.
                del shares[step.partition]
                continue
            share = shares[step.partition]
            share.position, share.walk = step.position, step.walk
            share.news = step.partition in batch.more
            self._untrimmed += step.entries
        if self._untrimmed >= TRIM_EVERY:
            self._untrimmed = 0
            self._ports.feed.trim(list(shares))
            faults.reach(Point.FEED_TRIMMED)

    def settle(self, batch: ProjectionBatch) -> None:
        """Let go of the batch's partitions; what was not done is looked up again."""
        if not batch.done:
            for partition in batch.partitions:
                batch.track.shares.pop(partition, None)
            self._looked = 0.0
        with self._lock:
            self._busy = frozenset()

    def linger(self) -> None:
        """Return nothing: what comes next is waited for by whoever takes."""

    # -- looking for work

    def _look(self, assigned: frozenset[int]) -> None:
        """Learn of orders and generations from time to time, and of partitions at once."""
        with self._lock:
            renewed = set(self._renewed)
        self._look_for_losses(surely=bool(renewed))
        with self._lock:
            self._renewed -= renewed
        for track in self._tracks.values():
            for partition in track.shares.keys() - (assigned - renewed):
                del track.shares[partition]
            # Where no other server answers, what was applied is no loss to be told of: all of its log is gone.
            for ref in [ref for ref in track.applier.recent if ref.partition in renewed] if renewed else ():
                del track.applier.recent[ref]
        now = self._clock.monotonic()
        missing = any(assigned - track.shares.keys() for track in self._tracks.values())
        if now - self._looked < LOOK_STEP_S and not missing and self._tracks:
            return
        self._looked = now
        ports = self._ports
        self._generations, orders = settle_generations(
            self._definition, ports.feed, ports.model, sorted(assigned), self._partitions, self._batch_max
        )
        for generation in self._tracks.keys() - set(self._generations.active):
            del self._tracks[generation]
        for generation in self._generations.active:
            track = self._tracks.get(generation) or self._begin(generation)
            track.applier.rebuilding = generation != self._generations.live
            self._join(track, sorted(assigned - track.shares.keys()))
            if orders != self._orders:
                self._read_orders(track)
        self._orders = orders

    def _look_for_losses(self, *, surely: bool = False) -> None:
        """Where another server answers: park what was applied and is not in the logs, and learn anew where we are.

        With `surely` it is asked who answers now, whoever answered last.
        """
        losses = self._ports.losses
        if losses is None or (not surely and losses.epoch() == self._epoch):
            return
        epoch = losses.refresh()
        if epoch == self._epoch:
            return
        for track in self._tracks.values():
            lost = losses.compare(list(track.applier.recent.values()))
            parked = [track.applier.ahead(one.known) for one in lost]
            if parked:
                self._ports.parking.park(track.reader, parked)
                self._write_letters(track.reader, parked)
                for one in lost:
                    del track.applier.recent[one.known.ref]
                log.error(
                    "a read model has records that were lost",
                    extra={"projection": str(track.reader), "instances": len(parked)},
                )
            # Positions of the former server say nothing: the new one may give lower ones.
            track.shares.clear()
        self._epoch = epoch

    def _begin(self, generation: int) -> _Track:
        ports = self._ports
        try:
            ports.model.prepare(generation, live=generation == self._generations.live)
        except HoldfastError:
            raise
        except Exception as error:
            # Whatever the store cannot do with our tables: a person has to look, and then it goes on.
            message = f"the store of {self._definition.name!r} cannot be prepared: {message_of(error)}"
            raise HoldfastError(message) from error
        reader = Reader(self._definition.name, generation)
        applier = Applier(
            self._definition,
            reader,
            ports.feed,
            ports.model,
            barrier=ports.journal.barrier,
            call=self._finish,
            clock=self._clock,
        )
        track = self._tracks[generation] = _Track(reader, applier)
        return track

    def _join(self, track: _Track, partitions: list[int]) -> None:
        """Go on in new partitions where whoever had them before us stopped."""
        if not partitions:
            return
        found = self._ports.feed.register(track.reader, partitions, self._owner)
        # Whoever was here before us may have read less than makes one trim.
        self._ports.feed.trim(sorted(found))
        shares = {p: _Share(place.position, place.walk, {}) for p, place in found.items()}
        stored = self._ports.model.positions(track.reader.generation)
        looked = [p for p in sorted(found) if p in stored]
        for p, end in zip(looked, self._ports.feed.end(looked) if looked else (), strict=True):
            if place_of(stored[p]) > place_of(end):
                # Somebody applied what the feed never had, as it is now.
                facts = {"projection": str(track.reader), "partition": p, "stored": stored[p], "end": end}
                log.error("a feed has lost its end; its instances are compared", extra=facts)
                shares[p].walk, shares[p].doubted = "", True
        for one, order in self._ports.parking.parked(track.reader, sorted(found)):
            share = shares[one.partition]
            share.parked[one.ref] = one
            if order.verb:
                share.ordered[one.ref] = order
            elif one.kind == "unreadable":
                # This may be the code that can read it.
                share.ordered[one.ref] = Order("retry")
        track.shares.update(shares)

    def _read_orders(self, track: _Track) -> None:
        for one, order in self._ports.parking.parked(track.reader, sorted(track.shares)):
            if order.verb:
                track.shares[one.partition].parked[one.ref] = one
                track.shares[one.partition].ordered[one.ref] = order

    def _gather(self) -> ProjectionBatch | None:
        """Return the next batch of whichever generation has one, each in its turn."""
        generations = [
            g for g in self._tracks if not (self._generations.switching and g == self._generations.live)
        ]
        for _ in generations:
            self._turn += 1
            batch = self._batch(self._tracks[generations[self._turn % len(generations)]])
            if batch is not None:
                return batch
        return None

    def _batch(self, track: _Track) -> ProjectionBatch | None:
        track.walk_first = not track.walk_first
        steps = (self._walk, self._follow) if track.walk_first else (self._follow, self._walk)
        return self._again(track) or steps[0](track) or steps[1](track)

    def _again(self, track: _Track) -> ProjectionBatch | None:
        """Return the parked instances whose time has come."""
        now_ms = to_ms(self._clock.now())
        works = []
        for share in track.shares.values():
            for ref in share.due(now_ms):
                one, order = share.parked[ref], share.ordered.get(ref, Order())
                if order.verb == "retry":
                    one = _fresh(one)
                works.append(Work(ref, parked=one, skip=order.verb == "skip"))
        works = works[:WALK_MAX]
        if not works:
            return None
        return ProjectionBatch(track, works, [], frozenset(work.ref.partition for work in works))

    def _walk(self, track: _Track) -> ProjectionBatch | None:
        """Return the next instances of a partition whose logs are not all applied yet."""
        for partition, share in track.shares.items():
            if share.walk is None:
                continue
            refs, walk = self._ports.feed.instances(
                partition, sorted(self._definition.sources), share.walk, WALK_MAX
            )
            works = [Work(ref, doubted=share.doubted) for ref in refs if ref not in share.parked]
            step = Step(partition, share.position, 0, walk, len(refs))
            return ProjectionBatch(track, works, [step], frozenset([partition]), {partition})
        return None

    def _follow(self, track: _Track) -> ProjectionBatch | None:
        """Return what the feeds have behind our positions."""
        after = {p: share.position for p, share in track.shares.items() if share.news and share.walk is None}
        if not after:
            return None
        limit = max(READ_MIN, self._batch_max // len(after))
        found = self._ports.feed.read(track.reader, after, limit, self._owner)
        works: dict[Ref, Work] = {}
        steps, more = [], set()
        for partition, entries in found.items():
            if entries is None:
                del track.shares[partition]
                continue
            share = track.shares[partition]
            share.news = len(entries) >= limit
            if not entries:
                continue
            if share.news:
                more.add(partition)
            steps.append(Step(partition, entries[-1].id, len(entries)))
            for entry in entries:
                self._sort(works, share, entry)
        if not steps:
            return None
        partitions = frozenset(step.partition for step in steps)
        return ProjectionBatch(track, list(works.values()), steps, partitions, more)

    def _sort(self, works: dict[Ref, Work], share: _Share, entry: FeedEntry) -> None:
        """Put an entry with its instance, unless it is none of ours or waits behind what was parked."""
        if entry.ref.workflow in self._definition.sources and entry.ref not in share.parked:
            works.setdefault(entry.ref, Work(entry.ref)).entries.append(entry)

    def _hear(self) -> None:
        """Look whether those that follow the feed have news, while others still walk: then nobody waits for news."""
        shares = [(p, share) for track in self._tracks.values() for p, share in track.shares.items()]
        if all(share.walk is None for _, share in shares):
            return
        quiet = [(p, share) for p, share in shares if share.walk is None and not share.news]
        positions: dict[int, str] = {}
        for partition, share in quiet:
            positions[partition] = min(positions.get(partition, share.position), share.position, key=place_of)
        heard = self._ports.feed.await_news(positions, 0.0) if positions else ()
        for partition, share in quiet:
            share.news = partition in heard

    def _await_news(self, timeout_s: float) -> None:
        """Wait until a feed has something new, a try is due, or it is time to look."""
        tracks = [
            track
            for generation, track in self._tracks.items()
            if not (self._generations.switching and generation == self._generations.live)
        ]
        shares = [share for track in tracks for share in track.shares.values()]
        dues = [one.due_ms for share in shares for one in share.parked.values() if one.due_ms]
        left_s = (min(dues) - to_ms(self._clock.now())) / 1000 if dues else timeout_s
        wait_s = max(0.001, min(timeout_s, NEWS_STEP_S, left_s))
        if not shares:
            self._stopping.wait(wait_s)
            return
        # Where two generations wait, whatever is news to the one that is further behind ends the wait.
        positions: dict[int, str] = {}
        for track in tracks:
            for partition, share in track.shares.items():
                known = positions.get(partition, share.position)
                positions[partition] = min(known, share.position, key=place_of)
        for partition in self._ports.feed.await_news(positions, wait_s):
            for track in tracks:
                if partition in track.shares:
                    track.shares[partition].news = True

    def _finish(self, result: Any) -> Any:
        """End what an `async def` handler returned, on an event loop of this lane."""
        if not inspect.isawaitable(result):
            return result
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=self._pace.loop)

        async def ended() -> Any:
            return await result

        # Left to itself the runner has the context of its first use for ever: another instance's, in another trace.
        return self._runner.run(ended(), context=copy_context())

    # -- what the steward does

    def assign(self, partition: int) -> None:
        """Begin to serve a partition."""
        with self._lock:
            self._assigned.add(partition)

    def renew(self, partition: int) -> None:
        """Register the readers of a partition again, and look from the beginning for what they lack."""
        with self._lock:
            self._renewed.add(partition)

    def revoke(self, partition: int) -> None:
        """Take nothing more of a partition; what is being applied is finished first."""
        with self._lock:
            self._assigned.discard(partition)

    def drained(self, partition: int) -> bool:
        """Return whether nothing of a partition is being applied."""
        with self._lock:
            return partition not in self._busy

    def forget(self, partition: int) -> list[tuple[Ref, int]]:  # noqa: ARG002 - the steward's signature
        """Return no leases: projections hold none."""
        return []

    def stop(self) -> None:
        """End all waiting for servers that are away."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of everything."""
        self.stop()
        if self._runner is not None:
            self._runner.close()
        self._ports.model.close()
        self._ports.close()


def _fresh(one: ParkedKey) -> ParkedKey:
    """Return a parked instance as if it had not been tried yet: a person has said so."""
    values = {name: getattr(one, name) for name in one.__struct_fields__}
    return ParkedKey(**(values | {"attempts": 0}))
