"""Client: sends commands and reads instances. One client serves any number of threads."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import dramatiq
from msgspec.structs import replace
from opentelemetry.trace import TracerProvider

from holdfast.actors import wiring
from holdfast.actors.chronicler import Chronicler, Excerpt
from holdfast.actors.dead_letters import DeadLetterDesk, Means
from holdfast.actors.pools import worker_broker
from holdfast.actors.projection_desk import ProjectionDesk
from holdfast.actors.reader import Reader
from holdfast.actors.replies import Replies
from holdfast.actors.schedules import ScheduleDesk
from holdfast.actors.tracing.client import ClientSpans
from holdfast.actors.tracing.context import current
from holdfast.actors.tracing.tracing import Tracing, tracing_of
from holdfast.runtime.app import App
from holdfast.runtime.checks import said
from holdfast.runtime.clock import SystemClock, span_ms_up, to_ms, to_ms_up
from holdfast.runtime.codec import encode_envelope, encode_message
from holdfast.runtime.config import MEMORY_URL, Settings
from holdfast.runtime.control import Cancel, DeleteData, Pause, Resume
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HoldfastError, ReplyTimeout, UsageError
from holdfast.runtime.ids import ID_BYTES_MAX, new_id
from holdfast.runtime.instance import RunState
from holdfast.runtime.instance_trace import RECORDS_DEFAULT, InstanceTrace
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


#: Commands of one `send_many` that are on their way without a confirm.
UNCONFIRMED_MAX = 10_000


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
        UsageError: What it is given is no app, or no settings.
        SetupError: A server refuses us, cannot give the configured durability, or was set up otherwise.
        Unavailable: A server cannot be reached.
    """

    def __init__(
        self,
        app: App,
        settings: Settings | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        check_connection(app, settings)
        self.app = app
        self.settings, self._embedded = wiring.ground(settings or Settings.from_environment())
        self._clock = SystemClock()
        self._provider = tracer_provider
        self._spans: ClientSpans | None = None
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
            tracing = tracing_of(self.settings, tracer_provider)
            self._worker = _worker_in_this_process(app, self.settings, tracing)
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
        ids: list[str] = []
        unconfirmed: deque[Future[None]] = deque()
        for command in commands:
            command_id, future = self.submit(command)
            ids.append(command_id)
            unconfirmed.append(future)
            while unconfirmed and (unconfirmed[0].done() or len(unconfirmed) > UNCONFIRMED_MAX):
                unconfirmed.popleft().result()
        for future in unconfirmed:
            future.result()
        return ids

    def submit(self, command: Command, *, id: str | None = None) -> tuple[str, Future[None]]:  # noqa: A002 - the field's name
        """Send a command without waiting: return its id, and a future that ends with the confirm.

        Raises:
            UsageError, PublishFailed: As for `send`.
        """
        ref, envelope = self._envelope(command, id)
        publisher = self._line().publisher

        def publish(one: Envelope) -> Future[None]:
            return publisher.publish(ref.partition, encode_envelope(one))

        spans = self.spans
        return envelope.id, publish(envelope) if spans is None else spans.publish(ref, envelope, publish)

    @property
    def crowded(self) -> bool:
        """Whether so many commands wait in this process to be sent that `submit` would wait (`send_wait_s`)."""
        return self._line().publisher.crowded

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
        ref, envelope = self._envelope(command, id)
        again = f"It may still be decided: execute it again with id={envelope.id!r} for its outcome"
        return self._executed(ref, envelope, command, again, timeout)

    def _executed(
        self, ref: Ref, envelope: Envelope, command: Command, again: str, timeout: float
    ) -> Outcome:
        """Send a command and wait for what becomes of it."""
        with self.executing(command, ref) as told:
            future = self._for_outcome(ref, envelope, timeout)
            try:
                outcome = future.result(timeout)
            except TimeoutError:
                message = (
                    f"no answer to {describe(command)} within {timeout:g} s; is a worker running? {again}"
                )
                raise ReplyTimeout(message) from None
            finally:
                self.forget_reply(future)
            told(outcome)
            return outcome

    def executing(
        self, command: Command, ref: Ref | None = None
    ) -> AbstractContextManager[Callable[[Outcome], None]]:
        """Trace what is executed until it is answered, where anything is traced; what is yielded is told the outcome."""
        spans = self.spans
        if spans is None:
            return nullcontext(_untold)
        if ref is None:
            definition = self.app.definition_for(command)
            ref = Ref(0, definition.type, definition.key_of(command))
        return spans.executing(ref.workflow, ref.key, describe(command))

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
        envelope = replace(envelope, reply_to=address)

        def publish(one: Envelope) -> Future[None]:
            body = encode_envelope(one)
            line.replies.sent(future, ref.partition, body)
            return line.publisher.publish(ref.partition, body)

        def confirmed(sent: Future[None]) -> None:
            error = sent.exception()
            if error is not None:
                line.replies.fail(future, error)

        try:
            spans = self.spans
            sending = publish(envelope) if spans is None else spans.publish(ref, envelope, publish)
            sending.add_done_callback(confirmed)
        except HoldfastError:
            line.replies.forget(future)
            raise
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

        Its records, snapshot, outbox, timers, kept commands, observations and dead letters go. What `Workflow.scrub`
        returns stays as its state. Where that was done before, nothing is recorded, and the answer is
        AlreadyCompleted("data-deleted"). As `pause` otherwise.
        """
        return self._move(workflow, key, DeleteData(reason), id, timeout)

    def _move(
        self, workflow: Any, key: str | int, command: Command, id_: str | None, timeout: float
    ) -> Outcome:
        definition = self.app.definition_of(workflow)
        checked = check_key(key, f"this {definition.name}")
        ref, envelope = self._enveloped(definition, checked, command, id_)
        again = f"It may still be done: ask again with id={envelope.id!r}"
        return self._executed(ref, envelope, command, again, timeout)

    def _envelope(self, command: Command, command_id: str | None) -> tuple[Ref, Envelope]:
        definition = self.app.definition_for(command)
        return self._enveloped(definition, definition.key_of(command), command, command_id)

    def _enveloped(
        self, definition: Definition, key: str, command: Command, command_id: str | None
    ) -> tuple[Ref, Envelope]:
        what = f"{describe(command)} for {key!r}"
        payload = encode_message(command, what, self.settings.payload_bytes_max)
        if command_id is None:
            command_id = new_id()
        elif not command_id or len(command_id.encode()) > ID_BYTES_MAX:
            message = f"a command id is text of 1 to {ID_BYTES_MAX} bytes, not {command_id[:40]!r}"
            raise UsageError(message)
        ref = Ref(partition_of(definition.type, key, self.settings.partitions), definition.type, key)
        sent_ms = to_ms(self._clock.now())
        return ref, Envelope(command_id, ref.workflow, key, payload, sent_ms, trace=current())

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

    def trace(
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
        """Return an instance's life as a tree: what led to what, and what it waits for; None if it does not exist.

        It is told from the log and from what still waits, whether or not OpenTelemetry has seen any of it.

        Args:
            workflow, key: Which instance.
            after: Leave out so many records at the beginning, or with `newest` at the end.
            limit: At most so many records, 10,000 at the most; `notes` says what is not shown.
            newest: The last records rather than the first.
            depth: How many levels of the tree; None for all.
            follow_children: Look for instances that it sent commands to, among those that changed since it began.

        Raises:
            UsageError, HistoryError: As for `state`.
            DataDeleted: The instance's data was deleted.
        """
        chronicler = Chronicler(self.app, self.reader, self._ports, self._clock)
        page = Excerpt(after, limit, newest)
        return chronicler.trace(workflow, key, page, depth=depth, follow_children=follow_children)

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

    @property
    def spans(self) -> ClientSpans | None:
        """What traces this client; None while nobody wants that."""
        if self._spans is None:
            tracing = tracing_of(self.settings, self._provider)
            self._spans = ClientSpans(tracing) if tracing is not None else None
        return self._spans

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


def connect(
    app: App, settings: Settings | None = None, *, tracer_provider: TracerProvider | None = None
) -> Client:
    """Return a client, to be closed or used in a `with`.

    Args:
        app: The app.
        settings: None to read HOLDFAST_* from the environment.
        tracer_provider: What spans are made with; None for OpenTelemetry's global one, if there is one.

    Raises:
        UsageError, SettingsError, SetupError, Unavailable: As for `Client`.
    """
    return Client(app, settings, tracer_provider=tracer_provider)


def check_connection(app: Any, settings: Any) -> None:
    """Check what a client is made of, before anything is connected.

    Raises:
        UsageError: It is no app, or there are no settings in what should be some.
    """
    if not isinstance(app, App):
        message = f"a client needs the app itself, as in connect(app), not {said(app)}"
        raise UsageError(message)
    if not isinstance(settings, Settings | None):
        message = (
            f"the settings of a client are {said(settings)}; write connect(app, Settings(redis_url=...)), "
            "or leave them out to read HOLDFAST_* from the environment"
        )
        raise UsageError(message)


def _worker_in_this_process(app: App, settings: Settings, tracing: Tracing | None) -> dramatiq.Worker:
    """Start a worker on the ports in memory, which no other process can reach."""
    broker = worker_broker(app, settings, lanes=1, tracing=tracing)
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


def _untold(_outcome: Outcome) -> None:
    """Do nothing: nobody traces it."""


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _forked() -> None:
    for client in list(_clients):
        client._forked()


os.register_at_fork(after_in_child=_forked)
