"""Answers to waiting callers over Redis pub/sub, refusals that are remembered, and suspects.

A reply address is `<client>/<command id>`: each client listens on one channel, however many callers it has.
Pub/sub may lose an answer when a connection breaks; the caller then asks again with the same command id, and is told
the first outcome.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import msgspec
import redis

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import HoldfastError
from holdfast.runtime.ids import new_id

log = logging.getLogger(__name__)

_decoder = msgspec.msgpack.Decoder(tuple[str, bytes])

#: How long the listener waits for a message before it looks whether it should stop.
LISTEN_STEP_S = 1.0


class RedisAnswers:
    """The worker's side. One for each thread."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._keep_ms = settings.refusals_s * 1000

    def remember(self, refusals: Sequence[tuple[int, str, bytes]]) -> None:
        """Keep refusals; see refuse.lua."""
        by_partition: dict[int, list[str | bytes]] = defaultdict(list)
        for partition, command_id, answer in refusals:
            by_partition[partition] += (command_id, answer)
        calls = [
            Call(
                Script.REFUSE,
                (self._keys.refused(partition), self._keys.refused_at(partition)),
                (self._keep_ms, *pairs),
            )
            for partition, pairs in by_partition.items()
        ]
        scripts.run(self._link, calls)

    def recall(self, wanted: Sequence[tuple[int, str]]) -> list[bytes | None]:
        """Return refusals."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition, command_id in wanted:
                pipe.hget(self._keys.refused(partition), command_id)
            found: list[bytes | None] = pipe.execute()
            return found

    def reply(self, answers: Sequence[tuple[str, bytes]]) -> None:
        """Publish answers, each to its client's channel; nobody may be listening any more."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for address, answer in answers:
                client, _, command_id = address.partition("/")
                pipe.publish(self._keys.replies(client), msgspec.msgpack.encode((command_id, answer)))
            pipe.execute()

    def begin(self, commands: Sequence[tuple[int, str]]) -> list[int]:
        """Count turns."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition, command_id in commands:
                pipe.hincrby(self._keys.suspects(partition), command_id, 1)
            found: list[int] = pipe.execute()
            return found

    def clear(self, commands: Sequence[tuple[int, str]]) -> None:
        """Forget the counts."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition, command_id in commands:
                pipe.hdel(self._keys.suspects(partition), command_id)
            pipe.execute()


class RedisMailbox:
    """The client's side: one connection and one thread that listens for answers, begun when first needed."""

    def __init__(self, settings: Settings, on_reconnect: Callable[[], None]) -> None:
        self._settings = settings
        self._on_reconnect = on_reconnect
        self._client_id = new_id()
        self._channel = Keys(settings.namespace).replies(self._client_id)
        self._expected: dict[str, Future[bytes]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._listening = threading.Event()
        self._closing = threading.Event()
        self._failure: Exception | None = None

    def expect(self, command_id: str, timeout_s: float) -> tuple[str, Future[bytes]]:
        """Return the address for an answer, and the future that it ends. Listens before it returns.

        Raises:
            Unavailable: Redis does not answer.
        """
        self._start(timeout_s)
        with self._lock:
            future = self._expected.setdefault(command_id, Future())
            if not future.running():
                # From now on it cannot be cancelled: the listener must be able to end it.
                future.set_running_or_notify_cancel()
        return f"{self._client_id}/{command_id}", future

    def forget(self, command_id: str) -> None:
        """Stop expecting an answer."""
        with self._lock:
            self._expected.pop(command_id, None)

    def _start(self, timeout_s: float) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="holdfast-replies", daemon=True)
                self._thread.start()
        if not self._listening.wait(timeout_s):
            link = RedisLink(self._settings)
            with link, unavailable(link):
                raise self._failure or redis.exceptions.TimeoutError("no subscription in time")

    def _listen(self) -> None:
        again = False
        while not self._closing.is_set():
            try:
                # A link reads certificates anew, which may be missing just now; and who asks again may be refused.
                with RedisLink(self._settings) as link:
                    self._receive(link, again=again)
            except (redis.exceptions.RedisError, OSError, HoldfastError) as error:
                self._failure = error
                self._listening.clear()
                self._closing.wait(0.2)
            again = True

    def _receive(self, link: RedisLink, *, again: bool) -> None:
        pubsub: Any = link.client.pubsub(ignore_subscribe_messages=False)
        pubsub.subscribe(self._channel)
        while not self._closing.is_set():
            message = pubsub.get_message(timeout=LISTEN_STEP_S)
            if message is None or self._closing.is_set():
                continue
            if message["type"] == "subscribe":
                self._listening.set()
                if again:
                    self._on_reconnect()
            elif message["type"] == "message":
                try:
                    command_id, answer = _decoder.decode(message["data"])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    log.warning("no answer came in the place of one")
                    continue
                with self._lock:
                    future = self._expected.pop(command_id, None)
                if future is not None:
                    future.set_result(answer)

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._wake()
            self._thread.join(LISTEN_STEP_S * 3)

    def _wake(self) -> None:
        """Send the listener something to look up for; without a server it looks up by itself."""
        with suppress(redis.exceptions.RedisError, OSError, HoldfastError), RedisLink(self._settings) as link:
            link.client.publish(self._channel, b"")
