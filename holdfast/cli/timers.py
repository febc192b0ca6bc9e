"""`holdfast timers`: what will be sent, and when. No app is needed."""

from __future__ import annotations

import click

from holdfast.cli import output
from holdfast.cli.installation import join, opened
from holdfast.runtime.timers import PendingTimer

JSON = """\b
--json prints one line per timer: workflow, key, name (null if it has none),
due, command, command_id.
"""


@click.command(short_help="List timers that wait for their time.", epilog=JSON)
@click.argument("type_", metavar="[TYPE]", required=False)
@click.argument("key", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most N.", metavar="N"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def timers(type_: str | None, key: str | None, limit: int, as_json: bool) -> None:
    """List pending timers, the next one first: all, those of the workflow type TYPE, or those of its instance KEY."""
    with join() as settings, opened(settings) as ports, output.waiting("reading timers"):
        found = ports.timers.pending(workflow=type_, key=key, limit=limit + 1)
    shown = found[:limit]
    if as_json:
        for timer in shown:
            output.emit(timer._asdict())
        return
    if shown:
        output.paper().print(output.table(("due", "workflow", "key", "name", "command"), map(_row, shown)))
    else:
        output.note("no timers")
    if len(found) > limit:
        output.note(f"there are more than {limit}; see --limit")


def _row(timer: PendingTimer) -> tuple[str, ...]:
    return output.time(timer.due), timer.workflow, timer.key, timer.name or "", timer.command
