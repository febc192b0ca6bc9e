"""
The app: finds the workflow for a type, a class, a command, or the name of a command.
"""

from typing import Any

import pytest

from holdfast import Projection, Schedule, Settings, Supervisor, connect, connect_async
from holdfast.runtime.app import App
from holdfast.runtime.errors import UnknownType, UsageError, WorkflowError
from holdfast.runtime.message import Command
from holdfast.runtime.workflow import Workflow
from tests import controls
from tests.unit.test_ingress import ROOMS, Room
from tests.unit.trouble import Do, Troublemaker

APP = controls.app()
NIGHTLY = Schedule(name="nightly", cron="@daily", command=lambda tick: controls.PlaceOrder("o-1"))


def test_an_app_has_its_workflows_in_order() -> None:
    """
    As they were given.
    """
    assert ["order", "counter"] == [definition.type for definition in APP.definitions]


def test_a_workflow_is_found_by_its_type() -> None:
    """
    A type that is not known may be known to newer code, so it is an UnknownType.
    """
    assert controls.Order is APP.definition("order").kind
    with pytest.raises(
        UnknownType, match=r"this process knows no workflow 'trouble' \(it knows: counter, order\)"
    ):
        APP.definition("trouble")


@pytest.mark.parametrize("workflow", ["order", controls.Order])
def test_a_workflow_is_found_by_whatever_names_it(workflow: str | type[controls.Order]) -> None:
    """
    Its class or its type.
    """
    assert controls.Order is APP.definition_of(workflow).kind


@pytest.mark.parametrize("workflow", ["trouble", Troublemaker, "", None, 7, Do])
def test_a_workflow_that_the_app_does_not_have_is_refused(workflow: object) -> None:
    """
    That is the caller's mistake, and the message lists what there is.
    """
    with pytest.raises(UsageError, match="is no workflow of this app; it has: counter, order"):
        APP.definition_of(workflow)  # type: ignore[arg-type]  # the mistake


def test_a_workflow_is_found_by_its_command() -> None:
    """
    A command belongs to one workflow.
    """
    assert controls.Counter is APP.definition_for(controls.Add("n")).kind


@pytest.mark.parametrize(
    "command", [Do("t-1"), controls.OrderPaid(), None, "PlaceOrder", {"type": "PlaceOrder"}]
)
def test_what_is_no_command_of_the_app_is_refused(command: Command) -> None:
    """
    The message names it and says what to do.
    """
    name = type(command).__name__
    with pytest.raises(
        UsageError, match=f"{name} is no command of this app; add it to a workflow's commands and that"
    ):
        APP.definition_for(command)


def test_a_subclass_of_a_command_is_another_class() -> None:
    """
    It would be stored under another name than anybody declared.
    """

    class Special(controls.Add, frozen=True):
        pass

    with pytest.raises(UsageError, match="Special is no command of this app"):
        APP.definition_for(Special("n"))


def test_a_workflow_is_found_by_the_name_of_a_command() -> None:
    """
    For messages that do not say which workflow they are for.
    """
    assert controls.Order is APP.definition_for_tag("PlaceOrder").kind


def test_the_name_of_an_unknown_command_may_be_known_later() -> None:
    """
    The message lists the names that there are.
    """
    with pytest.raises(
        UnknownType, match=r"has a command 'Do' \(known: Add, CancelOrder, ConfirmPayment, ExpireOrder"
    ):
        APP.definition_for_tag("Do")


def test_the_name_of_two_commands_is_ambiguous() -> None:
    """
    Two workflows may have commands of one name, as long as nobody has to guess.
    """
    with pytest.raises(UnknownType, match="'PlaceOrder' is a command of order, room: say which"):
        ROOMS.definition_for_tag("PlaceOrder")
    assert Room is ROOMS.definition_for_tag("Measure").kind


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"workflows": controls.Order},
            "App(workflows=...) is the class Order; it takes a list: workflows=[Order]",
        ),
        ({"workflows": None}, "App(workflows=...) is None; it takes a list: workflows=[Order]"),
        ({"workflows": "order"}, "App(workflows=...) is 'order'; it takes a list"),
        ({"workflows": {"order": controls.Order}}, "it takes a list: workflows=[Order]"),
        ({"workflows": ["order"]}, "'order' is no Workflow class; give the class itself"),
        ({"schedules": NIGHTLY}, "it takes a list: schedules=[Schedule(...)]"),
        ({"schedules": None}, "App(schedules=...) is None; it takes a list: schedules=[Schedule(...)]"),
        ({"schedules": ["x"]}, "one of the app's schedules is 'x'; write schedules=[Schedule(name="),
        (
            {"schedules": [Schedule]},
            "one of the app's schedules is the class Schedule; write schedules=[Schedule(",
        ),
        (
            {"projections": Projection},
            "App(projections=...) is the class Projection; it takes a list: projections=[",
        ),
        ({"projections": Projection()}, "it takes a list: projections=[Revenue()]"),
        ({"projections": ["x"]}, "'x' is no Projection; projections=[...] takes instances of its subclasses"),
    ],
)
def test_what_an_app_cannot_be_made_of_is_refused(arguments: dict[str, Any], words: str) -> None:
    """
    One thing where several are expected, or another thing: the message says what to write.
    """
    with pytest.raises(WorkflowError) as caught:
        App(**{"workflows": [controls.Order], **arguments})

    assert words in str(caught.value)


@pytest.mark.parametrize("app", ["shop.orders:app", None, App, controls.Order])
def test_a_client_needs_the_app_itself(app: Any) -> None:
    """
    It is said before anything is connected, to whichever client.
    """
    for make in (connect, connect_async):
        with pytest.raises(UsageError, match=r"a client needs the app itself, as in connect\(app\), not "):
            make(app)
        with pytest.raises(
            UsageError, match="the settings of a client are 'redis://localhost'; write connect"
        ):
            make(APP, "redis://localhost")  # type: ignore[arg-type]  # the mistake


SETTINGS = Settings(redis_url="redis://localhost")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"app": APP}, 'workers import it, so write module:name, as in "shop.orders:app"'),
        ({"app": "shop.orders"}, "the app is 'shop.orders'; workers import it, so write module:name"),
        ({"log_file": "workers.log"}, "the log file is 'workers.log'; write Path(\"workers.log\")"),
        ({"settings": None}, "the settings are None; write Settings(redis_url=...)"),
        ({"processes": 0}, "processes is 0; it must be a whole number from 1 to 1,000"),
        ({"processes": True}, "processes is True"),
        ({"lanes": 1.5}, "lanes is 1.5; it must be a whole number"),
        ({"pools": "command"}, "Supervisor(pools=...) is 'command'; it takes a list"),
        ({"pools": ["x"]}, "there is 'x' among the pools; there are: command, effect, timer, projection"),
        ({"pools": []}, "there is nothing among the pools"),
    ],
)
def test_what_a_supervisor_cannot_start_is_refused(arguments: dict[str, Any], words: str) -> None:
    """
    Here, and not by workers that die one after the other.
    """
    with pytest.raises(UsageError) as caught:
        Supervisor(**{"app": "shop.orders:app", "settings": SETTINGS, **arguments})

    assert words in str(caught.value)


def test_an_app_takes_any_iterable() -> None:
    """
    A generator is read once.
    """
    workflows: list[type[Workflow[Any, Any, Any, Any]]] = [controls.Order, controls.Counter]

    app = App(workflows=iter(workflows))

    assert 2 == len(app.definitions)
