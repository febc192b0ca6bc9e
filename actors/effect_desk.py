"""Desk: what becomes of an effect once its handler has ended, in batches and apart from what runs.

Results are published by whoever ran the handler, and confirmed by the publisher's thread or, the short way, by the
command lane that decided them. The desk's own thread does what needs the outbox: finish, put off, bury. It also says
when time is up, keeps the places of what runs, and starts what has waited.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from holdfast.actors.effect_hand import Hand
from holdfast.actors.effect_job import Job, State
from holdfast.actors.pace import MACHINE, Pace
from holdfast.actors.wiring import Ports
from holdfast.runtime import faults
from holdfast.runtime.app import App
from holdfast.runtime.cipher import tag_in
from holdfast.runtime.clock import to_ms
from holdfast.runtime.config import Settings
from holdfast.runtime.dead_letter import DeadLetter, sentence_of, traceback_of
from holdfast.runtime.effect import (
    Address,
    EffectTimeout,
    Permanent,
    commands_of,
    failed,
    outgoing_of,
)
from holdfast.runtime.effect_queue import Begun, HeldBy, Note, PutOff, Refusal
from holdfast.runtime.errors import HoldfastError
from holdfast.runtime.faults import Point
from holdfast.runtime.limit import Want
from holdfast.runtime.loopback import LoopbackPublisher

log = logging.getLogger(__name__)

#: How often it is looked whether a handler's time is up.
WATCH_S = 0.1
#: How often there is a look around when nothing happens.
IDLE_S = 0.5
#: How long to wait when a server is away.
AWAY_S = 0.5
#: Shorter waits between attempts are waited here, longer ones in the schedule, where they survive.
SHORT_S = 1.0
#: How long a place of a limit outlives its holder, and how often it is renewed.
SLOT_LEASE_MS = 10_000
RENEW_S = SLOT_LEASE_MS / 3000
#: The most effects that one round trip finishes.
FINISH_MAX = 1_000
#: How long an effect that is done waits for others, to be taken out of the outbox with them, and with how many it does
#: not: each round trip takes from what runs, and a crash meanwhile would only have its handler run again.
GATHER_S = 0.005
GATHER_MAX = 64


class Lethal(HoldfastError):
    """No attempt came to an end: the effect may kill its worker."""


class Desk:
    """Sees effects off."""

    def __init__(
        self,
        owner: str,
        app: App,
        ports: Ports,
        publisher: LoopbackPublisher,
        hand: Hand,
        settings: Settings,
        stopping: threading.Event,
        start: Callable[[Ports], None],
        pace: Pace = MACHINE,
        measure: Callable[[Job, BaseException | None], None] | None = None,
    ) -> None:
        self._owner = owner
        self._app = app
        self._ports = ports
        self._publisher = publisher
        self._hand = hand
        self._address = Address(settings.partitions, settings.payload_bytes_max)
        self._stopping = stopping
        self._start = start
        self._clock = pace.clock
        #: Told of every attempt that has ended.
        self._measure = measure
        self.counts: Counter[str] = Counter()
        # From any thread to ours.
        self._failed: deque[Job] = deque()
        self._sent: deque[Job] = deque()
        self._unsent: deque[Job] = deque()
        self._delays: deque[tuple[Job, PutOff]] = deque()
        self._returned: deque[Want] = deque()
        self._wake = pace.event()
        self._closed = False
        #: Partitions in which we may hold what we do not know of.
        self._doubtful: set[int] = set()
        # Ours alone.
        self._resend_at = 0.0
        self._watch_at = 0.0
        #: Until when what is done waits for others; None while nothing does. Whoever adds to them reads it as well.
        self._finish_at: float | None = None
        #: Whether something that is done waits for nobody: a person may look for its dead letter.
        self._pressing = False
        self._renew_at = 0.0
        self._thread = pace.thread(self._run, "holdfast-effect-desk")

    def start(self) -> None:
        """Begin to work; more than once is no mistake."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """End, and close what is used here."""
        self._closed = True
        self.wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._publisher.close()
        self._ports.close()

    def wake(self) -> None:
        """Have the desk look around."""
        if not self._wake.is_set():
            self._wake.set()

    def now_ms(self) -> int:
        """Return this machine's time."""
        return to_ms(self._clock.now())

    # -- by whoever ran the handler

    def ended(self, job: Job, result: Any, error: BaseException | None) -> None:
        """Take what an attempt came to."""
        faults.reach(Point.EFFECT_RUN)
        wanted = self._hand.ended(job)
        self.give_back(job)
        if error is None:
            assert job.handler is not None  # noqa: S101 - it has just run
            assert job.entry is not None  # noqa: S101 - as above
            try:
                job.outgoing = outgoing_of(
                    job.entry,
                    commands_of(job.handler, result),
                    self._app.definition_for,
                    self._address,
                    self.now_ms(),
                    job.attempt,
                )
            except BaseException as wrong:  # noqa: BLE001 - the key of a command may be user code as well
                job.permanent = True
                error = wrong
        if job.spans is not None:
            job.spans.end(job, error)
        if self._measure is not None:
            self._measure(job, error)
        if error is not None:
            job.error = error
            self._failed.append(job)
            self.wake()
            return
        self._publish(job)
        if wanted:
            self.wake()

    def give_up(self, job: Job, error: BaseException) -> None:
        """Take an effect that is not to be tried again."""
        job.error, job.permanent = error, True
        self._failed.append(job)
        self.wake()

    def put_off(self, job: Job, seconds: float, note: Note) -> None:
        """Have an effect wait in the schedule."""
        self._delays.append((job, PutOff(job.ticket, max(1, round(seconds * 1000)), note)))
        self.wake()

    def give_back(self, job: Job) -> None:
        """Free the place of an effect that does not run, or no longer."""
        if job.placed and job.want is not None:
            job.placed = False
            self._returned.append(job.want)
            self.wake()

    def doubt(self, partitions: Iterable[int]) -> None:
        """Take partitions in which we may hold what we do not know of, until it is read from their outboxes."""
        self._doubtful.update(partitions)

    # -- publishing

    def _publish(self, job: Job) -> None:
        """Send what an effect led to, and go on when all of it is confirmed."""
        count = len(job.outgoing)
        # Several have an order, and what may have killed a worker is for the queue to count.
        publisher = self._publisher
        send = publisher.hand_on if count == 1 and job.attempt == 1 else publisher.publish
        job.confirms, job.publish_error = itertools.count(1), None
        if not count:
            self._done(job)
        for partition, body in job.outgoing:
            try:
                future = send(partition, body)
            except HoldfastError as error:
                self._count(job, count, error)
            else:
                future.add_done_callback(functools.partial(self._confirmed, job, count))

    def _confirmed(self, job: Job, count: int, future: Future[None]) -> None:
        self._count(job, count, future.exception())

    def _count(self, job: Job, count: int, error: BaseException | None) -> None:
        if error is not None:
            job.publish_error = error
        if next(job.confirms) != count:
            return
        if job.publish_error is None:
            self._done(job)
        else:
            self._unsent.append(job)
            self.wake()

    def _done(self, job: Job) -> None:
        self._sent.append(job)
        if job.letter is not None:
            self._pressing = True
        # The desk forgets the time before it takes them, so that none is left behind.
        if self._pressing or self._finish_at is None or len(self._sent) >= GATHER_MAX:
            self.wake()

    # -- the desk's own thread

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self._pause())
            self._wake.clear()
            try:
                self._round()
            except HoldfastError as error:
                log.warning("effects cannot be finished", extra={"error": str(error)})
                self._stopping.wait(AWAY_S)
                self._wake.set()
            except Exception:
                log.exception("the effect desk failed")
                self._stopping.wait(AWAY_S)

    def _pause(self) -> float:
        """Return how long there is nothing to do, if nothing happens."""
        pause = self._hand.pause(WATCH_S if self._hand.running else IDLE_S)
        if self._finish_at is not None:
            pause = min(pause, max(0.0, self._finish_at - self._clock.monotonic()))
        return pause

    def _round(self) -> None:
        while self._failed:
            job = self._failed.popleft()
            try:
                self._fail(job)
            except BaseException:
                self._failed.appendleft(job)
                raise
        if self._returned:
            self._give_places_back()
        now = self._clock.monotonic()
        if self._sent and self._finish_at is None:
            self._finish_at = now + GATHER_S
        over = self._finish_at is not None and now >= self._finish_at
        if over or self._pressing or len(self._sent) >= GATHER_MAX:
            self._finish_at, self._pressing = None, False
            self._finish()
        if self._delays:
            self._put_off()
        if self._unsent and now >= self._resend_at:
            self._resend(now)
        if now >= self._watch_at:
            self._watch_at = now + WATCH_S
            self._watch(now)
            self._let_go()
        for job in self._hand.due():
            self._go_on(job)
        self._start(self._ports)

    def _finish(self) -> None:
        jobs = [self._sent.popleft() for _ in range(min(len(self._sent), FINISH_MAX))]
        try:
            if any(job.outgoing for job in jobs):
                faults.reach(Point.EFFECT_PUBLISHED)
            effects = self._ports.effects
            dead = [(job, job.letter) for job in jobs if job.letter is not None]
            if dead:
                ours = effects.holds([job.ticket for job, _ in dead], self._owner)
                letters = [letter for (_, letter), still in zip(dead, ours, strict=True) if still]
                if letters:
                    self._ports.dead_letters.add(letters)
                    faults.reach(Point.EFFECT_BURIED)
                    self._log_dead(letters)
            # What led to a command, or is a dead letter, has its attempts in there.
            attempts = [0 if job.outgoing or job.letter is not None else job.attempt for job in jobs]
            finished = effects.finish([job.ticket for job in jobs], self._owner, attempts)
        except BaseException:
            self._sent.extendleft(reversed(jobs))
            raise
        faults.reach(Point.EFFECT_FINISHED)
        for job, done in zip(jobs, finished, strict=True):
            self._hand.drop(job)
            if not done:
                self.counts["lost"] += 1
            else:
                self.counts["dead" if job.letter is not None else "finished"] += 1
        if self._sent:
            self._wake.set()

    def _log_dead(self, letters: list[DeadLetter]) -> None:
        for letter in letters:
            log.error(
                "effect became a dead letter",
                extra={
                    "dead_letter": letter.id,
                    "effect": letter.message_type,
                    "effect_id": letter.command_id,
                    "error": letter.error,
                },
            )

    def _put_off(self) -> None:
        delays = [self._delays.popleft() for _ in range(min(len(self._delays), FINISH_MAX))]
        try:
            moved = self._ports.effects.put_off([delay for _, delay in delays], self._owner)
        except BaseException:
            self._delays.extendleft(reversed(delays))
            raise
        faults.reach(Point.EFFECT_PUT_OFF)
        for (job, delay), done in zip(delays, moved, strict=True):
            if done or job.state is State.HELD:
                self._hand.drop(job)
            else:
                # A dead process still holds it, until we begin it: nobody but us would ever come back to it.
                self._hand.later(job, delay.delay_ms / 1000)
        self.counts["put_off"] += sum(moved)

    def _resend(self, now: float) -> None:
        log.warning("results were not confirmed; sending them again", extra={"effects": len(self._unsent)})
        self._resend_at = now + AWAY_S
        for _ in range(len(self._unsent)):
            self._publish(self._unsent.popleft())

    def _give_places_back(self) -> None:
        wants = [self._returned.popleft() for _ in range(len(self._returned))]
        try:
            self._ports.slots.give_back(wants)
        except BaseException:
            self._returned.extendleft(reversed(wants))
            raise
        for name in {want.limit for want in wants if want.limit}:
            self._hand.move(name)

    def _let_go(self) -> None:
        """Let go of what we may hold, without knowing of it, in partitions that are no longer ours."""
        for partition in list(self._doubtful):
            keeping = self._hand.keeping(partition)
            if keeping is None:
                continue
            # Taken out before: what is doubted meanwhile is not forgotten.
            self._doubtful.discard(partition)
            try:
                done = self._ports.effects.let_go(partition, self._owner, keeping)
            except BaseException:
                self._doubtful.add(partition)
                raise
            if not done:
                self._doubtful.add(partition)

    # -- failure

    def _fail(self, job: Job) -> None:
        """Decide what comes after an attempt that failed."""
        error = job.error
        assert error is not None  # noqa: S101 - it has failed
        wait_s = None
        if job.handler is not None and not job.permanent:
            retry = job.handler.retry
            if not isinstance(error, (Permanent, retry.unless)):
                wait_s = retry.wait_s(job.attempt)
        if wait_s is None:
            self._bury(job, error)
            return
        log.warning(
            "effect failed",
            extra={
                "effect": job.tag,
                "effect_id": job.ticket.id,
                "attempt": job.attempt,
                "again_in_s": round(wait_s, 3),
                "error": sentence_of(error),
            },
        )
        self.counts["failed"] += 1
        if wait_s < SHORT_S and self._hand.serves(job.partition):
            self._hand.later(job, wait_s)
        else:
            self.put_off(job, wait_s, Note("retry", sentence_of(error), self.now_ms()))

    def _bury(self, job: Job, error: BaseException) -> None:
        """Make a dead letter of an effect, and tell its process if that wants to know."""
        if not self._is_ours(job):
            return
        entry, ticket = job.entry, job.ticket
        tag = job.tag or (tag_in(entry.payload) if entry is not None else "")
        name = f"{ticket.workflow}/{len(ticket.key)}/{ticket.key}/{ticket.id or ticket.position}"
        # The same effect is the same letter, should we die before it is finished.
        digest = hashlib.blake2b(name.encode(), digest_size=10).hexdigest()
        job.letter = DeadLetter(
            id=f"{job.partition}.{digest}",
            kind="effect",
            partition=job.partition,
            body=job.data,
            error=sentence_of(error),
            traceback=traceback_of(error),
            attempts=job.attempt,
            at_ms=self.now_ms(),
            command_id=ticket.id,
            workflow=ticket.workflow,
            key=ticket.key,
            message_type=tag,
        )
        if isinstance(error, Lethal):
            # Who gave it up before, and died before it was finished, knew why.
            job.letter = self._ports.dead_letters.get(job.letter.id) or job.letter
        job.outgoing = []
        if entry is not None:
            try:
                definition = self._app.definition(entry.workflow)
                effect = definition.effects.by_tag.get(tag) if definition.effects is not None else None
                kind = self._app.failure_of(entry.workflow, effect)
                if kind is not None:
                    outgoing = failed(
                        entry,
                        definition,
                        kind,
                        tag,
                        job.letter.error,
                        job.attempt,
                        self._address,
                        self.now_ms(),
                    )
                    job.outgoing = [outgoing]
            except Exception as wrong:  # noqa: BLE001 - the letter says what is wrong, and a person can act on it
                log.warning("the process cannot be told of its effect", extra={"error": sentence_of(wrong)})
        self._publish(job)

    def _is_ours(self, job: Job) -> bool:
        """Return whether an effect may be given up by us; what a dead process holds is taken from it."""
        effects, ticket = self._ports.effects, job.ticket
        if effects.holds([ticket], self._owner)[0]:
            return True
        if job.state is State.HELD:
            self._hand.drop(job)
            return False
        (reply,) = effects.begin([ticket], self._owner)
        if isinstance(reply, HeldBy) and reply.owner not in {
            one.id for one in self._ports.membership.living()
        }:
            (reply,) = effects.begin([ticket], self._owner, {reply.owner})
        if isinstance(reply, Begun):
            self._hand.begun(job)
            job.attempt = reply.attempt - 1  # the one that was counted just now is not run
            return True
        if isinstance(reply, HeldBy):
            self._hand.later(job, AWAY_S)
        else:
            self._hand.drop(job)
            if reply is Refusal.FENCED:
                self._hand.fenced(job.partition)
        return False

    # -- time

    def _watch(self, now: float) -> None:
        """Say that time is up where it is, and keep the places of what runs."""
        jobs = self._hand.jobs()
        for job in jobs:
            claim, interrupt = job.claim, job.interrupt
            if job.deadline < now and interrupt is not None and job.end(claim):
                interrupt()
                assert job.handler is not None  # noqa: S101 - it runs
                message = f"{job.handler.name} took longer than its {job.handler.timeout_s:g} s"
                self.ended(job, None, EffectTimeout(message))
        if now >= self._renew_at:
            self._renew_at = now + RENEW_S
            wants = [job.want for job in jobs if job.placed and job.want is not None]
            if wants:
                self._ports.slots.renew(wants, SLOT_LEASE_MS)

    def _go_on(self, job: Job) -> None:
        """Go on with an effect that has waited long enough."""
        if job.error is not None and (job.permanent or job.handler is None):
            self.give_up(job, job.error)
        elif job.state is State.HELD and not self._hand.serves(job.partition):
            error = sentence_of(job.error) if job.error is not None else ""
            self.put_off(job, 0.0, Note("retry", error, self.now_ms()))
        else:
            self._hand.wait([job])
