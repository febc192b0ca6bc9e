"""Replies: the outcomes that callers of this client wait for."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any

import msgspec

from holdfast.actors import wiring
from holdfast.brokers.memory import MemoryAnswers
from holdfast.brokers.redis_answers import RedisMailbox
from holdfast.runtime.app import App
from holdfast.runtime.cipher import Cipher, check_open
from holdfast.runtime.config import Settings, TransportKind
from holdfast.runtime.definition import Definition
from holdfast.runtime.outcome import (
    Accepted,
    AlreadyCompleted,
    Answer,
    DeadLettered,
    Duplicate,
    Outcome,
    Parked,
    Rejected,
)
from holdfast.runtime.sealed import answer_place

_decoder = msgspec.msgpack.Decoder(Answer)


@dataclass(slots=True)
class _Waiting:
    """A caller who waits, and what was sent for him."""

    #: What his answer is addressed to: no other wait has it, even one for the same command.
    name: str
    partition: int = -1
    body: bytes = b""


class Replies:
    """Matches answers with callers."""

    def __init__(self, app: App, settings: Settings, resend: Callable[[int, bytes], None]) -> None:
        self._app = app
        self._resend = resend
        self._waiting: dict[Future[Outcome], _Waiting] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._memory = (
            MemoryAnswers(wiring.memory_server(settings))
            if settings.transport is TransportKind.MEMORY
            else None
        )
        self._mailbox = RedisMailbox(settings, self._ask_again) if self._memory is None else None
        self._cipher: Cipher | None = None
        self._close_cipher: Callable[[], None] = lambda: None
        if settings.encrypted:
            self._cipher, self._close_cipher = wiring.open_cipher(settings)

    def expect(self, command_id: str, workflow: str, timeout_s: float) -> tuple[str, Future[Outcome]]:
        """Return the reply address for a command, and the future of its outcome.

        Raises:
            Unavailable: Answers cannot be listened for.
        """
        future: Future[Outcome] = Future()
        name = f"{command_id}/{next(self._numbers)}"
        if self._memory is not None:
            address, answer = f"{id(self)}/{name}", self._memory.expect(f"{id(self)}/{name}")
        else:
            assert self._mailbox is not None  # noqa: S101 - one of the two is there
            address, answer = self._mailbox.expect(name, timeout_s)
        with self._lock:
            self._waiting[future] = _Waiting(address if self._memory is not None else name)
        definition = self._app.definition(workflow)
        answer.add_done_callback(lambda done: self._answered(future, definition, address, done))
        return address, future

    def sent(self, future: Future[Outcome], partition: int, body: bytes) -> None:
        """Remember what was sent, so that it can be asked again when an answer may have been lost."""
        with self._lock:
            waiting = self._waiting.get(future)
            if waiting is not None:
                waiting.partition, waiting.body = partition, body

    def fail(self, future: Future[Outcome], error: BaseException) -> None:
        """End a wait with an error: the command was not confirmed."""
        with self._lock:
            waiting = self._waiting.pop(future, None)
        if waiting is not None:
            _end(future, error=error)

    def forget(self, future: Future[Outcome]) -> None:
        """Stop waiting."""
        with self._lock:
            waiting = self._waiting.pop(future, None)
        if waiting is not None:
            (self._memory or self._mailbox).forget(waiting.name)  # type: ignore[union-attr]  # one of the two is there

    def _answered(
        self, future: Future[Outcome], definition: Definition, address: str, answer: Future[bytes]
    ) -> None:
        with self._lock:
            waiting = self._waiting.pop(future, None)
        if waiting is None:
            return
        try:
            data = answer.result()
            if self._cipher is not None:
                data = self._cipher.open(answer_place(address), data)
            check_open(data, "the answer")
            _end(future, outcome=outcome_from(_decoder.decode(data), definition))
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            _end(future, error=error)

    def _ask_again(self) -> None:
        """Send again what is still waited for: answers that came while nobody listened are lost."""
        with self._lock:
            again = [(waiting.partition, waiting.body) for waiting in self._waiting.values() if waiting.body]
        for partition, body in again:
            self._resend(partition, body)

    def close(self) -> None:
        """Stop listening."""
        if self._mailbox is not None:
            self._mailbox.close()
        self._close_cipher()


def _end(
    future: Future[Outcome], *, outcome: Outcome | None = None, error: BaseException | None = None
) -> None:
    try:
        if error is not None:
            future.set_exception(error)
        elif outcome is not None:
            future.set_result(outcome)
    except InvalidStateError:
        pass  # whoever waited has gone


def outcome_from(answer: Answer, definition: Definition) -> Outcome:
    """Return an answer as its caller sees it.

    Raises:
        HistoryError: The events in it are of other code.
    """
    if answer.kind == "completed":
        return AlreadyCompleted(answer.reason)
    if answer.kind == "dead":
        return DeadLettered(answer.reason, answer.dead_letter_id)
    if answer.kind == "parked":
        return Parked(answer.reason)
    first: Accepted[Any] | Rejected
    if answer.kind == "rejected":
        first = Rejected(answer.reason, msgspec.msgpack.decode(answer.details) if answer.details else None)
    else:
        where = f"record {answer.seq}"
        events = definition.entries.decode(answer.entry, where).events if answer.entry else ()
        first = Accepted(answer.seq, events, answer.position)
    return Duplicate(first) if answer.duplicate else first
