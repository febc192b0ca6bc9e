"""`holdfast observations`: what came to an instance and what became of it."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.installation import reading
from holdfast.cli.naming import workflow_named
from holdfast.runtime.clock import from_ms
from holdfast.runtime.observation import Observation

JSON = """\b
--json prints one line per observation: at, command_id, command, outcome
(accepted, rejected, duplicate, completed, dead or parked), reason, seq,
payload (null if it cannot be read).
"""


@click.command(short_help="Show what came to an instance.", epilog=JSON)
@click.argument("app_path", metavar="APP")
@click.argument("type_", metavar="TYPE")
@click.argument("key", metavar="KEY")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most N.", metavar="N"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def observations(app_path: str, type_: str, key: str, limit: int, as_json: bool) -> None:
    """Show the commands that came to the instance KEY of the workflow TYPE, the newest first, with their outcomes.

    They are kept where the workflow has `observe_inputs = True`, the last 1,000 of each instance.
    """
    app = load_app(app_path)
    definition = workflow_named(app, type_)
    with reading(app) as (ports, reader):
        ref = reader.ref(definition.type, key)
        found = ports.observations.observations(ref, limit)
    if as_json:
        for one in found:
            output.emit(_as_json(one))
    elif found:
        columns = ("at", "command", "outcome", "record", "reason")
        output.paper().print(output.table(columns, map(_row, found)))
    else:
        hint = "" if definition.kind.observe_inputs else f"; {definition.name}.observe_inputs is off"
        output.note(f"nothing was observed of {ref}{hint}")


def _row(one: Observation) -> tuple[str, ...]:
    at = output.time(from_ms(one.at_ms))
    return at, f"{one.command} {one.command_id}", one.outcome, str(one.seq or ""), one.reason


def _as_json(one: Observation) -> dict[str, Any]:
    try:
        payload = output.plain(msgspec.msgpack.decode(one.payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        payload = None
    return {
        "at": from_ms(one.at_ms),
        "command_id": one.command_id,
        "command": one.command,
        "outcome": one.outcome,
        "reason": one.reason,
        "seq": one.seq,
        "payload": payload,
    }
