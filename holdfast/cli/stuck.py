"""`holdfast stuck`: what does not move, and what it waits for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from holdfast.actors import wiring
from holdfast.actors.stuck import EFFECTS_MAX, KINDS, Search, Stuck, Wait
from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED
from holdfast.cli.installation import join, opened
from holdfast.cli.naming import span_ms, span_text, workflow_named
from holdfast.runtime.clock import SystemClock, from_ms, to_ms

NOTES = """\b
What is waited for: worker (nobody serves a pool that has work), behind (a pool
is served, but late), dead-letter, retry (of an effect), limit (an effect's
turn), effect (to be run, or to end), timer (pending or overdue), resume (it is
paused; until when, if the pause ends by itself), command (nothing else is on
its way).
\b
--json prints one line per item: workflow, key, name (where it is no instance),
run_state (null if it moved lately, but something of it did not), since,
waits_for (kind, what, since, until).
What is not known is null.
\b
Exit codes: 0 nothing is stuck for so long, 1 something is (or the command failed, and then
a sentence says so on standard error), 2 wrong usage.
"""


@click.command(short_help="Show what does not move, and what it waits for.", epilog=NOTES)
@click.argument("app_path", metavar="APP")
@click.option("--type", "types", metavar="TYPE", multiple=True, help="Only instances of this workflow.")
@click.option(
    "--older",
    type=span_ms,
    default="10m",
    show_default=True,
    metavar="AGE",
    help="Only what has not moved for so long: 30s, 10m, 2h, 7d.",
)
@click.option("--for", "kinds", type=click.Choice(KINDS), multiple=True, help="Only what waits for this.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=200, show_default=True, help="At most N.", metavar="N"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def stuck(
    app_path: str, types: tuple[str, ...], older: int, kinds: tuple[str, ...], limit: int, as_json: bool
) -> int:
    """Show every instance that does not move, what it waits for, and since when; the longest stuck first.

    An order that waits for its customer is listed as well as one that waits for a mechanic: --for tells them apart.
    """
    app = load_app(app_path)
    definitions = [workflow_named(app, name) for name in types] or list(app.definitions)
    with join() as settings, opened(settings) as ports, output.waiting("looking for what is stuck"):
        search = Search(
            ports.backlog,
            ports.dead_letters,
            ports.membership,
            wiring.open_transport(settings),
            lambda: [
                one
                for number in range(settings.partitions)
                for one in ports.effects.pending(number, EFFECTS_MAX)
            ],
        )
        found = search.find([one.type for one in definitions], older, limit, kinds or KINDS)
    if as_json:
        for item in found.items:
            output.emit(_as_json(item))
    elif found.items:
        columns = ("what", "run state", "for", "waits for", "", "since", "until")
        output.paper().print(output.table(columns, (row for item in found.items for row in _rows(item))))
    else:
        looked = "nothing" if found.whole else "nothing of what was looked at"
        output.note(f"{looked} is stuck for {span_text(older)} or longer (see --older)")
    if not found.whole:
        output.note("there is more than was looked at; see --limit and --type")
    return FAILED if found.items else DONE


def _rows(item: Stuck) -> Iterator[tuple[str, ...]]:
    now_ms = to_ms(SystemClock().now())
    run_state = str(item.run_state) if item.run_state is not None else ""
    who = (item.name or f"{item.workflow}/{item.key}", run_state)
    since = output.age(item.since_ms, now_ms) if item.since_ms else "?"
    for number, wait in enumerate(item.waits):
        first = (*who, since) if number == 0 else ("", "", "")
        yield *first, wait.kind, wait.what, _time(wait.since_ms), _time(wait.until_ms)


def _time(ms: int) -> str:
    return output.time(from_ms(ms)) if ms else ""


def _as_json(item: Stuck) -> dict[str, Any]:
    return {
        "workflow": item.workflow or None,
        "key": item.key or None,
        "name": item.name or None,
        "run_state": str(item.run_state) if item.run_state is not None else None,
        "since": from_ms(item.since_ms) if item.since_ms else None,
        "waits_for": [_wait_as_json(wait) for wait in item.waits],
    }


def _wait_as_json(wait: Wait) -> dict[str, Any]:
    return {
        "kind": wait.kind,
        "what": wait.what,
        "since": from_ms(wait.since_ms) if wait.since_ms else None,
        "until": from_ms(wait.until_ms) if wait.until_ms else None,
    }
