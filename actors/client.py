"""Client: sends commands and reads instances. One client serves any number of threads."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import dramatiq

from holdfast.actors import wiring
from holdfast.actors.dead_letters import DeadLetterDesk, Means
from holdfast.actors.pools import worker_broker
from holdfast.actors.projection_desk import ProjectionDesk
from holdfast.actors.reader import Reader
from holdfast.actors.replies import Replies
from holdfast.actors.schedules import ScheduleDesk
from holdfast.runtime.app import App
from holdfast.runtime.clock import SystemClock, span_ms_up, to_ms, to_ms_up
from holdfast.runtime.codec import check_size, encode, encode_envelope
from holdfast.runtime.config import MEMORY_URL, Settings
from holdfast.runtime.control import Cancel, DeleteData, Pause, Resume
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import ReplyTimeout, UsageError
from holdfast.runtime.ids import ID_BYTES_MAX, new_id
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref, check_key, partition_of
from holdfast.runtime.message import Command, Envelope, describe
from holdfast.runtime.observation import Observation
from holdfast.runtime.outcome import Outcome
from holdfast.runtime.ports import Page, Publisher, Size
from holdfast.runtime.projection import Projection
from holdfast.runtime.record import Record
from holdfast.runtime.timers import PendingTimer
from holdfast.runtime.timetable import ScheduleWorkflow
from holdfast.runtime.workflow import Workflow

S = TypeVar("S")
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class _Lines:
    """The connections of one process that have threads of their own."""

    publisher: Publisher
    replies: Replies

    def close(self) -> None:
        self.publisher.close()
        self.replies.close()


class Client:
    """The way into Holdfast; make one with `connect(app)`.

    In a process that was forked it connects anew when it is first used; what was on its way stays with the parent.

    Raises:
        SetupError: A server refuses us, cannot give the configured durability, or was set up otherwise.
        Unavailable: A server cannot be reached.
    """

    def __init__(self, app: App, settings: Settings | None = None) -> None:
        self.app = app
        self.settings, self._embedded = wiring.ground(settings or Settings.from_environment())
        self._clock = SystemClock()
        self._local = threading.local()
        self._opened: list[wiring.Ports] = []
        self._lock = threading.Lock()
        self._worker: dramatiq.Worker | None = None
        self._lines: _Lines | None = None
        try:
            self._transport = wiring.open_transport(self.settings)
            self.reader = Reader(app, self.settings.partitions, lambda: self._ports().journal)
            self._line()
            self._ports()
        except BaseException:
            self.close()
            raise
        if self.settings.redis_url == MEMORY_URL:
            self._worker = _worker_in_this_process(app, self.settings)
        _clients.add(self)

    # -- commands

    def send(self, command: Command, *, id: str | None = None) -> str:  # noqa: A002 - the field's name
        """Hand a command over, and return its id once the transport has confirmed it: from then on it will be decided.

        Args:
            command: A command of one of the app's workflows.
            id: Your own id for it. Sending the same id to the same instance again decides nothing.

        Raises:
            UsageError: It is no command of the app, its key is refused, or it is too large.
            PublishFailed: It was not confirmed. Send it again with the same id.
        """
        command_id, future = self.submit(command, id=id)
        future.result()
        return command_id

    def send_many(self, commands: Iterable[Command]) -> list[str]:
        """Send commands in order, with many on their way at once, and return their ids once all are confirmed.

        Raises:
            UsageError, PublishFailed: As for `send`. Commands before and after the one that failed may have been sent.
        """
        submitted = [self.submit(command) for command in commands]
        for _, future in submitted:
            future.result()
        return [command_id for command_id, _ in submitted]

    def submit(self, command: Command, *, id: str | None = None) -> tuple[str, Future[None]]:  # noqa: A002 - the field's name
        """Send a command without waiting: return its id, and a future that ends with the confirm.

        Raises:
            UsageError, PublishFailed: As for `send`.
        """
        ref, envelope = self._envelope(command, id)
        return envelope.id, self._line().publisher.publish(ref.partition, encode_envelope(envelope))

    def execute(self, command: Command, *, id: str | None = None, timeout: float = 5.0) -> Outcome:  # noqa: A002 - the field's name
        """Send a command and return what became of it.

        Args:
            command, id: As for `send`.
            timeout: Seconds to wait for the answer.

        Raises:
            UsageError, PublishFailed: As for `send`.
            ReplyTimeout: There was no answer in time. The command may still be decided; executing it again with the
                same id returns its first outcome.
        """
        command_id, future = self.submit_for_outcome(command, id=id, timeout=timeout)
        try:
            return future.result(timeout)
        except TimeoutError:
            message = (
                f"no answer to {describe(command)} within {timeout:g} s; is a worker running? It may still be decided: "
                f"execute it again with id={command_id!r} for its outcome"
            )
            raise ReplyTimeout(message) from None
        finally:
            self.forget_reply(future)

    def submit_for_outcome(
        self,
        command: Command,
        *,
        id: str | None = None,  # noqa: A002 - the field's name
        timeout: float = 5.0,
    ) -> tuple[str, Future[Outcome]]:
        """Send a command without waiting: return its id, and a future of its outcome.

        Raises:
            UsageError, PublishFailed: As for `send`.
        """
        ref, envelope = self._envelope(command, id)
        return envelope.id, self._for_outcome(ref, envelope, timeout)

    def _for_outcome(self, ref: Ref, envelope: Envelope, timeout: float) -> Future[Outcome]:
        line = self._line()
        address, future = line.replies.expect(envelope.id, ref.workflow, timeout)
        body = encode_envelope(
            Envelope(
                envelope.id,
                ref.workflow,
                ref.key,
                envelope.payload,
                envelope.sent_ms,
                address,
                trace=envelope.trace,
            )
        )
        line.replies.sent(future, ref.partition, body)

        def confirmed(sent: Future[None]) -> None:
            error = sent.exception()
            if error is not None:
                line.replies.fail(future, error)

        line.publisher.publish(ref.partition, body).add_done_callback(confirmed)
        return future

    # -- runs

    def pause(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        key: str | int,
        *,
        reason: str = "",
        resume_at: datetime | None = None,
        resume_after: timedelta | None = None,
        id: str | None = None,  # noqa: A002 - the field's name
        timeout: float = 5.0,
    ) -> Outcome:
        """Pause an instance: later commands are kept for it, in order, until it is resumed.

        Args:
            workflow, key: Which instance.
            reason: Why, for people; it is recorded.
            resume_at, resume_after: When it goes on without being asked; at most one of them.
            id, timeout: As for `execute`.

        Returns:
            Accepted, or Rejected where the instance may not be paused.

        Raises:
            UsageError, PublishFailed, ReplyTimeout: As for `execute`.
        """
        return self._move(workflow, key, pause_command(reason, resume_at, resume_after), id, timeout)

    def resume(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        key: str | int,
        *,
        reason: str = "",
        id: str | None = None,  # noqa: A002 - the field's name
        timeout: float = 5.0,
    ) -> Outcome:
        """Let a paused instance go on, with what was kept for it first. As `pause` otherwise."""
        return self._move(workflow, key, Resume(reason), id, timeout)

    def cancel(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        key: str | int,
        *,
        reason: str = "",
        id: str | None = None,  # noqa: A002 - the field's name
        timeout: float = 5.0,
    ) -> Outcome:
        """Finish an instance where it stands: pending timers are removed, and effects that nobody has begun withdrawn.

        Later commands are answered AlreadyCompleted("cancelled"). As `pause` otherwise.
        """
        return self._move(workflow, key, Cancel(reason), id, timeout)

    def delete_data(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        key: str | int,
        *,
        reason: str = "",
        id: str | None = None,  # noqa: A002 - the field's name
        timeout: float = 5.0,
    ) -> Outcome:
        """Delete what a finished instance has recorded, for good; only that there was one stays.

        Its records, snapshot, outbox, timers, kept commands and dead letters go. What `Workflow.scrub` returns stays as
        its state. As `pause` otherwise.
        """
        return self._move(workflow, key, DeleteData(reason), id, timeout)

    def _move(
        self, workflow: Any, key: str | int, command: Command, id_: str | None, timeout: float
    ) -> Outcome:
        definition = self.app.definition_of(workflow)
        checked = check_key(key, f"this {definition.name}")
        ref, envelope = self._enveloped(definition, checked, command, id_)
        future = self._for_outcome(ref, envelope, timeout)
        try:
            return future.result(timeout)
        except TimeoutError:
            message = (
                f"no answer to {describe(command)} within {timeout:g} s; is a worker running? It may still be done: "
                f"ask again with id={envelope.id!r}"
            )
            raise ReplyTimeout(message) from None
        finally:
            self.forget_reply(future)

    def _envelope(self, command: Command, command_id: str | None) -> tuple[Ref, Envelope]:
        definition = self.app.definition_for(command)
        return self._enveloped(definition, definition.key_of(command), command, command_id)

    def _enveloped(
        self, definition: Definition, key: str, command: Command, command_id: str | None
    ) -> tuple[Ref, Envelope]:
        payload = check_size(
            encode(command), f"{describe(command)} for {key!r}", self.settings.payload_bytes_max
        )
        if command_id is None:
            command_id = new_id()
        elif not command_id or len(command_id.encode()) > ID_BYTES_MAX:
            message = f"a command id is text of 1 to {ID_BYTES_MAX} bytes, not {command_id[:40]!r}"
            raise UsageError(message)
        ref = Ref(partition_of(definition.type, key, self.settings.partitions), definition.type, key)
        sent_ms = to_ms(self._clock.now())
        return ref, Envelope(command_id, ref.workflow, key, payload, sent_ms, trace=wiring.current_trace())

    def forget_reply(self, future: Future[Outcome]) -> None:
        """Stop waiting for an outcome."""
        self._line().replies.forget(future)

    def _resend(self, partition: int, body: bytes) -> None:
        self._line().publisher.publish(partition, body)

    # -- instances

    def state(
        self, workflow: type[Workflow[S, Any, Any, Any]], key: str | int, *, at: int | datetime | None = None
    ) -> S | None:
        """Return an instance's state, or None if it does not exist (or did not yet, at that point).

        Args:
            workflow, key: Which instance.
            at: None for now; a sequence number for right after that record; a time with a time zone for then.

        Raises:
            UsageError: The app has no such workflow, or the key is refused.
            HistoryError: The log cannot be read by the code of today.
        """
        state: S | None = self.reader.state(workflow, key, at)
        return state

    def history(
        self,
        workflow: type[Workflow[Any, Any, E, Any]],
        key: str | int,
        *,
        after: int = 0,
        limit: int | None = None,
    ) -> list[Record[E]]:
        """Return an instance's records in order, from the one after `after`; an empty list if it does not exist.

        Raises:
            UsageError, HistoryError: As for `state`.
        """
        return self.reader.history(workflow, key, after, limit)

    def histories(
        self, workflow: type[Workflow[Any, Any, E, Any]], keys: Iterable[str | int]
    ) -> Iterator[tuple[str, list[Record[E]]]]:
        """Return the whole histories of many instances, read many at a time: (key, records).

        Raises:
            UsageError, HistoryError: As for `state`.
        """
        return self.reader.histories(workflow, keys)

    def wait(
        self,
        workflow: type[Workflow[S, Any, Any, Any]],
        key: str | int,
        *,
        until: Callable[[S], bool],
        timeout: float = 30.0,
    ) -> S:
        """Return the instance's state as soon as it satisfies `until`: look first, then wait on the log.

        Raises:
            UsageError, HistoryError: As for `state`.
            ReplyTimeout: It did not within `timeout` seconds.
        """
        state: S = self.reader.wait(workflow, key, until, timeout)
        return state

    def instances(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str,
        *,
        run_state: RunState | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Return instances of a workflow, the latest changed first, and the cursor for the next page.

        Raises:
            UsageError: The workflow, the run state or the cursor is unknown.
        """
        definition = self.app.definition_of(workflow)
        try:
            state = RunState(run_state) if run_state is not None else None
        except ValueError:
            message = f"{run_state!r} is no run state; there are: {', '.join(RunState)}"
            raise UsageError(message) from None
        return self._ports().directory.instances(
            definition.type, run_state=state, since=since, until=until, limit=limit, cursor=cursor
        )

    def find(self, workflow: type[Workflow[Any, Any, Any, Any]] | str, *, unique: str) -> str | None:
        """Return the key of the unfinished instance that holds a unique key, or None if none does.

        Raises:
            UsageError: The app has no such workflow.
        """
        return self._ports().uniques.find(self.app.definition_of(workflow).type, unique)

    def observations(
        self, workflow: type[Workflow[Any, Any, Any, Any]] | str, key: str | int, *, limit: int = 100
    ) -> list[Observation]:
        """Return what came to an instance and what became of it, newest first, where its workflow has that kept.

        Raises:
            UsageError: The app has no such workflow, or the key is refused.
        """
        return self._ports().observations.observations(self.reader.ref(workflow, key), limit)

    def sizes(self, *, sample: int = 200) -> list[Size]:
        """Return how much room the instances of each workflow take, reckoned from a sample, and its largest."""
        return self._ports().sizes.sizes([one.type for one in self.app.definitions], sample)

    @property
    def dead_letters(self) -> DeadLetterDesk:
        """What was given up on: list, show, retry, edit, discard."""
        settings = self.settings
        means = Means(
            self._line().publisher,
            settings.partitions,
            self.app,
            self._ports().parking,
            settings.payload_bytes_max,
        )
        return DeadLetterDesk(self._ports().dead_letters, means)

    def timers(
        self,
        workflow: type[Workflow[Any, Any, Any, Any]] | str | None = None,
        key: str | int | None = None,
        *,
        limit: int = 100,
    ) -> list[PendingTimer]:
        """Return timers that were not sent yet, the next one first: all, those of a workflow, or those of an instance.

        Raises:
            UsageError: The app has no such workflow, the key is refused, or a key is given without a workflow.
        """
        if workflow is None:
            if key is not None:
                message = "a key names an instance only together with its workflow"
                raise UsageError(message)
            return self._ports().timers.pending(limit=limit)
        definition = self.app.definition_of(workflow)
        own = None if key is None else check_key(key, definition.name)
        return self._ports().timers.pending(workflow=definition.type, key=own, limit=limit)

    @property
    def schedules(self) -> ScheduleDesk:
        """The app's schedules: list, pause, resume, trigger, backfill, remove."""
        return ScheduleDesk(
            self.app,
            lambda name: self.state(ScheduleWorkflow, name),
            self._schedule_names,
            self.execute,
        )

    def _schedule_names(self) -> Iterator[str]:
        cursor = None
        while True:
            page = self.instances(ScheduleWorkflow, limit=1_000, cursor=cursor)
            yield from (listed.key for listed in page.instances)
            cursor = page.cursor
            if cursor is None:
                return

    @property
    def projections(self) -> ProjectionDesk:
        """The read models: how far they are, what they parked; rebuild, retry, skip, remove."""
        ports = self._ports()
        return ProjectionDesk(self.app, ports.feed, ports.parking, self.settings)

    def wait_for(
        self, projection: Projection | type[Projection] | str, outcome: Outcome | str, *, timeout: float = 5.0
    ) -> None:
        """Return as soon as a read model has what an outcome says, so that one can read what one has written.

        An outcome without a position (a duplicate, or from before the projection was first served) waits for
        everything that is in the feeds now. A parked instance holds up nobody who waits.

        Args:
            projection: A projection of the app.
            outcome: What `execute` returned, or a position: `Accepted.position`.
            timeout: Seconds to wait.

        Raises:
            UsageError: The app has no such projection, or the text is no position.
            ReplyTimeout: It was not that far in time.
        """
        self.projections.wait_for(projection, outcome, timeout)

    def pending(self) -> int:
        """Return how many commands wait in the queues, as far as the transport can tell."""
        return sum(self._transport.depths())

    # -- life

    def _line(self) -> _Lines:
        """Return this process's own lines."""
        lines = self._lines
        if lines is None:
            with self._lock:
                lines = self._lines
                if lines is None:
                    publisher = self._transport.publisher()
                    lines = self._lines = _Lines(publisher, Replies(self.app, self.settings, self._resend))
        return lines

    def _forked(self) -> None:
        """Leave to the parent what is the parent's: its threads are not here, and its connections are not ours."""
        self._parents = (self._lines, self._opened, self._local, self._embedded)
        self._lines = self._embedded = self._worker = None
        self._opened, self._local, self._lock = [], threading.local(), threading.Lock()

    def _ports(self) -> wiring.Ports:
        """Return this thread's own ports."""
        found: wiring.Ports | None = getattr(self._local, "ports", None)
        if found is None:
            found = self._local.ports = wiring.open_ports(self.settings)
            with self._lock:
                self._opened.append(found)
        return found

    def close(self) -> None:
        """Wait for confirms that are outstanding, and let go of everything."""
        if self._worker is not None:
            self._worker.stop(timeout=int(self.settings.drain_s * 1000))
            self._worker.broker.close()
            self._worker = None
        if self._lines is not None:
            self._lines.close()
        with self._lock:
            for ports in self._opened:
                ports.close()
            self._opened.clear()
        if self._embedded is not None:
            self._embedded.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def connect(app: App, settings: Settings | None = None) -> Client:
    """Return a client, to be closed or used in a `with`.

    Args:
        app: The app.
        settings: None to read HOLDFAST_* from the environment.

    Raises:
        SettingsError, SetupError, Unavailable: As for `Client`.
    """
    return Client(app, settings)


def _worker_in_this_process(app: App, settings: Settings) -> dramatiq.Worker:
    """Start a worker on the ports in memory, which no other process can reach."""
    broker = worker_broker(app, settings, lanes=1)
    worker = dramatiq.Worker(broker, worker_threads=broker.threads, worker_timeout=100)
    worker.start()
    return worker


def pause_command(reason: str, resume_at: datetime | None, resume_after: timedelta | None) -> Pause:
    """Return the command that pauses an instance.

    Raises:
        UsageError: Both times are given, or one that cannot be.
    """
    if resume_at is not None and resume_after is not None:
        message = "give `resume_at` or `resume_after`, not both"
        raise UsageError(message)
    if resume_at is not None and resume_at.tzinfo is None:
        message = "`resume_at` needs a time zone, such as datetime.now(UTC)"
        raise UsageError(message)
    if resume_after is not None and resume_after <= timedelta(0):
        message = "`resume_after` must be longer than nothing"
        raise UsageError(message)
    at_ms = to_ms_up(resume_at) if resume_at is not None else 0
    return Pause(reason, at_ms, span_ms_up(resume_after) if resume_after is not None else 0)


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _forked() -> None:
    for client in list(_clients):
        client._forked()


os.register_at_fork(after_in_child=_forked)
