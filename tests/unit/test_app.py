"""
The app: finds the workflow for a type, a class, a command, or the name of a command.
"""

from typing import Any

import pytest

from holdfast.runtime.app import App
from holdfast.runtime.errors import UnknownType, UsageError
from holdfast.runtime.message import Command
from holdfast.runtime.workflow import Workflow
from tests import controls
from tests.unit.test_ingress import ROOMS, Room
from tests.unit.trouble import Do, Troublemaker

APP = controls.app()


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


def test_an_app_takes_any_iterable() -> None:
    """
    A generator is read once.
    """
    workflows: list[type[Workflow[Any, Any, Any, Any]]] = [controls.Order, controls.Counter]

    app = App(workflows=iter(workflows))

    assert 2 == len(app.definitions)
