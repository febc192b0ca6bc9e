"""`holdfast pause`, `resume`, `cancel`, `delete-data`: what a person does to a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from holdfast.actors.client import Client, connect
from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED
from holdfast.cli.installation import join
from holdfast.cli.naming import moment, workflow_named
from holdfast.cli.send import TIMEOUT_S, as_json_outcome, sentence_of_outcome
from holdfast.runtime.app import App
from holdfast.runtime.outcome import Accepted, Duplicate, Outcome

JSON = """\b
--json prints: outcome, as `holdfast send --json --wait` does.
"""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def span(text: str) -> timedelta:
    """Return a length of time: 90s, 15m, 2h, 3d."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    try:
        if found and float(found[1]) > 0:
            return timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        pass
    message = f"{text!r} is no length of time; write 90s, 15m, 2h or 3d"
    raise click.BadParameter(message)


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what all four have."""
    for part in reversed(
        (
            click.argument("app_path", metavar="APP"),
            click.argument("type_", metavar="TYPE"),
            click.argument("key", metavar="KEY"),
            click.option("--reason", default="", help="Why, for whoever reads the history."),
            click.option(
                "--timeout",
                type=click.FloatRange(min=0, min_open=True),
                default=TIMEOUT_S,
                show_default=True,
                help="Seconds to wait for the outcome.",
                metavar="S",
            ),
            click.option(
                "--id", help="The id of an earlier try, to ask again what became of it; else a new one."
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        )
    ):
        command = part(command)
    return command


@click.command(short_help="Keep an instance's commands until it is resumed.", epilog=JSON)
@_shared
@click.option("--for", "resume_after", type=span, metavar="SPAN", help="Resume it after 90s, 15m, 2h or 3d.")
@click.option("--until", "resume_at", type=moment, metavar="TIME", help="Resume it at a time.")
def pause(app_path: str, type_: str, key: str, as_json: bool, **options: Any) -> int:
    """Pause the instance KEY of the workflow TYPE: later commands are kept for it, in order, until it is resumed."""
    if options["resume_after"] is not None and options["resume_at"] is not None:
        raise click.UsageError("give --for or --until, not both")
    return _do(app_path, type_, as_json, lambda client, workflow: client.pause(workflow, key, **options))


@click.command(short_help="Let a paused instance go on.", epilog=JSON)
@_shared
def resume(app_path: str, type_: str, key: str, as_json: bool, **options: Any) -> int:
    """Resume the instance KEY of the workflow TYPE: first what was kept for it is decided, then what comes."""
    return _do(app_path, type_, as_json, lambda client, workflow: client.resume(workflow, key, **options))


@click.command(short_help="Finish an instance where it stands.", epilog=JSON)
@_shared
def cancel(app_path: str, type_: str, key: str, as_json: bool, **options: Any) -> int:
    """Cancel the instance KEY of the workflow TYPE.

    Its timers and the effects that nobody has begun are withdrawn. Nothing brings it back.
    """
    return _do(app_path, type_, as_json, lambda client, workflow: client.cancel(workflow, key, **options))


@click.command("delete-data", short_help="Delete what a finished instance recorded.", epilog=JSON)
@_shared
def delete_data(app_path: str, type_: str, key: str, as_json: bool, **options: Any) -> int:
    """Delete the data of the finished instance KEY of the workflow TYPE, for good: only that there was one stays."""
    return _do(
        app_path, type_, as_json, lambda client, workflow: client.delete_data(workflow, key, **options)
    )


def _do(app_path: str, type_: str, as_json: bool, act: Callable[[Client, str], Outcome]) -> int:
    app: App = load_app(app_path)
    workflow = workflow_named(app, type_).type
    with join() as settings, connect(app, settings) as client, output.waiting("waiting for the outcome"):
        outcome = act(client, workflow)
    if as_json:
        output.emit({"outcome": as_json_outcome(outcome)})
    else:
        output.paper().print(output.text(sentence_of_outcome(outcome)), soft_wrap=True)
    first = outcome.first if isinstance(outcome, Duplicate) else outcome
    return DONE if isinstance(first, Accepted) else FAILED
