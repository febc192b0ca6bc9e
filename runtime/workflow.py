"""Workflow: what users write. Pure functions; Holdfast does everything else.

decide  chooses and never changes;  evolve  changes and never chooses.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from holdfast.runtime.decision import Decision
from holdfast.runtime.errors import WorkflowError
from holdfast.runtime.retention import Retention

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")
F = TypeVar("F")
#: How many types stand in the brackets of `Workflow[...]`.
PARAMETERS = 4

#: Makes of an old message, as plain values with its old `type`, the message or messages of today.
Upcaster = Callable[[dict[str, Any]], "dict[str, Any] | list[dict[str, Any]]"]


class Workflow(ABC, Generic[S, C, E, F]):
    """A type of durable actor: `Workflow[State, Commands, Events, Effects]`.

    `Commands`, `Events` and `Effects` are one message class or a union of them; a workflow without effects says
    `Never`. The class is instantiated once, without arguments, and must keep nothing between calls.

    `type` and `key` must be given; the other class variables change what is kept and for how long: `retention` deletes
    what has finished, `keep_records` the beginning of a log that goes on for years.
    """

    #: Names the workflow in keys, queues, logs and traces. Part of the storage format: never change it.
    type: ClassVar[str]
    #: The field or method of every command that names the instance.
    key: ClassVar[str]
    #: Raise it when the state's meaning changes: snapshots of other versions are not used.
    state_version: ClassVar[int] = 1
    #: By the type of an old message: what turns it into messages of today.
    upcasters: ClassVar[Mapping[str, Upcaster]] = {}
    #: Whether an instance pauses when a command of it becomes a dead letter, so that later ones wait behind that.
    pause_on_dead_letter: ClassVar[bool] = False
    #: Whether every command that comes to an instance is kept with what became of it: the last 1,000 of each.
    observe_inputs: ClassVar[bool] = False
    #: How long the data of finished instances is kept.
    retention: ClassVar[Retention] = Retention()
    #: How many records behind a snapshot are kept of a long log; None for all. What is further behind is deleted when
    #: a snapshot is taken, but not while there are projections. `history` and `state(at=...)` reach no further back,
    #: and projections and a new `state_version` need an instance's whole log.
    keep_records: ClassVar[int | None] = None
    #: The most commands that are kept for a paused instance. Those that find no room are refused, where somebody waits
    #: for the answer, and become dead letters otherwise.
    parked_max: ClassVar[int] = 10_000

    def __class_getitem__(cls, types: Any) -> Any:
        if cls is Workflow and (not isinstance(types, tuple) or len(types) != PARAMETERS):
            count = len(types) if isinstance(types, tuple) else 1
            message = (
                f"Workflow[...] takes {PARAMETERS} types, not {count}: Workflow[State, Commands, Events, Effects]; "
                "a workflow without effects says Never"
            )
            raise WorkflowError(message)
        return super().__class_getitem__(types)  # type: ignore[misc]  # Generic's own

    @abstractmethod
    def initial(self) -> S:
        """Return the state of an instance that nothing happened to yet."""

    @abstractmethod
    def evolve(self, state: S, event: E) -> S:
        """Return the state after an event. Pure and total: no clock, no I/O, no refusal, no change of `state`."""

    @abstractmethod
    def decide(self, now: datetime, state: S, command: C) -> Decision[E, F]:
        """Answer a command with `accept(...)` or `reject(...)`. Pure: the same arguments, the same decision."""

    def is_terminal(self, state: S) -> bool:  # noqa: ARG002 - for subclasses to override
        """Return whether the instance is finished in this state; asked after new events were folded."""
        return False

    def unique_key(self, state: S) -> str | None:  # noqa: ARG002 - for subclasses to override
        """Return the secondary key that only one unfinished instance may have, or None for none."""
        return None

    def scrub(self, state: S) -> S | None:
        """Return what may stay of a finished instance's state when its data is deleted; None for nothing."""

    def status(self, state: S) -> str | None:  # noqa: ARG002 - for subclasses to override
        """Return the name of where an instance is, for diagrams; None leaves it to Holdfast.

        It then takes the first Enum in the state, and where there is none it names what happened last.
        """
        return None
