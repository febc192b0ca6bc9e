"""`holdfast list`: which instances there are."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import click

from holdfast.actors.worker import load_app
from holdfast.brokers.cursor import encode_cursor
from holdfast.cli import output
from holdfast.cli.installation import reading
from holdfast.cli.naming import moment, workflow_named
from holdfast.runtime.clock import to_ms
from holdfast.runtime.instance import RunState
from holdfast.runtime.ports import Directory, Listed, Page


class Wanted(NamedTuple):
    """What is asked for."""

    workflows: list[str]
    run_state: RunState | None
    since: datetime | None
    until: datetime | None
    limit: int
    cursor: str | None


JSON = """\b
--json prints: instances (workflow, key, run_state, seq, created, updated),
cursor (null on the last page).
"""


@click.command("list", short_help="List instances.", epilog=JSON)
@click.argument("app_path", metavar="APP")
@click.argument("type_", metavar="[TYPE]", required=False)
@click.option(
    "--state",
    "run_state",
    type=click.Choice([state.value for state in RunState]),
    help="Only in this run state.",
)
@click.option("--since", type=moment, metavar="TIME", help="Only if changed at or after this time.")
@click.option("--until", type=moment, metavar="TIME", help="Only if changed at or before this time.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most N.", metavar="N"
)
@click.option("--cursor", help="Go on where the page before ended.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_(
    app_path: str,
    type_: str | None,
    run_state: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List instances of the workflow TYPE, or of all workflows of the app, the latest changed first.

    A time is local unless it has a zone: 2025-01-31T12:00, 2025-01-31T11:00Z.
    """
    app = load_app(app_path)
    definitions = [workflow_named(app, type_)] if type_ else app.definitions
    wanted = Wanted(
        [definition.type for definition in definitions],
        RunState(run_state) if run_state else None,
        since,
        until,
        limit,
        cursor,
    )
    with reading(app) as (ports, _), output.waiting("reading the directory"):
        page = _page(ports.directory, wanted)
    if as_json:
        output.emit({"instances": [listed._asdict() for listed in page.instances], "cursor": page.cursor})
        return
    if page.instances:
        columns = ("workflow", "key", "run state", "records", "created", "updated")
        output.paper().print(output.table(columns, map(_row, page.instances)))
    else:
        output.note("no instances")
    if page.cursor:
        output.note(f"there are more: --cursor {page.cursor}")


def _page(directory: Directory, wanted: Wanted) -> Page:
    """Return a page over all the wanted workflows, which the directory keeps apart."""
    pages = [
        directory.instances(
            workflow,
            run_state=wanted.run_state,
            since=wanted.since,
            until=wanted.until,
            limit=wanted.limit,
            cursor=wanted.cursor,
        )
        for workflow in wanted.workflows
    ]
    if len(pages) == 1:
        return pages[0]
    merged = sorted((line for page in pages for line in page.instances), key=_place, reverse=True)
    end = wanted.limit
    # A cursor names time and key: lines of other workflows that share both belong to this page.
    while 0 < end < len(merged) and _place(merged[end]) == _place(merged[end - 1]):
        end += 1
    if end >= len(merged) and not any(page.cursor for page in pages):
        return Page(merged, None)
    score, key = _place(merged[min(end, len(merged)) - 1])
    return Page(merged[:end], encode_cursor(score, key.decode()))


def _place(listed: Listed) -> tuple[int, bytes]:
    return to_ms(listed.updated), listed.key.encode()


def _row(listed: Listed) -> tuple[str, ...]:
    created, updated = output.time(listed.created), output.time(listed.updated)
    return listed.workflow, listed.key, str(listed.run_state), str(listed.seq), created, updated
