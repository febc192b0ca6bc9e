"""App: the workflows that belong together, checked once and handed to clients and workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from holdfast.runtime.checks import members, value_problem
from holdfast.runtime.definition import Definition
from holdfast.runtime.effect import (
    DEFAULT_RETRY,
    DEFAULT_TIMEOUT_S,
    EffectFailed,
    H,
    Handler,
    check_effect_class,
    failures_of,
)
from holdfast.runtime.errors import UnknownType, UsageError, WorkflowError
from holdfast.runtime.limit import Limit, Rate
from holdfast.runtime.message import Command, Effect
from holdfast.runtime.projection import Projection
from holdfast.runtime.projection_definition import ProjectionDefinition
from holdfast.runtime.retry import Retry
from holdfast.runtime.schedule import Schedule
from holdfast.runtime.timetable import SCHEDULE_TYPE, ScheduleWorkflow
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
        schedules: Iterable[Schedule] = (),
        projections: Iterable[Projection] = (),
    ) -> None:
        self._by_type: dict[str, Definition] = {}
        self._by_command: dict[type, Definition] = {}
        self._by_tag: dict[str, list[Definition]] = {}
        self._handlers: dict[type, Handler] = {}
        #: By workflow type: which command tells of which effect's failure.
        self._failures: dict[str, dict[type, type[EffectFailed]]] = {}
        for kind in members("App", "workflows", workflows, "Order"):
            self._add(Definition(kind))
        if SCHEDULE_TYPE in self._by_type:
            message = f"the type {SCHEDULE_TYPE!r} is Holdfast's own"
            raise WorkflowError(message)
        if not self._by_type:
            message = "an app needs at least one workflow: App(workflows=[Order])"
            raise WorkflowError(message)
        #: The schedules by name.
        self.schedules: dict[str, Schedule] = {}
        for schedule in members("App", "schedules", schedules, "Schedule(...)"):
            self._add_schedule(schedule)
        self._projections: dict[str, ProjectionDefinition] = {}
        for projection in members("App", "projections", projections, "Revenue()"):
            self._add_projection(ProjectionDefinition(projection, self._by_type))

    def _add_schedule(self, schedule: Schedule) -> None:
        problem = value_problem(
            schedule, Schedule, 'schedules=[Schedule(name="nightly", cron="0 2 * * *", command=...)]'
        )
        if problem:
            message = f"one of the app's schedules {problem}"
            raise WorkflowError(message)
        schedule.check()
        if self.schedules.setdefault(schedule.name, schedule) is not schedule:
            message = f"two schedules have the name {schedule.name!r}"
            raise WorkflowError(message)

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
        self._failures[definition.type] = failures_of(definition)

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
        found = self._by_type.get(workflow) or _built_in.get(workflow)
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
        found = (self._by_type.get(name) or _built_in.get(name)) if isinstance(name, str) else None
        if found is None:
            message = f"{name!r} is no workflow of this app; it has: {', '.join(sorted(self._by_type))}"
            raise UsageError(message)
        return found

    def definition_for(self, command: Command) -> Definition:
        """Return the workflow that a command is for.

        Raises:
            UsageError: The object is no command of the app.
        """
        found = self._by_command.get(type(command)) or _built_in_for.get(type(command))
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

    # -- effects

    def effect(
        self,
        kind: type[Effect],
        *,
        retry: Retry = DEFAULT_RETRY,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        limit: Limit | None = None,
        rate: Rate | None = None,
    ) -> Callable[[H], H]:
        """Make a function the handler of an effect: `@app.effect(ChargeCard, retry=Retry(attempts=3), timeout=30)`.

        It is called with the effect and an EffectContext, and returns nothing, a command of the app, or a list of
        commands. `def` handlers run on threads, `async def` handlers on one event loop.

        Args:
            kind: The effect.
            retry: What to do when the handler raises.
            timeout: Seconds that an attempt may take, or from one `ctx.heartbeat()` to the next; None for no limit.
            limit: How many may run at once, over all processes.
            rate: How many may begin in a stretch of time, over all processes.

        Raises:
            WorkflowError: No workflow has this effect, it has a handler already, or the function cannot be one.
        """
        check_effect_class(kind)

        def register(call: H) -> H:
            handler = Handler(kind, call, retry, timeout, limit, rate)
            if not any(kind in definition.effect_classes for definition in self.definitions):
                message = (
                    f"{handler.name} is for {kind.__name__}, which is no effect of any workflow of this app"
                )
                raise WorkflowError(message)
            other = self._handlers.setdefault(kind, handler)
            if other is not handler:
                message = (
                    f"{other.name} and {handler.name} are both handlers of {kind.__name__}; an effect has one"
                )
                raise WorkflowError(message)
            return call

        return register

    @property
    def mixes_handlers(self) -> bool:
        """Whether some handlers are `def` and others `async def`."""
        return len({handler.is_async for handler in self._handlers.values()}) > 1

    def handler_of(self, kind: type) -> Handler | None:
        """Return the handler of an effect, or None if this process has none."""
        return self._handlers.get(kind)

    def failure_of(self, workflow: str, kind: type | None) -> type[EffectFailed] | None:
        """Return the command that tells a workflow of the failure of an effect, or None if it wants to know nothing.

        An effect that is not known (any more) is None.
        """
        found = self._failures.get(workflow, {})
        return found.get(kind or Effect) or found.get(Effect)

    @property
    def unhandled(self) -> tuple[str, ...]:
        """The effects of the app's workflows that have no handler in this process."""
        return tuple(
            f"{definition.name}: {kind.__name__}"
            for definition in self.definitions
            for kind in definition.effect_classes
            if kind not in self._handlers
        )


#: Workflows that every app has, whether it uses them or not: what was asked for by code that has gone still comes.
_built_in = {SCHEDULE_TYPE: Definition(ScheduleWorkflow)}
_built_in_for: dict[type, Definition] = {
    command: definition
    for definition in _built_in.values()
    for command in definition.commands.by_tag.values()
}
