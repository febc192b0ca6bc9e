"""Retention: how long finished instances are kept, and what happens before their data goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from holdfast.runtime.checks import function_problem, span_problem
from holdfast.runtime.errors import WorkflowError
from holdfast.runtime.instance import RunState
from holdfast.runtime.record import Record

#: How long finished instances are kept where a workflow says nothing else.
KEPT = timedelta(days=30)
#: A longer time reaches back behind the first date that there is; None is for always.
KEPT_MAX = timedelta(days=100 * 365)


@dataclass(frozen=True, slots=True)
class Archived:
    """A finished instance, as it was right before its data is deleted."""

    workflow: str
    key: str
    run_state: RunState
    state: Any
    records: tuple[Record[Any], ...]


#: Is given each instance before anything of it is deleted, at least once; what it raises keeps the instance.
Archive = Callable[[Archived], None]


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the data of a workflow's finished instances is kept, from their last record on; None for always."""

    completed: timedelta | None = KEPT
    cancelled: timedelta | None = KEPT
    archive: Archive | None = None

    def __post_init__(self) -> None:
        spans: Mapping[RunState, Any] = self.spans
        for name, span in spans.items():
            problem = None if span is None else span_problem(span, timedelta(0), KEPT_MAX)
            if problem:
                message = f"Retention({name}=...) {problem}, or None to keep instances always"
                raise WorkflowError(message)
        problem = None if self.archive is None else function_problem(self.archive, "archived", name="archive")
        if problem:
            message = f'Retention(archive=...) {problem}, or archive=FolderArchive("archive")'
            raise WorkflowError(message)

    @property
    def spans(self) -> Mapping[RunState, timedelta | None]:
        """How long instances are kept, by run state."""
        return {RunState.COMPLETED: self.completed, RunState.CANCELLED: self.cancelled}
