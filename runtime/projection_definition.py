"""ProjectionDefinition: a projection that was checked and compiled when the app was made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import WorkflowError
from holdfast.runtime.message import Event
from holdfast.runtime.projection import Projection, marks_of

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
            message = f"{projection!r} is no Projection; projections=[...] takes instances of its subclasses"
            raise WorkflowError(message)
        self.projection: Projection = projection
        self.kind = type(projection).__qualname__
        name = getattr(projection, "name", None)
        if not isinstance(name, str) or not _NAME_FORM.fullmatch(name):
            message = (
                f"{self.kind}.name is {name!r}; it must be 1 to 40 letters, digits or underscores, "
                'starting with a letter, such as name = "revenue"'
            )
            raise WorkflowError(message)
        self.name = name
        self.retry = projection.retry
        if not hasattr(self.retry, "wait_s"):
            message = f"{self.kind}.retry is {self.retry!r}; it must be a value such as Retry(attempts=5)"
            raise WorkflowError(message)
        self.sources = self._sources(workflows)
        self._handlers = self._marked()
        self._rest: Callable[[Any, Any], Any] | None = getattr(projection, "apply", None)
        if self._rest is None and not self._handlers:
            message = f"{self.kind} handles no event; mark a method with @on(SomeEvent), or define apply(self, event, ctx)"
            raise WorkflowError(message)
        for method in [*self._handlers.values(), *([self._rest] if self._rest else [])]:
            self._check_method(method)

    def _sources(self, workflows: Mapping[str, Definition]) -> dict[str, Definition]:
        given: Any = getattr(self.projection, "source", None)
        kinds = given if isinstance(given, tuple | list) else (given,)
        found: dict[str, Definition] = {}
        for kind in kinds:
            definition = workflows.get(getattr(kind, "type", ""))
            if definition is None or definition.kind is not kind:
                known = ", ".join(one.name for one in workflows.values())
                name = getattr(kind, "__name__", repr(kind))
                message = (
                    f"{self.kind}.source names {name}, which is no workflow of this app; it has: {known}"
                )
                raise WorkflowError(message)
            found[definition.type] = definition
        if not found:
            message = (
                f"{self.kind}.source names no workflow; write source = Order, or source = (Order, Shipment)"
            )
            raise WorkflowError(message)
        return found

    def _marked(self) -> dict[type, Callable[[Any, Any], Any]]:
        known = {event for definition in self.sources.values() for event in definition.event_classes}
        found: dict[type, Callable[[Any, Any], Any]] = {}
        for name, member in inspect.getmembers(type(self.projection), callable):
            for event in marks_of(member):
                if not (inspect.isclass(event) and issubclass(event, Event)):
                    message = f"{self.kind}.{name}: @on takes event classes, not {event!r}"
                    raise WorkflowError(message)
                if event not in known:
                    sources = ", ".join(definition.name for definition in self.sources.values())
                    message = f"{self.kind}.{name} is for {event.__name__}, which is no event of {sources}"
                    raise WorkflowError(message)
                other = found.setdefault(event, getattr(self.projection, name))
                if other.__name__ != name:
                    message = (
                        f"{self.kind}.{other.__name__} and {self.kind}.{name} are both for {event.__name__}"
                    )
                    raise WorkflowError(message)
        return found

    def _check_method(self, method: Any) -> None:
        name = getattr(method, "__name__", repr(method))
        if not callable(method):
            message = f"{self.kind}.apply is no method; write def apply(self, event, ctx)"
            raise WorkflowError(message)
        try:
            inspect.signature(method).bind(None, None)
        except TypeError:
            message = f"{self.kind}.{name} must take an event and its context: def {name}(self, event, ctx)"
            raise WorkflowError(message) from None

    def handler(self, kind: type) -> Callable[[Any, Any], Any] | None:
        """Return the method for events of a class, or None where they are passed over."""
        return self._handlers.get(kind, self._rest)
