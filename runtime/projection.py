"""Projection: what users write to build a read model from events.

    class Revenue(Projection):
        name = "revenue"
        source = Order
        store = SqlStore("postgresql+psycopg://localhost/shop", metadata)

        @on(OrderPaid)
        def paid(self, event: OrderPaid, ctx: ProjectionContext) -> None:
            ctx.tx.execute(...)

Each event of an instance comes in order, and none is skipped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

from holdfast.runtime.checks import said
from holdfast.runtime.errors import WorkflowError
from holdfast.runtime.message import Event
from holdfast.runtime.retry import Retry
from holdfast.runtime.workflow import Workflow

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__holdfast_on__"


class Store(Protocol):
    """Where a read model is kept: `SqlStore`, `RedisStore` or `CheckpointStore`.

    An object with `open(settings, projection)` that returns a `ReadModel` of its own is one as well.
    """


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """For a read model anywhere else: only how far each instance is applied is kept, in the installation's own Redis.

    It is kept after the handlers have run. So a crash in between applies events again: at least once. Handlers can
    tell by `ctx.event_id`, which is the same each time.
    """


@dataclass(frozen=True, slots=True)
class ProjectionContext:
    """What a handler is told about an event."""

    #: Which instance it happened to.
    workflow: str
    key: str
    #: The number of its record in the instance's log, and the id of the command that led to it.
    seq: int
    command_id: str
    #: When it was decided.
    at: datetime
    #: `<workflow>/<key>/<seq>.<index>`: the same however often the event is applied.
    event_id: str
    #: `<partition>/<feed id>`; empty for an event that was read from a log.
    position: str
    #: Whether this generation is being built and nobody sees it yet, and its number.
    rebuilding: bool
    generation: int
    #: What to write with: see the store.
    tx: Any


class Projection:
    """Builds a read model; give an instance to the app: `App(workflows=[Order], projections=[Revenue()])`.

    Methods under `@on(EventClass, ...)` get these events; a method `apply` gets every other one. Both are called as
    `(event, ctx)`, and may be `async def`. Without `apply`, events that no method is for are passed over.
    """

    #: Names it in keys, tables and commands. Part of the storage format.
    name: ClassVar[str]
    #: The workflow, or workflows, whose events it gets.
    source: ClassVar[type[Workflow[Any, Any, Any, Any]] | tuple[type[Workflow[Any, Any, Any, Any]], ...]]
    #: Where the read model is.
    store: Store = CheckpointStore()
    #: How often an event whose handler raises is tried before its key is parked.
    retry: Retry = Retry(first=0.2, cap=30.0)

    def deleted(self, ctx: ProjectionContext) -> None:
        """Remove what the read model has of an instance whose data was deleted; does nothing unless overridden.

        It may be the first that is heard of an instance: a read model that is built later never sees its events.
        """

    @contextmanager
    def batch(self, tx: Any) -> Iterator[None]:  # noqa: ARG002 - for subclasses to use
        """Surround the events of each batch, within its transaction; for writing together what they add up to.

        When it raises, nothing of the batch is stored, and the batch comes again in smaller parts.
        """
        yield


def on(*events: type[Event]) -> Callable[[F], F]:
    """Mark a method of a projection as the one that gets these events.

    Raises:
        WorkflowError: What is in the brackets is no event class, or what is below it no method.
    """
    for event in events or (None,):
        if not (inspect.isclass(event) and issubclass(event, Event)):
            what = f"not {said(event)}" if events else "and has none"
            message = (
                f"@on takes event classes, {what}; write @on(OrderPaid) or @on(OrderPaid, OrderCancelled)"
            )
            raise WorkflowError(message)

    def mark(method: F) -> F:
        try:
            setattr(method, _MARK, (*getattr(method, _MARK, ()), *events))
        except (AttributeError, TypeError):
            message = f"@on is for methods, not for {said(method)}; write it above def paid(self, event, ctx)"
            raise WorkflowError(message) from None
        return method

    return mark


def marks_of(method: Any) -> tuple[Any, ...]:
    """Return the events that a method is marked for."""
    found: tuple[Any, ...] = getattr(method, _MARK, ())
    # A class method or static method that was made of a marked function.
    return found or getattr(getattr(method, "__func__", None), _MARK, ())
