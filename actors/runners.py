"""Runners: where handlers run. `def` handlers each on a thread, `async def` handlers together on one event loop.

A handler may do anything: raise what nobody catches, never come back, change the thread that it runs on. What it is
given to run on is never given to another effect when its time was up before it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dramatiq.threading import Interrupt, raise_thread_exception

from holdfast.actors.effect_job import Job
from holdfast.actors.pace import MACHINE, Pace
from holdfast.runtime.bearings import bear, call_for

log = logging.getLogger(__name__)

#: Told when an attempt has ended: with what the handler returned, or what it raised.
Ended = Callable[[Job, Any, BaseException | None], None]

#: How long the loop may take to end what was cancelled when the process stops.
CLOSE_S = 1.0
#: A loop that does not answer for so long is blocked, and how often it is asked: each time wakes its thread.
STALL_S = 1.0
ASK_STEP_S = 0.25


class Runner(Protocol):
    """Runs handlers."""

    def run(self, jobs: Sequence[Job]) -> None:
        """Start attempts; never waits for them."""
        ...

    def watch(self) -> None:
        """See to what could not be done at once. To be called every now and then, by one thread."""
        ...

    def close(self) -> None:
        """Take nothing more, and stop what can be stopped."""
        ...


class _TimeIsUp(Interrupt):
    """Raised in a thread whose handler has taken too long."""


class Threads:
    """Runs each handler on a thread of its own; at most as many at once as the lane hands out.

    A thread that is woken wakes the next before it runs its handler, as long as there is more to run. So handlers that
    wait are soon on as many threads as there are, and quick ones are run one after another without waking anybody.
    """

    def __init__(self, ended: Ended) -> None:
        self._ended = ended
        self._jobs: deque[Job] = deque()
        #: What threads wait for: True to go on, False to end.
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._called = False
        self._lock = threading.Lock()
        self._busy = 0
        self._alive = 0
        #: Whether the operating system had no thread for us, and that was said.
        self._short = False

    def run(self, jobs: Sequence[Job]) -> None:
        """Hand attempts to threads that are free, or new ones."""
        with self._lock:
            self._busy += len(jobs)
        self._jobs.extend(jobs)
        self._grow()
        self._call()

    def watch(self) -> None:
        """Start threads that could not be started before."""
        if self._busy > self._alive:
            self._grow()

    def _grow(self) -> None:
        """Have as many threads as there are attempts; where there are no more to be had, those that are there do."""
        with self._lock:
            missing = max(0, self._busy - self._alive)
            self._alive += missing
        for started in range(missing):
            try:
                threading.Thread(target=self._serve, name="holdfast-effect", daemon=True).start()
            except RuntimeError as error:
                with self._lock:
                    self._alive -= missing - started
                if not self._short:
                    self._short = True
                    log.warning("effects have to wait for threads", extra={"error": str(error)})
                return
        self._short = False

    def _call(self) -> None:
        """Wake a thread, unless one is about to look around anyhow."""
        if not self._called:
            self._called = True
            self._calls.put(True)

    def _serve(self) -> None:
        # Time may be up at any moment, also between two statements of ours.
        with contextlib.suppress(_TimeIsUp):
            while self._calls.get():
                self._called = False
                while True:
                    try:
                        job = self._jobs.popleft()
                    except IndexError:
                        break
                    if self._jobs:
                        self._call()
                    if not self._run(job):
                        return

    def _run(self, job: Job) -> bool:
        """Run one attempt; return whether this thread may run another."""
        result, error = None, None
        thread = threading.get_ident()
        job.interrupt = lambda: self._give_up(thread)
        context, claim = job.start()
        try:
            result = contextvars.copy_context().run(call_for, context, job.call, context)
        except BaseException as caught:  # noqa: BLE001 - whatever a handler raises is its own failure
            error = caught
        if not job.end(claim):
            return False
        with self._lock:
            self._busy -= 1
        self._ended(job, result, error)
        return True

    def _give_up(self, thread: int) -> None:
        """Count a thread out whose handler has run out of time, and have it end when it next runs Python code."""
        with self._lock:
            self._busy -= 1
            self._alive -= 1
        raise_thread_exception(thread, _TimeIsUp)

    def close(self) -> None:
        """Have the free threads end. The others are daemons and end with the process."""
        with self._lock:
            alive = self._alive
        for _ in range(alive):
            self._calls.put(False)


class Loop:
    """Runs handlers together on one event loop, which has a thread of its own."""

    def __init__(
        self, ended: Ended, pace: Pace = MACHINE, stalled: Callable[[], None] = lambda: None
    ) -> None:
        self._ended = ended
        self._pace = pace
        #: Told of each stall once.
        self._stalled = stalled
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._thread = pace.thread(self._serve, "holdfast-effect-loop")
        #: In the order in which they were begun.
        self._tasks: dict[asyncio.Task[None], None] = {}
        #: Since when the loop has owed a sign of life, and whether that was said.
        self._asked: float | None = None
        self._said = False
        self._ask_at = 0.0

    def run(self, jobs: Sequence[Job]) -> None:
        """Hand attempts to the loop."""
        with self._lock:
            if self._loop is None:
                self._loop = self._pace.loop()
                self._thread.start()
        self._loop.call_soon_threadsafe(self._begin, jobs)

    def watch(self) -> None:
        """Say so when a handler keeps the loop from running the others. To be called every now and then, by one thread."""
        loop, now = self._loop, self._pace.clock.monotonic()
        if loop is None:
            return
        if self._asked is None:
            if now >= self._ask_at:
                self._asked, self._said, self._ask_at = now, False, now + ASK_STEP_S
                _call(loop, self._answer)
        elif now - self._asked > STALL_S and not self._said:
            task = asyncio.current_task(loop)
            if task is not None:
                self._said = True
                self._stalled()
                log.warning(
                    "a handler blocks the event loop, and with it all async handlers of this process; "
                    "declare it with def, or await what takes time",
                    extra={"handler": task.get_name(), "seconds": round(now - self._asked, 1)},
                )

    def _answer(self) -> None:
        self._asked = None

    def _serve(self) -> None:
        assert self._loop is not None  # noqa: S101 - it is made before the thread is started
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _begin(self, jobs: Sequence[Job]) -> None:
        loop = asyncio.get_running_loop()
        for job in jobs:
            task = _task(loop, self._run(job), job.handler.name if job.handler is not None else "")
            if not task.done():
                self._tasks[task] = None
                task.add_done_callback(self._tasks.pop)

    async def _run(self, job: Job) -> None:
        result, error = None, None
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - this runs in one
        job.interrupt = lambda: _call(loop, task.cancel)
        context, claim = job.start()
        try:
            bear(context)
            result = await job.call(context)
        except BaseException as caught:  # noqa: BLE001 - whatever a handler raises is its own failure
            error = caught
        if job.end(claim):
            self._ended(job, result, error)

    def close(self) -> None:
        """Cancel what runs, and end the loop."""
        with self._lock:
            loop = self._loop
        if loop is None:
            return
        _call(loop, lambda: _task(loop, self._finish(), "finish"))
        self._thread.join(CLOSE_S)

    async def _finish(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=CLOSE_S / 2)
        asyncio.get_running_loop().stop()


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(what)


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, name: str) -> asyncio.Task[None]:
    """Return a task that has run its first steps, where Python can do that: most handlers that do not wait are done."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, name=name, eager_start=True)
    return loop.create_task(coroutine, name=name)
