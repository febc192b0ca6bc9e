"""`holdfast history`: what happened to an instance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import click
import msgspec

from holdfast.actors.reader import Reader
from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import Failed
from holdfast.cli.installation import reading
from holdfast.cli.naming import workflow_named
from holdfast.runtime.record import Asked, Record

#: Records read and printed at a time: a log may be longer than memory.
PAGE = 500


JSON = """\b
--json prints one line per record: seq, at, command_id, command, events,
token, cause, trace, control (null, or what was done to the run: verb, reason,
resume_at_ms), asked (null, or what else was asked for: effects, timers, cancels),
attempts (how many the effect took that sent the command; 0 where none did).
"""


@click.command(short_help="Show what happened to an instance.", epilog=JSON)
@click.argument("app_path", metavar="APP")
@click.argument("type_", metavar="TYPE")
@click.argument("key", metavar="KEY")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Begin after record N.", metavar="N")
@click.option("--limit", type=click.IntRange(min=1), help="At most N records; all without this.", metavar="N")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def history(app_path: str, type_: str, key: str, after: int, limit: int | None, as_json: bool) -> None:
    """Show the records of the instance KEY of the workflow TYPE, oldest first."""
    app = load_app(app_path)
    definition = workflow_named(app, type_)
    with reading(app) as (_, reader):
        with output.waiting("reading the log"):
            pages = _pages(reader, definition.type, key, after, limit)
            first = next(pages, None)
            if first is None and not (after and reader.history(definition.type, key, 0, 1)):
                raise Failed(f"there is no {definition.type} {key!r}")
        if first and first[0].seq > after + 1:
            output.note(f"records {after + 1} to {first[0].seq - 1} were deleted")
        for page in (first, *pages) if first is not None else ():
            if as_json:
                for record in page:
                    output.emit(_as_json(record))
            else:
                output.paper().print(output.table(("seq", "at", "command", "events"), map(_row, page)))


def _pages(
    reader: Reader, workflow: str, key: str, after: int, limit: int | None
) -> Iterator[list[Record[Any]]]:
    records = islice(reader.records(workflow, key, after), limit)
    while page := list(islice(records, PAGE)):
        yield page


def _row(record: Record[Any]) -> tuple[str, ...]:
    events = ", ".join(output.message(event) for event in record.events)
    if record.control is not None:
        events = record.control.verb + (f": {record.control.reason}" if record.control.reason else "")
    return str(record.seq), output.time(record.at), f"{record.command} {record.command_id}", events


def _asked(asked: Asked) -> dict[str, Any]:
    timers = [msgspec.structs.asdict(timer) for timer in asked.timers]
    return {"effects": asked.effects, "timers": timers, "cancels": asked.cancels}


def _as_json(record: Record[Any]) -> dict[str, Any]:
    return {
        "seq": record.seq,
        "at": record.at,
        "command_id": record.command_id,
        "command": record.command,
        "events": [output.plain(event) for event in record.events],
        "token": record.token,
        "cause": record.cause,
        "trace": record.trace,
        "control": msgspec.structs.asdict(record.control) if record.control is not None else None,
        "asked": _asked(record.asked) if record.asked is not None else None,
        "attempts": record.attempts,
    }
