"""The effect pool: reads the outboxes of its partitions, runs their effects, and sends what they lead to.

    read -> begin (claim, count) -> barrier -> handler -> results confirmed, or decided here -> finish
                                                  |
                                                  +-> failed: wait and begin again, or dead letter and EffectFailed

An effect stays in the outbox until it is finished: whatever dies in between, somebody begins it again, under the same
idempotency key, and what it leads to has the same ids. Nothing that runs holds up what else there is to do.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from holdfast.actors.effect_desk import SLOT_LEASE_MS, Desk, Lethal
from holdfast.actors.effect_hand import Hand
from holdfast.actors.effect_job import Job, State
from holdfast.actors.pace import MACHINE, Pace
from holdfast.actors.runners import Ended, Loop, Runner, Threads
from holdfast.actors.tracing.effects import EffectSpans
from holdfast.actors.wiring import Ports
from holdfast.runtime import faults
from holdfast.runtime.app import App
from holdfast.runtime.codec import encode
from holdfast.runtime.config import Settings
from holdfast.runtime.effect_queue import Begun, HeldBy, Note, Refusal, Waiting
from holdfast.runtime.errors import HoldfastError, UnknownType
from holdfast.runtime.faults import Point
from holdfast.runtime.head_start import Place
from holdfast.runtime.keys import Ref
from holdfast.runtime.limit import Want
from holdfast.runtime.loopback import LoopbackPublisher
from holdfast.runtime.record import EffectEntry

log = logging.getLogger(__name__)

#: Effects of one partition that are read together.
READ_MAX = 256
#: How long to wait when a server is away, or while another process still runs what is now in our partition.
AWAY_S = 0.5
#: How often a full limit is asked again; a place that comes free in this process is taken at once.
LIMIT_STEP_S = 0.1
#: Where more limits than these are full, each is asked less often: this many are asked in a step.
LIMITS_PER_STEP = 100
#: As many effects wait for one limit in this process; the others wait in the schedule, so that they hold up nothing.
LINE_MAX = 64
#: How long what was read waits for commits of this process to be through.
ENTER_S = 0.005
#: After reading what was only begun here by commits, how long until the outboxes are read again, doubled each time: to
#: be woken for each of those would take from what runs. Nobody waits for it, but what others put into our outboxes.
LULL_MIN_S = 0.005
LULL_MAX_S = 0.02
#: Shorter waits are waited here, longer ones in the schedule, where they survive.
SHORT_S = 1.0
#: How long before its turn in a rate an effect comes back from there: who is late to his turn puts others back.
EARLY_S = 0.5
#: How long an effect that found a full limit waits in the schedule: half of what it has waited already, within these.
LIMITED_MIN_S = 2.0
LIMITED_MAX_S = 30.0
#: An effect that this often was begun by processes that died is suspected of having killed them.
SUSPECT_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class EffectPorts:
    """The connections of the pool: one for each of the threads that use one."""

    reading: Ports
    starting: Ports
    desk: Ports
    publisher: LoopbackPublisher


class EffectLane:
    """The one lane of the effect pool."""

    def __init__(
        self,
        name: str,
        owner: str,
        app: App,
        ports: EffectPorts,
        settings: Settings,
        pace: Pace = MACHINE,
        threads: Callable[[Ended], Runner] = Threads,
        spans: EffectSpans | None = None,
        measure: Callable[[Job, BaseException | None], None] | None = None,
        stalled: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._owner = owner
        self._app = app
        self._ports = ports
        self._settings = settings
        self._spans = spans
        self._hand = Hand(settings.effect_threads, settings.effect_tasks, pace, mixed=app.mixes_handlers)
        self._stopping = pace.event()
        #: Set when there may be something to read that no commit has begun; and how long it is not looked otherwise.
        self._news = pace.event()
        self._lull_s = 0.0
        self._clock = pace.clock
        self._monotonic = pace.clock.monotonic
        #: Revoked partitions, and until when what runs in them is waited for.
        self._leaving: dict[int, float] = {}
        self._desk = Desk(
            owner,
            app,
            ports.desk,
            ports.publisher,
            self._hand,
            settings,
            self._stopping,
            self._tend,
            pace,
            measure,
        )
        self._threads = threads(self._desk.ended)
        self._loop = Loop(self._desk.ended, pace, stalled)

    @property
    def counts(self) -> dict[str, int]:
        """What the lane has done since it began."""
        return self._desk.counts

    # -- what dramatiq's threads do

    def take(self, timeout_s: float) -> list[Job] | None:
        """Return effects that have arrived, when there is room for more."""
        after = self._hand.cursors()
        if not after:
            self._hand.room.wait(timeout_s)
            return None
        if self._lull_s:
            self._news.wait(self._lull_s)
            after = self._hand.cursors()
        self._news.clear()
        try:
            arrived = self._ports.reading.effects.arrivals(after, READ_MAX, timeout_s)
        except HoldfastError as error:
            log.warning("outbox cannot be read", extra={"lane": self.name, "error": str(error)})
            self._stopping.wait(AWAY_S)
            return None
        # What commits begin comes out of the outbox as well, mostly before they are through; then it is known here.
        self._hand.all_entered.wait(ENTER_S)
        admitted = self._hand.admit(arrived, after)
        known = bool(arrived) and not admitted
        self._lull_s = min(max(2 * self._lull_s, LULL_MIN_S), LULL_MAX_S) if known else 0.0
        return admitted or None

    def work(self, batch: list[Job]) -> None:
        """Find out what effects are, and start those that may start; nothing here waits for a handler."""
        faults.reach(Point.EFFECT_READ)
        self._hand.wait([job for job in batch if self._read(job)])
        self._start(self._ports.starting)

    def _read(self, job: Job) -> bool:
        """Return whether a job can be run; see to it otherwise."""
        try:
            job.read(self._app)
            job.spans = self._spans
            if job.entry is not None and job.handler is not None:
                job.want = job.handler.want(_name(job), job.effect)
        except UnknownType as error:
            # Another process may know it, in the middle of a deploy. It is given up when none came in time.
            log.warning("effect is kept back", extra={"effect": job.tag, "error": str(error)})
            job.error = error
            self._hand.later(job, self._settings.patience_s)
            self._desk.wake()
        except BaseException as error:  # noqa: BLE001 - a key function is user code; the rest is bytes that do not fit
            self._desk.give_up(job, error)
        else:
            return True
        return False

    def settle(self, batch: list[Job]) -> None:
        """Do nothing: an effect is finished when it is done."""

    def linger(self) -> None:
        """Return nothing: what comes next is waited for by whoever takes."""

    # -- starting; by dramatiq's thread for what has arrived, by the desk for what has waited

    def _start(self, ports: Ports) -> None:
        while picked := self._hand.pick():
            left = {job.at: job for job in picked}
            try:
                self._take_places(ports, left)
                self._begin(ports, left)
            except HoldfastError as error:
                log.warning("effects cannot begin", extra={"lane": self.name, "error": str(error)})
                for job in left.values():
                    # It may be ours, although the answer that says so was lost.
                    self._hand.begun(job)
                    self._put_aside(job, AWAY_S)
                return

    def _tend(self, ports: Ports) -> None:
        """Do what the desk calls for in every round."""
        self._threads.watch()
        self._loop.watch()
        self._start(ports)

    def _put_aside(self, job: Job, seconds: float) -> None:
        self._hand.not_begun(job)
        self._hand.later(job, seconds)
        self._desk.wake()

    def _take_places(self, ports: Ports, left: dict[tuple[int, str], Job]) -> None:
        """Take the places that limited effects need, and put away those that get none."""
        self._leave_elsewhere(ports, left)
        asking = [(job, job.want) for job in left.values() if job.want is not None and not job.placed]
        if not asking:
            return
        waits = ports.slots.acquire([want for _, want in asking], SLOT_LEASE_MS)
        for (job, want), wait_ms in zip(asking, waits, strict=True):
            if wait_ms == 0:
                job.placed = True
                faults.reach(Point.EFFECT_PLACED)
                continue
            del left[job.at]
            self._hand.not_begun(job)
            if wait_ms < 0:
                self._line_up(job, want)
            elif wait_ms < SHORT_S * 1000:
                self._hand.later(job, wait_ms / 1000)
            else:
                self._desk.put_off(
                    job, wait_ms / 1000 - EARLY_S, Note("rate", want.rate, self._desk.now_ms())
                )
        self._desk.wake()

    def _leave_elsewhere(self, ports: Ports, left: dict[tuple[int, str], Job]) -> None:
        """Ask for no places again for what another still runs: each time would use up a turn of its rate."""
        known = [job for job in left.values() if job.want is not None and job.elsewhere]
        if not known:
            return
        living = {member.id for member in ports.membership.living()}
        for job, holder in zip(known, ports.effects.holders([job.ticket for job in known]), strict=True):
            if holder in living and holder != self._owner:
                del left[job.at]
                self._put_aside(job, AWAY_S)

    def _line_up(self, job: Job, want: Want) -> None:
        step_s = LIMIT_STEP_S * max(1.0, self._hand.lines / LIMITS_PER_STEP)
        if 0 < self._hand.line_up(job, step_s * random.uniform(0.5, 1.5)) <= LINE_MAX:
            return
        self._hand.leave_line(job)
        now_ms = self._desk.now_ms()
        waited_s = (now_ms - job.entry.at_ms) / 1000 if job.entry is not None else 0
        wait_s = min(max(waited_s / 2, LIMITED_MIN_S), LIMITED_MAX_S) * random.uniform(1, 1.5)
        self._desk.put_off(job, wait_s, Note("limit", want.limit, now_ms))

    def _begin(self, ports: Ports, left: dict[tuple[int, str], Job]) -> None:
        """Become the holder of effects and run them; those that are dealt with leave `left`."""
        jobs = list(left.values())
        if not jobs:
            return
        replies = ports.effects.begin([job.ticket for job in jobs], self._owner)
        held = [(job, reply) for job, reply in zip(jobs, replies, strict=True) if isinstance(reply, HeldBy)]
        begun: list[tuple[Job, Begun | HeldBy | Refusal]] = [
            (job, reply) for job, reply in zip(jobs, replies, strict=True) if not isinstance(reply, HeldBy)
        ]
        if held:
            begun += self._take_over(ports, left, held)
        # What was read may be only just committed: nothing is done about it before it is durable.
        faults.reach(Point.EFFECT_BEGUN)
        ports.journal.barrier()
        faults.reach(Point.EFFECT_DURABLE)
        running: dict[bool, list[Job]] = {False: [], True: []}
        for job, reply in begun:
            del left[job.at]
            if isinstance(reply, Begun):
                self._hand.begun(job)
                job.attempt = reply.attempt
                assert job.handler is not None  # noqa: S101 - what has none is never picked
                if job.attempt > job.handler.retry.attempts:
                    self._hand.not_begun(job)
                    self._desk.give_back(job)
                    job.attempt -= 1  # the one that was counted just now is not run
                    self._desk.give_up(job, Lethal(_lethal(job)))
                else:
                    running[job.is_async].append(job)
                continue
            self._hand.not_begun(job)
            if reply is Refusal.FENCED:
                _leave_place(job)
            else:
                self._desk.give_back(job)
            if reply is Refusal.FENCED and job.state is State.HELD:
                # It waited here to be begun again: whoever serves the partition now is to begin it.
                self._desk.put_off(job, 0.0, Note("retry", "handed over", self._desk.now_ms()))
            else:
                self._hand.drop(job)
            if reply is Refusal.FENCED:
                self._hand.fenced(job.partition)
        self._run(running)

    def _take_over(
        self, ports: Ports, left: dict[tuple[int, str], Job], held: list[tuple[Job, HeldBy]]
    ) -> list[tuple[Job, Begun | HeldBy | Refusal]]:
        """Begin what dead processes have begun; leave what living ones still run, and put suspects apart."""
        living = {member.id for member in ports.membership.living()}
        taking: list[tuple[Job, str]] = []
        for job, reply in held:
            assert job.handler is not None  # noqa: S101 - as above
            if reply.owner in living:
                del left[job.at]
                job.elsewhere = reply.owner
                _leave_place(job)
                self._put_aside(job, AWAY_S)
            elif job.alone or not _suspicious(reply.attempts, job.handler.retry.attempts):
                taking.append((job, reply.owner))
            else:
                del left[job.at]
                self._desk.give_back(job)
                self._hand.suspect(job)
        if not taking:
            return []
        jobs = [job for job, _ in taking]
        replies = ports.effects.begin(
            [job.ticket for job in jobs], self._owner, {owner for _, owner in taking}
        )
        found: list[tuple[Job, Begun | HeldBy | Refusal]] = []
        for job, again in zip(jobs, replies, strict=True):
            if isinstance(again, HeldBy):  # somebody else was quicker
                del left[job.at]
                _leave_place(job)
                self._put_aside(job, AWAY_S)
            else:
                found.append((job, again))
        return found

    # -- what the command pool does, on its own threads

    def reserve(self, partition: int, entries: Sequence[EffectEntry]) -> list[Place | None]:
        """Return places for effects that may begin at once: no limit is on them, and one attempt more does no harm."""
        if not self._hand.serves(partition):
            return [None] * len(entries)
        found: list[Place | None] = []
        for entry in entries:
            job = Job(Waiting(partition, "", encode(entry)), self._clock)
            job.entry, job.attempt, job.spans = entry, 1, self._spans
            try:
                job.read(self._app)
            except BaseException:  # noqa: BLE001 - what is wrong with it is said when it comes out of the outbox
                found.append(None)
                continue
            handler = job.handler
            free = handler is not None and handler.limit is None and handler.rate is None
            # Whoever dies between the commit and the start has made an attempt.
            spare = handler is not None and handler.retry.attempts > 1
            found.append(Place(partition, job) if free and spare and self._hand.reserve(job) else None)
        if None in found:
            self._news.set()
        return found

    def start(self, begun: Sequence[tuple[Place, str]]) -> None:
        """Run what commits have begun."""
        running: dict[bool, list[Job]] = {False: [], True: []}
        for place, position in begun:
            job: Job = place.token
            self._hand.enter(job, position)
            running[job.is_async].append(job)
        self._run(running)

    def release(self, places: Sequence[Place]) -> None:
        """Take places back, and have what came out of the outbox meanwhile go on."""
        for place in places:
            self._hand.leave(place.token)
        self._desk.wake()

    def doubt(self, places: Sequence[Place]) -> None:
        """Take places back whose effects may be ours: they are read, or let go when the partition is another's."""
        self._desk.doubt({place.partition for place in places})
        self.release(places)

    def _run(self, running: Mapping[bool, list[Job]]) -> None:
        if running[False]:
            self._threads.run(running[False])
        if running[True]:
            self._loop.run(running[True])

    # -- what the steward does

    def assign(self, partition: int) -> None:
        """Begin to serve a partition."""
        self._leaving.pop(partition, None)
        self._desk.start()
        self._hand.assign(partition)

    def renew(self, partition: int) -> None:
        """Do nothing: what runs is finished, and what is begun is asked of the server."""

    def revoke(self, partition: int) -> None:
        """Begin nothing more of a partition."""
        self._leaving[partition] = self._monotonic() + self._settings.drain_s
        self._hand.revoke(partition)
        self._desk.wake()

    def drained(self, partition: int) -> bool:
        """Return whether nothing of a partition runs here, or what runs has been waited for long enough.

        Whoever serves the partition next leaves alone what we hold, as long as we live.
        """
        return self._hand.held(partition) == 0 or self._monotonic() >= self._leaving.get(partition, 0.0)

    def forget(self, partition: int) -> list[tuple[Ref, int]]:  # noqa: ARG002 - effects take no leases
        """Return no leases."""
        return []

    def stop(self) -> None:
        """End all waiting for servers that are away."""
        self._stopping.set()
        self._news.set()
        self._hand.room.set()

    def close(self) -> None:
        """Let go of everything; what still runs is begun again elsewhere."""
        self.stop()
        self._threads.close()
        self._loop.close()
        self._desk.close()
        for ports in (self._ports.reading, self._ports.starting):
            ports.close()


def _name(job: Job) -> str:
    entry = job.entry
    assert entry is not None  # noqa: S101 - only what was read has a name
    return f"{entry.workflow}/{len(entry.key)}/{entry.key}/{entry.id}"


def _leave_place(job: Job) -> None:
    """Say that we do not have an effect's place in its limit. It is not freed: who runs the effect has the same one."""
    job.placed = False


def _lethal(job: Job) -> str:
    return f"{job.attempt} attempts were begun and the last did not come to an end: it may kill its worker"


def _suspicious(begun: int, attempts: int) -> bool:
    """Return whether an effect may be what killed its worker: not the first time, unless its attempts run out."""
    return begun >= SUSPECT_ATTEMPTS or attempts - begun <= 1
