"""Doorman: the lane of the ingress queue, and of what the broker itself gave up on.

It is served by whoever serves partition 0. A foreign message is translated and sent on to its partition, with a
confirm, before it is acknowledged; one that cannot be translated becomes a dead letter.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tenacity import Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential
from tenacity.nap import sleep_using_event

from holdfast.actors.commands import RETRY_MAX_S, RETRY_MIN_S
from holdfast.runtime import faults
from holdfast.runtime.app import App
from holdfast.runtime.clock import Clock, monotonic, to_ms
from holdfast.runtime.codec import decode_envelope, encode_envelope
from holdfast.runtime.dead_letter import DeadLetter, sentence_of, shortened, traceback_of
from holdfast.runtime.errors import HoldfastError, Undecodable, UnknownType
from holdfast.runtime.faults import Point
from holdfast.runtime.ids import new_id
from holdfast.runtime.ingress import translate
from holdfast.runtime.keys import Ref
from holdfast.runtime.patience import Patience
from holdfast.runtime.ports import Consumer, DeadLetters, Delivery, Publisher

log = logging.getLogger(__name__)

#: The partition whose steward also keeps the door.
DOOR = 0
#: How long a message of an unknown type is kept back between tries.
STALLED_STEP_S = 0.5

#: How the number of a partition looks at the end of a queue's name.
_FEW_DIGITS = re.compile(r"[0-9]{1,4}")


@dataclass(slots=True)
class DoorBatch:
    """Foreign messages, and which of them are done."""

    deliveries: list[Delivery]
    done: list[Delivery] = field(default_factory=list)
    deferred: list[Delivery] = field(default_factory=list)
    #: What was made of each delivery: a second try must send the same id.
    translated: dict[int, tuple[Ref, bytes]] = field(default_factory=dict)


class Doorman:
    """The lane of foreign messages."""

    name = "ingress"

    def __init__(
        self,
        app: App,
        consumer: Consumer,
        publisher: Publisher,
        dead_letters: DeadLetters,
        clock: Clock,
        close: Callable[[], None],
        *,
        queues: tuple[int, int],
        partitions: int,
        payload_bytes_max: int,
        batch_max: int,
        patience_s: float,
    ) -> None:
        self._app = app
        self._consumer = consumer
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._clock = clock
        self._close = close
        self._ingress, self._dead = queues
        self._partitions = partitions
        self._payload_bytes_max = payload_bytes_max
        self._batch_max = batch_max
        self._patience_s = patience_s
        self._patience = Patience(patience_s)
        self._deferred: list[Delivery] = []
        self._lock = threading.Lock()
        self._revoked = False
        #: Something was given back since then: what came after it must go the same way.
        self._returned = False
        self._stopping = threading.Event()

    # -- what dramatiq's threads do

    def take(self, timeout_s: float) -> DoorBatch | None:
        """Return foreign messages; while one of an unknown type waits, all wait behind it, to keep their order."""
        with self._lock:
            deferred, self._deferred = self._deferred, []
        if deferred:
            self._stopping.wait(STALLED_STEP_S)
            return DoorBatch(deferred)
        taken = self._consumer.take(self._batch_max, timeout_s)
        if self._returned:
            self._consumer.give_back(taken)
            return None
        return DoorBatch(taken) if taken else None

    def work(self, batch: DoorBatch) -> None:
        """Send messages on, however long a server is away."""
        again = Retrying(
            retry=retry_if_exception_type(HoldfastError),
            wait=wait_exponential(RETRY_MIN_S, max=RETRY_MAX_S),
            stop=stop_when_event_set(self._stopping),
            sleep=sleep_using_event(self._stopping),
            reraise=True,
        )
        faults.reach(Point.INGRESS_RECEIVED)
        again(self._run, batch)

    def _run(self, batch: DoorBatch) -> None:
        sending, letters, deferred = [], [], []
        self._patience.look()
        for position, delivery in enumerate(batch.deliveries):
            if delivery.partition == self._dead:
                letters.append(self._given_up(delivery))
                continue
            try:
                ref, body = self._translated(batch, delivery)
            except UnknownType as error:
                if not self._out_of_patience(delivery, error):
                    deferred = batch.deliveries[position:]
                    break
                letters.append(self._refused(delivery, error))
            except Exception as error:  # noqa: BLE001 - an upcaster or a key is user code and may raise anything
                letters.append(self._refused(delivery, error))
            else:
                sending.append(self._publisher.publish(ref.partition, body))
        for delivery in deferred:
            # Whoever waits behind another loses patience with him, not after him.
            _begin_to_wait(delivery)
        for future in sending:
            future.result()
        faults.reach(Point.INGRESS_REPUBLISHED)
        if letters:
            self._dead_letters.add(letters)
            faults.reach(Point.INGRESS_BURIED)
        batch.deferred = deferred
        waiting = {id(delivery) for delivery in deferred}
        batch.done = [delivery for delivery in batch.deliveries if id(delivery) not in waiting]

    def _translated(self, batch: DoorBatch, delivery: Delivery) -> tuple[Ref, bytes]:
        found = batch.translated.get(id(delivery))
        if found is None:
            ref, envelope = translate(
                self._app, delivery, self._clock.now(), self._partitions, self._payload_bytes_max
            )
            found = batch.translated[id(delivery)] = (ref, encode_envelope(envelope))
        return found

    def _out_of_patience(self, delivery: Delivery, error: UnknownType) -> bool:
        """Return whether a message of an unknown type has waited for long enough; say so when the waiting begins."""
        name = shortened(str(error))
        begins = self._patience.begins(delivery, name)
        ran_out = self._patience.ran_out(delivery, name)
        if begins and not ran_out:
            log.warning(
                "foreign messages are kept back behind one that this process cannot read",
                extra={
                    "error": name,
                    "command_id": (delivery.attributes or {}).get("message_id", ""),
                    "for_s": self._patience_s,
                },
            )
        _begin_to_wait(delivery)
        return ran_out

    def _refused(self, delivery: Delivery, error: Exception) -> DeadLetter:
        log.error("foreign message became a dead letter", extra={"error": sentence_of(error)})
        return DeadLetter(
            f"{DOOR}.{new_id()}",
            "ingress",
            DOOR,
            delivery.body,
            sentence_of(error),
            traceback_of(error),
            1,
            to_ms(self._clock.now()),
            command_id=(delivery.attributes or {}).get("message_id", ""),
        )

    def _given_up(self, delivery: Delivery) -> DeadLetter:
        """Return a message that the broker gave up on, as a dead letter of the partition that it was for."""
        attributes = delivery.attributes or {}
        queue, reason = (
            attributes.get("x-first-death-queue", ""),
            attributes.get("x-first-death-reason", "unknown"),
        )
        # The broker wrote that, or a sender before him: it may be anything.
        number = _FEW_DIGITS.fullmatch(queue.rpartition(".")[2])
        partition = int(number[0]) if number and int(number[0]) < self._partitions else DOOR
        command_id = workflow = key = ""
        kind = "command" if number else "ingress"
        try:
            envelope = decode_envelope(delivery.body)
            command_id, workflow, key = envelope.id, envelope.workflow, envelope.key
        except Undecodable:
            pass  # then its bytes are all that is known of it, and they are kept
        error = shortened(f"RabbitMQ gave it up ({reason}) in queue {queue or 'unknown'}")
        return DeadLetter(
            f"{partition}.{new_id()}",
            kind,
            partition,
            delivery.body,
            error,
            "",
            1,
            to_ms(self._clock.now()),
            command_id=command_id,
            workflow=workflow,
            key=key,
        )

    def settle(self, batch: DoorBatch) -> None:
        """Acknowledge what was sent on, and keep back what waits."""
        self._consumer.ack(batch.done)
        faults.reach(Point.INGRESS_ACKED)
        waiting = batch.deferred or ([] if batch.done else batch.deliveries)
        if not self._stopping.is_set():
            with self._lock:
                self._deferred = list(waiting)
        self._give_back()

    def linger(self) -> None:
        """Return nothing: what comes next is waited for by whoever takes."""

    # -- what the steward does

    def assign(self, partition: int) -> None:
        """Keep the door when partition 0 is ours."""
        if partition == DOOR:
            with self._lock:
                self._revoked = self._returned = False
            self._consumer.assign(self._ingress)
            self._consumer.assign(self._dead)

    def renew(self, partition: int) -> None:
        """Do nothing: the door is RabbitMQ's."""

    def revoke(self, partition: int) -> None:
        """Leave the door."""
        if partition == DOOR:
            with self._lock:
                self._revoked = True
            self._consumer.revoke(self._ingress)
            self._consumer.revoke(self._dead)
            self._give_back()

    def _give_back(self) -> None:
        with self._lock:
            deferred = self._deferred if self._revoked else []
            if deferred:
                self._deferred, self._returned = [], True
                self._consumer.give_back(deferred)

    def drained(self, partition: int) -> bool:
        """Return whether nothing is left here."""
        if partition != DOOR:
            return True
        return self._consumer.outstanding(self._ingress) + self._consumer.outstanding(self._dead) == 0

    def forget(self, partition: int) -> list[tuple[Ref, int]]:  # noqa: ARG002 - the holder's signature
        """Do nothing: a door remembers nobody."""
        return []

    def stop(self) -> None:
        """End all waiting."""
        self._stopping.set()

    def close(self) -> None:
        """Return what was not done."""
        self.stop()
        self._consumer.close()
        self._publisher.close()
        self._close()


def _begin_to_wait(delivery: Delivery) -> None:
    if delivery.deferred_since == 0:
        delivery.deferred_since = monotonic()
