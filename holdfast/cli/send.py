"""`holdfast send`: hand over a command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, assert_never

import click

from holdfast.actors.client import connect
from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED, Failed
from holdfast.cli.installation import join, opened
from holdfast.cli.naming import command_from, command_named
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import PublishFailed, ReplyTimeout
from holdfast.runtime.ids import new_id
from holdfast.runtime.outcome import (
    Accepted,
    AlreadyCompleted,
    DeadLettered,
    Duplicate,
    Outcome,
    Parked,
    Rejected,
)

#: How long an outcome is waited for.
TIMEOUT_S = 5.0


JSON = """\b
--json prints: id, outcome (null without --wait, and without an answer in
time). An outcome has `kind`, `duplicate`, and
  accepted:  seq, events
  rejected:  reason, details
  completed: run_state
  dead:      error, dead_letter
  parked:    reason
"""


@click.command(short_help="Hand over a command.", epilog=JSON)
@click.argument("app_path", metavar="APP")
@click.argument("type_", metavar="TYPE")
@click.argument("fields", metavar="JSON")
@click.option("--id", "command_id", help="Your own id: sending it again decides nothing.")
@click.option("--wait", is_flag=True, help="Wait for the outcome and print it.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Seconds to wait for it; {TIMEOUT_S:g} without this.",
    metavar="S",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def send(
    app_path: str,
    type_: str,
    fields: str,
    command_id: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Send a command and print its id once it is confirmed: from then on it will be decided.

    TYPE is the command's class, or workflow/class where two workflows have one of that name. JSON is an object with
    its fields, or - to read that from standard input. With --wait the exit code is 1 unless the command was accepted,
    now or, for a duplicate, the first time.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is for --wait")
    app = load_app(app_path)
    definition, kind = command_named(app, type_)
    command = command_from(definition, kind, sys.stdin.buffer.read() if fields == "-" else fields)
    definition.key_of(command)
    command_id = new_id() if command_id is None else command_id
    outcome: Outcome | None = None
    with join(create=True) as settings, connect(app, settings) as client:
        with asking(command_id, lambda: _print(command_id, None, as_json)):
            if wait:
                outcome = client.execute(command, id=command_id, timeout=timeout or TIMEOUT_S)
            else:
                client.send(command, id=command_id)
        _print(command_id, outcome, as_json)
        if not wait:
            _say_who_decides(settings)
            return DONE
    first = outcome.first if isinstance(outcome, Duplicate) else outcome
    return DONE if isinstance(first, Accepted) else FAILED


@contextmanager
def asking(command_id: str, tell_id: Callable[[], None]) -> Iterator[None]:
    """Wait for what becomes of a command; where nobody knows, see that its id is told, to be asked again with."""
    try:
        with output.waiting("waiting for an answer"):
            yield
    except PublishFailed as error:
        raise Failed(f"{error} (id {command_id})") from error
    except ReplyTimeout as error:
        tell_id()
        raise Failed(str(error)) from error


def _print(command_id: str, outcome: Outcome | None, as_json: bool) -> None:
    if as_json:
        emit_outcome(command_id, outcome)
        return
    paper = output.paper()
    paper.print(output.text(command_id), soft_wrap=True)
    if outcome is not None:
        paper.print(output.text(sentence_of_outcome(outcome)), soft_wrap=True)


def emit_outcome(command_id: str, outcome: Outcome | None) -> None:
    """Print a command's id and what became of it, as far as that is known, as JSON."""
    output.emit({"id": command_id, "outcome": _as_json(outcome) if outcome is not None else None})


def _as_json(outcome: Outcome, *, duplicate: bool = False) -> dict[str, Any]:
    """Return an outcome as plain values."""
    match outcome:
        case Duplicate(first=first):
            return _as_json(first, duplicate=True)
        case Accepted(seq=seq, events=events):
            facts = {"kind": "accepted", "seq": seq, "events": [output.plain(event) for event in events]}
        case Rejected(reason=reason, details=details):
            facts = {"kind": "rejected", "reason": reason, "details": output.plain(details)}
        case AlreadyCompleted(run_state=run_state):
            facts = {"kind": "completed", "run_state": run_state}
        case DeadLettered(error=error, dead_letter_id=id_):
            facts = {"kind": "dead", "error": error, "dead_letter": id_}
        case Parked(reason=reason):
            facts = {"kind": "parked", "reason": reason}
        case _:
            assert_never(outcome)
    return facts | {"duplicate": duplicate}


def sentence_of_outcome(outcome: Outcome) -> str:
    """Return an outcome as a person reads it."""
    match outcome:
        case Duplicate(first=first):
            return f"duplicate: {sentence_of_outcome(first)} the first time"
        case Accepted(seq=seq, events=events):
            what = ", ".join(output.message(event) for event in events)
            return f"accepted as record {seq}" + (f": {what}" if what else "")
        case Rejected(reason=reason, details=None):
            return f"rejected: {reason}"
        case Rejected(reason=reason, details=details):
            return f"rejected: {reason} {output.compact(output.plain(details))}"
        case AlreadyCompleted(run_state=run_state):
            return f"not decided: the instance is {run_state}"
        case DeadLettered(error=error, dead_letter_id=id_):
            return f"dead letter {id_}: {error}"
        case Parked(reason=reason):
            return "kept until the instance is resumed" + (f"; it is paused: {reason}" if reason else "")
        case _:
            assert_never(outcome)


def _say_who_decides(settings: Settings) -> None:
    """Say so if nobody is there to decide the command yet."""
    with opened(settings) as ports:
        if not any("command" in member.pools for member in ports.membership.living()):
            output.note("no worker is running; the command waits until one is")
