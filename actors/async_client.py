"""AsyncClient: the client for code that runs on an event loop.

Sending and executing wait on futures, not on threads. Reads are short and run on a few threads. Waiting for an
instance takes a connection of its own from an asynchronous pool, and no thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

from opentelemetry.trace import TracerProvider
from redis import asyncio as aioredis
from redis.exceptions import MovedError, RedisError

from holdfast.actors.client import Client, check_connection
from holdfast.actors.reader import not_deleted, not_in_time
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, explain, tls_options, unavailable
from holdfast.runtime.app import App
from holdfast.runtime.clock import monotonic
from holdfast.runtime.config import MEMORY_URL, Settings
from holdfast.runtime.errors import ReplyTimeout
from holdfast.runtime.instance import RunState
from holdfast.runtime.instance_trace import RECORDS_DEFAULT, InstanceTrace
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


class Asked(TypedDict, total=False):
    """What each of pause, resume, cancel and delete_data may be told; see `Client.pause`."""

    reason: str
    id: str | None
    timeout: float


class AsyncClient:
    """The same verbs as `Client`, to be awaited: `async with connect_async(app) as client: ...`."""

    def __init__(
        self,
        app: App,
        settings: Settings | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        check_connection(app, settings)
        self._provider = tracer_provider
        self._app = app
        self._settings = settings
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="holdfast-read")
        self._client: Client | None = None
        self._logs: _Logs | None = None

    @property
    def client(self) -> Client:
        """The synchronous client underneath."""
        if self._client is None:
            message = "the client is not connected: use `async with connect_async(app) as client`"
            raise RuntimeError(message)
        return self._client

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._client = await loop.run_in_executor(
            self._threads, lambda: Client(self._app, self._settings, tracer_provider=self._provider)
        )
        if self._client.settings.redis_url != MEMORY_URL:
            self._logs = _Logs(self._client.settings)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._logs is not None:
            await self._logs.aclose()
        if self._client is not None:
            await self._in_thread(self._client.close)
        self._threads.shutdown()

    async def _in_thread(self, call: Callable[[], R]) -> R:
        # The context goes with it: what is sent there is in the trace of whoever awaits it.
        here = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: here.run(call))

    async def send(self, command: Command, *, id: str | None = None) -> str:  # noqa: A002 - the field's name
        """Hand a command over; see `Client.send`."""
        if self.client.crowded:
            # It will wait for room: not on the event loop.
            command_id, future = await self._in_thread(lambda: self.client.submit(command, id=id))
        else:
            command_id, future = self.client.submit(command, id=id)
        await asyncio.wrap_future(future)
        return command_id

    async def send_many(self, commands: Iterable[Command]) -> list[str]:
        """Send commands in order; see `Client.send_many`."""
        return await self._in_thread(lambda: self.client.send_many(commands))

    async def execute(self, command: Command, *, id: str | None = None, timeout: float = 5.0) -> Outcome:  # noqa: A002, ASYNC109 - as in Client
        """Send a command and return what became of it; see `Client.execute`."""
        with self.client.executing(command) as told:
            command_id, future = await self._in_thread(
                lambda: self.client.submit_for_outcome(command, id=id, timeout=timeout)
            )
            try:
                outcome = await asyncio.wait_for(asyncio.wrap_future(future), timeout)
            except TimeoutError:
                message = f"no answer to {describe(command)} within {timeout:g} s; execute it again with id={command_id!r}"
                raise ReplyTimeout(message) from None
            finally:
                self.client.forget_reply(future)
            told(outcome)
            return outcome

    async def pause(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        key: str | int,
        *,
        resume_at: datetime | None = None,
        resume_after: timedelta | None = None,
        **asked: Unpack[Asked],
    ) -> Outcome:
        """Pause an instance; see `Client.pause`."""
        return await self._in_thread(
            lambda: self.client.pause(workflow, key, resume_at=resume_at, resume_after=resume_after, **asked)
        )

    async def resume(
        self, workflow: type[Workflow[Any, Any, Any, Any]] | str, key: str | int, **asked: Unpack[Asked]
    ) -> Outcome:
        """Let a paused instance go on; see `Client.resume`."""
        return await self._in_thread(lambda: self.client.resume(workflow, key, **asked))

    async def cancel(
        self, workflow: type[Workflow[Any, Any, Any, Any]] | str, key: str | int, **asked: Unpack[Asked]
    ) -> Outcome:
        """Finish an instance where it stands; see `Client.cancel`."""
        return await self._in_thread(lambda: self.client.cancel(workflow, key, **asked))

    async def delete_data(
        self, workflow: type[Workflow[Any, Any, Any, Any]] | str, key: str | int, **asked: Unpack[Asked]
    ) -> Outcome:
        """Delete what a finished instance has recorded; see `Client.delete_data`."""
        return await self._in_thread(lambda: self.client.delete_data(workflow, key, **asked))

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

    async def trace(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        key: str | int,
        *,
        after: int = 0,
        limit: int = RECORDS_DEFAULT,
        newest: bool = False,
        depth: int | None = None,
        follow_children: bool = False,
    ) -> InstanceTrace | None:
        """Return an instance's life as a tree; see `Client.trace`."""
        return await self._in_thread(
            lambda: self.client.trace(
                workflow,
                key,
                after=after,
                limit=limit,
                newest=newest,
                depth=depth,
                follow_children=follow_children,
            )
        )

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
        while not_deleted(actor) and not (actor.seq and until(actor.state)):
            left = deadline - monotonic()
            if left <= 0:
                raise ReplyTimeout(not_in_time(actor, timeout))
            if self._logs is None:
                await self._in_thread(lambda: reader.follow(actor, min(left, WAIT_STEP_S)))  # noqa: B023 - awaited within the turn of the loop
            else:
                await self._wait_on_log(self._logs, actor.ref, actor.seq, min(left, WAIT_STEP_S))
                await self._in_thread(lambda: reader.catch_up(actor))
        state: S = actor.state
        return state

    async def _wait_on_log(self, logs: _Logs, ref: Any, seq: int, timeout_s: float) -> None:
        log = Keys(self.client.settings.namespace).log(ref)
        redis = await self._in_thread(lambda: logs.client_of(log)) if logs.spread else logs.client_of(log)
        try:
            await redis.xread({log: f"{seq}-0"}, count=1, block=max(1, int(timeout_s * 1000)))
        except (RedisError, OSError) as error:
            logs.doubt()
            if "UNBLOCKED" in str(error) or isinstance(error, MovedError):
                return  # it is elsewhere now: the next look finds it there
            raise explain(self.client.settings, error, proven=True) from error


class _Logs:
    """Asynchronous connections to where the logs are: one server, or the primaries of a cluster."""

    def __init__(self, settings: Settings) -> None:
        self.spread = settings.clustered
        self._url = settings.redis_seeds[0]
        self._options = tls_options(settings)
        self._link = RedisLink(settings)
        self._lock = threading.Lock()
        self._clients: dict[Any, aioredis.Redis] = {}

    def client_of(self, key: str) -> aioredis.Redis:
        """Return the client of the server that has a key; on a cluster that may take a round trip."""
        if self._link.cluster is None:
            address = None
        else:
            with self._lock, unavailable(self._link):
                address = self._link.cluster.address_of(key)
        found = self._clients.get(address)
        if found is None:
            found = aioredis.Redis.from_url(self._url, protocol=2, **self._options)
            if address is not None:
                found.connection_pool.connection_kwargs.update(host=address[0], port=address[1])
            found = self._clients.setdefault(address, found)
        return found

    def doubt(self) -> None:
        """Have it looked up anew who has what."""
        self._link.reconnect()

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()
        self._link.close()


def connect_async(
    app: App, settings: Settings | None = None, *, tracer_provider: TracerProvider | None = None
) -> AsyncClient:
    """Return an asynchronous client, to be entered with `async with`; arguments as for `connect`."""
    return AsyncClient(app, settings, tracer_provider=tracer_provider)
