"""App: the workflows that belong together, checked once and handed to clients and workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import UnknownType, UsageError, WorkflowError
from holdfast.runtime.message import Command
from holdfast.runtime.projection import Projection
from holdfast.runtime.projection_definition import ProjectionDefinition
from holdfast.runtime.workflow import Workflow


class App:
    """A set of workflows. Making one finds every mistake in their declarations.

    Raises:
        WorkflowError: A declaration is wrong.
    """

    def __init__(
        self,
        *,
        workflows: Iterable[type[Workflow[Any, Any, Any, Any]]],
        projections: Iterable[Projection] = (),
    ) -> None:
        self._by_type: dict[str, Definition] = {}
        self._by_command: dict[type, Definition] = {}
        self._by_tag: dict[str, list[Definition]] = {}
        for kind in workflows:
            self._add(Definition(kind))
        if not self._by_type:
            message = "an app needs at least one workflow: App(workflows=[Order])"
            raise WorkflowError(message)
        self._projections: dict[str, ProjectionDefinition] = {}
        for projection in projections:
            self._add_projection(ProjectionDefinition(projection, self._by_type))

    def _add_projection(self, definition: ProjectionDefinition) -> None:
        other = self._projections.setdefault(definition.name, definition)
        if other is not definition:
            message = f"{other.kind} and {definition.kind} both have the name {definition.name!r}"
            raise WorkflowError(message)

    def _add(self, definition: Definition) -> None:
        other = self._by_type.setdefault(definition.type, definition)
        if other is not definition:
            message = f"{other.name} and {definition.name} both have the type {definition.type!r}"
            raise WorkflowError(message)
        for tag, command in definition.commands.by_tag.items():
            taken = self._by_command.setdefault(command, definition)
            if taken is not definition:
                message = f"{command.__name__} is a command of both {taken.name} and {definition.name}"
                raise WorkflowError(message)
            self._by_tag.setdefault(tag, []).append(definition)

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """All workflows of the app, as they were compiled."""
        return tuple(self._by_type.values())

    @property
    def projections(self) -> tuple[ProjectionDefinition, ...]:
        """All projections of the app, as they were compiled."""
        return tuple(self._projections.values())

    def projection(self, projection: Projection | type[Projection] | str) -> ProjectionDefinition:
        """Return a projection by its name, its class or itself.

        Raises:
            UsageError: The app has no such projection.
        """
        name = projection if isinstance(projection, str) else getattr(projection, "name", None)
        found = self._projections.get(name) if isinstance(name, str) else None
        if found is None:
            known = ", ".join(sorted(self._projections)) or "none"
            message = f"{name!r} is no projection of this app; it has: {known}"
            raise UsageError(message)
        return found

    def definition(self, workflow: str) -> Definition:
        """Return a workflow by its type.

        Raises:
            UnknownType: The app has no such workflow.
        """
        found = self._by_type.get(workflow)
        if found is None:
            known = ", ".join(sorted(self._by_type))
            message = f"this process knows no workflow {workflow!r} (it knows: {known})"
            raise UnknownType(message)
        return found

    def definition_of(self, workflow: type[Workflow[Any, Any, Any, Any]] | str) -> Definition:
        """Return a workflow by its class or type, for calls that name one.

        Raises:
            UsageError: The app has no such workflow.
        """
        name = workflow if isinstance(workflow, str) else getattr(workflow, "type", None)
        found = self._by_type.get(name) if isinstance(name, str) else None
        if found is None:
            message = f"{name!r} is no workflow of this app; it has: {', '.join(sorted(self._by_type))}"
            raise UsageError(message)
        return found

    def definition_for(self, command: Command) -> Definition:
        """Return the workflow that a command is for.

        Raises:
            UsageError: The object is no command of the app.
        """
        found = self._by_command.get(type(command))
        if found is None:
            name = type(command).__name__
            message = f"{name} is no command of this app; add it to a workflow's commands and that workflow to the app"
            raise UsageError(message)
        return found

    def definition_for_tag(self, tag: str) -> Definition:
        """Return the one workflow with a command of this name, for messages that do not say which.

        Raises:
            UnknownType: None has it, or several have.
        """
        found = self._by_tag.get(tag, [])
        if len(found) == 1:
            return found[0]
        if found:
            message = f"{tag!r} is a command of {', '.join(d.type for d in found)}: say which in the property `type`"
        else:
            message = f"no workflow of this process has a command {tag!r} (known: {', '.join(sorted(self._by_tag))})"
        raise UnknownType(message)
