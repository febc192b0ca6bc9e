"""The command pool: takes batches from its partitions, runs the turn, and does what the turn's result asks for.

    take -> turn (open, decide, commit) -> dead letters, refusals -> barrier -> replies -> acknowledge

Nothing is acknowledged before all that it led to is durable. When a server is away the batch is tried again until it
is back; what was committed already is then recognised by its command ids.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential
from tenacity.nap import sleep_using_event

from holdfast.actors.pace import MACHINE, Pace
from holdfast.runtime import faults
from holdfast.runtime.clock import monotonic
from holdfast.runtime.codec import encode
from holdfast.runtime.errors import HoldfastError
from holdfast.runtime.faults import Point
from holdfast.runtime.head_start import HeadStart
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Answers, Consumer, DeadLetters, Delivery, Journal, Observations, Remains
from holdfast.runtime.turn import Turn
from holdfast.runtime.turn_result import TurnResult

log = logging.getLogger(__name__)

#: How long put-off commands wait for another try when nothing new comes in.
DEFERRED_STEP_S = 0.5
#: How often a lane without work looks whether another server answers than before.
LOOK_STEP_S = 2.0
#: How long whoever has worked on a batch waits for the next: what it asked for has mostly led to one by then.
LINGER_S = 0.02
#: Waits while a server is away.
RETRY_MIN_S = 0.05
RETRY_MAX_S = 2.0


@dataclass(slots=True)
class CommandBatch:
    """Deliveries on their way through the lane, and what is done of them."""

    deliveries: list[Delivery]
    result: TurnResult | None = None


@dataclass(slots=True)
class Counts:
    """What a lane has done since it began."""

    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    dead: int = 0
    parked: int = 0
    conflicts: int = 0
    batches: int = 0


@dataclass(slots=True)
class CommandPorts:
    """What a lane works with: ports of one connection, to be used by one thread at a time."""

    journal: Journal
    answers: Answers
    dead_letters: DeadLetters
    remains: Remains
    observations: Observations
    close: Callable[[], None]
    #: What begins effects with their commits.
    head_start: HeadStart | None = None


@dataclass(slots=True)
class _Shared:
    """What the lane's threads share."""

    stopping: threading.Event
    lock: threading.Lock = field(default_factory=threading.Lock)


class CommandLane:
    """One lane of the command pool."""

    def __init__(
        self,
        name: str,
        owner: str,
        consumer: Consumer,
        turn: Turn,
        ports: CommandPorts,
        *,
        batch_max: int,
        linger_s: float = 0.0,
        pace: Pace = MACHINE,
    ) -> None:
        self.name = name
        self.counts = Counts()
        self._owner = owner
        self._consumer = consumer
        self._turn = turn
        self._ports = ports
        self._batch_max = batch_max
        self._linger_s = linger_s
        self._deferred: list[Delivery] = []
        self._revoked: set[int] = set()
        #: Revoked partitions of which something was given back: what came after it must go the same way.
        self._returned: set[int] = set()
        self._shared = _Shared(pace.event())
        self._again = Retrying(
            retry=retry_if_exception_type(HoldfastError),
            wait=wait_exponential(RETRY_MIN_S, max=RETRY_MAX_S),
            stop=stop_when_event_set(self._shared.stopping),
            sleep=sleep_using_event(self._shared.stopping),
            before_sleep=self._before_retry,
            reraise=True,
        )
        self._looked = monotonic()

    # -- what dramatiq's threads do

    def take(self, timeout_s: float) -> CommandBatch | None:
        """Return what has arrived, behind what was put off."""
        waiting = bool(self._deferred)
        try:
            taken = self._consumer.take(
                self._batch_max, min(timeout_s, DEFERRED_STEP_S) if waiting else timeout_s
            )
        except HoldfastError as error:
            log.warning("consumer failed", extra={"lane": self.name, "error": str(error)})
            self._shared.stopping.wait(RETRY_MAX_S)
            return None
        with self._shared.lock:
            deferred, self._deferred = self._deferred, []
            returned = frozenset(self._returned)
        if returned:
            self._consumer.give_back([delivery for delivery in taken if delivery.partition in returned])
            taken = [delivery for delivery in taken if delivery.partition not in returned]
        if not taken and not deferred:
            self._look()
            return None
        faults.reach(Point.RECEIVED)
        return CommandBatch(deferred + taken)

    def _look(self) -> None:
        """From time to time, while there is nothing to do, see whether another server answers than before.

        The worker's thread does nothing meanwhile: the next batch is taken when the one before is settled.
        """
        if monotonic() - self._looked < LOOK_STEP_S:
            return
        self._looked = monotonic()
        try:
            self._turn.look(ask=True)
        except HoldfastError as error:
            log.warning("journal does not answer", extra={"lane": self.name, "error": str(error)})

    def work(self, batch: CommandBatch) -> None:
        """Run a batch until it is through, however long a server is away."""
        try:
            batch.result = self._again(self._run, batch.deliveries)
        except HoldfastError as error:
            # We are stopping: what was not done is handed out again.
            self._turn.cache.clear()
            log.warning("batch is left to others", extra={"lane": self.name, "error": str(error)})
        except Exception:
            self._turn.doubt()
            self._shared.stopping.wait(RETRY_MAX_S)
            raise

    def _before_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning(
            "batch put off", extra={"lane": self.name, "tries": state.attempt_number, "error": str(error)}
        )

    def _run(self, deliveries: list[Delivery]) -> TurnResult:
        try:
            return self._through(deliveries)
        except BaseException:
            # Nobody knows how far it came, nor, where it was committed and the barrier was not reached, whether it will
            # stay: what the cache says may be out of date, and nothing may be acknowledged on its word.
            self._turn.doubt()
            if self._ports.head_start is not None:
                self._ports.head_start.abandon()
            raise

    def _through(self, deliveries: list[Delivery]) -> TurnResult:
        result = self._turn.run(deliveries)
        ports = self._ports
        if result.dead:
            ports.dead_letters.add(result.dead)
            faults.reach(Point.DEAD_LETTERS_WRITTEN)
        if result.refusals:
            ports.answers.remember([(p, name, encode(answer)) for p, name, answer in result.refusals])
        if result.observed:
            ports.observations.observe(result.observed)
        for ref in result.over:
            ports.remains.withdraw(ref)
        for ref in result.erased:
            ports.remains.scrub(ref)
        if result.over or result.erased:
            faults.reach(Point.REMAINS_REMOVED)
        ports.journal.barrier()
        faults.reach(Point.BARRIER_PASSED)
        if ports.head_start is not None:
            ports.head_start.start()
            faults.reach(Point.EFFECTS_STARTED)
        if result.replies:
            ports.answers.reply([(address, encode(answer)) for address, answer in result.replies])
        faults.reach(Point.REPLIED)
        for letter in result.dead:
            log.error(
                "command became a dead letter",
                extra={"dead_letter": letter.id, "command_id": letter.command_id, "error": letter.error},
            )
        return result

    def settle(self, batch: CommandBatch) -> None:
        """Acknowledge what is done, keep what was put off, give back what is no longer ours."""
        result = batch.result
        if result is None:
            done, deferred = [], batch.deliveries
        else:
            done, deferred = result.done, result.deferred
            self._count(result)
        self._consumer.ack(done)
        faults.reach(Point.ACKED)
        with self._shared.lock:
            self._deferred = deferred + self._deferred
        self._give_back()

    def linger(self) -> CommandBatch | None:
        """Return what has arrived, or arrives in a moment; nothing while something is put off, which waits for longer."""
        return self.take(self._linger_s) if self._linger_s and not self._deferred else None

    def _count(self, result: TurnResult) -> None:
        self.counts.accepted += result.accepted
        self.counts.rejected += result.rejected
        self.counts.duplicates += result.duplicates
        self.counts.dead += len(result.dead)
        self.counts.parked += result.parked
        self.counts.conflicts += result.conflicts
        self.counts.batches += 1

    # -- what the steward does

    def assign(self, partition: int) -> None:
        """Begin to serve a partition."""
        with self._shared.lock:
            self._revoked.discard(partition)
            self._returned.discard(partition)
        self._consumer.assign(partition)

    def renew(self, partition: int) -> None:
        """Do nothing: what is cached is compared by each commit."""

    def revoke(self, partition: int) -> None:
        """Stop taking from a partition; what was taken is finished first."""
        with self._shared.lock:
            self._revoked.add(partition)
        self._consumer.revoke(partition)
        self._give_back()

    def _give_back(self) -> None:
        with self._shared.lock:
            returned = [delivery for delivery in self._deferred if delivery.partition in self._revoked]
            if returned:
                self._deferred = [one for one in self._deferred if one.partition not in self._revoked]
                self._returned |= {delivery.partition for delivery in returned}
                self._consumer.give_back(returned)

    def drained(self, partition: int) -> bool:
        """Return whether nothing of a partition is left here."""
        return self._consumer.outstanding(partition) == 0

    def forget(self, partition: int) -> list[tuple[Ref, int]]:
        """Drop the actors of a partition, and return them with their tokens, for their leases to be released."""
        return self._turn.forget(partition)

    def stop(self) -> None:
        """End all waiting for servers that are away."""
        self._shared.stopping.set()

    def close(self) -> None:
        """Return what was not done."""
        self.stop()
        self._consumer.close()
        self._ports.close()
