"""`holdfast state`: what an instance is like, now or earlier."""

from __future__ import annotations

from datetime import datetime

import click
from rich.text import Text

from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import Failed
from holdfast.cli.installation import reading
from holdfast.cli.naming import point, workflow_named
from holdfast.runtime.actor import Actor
from holdfast.runtime.clock import from_ms
from holdfast.runtime.printable import printable

JSON = """\b
--json prints: workflow, key, seq, run_state, reason and parked (commands that
are kept until it is resumed; all three null with --at), at (the time of the
last record), state.
"""


@click.command(short_help="Show what an instance is like, now or earlier.", epilog=JSON)
@click.argument("app_path", metavar="APP")
@click.argument("type_", metavar="TYPE")
@click.argument("key", metavar="KEY")
@click.option(
    "--at", type=point, metavar="SEQ|TIME", help="The state after record SEQ, or as it was at a time."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def state(app_path: str, type_: str, key: str, at: int | datetime | None, as_json: bool) -> None:
    """Show the state of the instance KEY of the workflow TYPE.

    A time is local unless it has a zone: 2025-01-31T12:00, 2025-01-31T11:00Z.
    """
    app = load_app(app_path)
    definition = workflow_named(app, type_)
    with reading(app) as (_, reader), output.waiting("reading the log"):
        actor = reader.look(definition.type, key, at)
    if not actor.seq:
        missing = f"there is no {definition.type} {key!r}"
        raise Failed(missing if at is None else f"{missing}, or there was none yet {_then(at)}")
    if actor.erased:
        raise Failed(f"the data of {actor.ref} was deleted with record {actor.seq}; see `holdfast history`")
    if isinstance(at, int) and at > actor.seq:
        raise Failed(f"{actor.ref} has only {actor.seq} records")
    if as_json:
        output.emit(
            {
                "workflow": definition.type,
                "key": key,
                "seq": actor.seq,
                "run_state": None if at is not None else str(actor.run_state),
                "reason": None if at is not None else actor.reason,
                "parked": None if at is not None else actor.parked,
                "at": from_ms(actor.at_ms),
                "state": output.plain(actor.state),
            }
        )
    else:
        output.paper().print(output.tree(_headline(actor, at), output.plain(actor.state)))


def _headline(actor: Actor, at: int | datetime | None) -> Text:
    run_state = f"  {actor.run_state}" if at is None else ""
    if at is None and actor.reason:
        run_state += f" ({printable(actor.reason)})"
    if at is None and actor.parked:
        run_state += f", {actor.parked} commands kept"
    record = f"  record {actor.seq} of {output.time(from_ms(actor.at_ms))}"
    return Text.assemble(output.text(actor.ref, "bold"), run_state, (record, "dim"))


def _then(at: int | datetime) -> str:
    return f"at record {at}" if isinstance(at, int) else f"at {output.time(at)}"
