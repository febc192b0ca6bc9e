"""`holdfast diagram`: a workflow as a state machine, and where in it an instance is."""

from __future__ import annotations

import click
import msgspec

from holdfast.actors.draughtsman import live, machine_of
from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import Failed
from holdfast.cli.installation import reading
from holdfast.cli.naming import command_from, command_named, workflow_named
from holdfast.runtime.app import App
from holdfast.runtime.diagram import Direction, Format, Machine, draw
from holdfast.runtime.errors import UsageError

NOTES = """\b
A decider lists no statuses, so they are found by trying it: from the initial
state on, every command is tried with made-up fields. A status is what
Workflow.status() returns; else the first Enum in the state; else the name of
the last event. What was never seen is told on standard error: show it with an
EXAMPLE, or with a KEY whose log has it.
\b
Where the beginning of an instance's log was deleted (see keep_records, and what
scrub leaves of deleted data), one step stands for it: records 1 to N.
\b
holdfast diagram shop:app order > order.mmd
holdfast diagram shop:app order --format dot | dot -Tsvg > order.svg
"""


@click.command(short_help="Draw a workflow, and where an instance is.", epilog=NOTES)
@click.argument("app_path", metavar="APP")
@click.argument("type_", metavar="TYPE")
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    default=Format.MERMAID.value,
    show_default=True,
    help="The language of the diagram.",
)
@click.option(
    "--direction",
    type=click.Choice([one.value for one in Direction]),
    default=Direction.LEFT_RIGHT.value,
    show_default=True,
    help="Which way the arrows run.",
)
@click.option("--key", help="Mark where this instance is, the way it went, and what it waits for.")
@click.option("--history", is_flag=True, help="With --key: draw only the way that it went.")
@click.option(
    "--example",
    "examples",
    nargs=2,
    multiple=True,
    metavar="COMMAND JSON",
    help="A command to be tried too; may be given several times.",
)
def diagram(
    app_path: str,
    type_: str,
    form: str,
    direction: str,
    key: str | None,
    history: bool,
    examples: tuple[tuple[str, str], ...],
) -> None:
    """Draw the workflow TYPE as a state machine, in Mermaid or DOT.

    An arrow says its command, the events that are recorded, the effects in brackets, and the timers behind a clock.
    """
    app = load_app(app_path)
    definition = workflow_named(app, type_)
    tried = _commands(app, definition.type, examples)
    if key is None:
        if history:
            message = "--history draws the way that an instance went; say which with --key"
            raise UsageError(message)
        machine, place = machine_of(definition, tried), None
    else:
        with reading(app) as (ports, reader), output.waiting("reading the log"):
            found = live(definition, key, reader, ports.backlog, history=history, examples=tried)
        if found is None:
            raise Failed(f"there is no {definition.type} {key!r}")
        machine, place = found
    click.echo(draw(machine, Format(form), place=place, direction=Direction(direction)), nl=False)
    _tell(machine)


def _commands(app: App, workflow: str, examples: tuple[tuple[str, str], ...]) -> list[msgspec.Struct]:
    return [
        command_from(*command_named(app, name if "/" in name else f"{workflow}/{name}"), json)
        for name, json in examples
    ]


def _tell(machine: Machine) -> None:
    if machine.unseen:
        output.note(f"never seen, and so not drawn: {', '.join(machine.unseen)} (see --example)")
