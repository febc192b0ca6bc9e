"""`holdfast pause`, `resume`, `cancel`, `delete-data`: what a person does to a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click

from holdfast.actors.client import Client, connect
from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED
from holdfast.cli.installation import join
from holdfast.cli.naming import moment, workflow_named
from holdfast.cli.send import TIMEOUT_S, asking, emit_outcome, sentence_of_outcome
from holdfast.runtime.app import App
from holdfast.runtime.ids import new_id
from holdfast.runtime.instance import RunState
from holdfast.runtime.outcome import Accepted, AlreadyCompleted, Duplicate, Outcome

JSON = """\b
--json prints: id, outcome (null without an answer in time), as
`holdfast send --wait --json` does. Ask again with --id and that id.
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
                "--id",
                "id_",
                help="The id of an earlier try, to ask again what became of it; else a new one.",
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
def pause(resume_after: timedelta | None, resume_at: datetime | None, **asked: Any) -> int:
    """Pause the instance KEY of the workflow TYPE: later commands are kept for it, in order, until it is resumed."""
    if resume_after is not None and resume_at is not None:
        raise click.UsageError("give --for or --until, not both")
    return _do(Client.pause, resume_after=resume_after, resume_at=resume_at, **asked)


@click.command(short_help="Let a paused instance go on.", epilog=JSON)
@_shared
def resume(**asked: Any) -> int:
    """Resume the instance KEY of the workflow TYPE: first what was kept for it is decided, then what comes."""
    return _do(Client.resume, **asked)


@click.command(short_help="Finish an instance where it stands.", epilog=JSON)
@_shared
def cancel(**asked: Any) -> int:
    """Cancel the instance KEY of the workflow TYPE.

    Its timers and the effects that nobody has begun are withdrawn, and what was kept for it while it was paused is not
    decided. Nothing brings it back.
    """
    return _do(Client.cancel, **asked)


@click.command("delete-data", short_help="Delete what a finished instance recorded.", epilog=JSON)
@_shared
def delete_data(**asked: Any) -> int:
    """Delete the data of the finished instance KEY of the workflow TYPE, for good: only that there was one stays.

    Where that was done before, it says so, and nothing is recorded.
    """
    return _do(Client.delete_data, **asked)


def _do(
    act: Callable[..., Outcome],
    app_path: str,
    type_: str,
    key: str,
    id_: str | None,
    as_json: bool,
    **how: Any,
) -> int:
    app: App = load_app(app_path)
    workflow = workflow_named(app, type_).type
    command_id = new_id() if id_ is None else id_

    def tell_id() -> None:
        if as_json:  # the sentence for people has it
            emit_outcome(command_id, None)

    with join() as settings, connect(app, settings) as client, asking(command_id, tell_id):
        outcome = act(client, workflow, key, id=command_id, **how)
    first = outcome.first if isinstance(outcome, Duplicate) else outcome
    # What a deletion finds done already is as it was wished for.
    so_already = act is Client.delete_data and first == AlreadyCompleted(RunState.DATA_DELETED)
    if as_json:
        emit_outcome(command_id, outcome)
    elif so_already:
        output.paper().print(output.text(f"the data of {workflow}/{key} is deleted already"), soft_wrap=True)
    else:
        output.paper().print(output.text(sentence_of_outcome(outcome)), soft_wrap=True)
    return DONE if so_already or isinstance(first, Accepted) else FAILED
