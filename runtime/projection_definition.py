"""ProjectionDefinition: a projection that was checked and compiled when the app was made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from holdfast.runtime.checks import function_problem, misspelt_option, one_or_many, said, value_problem
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import WorkflowError
from holdfast.runtime.projection import CheckpointStore, Projection, marks_of
from holdfast.runtime.retry import Retry

#: Short and plain: it becomes part of Redis keys and names of tables.
_NAME_FORM = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


class ProjectionDefinition:
    """A checked projection: its workflows, and the method for each event.

    Raises:
        WorkflowError: The declaration is wrong; the message names the class and what is wrong with it.
    """

    def __init__(self, projection: Any, workflows: Mapping[str, Definition]) -> None:
        if inspect.isclass(projection) and issubclass(projection, Projection):
            kind = projection.__name__
            message = f"{kind} is a class; give the app an instance: projections=[{kind}()]"
            raise WorkflowError(message)
        if not isinstance(projection, Projection):
            message = (
                f"{said(projection)} is no Projection; projections=[...] takes instances of its subclasses"
            )
            raise WorkflowError(message)
        self.projection: Projection = projection
        self.kind = type(projection).__qualname__
        name = getattr(projection, "name", None)
        if not isinstance(name, str) or not _NAME_FORM.fullmatch(name):
            message = (
                f"{self.kind}.name is {said(name)}; it must be 1 to 40 letters, digits or underscores, "
                'starting with a letter, such as name = "revenue"'
            )
            raise WorkflowError(message)
        self.name = name
        misspelt = misspelt_option(type(projection), Projection, ("store", "retry"))
        if misspelt:
            message = f"{self.kind}.{misspelt}"
            raise WorkflowError(message)
        self.retry = projection.retry
        problem = value_problem(self.retry, Retry, "retry = Retry(attempts=5)")
        if problem:
            message = f"{self.kind}.retry {problem}"
            raise WorkflowError(message)
        self._check_store()
        self.sources = self._sources(workflows)
        self._handlers = self._marked()
        self._rest: Callable[[Any, Any], Any] | None = getattr(projection, "apply", None)
        if self._rest is None and not self._handlers:
            message = f"{self.kind} handles no event; mark a method with @on(SomeEvent), or define apply(self, event, ctx)"
            raise WorkflowError(message)
        for _, called, method in self._marks():
            self._check_method(called, method, "event", "ctx")
        if self._rest is not None:
            self._check_method("apply", self._rest, "event", "ctx")
        self._check_method("deleted", projection.deleted, "ctx")
        self._check_batch()

    def _sources(self, workflows: Mapping[str, Definition]) -> dict[str, Definition]:
        given: Any = getattr(self.projection, "source", None)
        found: dict[str, Definition] = {}
        for kind in one_or_many(given):
            definition = next((one for one in workflows.values() if one.kind is kind), None)
            if definition is None:
                known = ", ".join(one.name for one in workflows.values())
                message = f"{self.kind}.source names {said(kind)}, which is no workflow class of this app; it has: {known}"
                raise WorkflowError(message)
            found[definition.type] = definition
        if not found:
            message = (
                f"{self.kind}.source names no workflow; write source = Order, or source = (Order, Shipment)"
            )
            raise WorkflowError(message)
        return found

    def _check_store(self) -> None:
        store: Any = self.projection.store
        if isinstance(store, CheckpointStore):
            return
        opener = None if inspect.isclass(store) else getattr(store, "open", None)
        if not callable(opener):
            message = (
                f"{self.kind}.store is {said(store)}; it must be a store, such as CheckpointStore(), RedisStore() "
                "or SqlStore(url, metadata)"
            )
            raise WorkflowError(message)
        problem = function_problem(opener, "settings", "projection", name="open", method=True)
        if problem:
            message = f"{self.kind}.store: its `open` {problem}"
            raise WorkflowError(message)

    def _marks(self) -> Iterator[tuple[Any, str, Any]]:
        """Yield each event that a method is marked for, with the name of the method and itself."""
        kind = type(self.projection)
        for name in dir(kind):
            # As it was declared: what a class hands out instead of it need not have the mark.
            events = marks_of(inspect.getattr_static(kind, name))
            for event in events:
                yield event, name, getattr(self.projection, name)

    def _marked(self) -> dict[type, Callable[[Any, Any], Any]]:
        known = {event for definition in self.sources.values() for event in definition.event_classes}
        found: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {}
        for event, name, method in self._marks():
            if event not in known:
                sources = ", ".join(definition.name for definition in self.sources.values())
                message = f"{self.kind}.{name} is for {event.__name__}, which is no event of {sources}"
                raise WorkflowError(message)
            other, first = found.setdefault(event, (name, method))
            if first != method:
                message = f"{self.kind}.{other} and {self.kind}.{name} are both for {event.__name__}"
                raise WorkflowError(message)
        return {event: method for event, (_, method) in found.items()}

    def _check_method(self, name: str, method: Any, *parameters: str) -> None:
        problem = function_problem(method, *parameters, name=name, method=True, may_be_async=True)
        if problem:
            message = f"{self.kind}.{name} {problem}"
            raise WorkflowError(message)

    def _check_batch(self) -> None:
        batch = self.projection.batch
        code = inspect.unwrap(batch)
        if inspect.isgeneratorfunction(batch) or inspect.isasyncgenfunction(code):
            message = (
                f"{self.kind}.batch is no context manager; write @contextmanager above def batch(self, tx)"
            )
            raise WorkflowError(message)
        problem = function_problem(batch, "tx", name="batch", method=True)
        if problem:
            message = f"{self.kind}.batch {problem}"
            raise WorkflowError(message)

    def handler(self, kind: type) -> Callable[[Any, Any], Any] | None:
        """Return the method for events of a class, or None where they are passed over."""
        return self._handlers.get(kind, self._rest)
