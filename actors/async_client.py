"""AsyncClient: the client for code that runs on an event loop.

Sending and executing wait on futures, not on threads. Reads are short and run on a few threads. Waiting for an
instance takes a connection of its own from an asynchronous pool, and no thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from redis import asyncio as aioredis
from redis.exceptions import RedisError

from holdfast.actors.client import Client
from holdfast.actors.reader import not_in_time
from holdfast.brokers.keys import Keys
from holdfast.runtime.app import App
from holdfast.runtime.clock import monotonic
from holdfast.runtime.config import MEMORY_URL, Settings, hide_password
from holdfast.runtime.errors import ReplyTimeout, Unavailable
from holdfast.runtime.instance import RunState
from holdfast.runtime.message import Command, describe
from holdfast.runtime.outcome import Outcome
from holdfast.runtime.ports import Page
from holdfast.runtime.projection import Projection
from holdfast.runtime.record import Record
from holdfast.runtime.timers import PendingTimer
from holdfast.runtime.workflow import Workflow

S = TypeVar("S")
E = TypeVar("E")
R = TypeVar("R")

#: Threads for reads; each has a connection.
READ_THREADS = 8
#: The longest single wait on a log.
WAIT_STEP_S = 5.0


class AsyncClient:
    """The same verbs as `Client`, to be awaited: `async with connect_async(app) as client: ...`."""

    def __init__(self, app: App, settings: Settings | None = None) -> None:
        self._app = app
        self._settings = settings
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="holdfast-read")
        self._client: Client | None = None
        self._redis: aioredis.Redis | None = None

    @property
    def client(self) -> Client:
        """The synchronous client underneath."""
        if self._client is None:
            message = "the client is not connected: use `async with connect_async(app) as client`"
            raise RuntimeError(message)
        return self._client

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._client = await loop.run_in_executor(self._threads, Client, self._app, self._settings)
        if self._client.settings.redis_url != MEMORY_URL:
            self._redis = aioredis.Redis.from_url(self._client.settings.redis_url, protocol=2)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._redis is not None:
            await self._redis.aclose()
        if self._client is not None:
            await self._in_thread(self._client.close)
        self._threads.shutdown()

    async def _in_thread(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def send(self, command: Command, *, id: str | None = None) -> str:  # noqa: A002 - the field's name
        """Hand a command over; see `Client.send`."""
        command_id, future = self.client.submit(command, id=id)
        await asyncio.wrap_future(future)
        return command_id

    async def send_many(self, commands: Iterable[Command]) -> list[str]:
        """Send commands in order; see `Client.send_many`."""
        return await self._in_thread(lambda: self.client.send_many(commands))

    async def execute(self, command: Command, *, id: str | None = None, timeout: float = 5.0) -> Outcome:  # noqa: A002, ASYNC109 - as in Client
        """Send a command and return what became of it; see `Client.execute`."""
        command_id, future = await self._in_thread(
            lambda: self.client.submit_for_outcome(command, id=id, timeout=timeout)
        )
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout)
        except TimeoutError:
            message = f"no answer to {describe(command)} within {timeout:g} s; execute it again with id={command_id!r}"
            raise ReplyTimeout(message) from None
        finally:
            self.client.forget_reply(future)

    async def pause(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        key: str | int,
        *,
        reason: str = "",
        resume_at: datetime | None = None,
        resume_after: timedelta | None = None,
        id: str | None = None,  # noqa: A002 - the field's name
        timeout: float = 5.0,  # noqa: ASYNC109 - as in Client
    ) -> Outcome:
        """Pause an instance; see `Client.pause`."""
        return await self._in_thread(
            lambda: self.client.pause(
                workflow,
                key,
                reason=reason,
                resume_at=resume_at,
                resume_after=resume_after,
                id=id,
                timeout=timeout,
            )
        )

    async def resume(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        key: str | int,
        *,
        reason: str = "",
        id: str | None = None,  # noqa: A002 - the field's name
        timeout: float = 5.0,  # noqa: ASYNC109 - as in Client
    ) -> Outcome:
        """Let a paused instance go on; see `Client.resume`."""
        return await self._in_thread(
            lambda: self.client.resume(workflow, key, reason=reason, id=id, timeout=timeout)
        )

    async def cancel(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        key: str | int,
        *,
        reason: str = "",
        id: str | None = None,  # noqa: A002 - the field's name
        timeout: float = 5.0,  # noqa: ASYNC109 - as in Client
    ) -> Outcome:
        """Finish an instance where it stands; see `Client.cancel`."""
        return await self._in_thread(
            lambda: self.client.cancel(workflow, key, reason=reason, id=id, timeout=timeout)
        )

    async def delete_data(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        key: str | int,
        *,
        reason: str = "",
        id: str | None = None,  # noqa: A002 - the field's name
        timeout: float = 5.0,  # noqa: ASYNC109 - as in Client
    ) -> Outcome:
        """Delete what a finished instance has recorded; see `Client.delete_data`."""
        return await self._in_thread(
            lambda: self.client.delete_data(workflow, key, reason=reason, id=id, timeout=timeout)
        )

    async def state(
        self, workflow: type[Workflow[S, Any, Any, Any]], key: str | int, *, at: int | datetime | None = None
    ) -> S | None:
        """Return an instance's state; see `Client.state`."""
        return await self._in_thread(lambda: self.client.state(workflow, key, at=at))

    async def history(
        self,
        workflow: type[Workflow[Any, Any, E, Any]],
        key: str | int,
        *,
        after: int = 0,
        limit: int | None = None,
    ) -> list[Record[E]]:
        """Return an instance's records; see `Client.history`."""
        return await self._in_thread(lambda: self.client.history(workflow, key, after=after, limit=limit))

    async def wait_for(
        self,
        projection: Projection | type[Projection] | str,
        outcome: Outcome | str,
        *,
        timeout: float = 5.0,  # noqa: ASYNC109 - as in Client
    ) -> None:
        """Return as soon as a read model has what an outcome says; see `Client.wait_for`. It takes a thread meanwhile."""
        await self._in_thread(lambda: self.client.wait_for(projection, outcome, timeout=timeout))

    async def instances(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        *,
        run_state: RunState | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Return instances; see `Client.instances`."""
        return await self._in_thread(
            lambda: self.client.instances(
                workflow, run_state=run_state, since=since, until=until, limit=limit, cursor=cursor
            )
        )

    async def timers(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str | None = None,
        key: str | int | None = None,
        *,
        limit: int = 100,
    ) -> list[PendingTimer]:
        """Return timers that were not sent yet; see `Client.timers`."""
        return await self._in_thread(lambda: self.client.timers(workflow, key, limit=limit))

    async def wait(
        self,
        workflow: type[Workflow[S, Any, Any, Any]],
        key: str | int,
        *,
        until: Callable[[S], bool],
        timeout: float = 30.0,  # noqa: ASYNC109 - as in Client
    ) -> S:
        """Return the instance's state as soon as it satisfies `until`; see `Client.wait`."""
        reader = self.client.reader
        deadline = monotonic() + timeout
        actor = await self._in_thread(lambda: reader.look(workflow, key))
        while not (actor.seq and until(actor.state)):
            left = deadline - monotonic()
            if left <= 0:
                raise ReplyTimeout(not_in_time(actor, timeout))
            if self._redis is None:
                await self._in_thread(lambda: reader.wait_for_more(actor, min(left, WAIT_STEP_S)))  # noqa: B023 - awaited within the turn of the loop
            else:
                await self._wait_on_log(self._redis, actor.ref, actor.seq, min(left, WAIT_STEP_S))
            await self._in_thread(lambda: reader.catch_up(actor))
        state: S = actor.state
        return state

    async def _wait_on_log(self, redis: aioredis.Redis, ref: Any, seq: int, timeout_s: float) -> None:
        log = Keys(self.client.settings.namespace).log(ref)
        try:
            await redis.xread({log: f"{seq}-0"}, count=1, block=max(1, int(timeout_s * 1000)))
        except (RedisError, OSError) as error:
            message = f"Redis at {hide_password(self.client.settings.redis_url)} does not answer: {error}"
            raise Unavailable(message) from error


def connect_async(app: App, settings: Settings | None = None) -> AsyncClient:
    """Return an asynchronous client, to be entered with `async with`."""
    return AsyncClient(app, settings)
