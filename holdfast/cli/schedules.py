"""`holdfast schedules`: what comes when, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

from holdfast import connect
from holdfast.actors.schedules import ScheduleDesk, ScheduleLine, ScheduleTick
from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import Commands, Failed
from holdfast.cli.installation import join
from holdfast.cli.naming import moment

LIST_JSON = """\b
--json prints one line per schedule: name, cron, every_s, tz, overlap, catch_up,
window_s, paused, reason, orphaned, next, sent, skipped, failed, waiting, latest
(each: tick, what, workflow, key). What is not set is null.
"""


@contextmanager
def _desk(app_path: str) -> Iterator[ScheduleDesk]:
    app = load_app(app_path)
    with join() as settings, connect(app, settings) as client:
        yield client.schedules


_app = click.argument("app_path", metavar="APP")
_name = click.argument("name", metavar="NAME")


@click.group(cls=Commands, short_help="Deal with schedules.")
def schedules() -> None:
    """Deal with schedules: commands that are sent at the ticks of a cron line or an interval."""


@schedules.command("list", short_help="List schedules.", epilog=LIST_JSON)
@_app
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def list_(app_path: str, as_json: bool) -> None:
    """List the schedules of APP by name; an orphaned one is no longer in its code."""
    with _desk(app_path) as desk, output.waiting("reading schedules"):
        found = desk.list()
    if as_json:
        for line in found:
            output.emit(_plain(line))
        return
    if not found:
        output.note("no schedules; a worker with the timer pool starts those of its app")
        return
    columns = ("name", "when", "state", "next", "last", "sent", "skipped", "failed")
    output.paper().print(output.table(columns, map(_row, found)))


@schedules.command(
    short_help="Show one whole.", epilog=LIST_JSON.replace("one line per schedule", "a document")
)
@_app
@_name
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(app_path: str, name: str, as_json: bool) -> None:
    """Show the schedule NAME: its next ticks, those that wait, and what became of the latest."""
    with _desk(app_path) as desk:
        line = desk.get(name)
    if line is None:
        raise Failed(f"there is no schedule {name!r}")
    if as_json:
        output.emit(_plain(line))
        return
    paper = output.paper()
    facts = {key: value for key, value in _plain(line).items() if not isinstance(value, list)}
    paper.print(
        output.table(
            ("schedule", ""), ((key, str(value)) for key, value in facts.items() if value is not None)
        )
    )
    paper.print()
    ticks = [
        *((tick, "next", "") for tick in reversed(line.next)),
        *((one.tick, one.what, _target(one)) for one in (*line.waiting, *line.latest)),
    ]
    paper.print(
        output.table(("tick", "what", "for"), ((output.time(tick), what, to) for tick, what, to in ticks))
    )


@schedules.command(short_help="Let no more ticks come.")
@_app
@_name
@click.option("--reason", default="", help="Why; it is shown in the list.")
def pause(app_path: str, name: str, reason: str) -> None:
    """Let no more ticks of the schedule NAME come until it is resumed."""
    with _desk(app_path) as desk:
        desk.pause(name, reason=reason)
    _done(f"{name} paused")


@schedules.command(short_help="Let ticks come again.")
@_app
@_name
def resume(app_path: str, name: str) -> None:
    """Let ticks of the schedule NAME come again; those of the pause are not made up for."""
    with _desk(app_path) as desk:
        desk.resume(name)
    _done(f"{name} resumed")


@schedules.command(short_help="Send one's command now.")
@_app
@_name
def trigger(app_path: str, name: str) -> None:
    """Send the command of a tick of now, whether the schedule NAME is paused or not."""
    with _desk(app_path) as desk:
        desk.trigger(name)
    _done(f"{name} triggered")


@schedules.command(short_help="Send the commands of past ticks.")
@_app
@_name
@click.option(
    "--from", "begin", type=moment, required=True, metavar="TIME", help="The first tick, at the earliest."
)
@click.option("--to", "end", type=moment, required=True, metavar="TIME", help="The last tick, at the latest.")
def backfill(app_path: str, name: str, begin: datetime, end: datetime) -> None:
    """Send the commands of all ticks of the schedule NAME in a time, whether they were sent before or not.

    A time is local unless it has a zone: 2025-01-31T12:00, 2025-01-31T11:00Z.
    """
    with _desk(app_path) as desk:
        count = desk.backfill(name, begin, end)
    _done(f"{count} ticks of {name} will be sent")


@schedules.command(short_help="Forget one.")
@_app
@_name
def remove(app_path: str, name: str) -> None:
    """Forget the schedule NAME, its counts and what waits; code that still has it begins it anew when it starts."""
    with _desk(app_path) as desk:
        desk.remove(name)
    _done(f"{name} removed")


def _done(sentence: str) -> None:
    output.paper().print(output.text(sentence))


def _row(line: ScheduleLine) -> tuple[str, ...]:
    state = "orphaned" if line.orphaned else "paused" if line.paused else "ticking"
    upcoming = output.time(line.next[0]) if line.next else ""
    last = f"{output.time(line.latest[0].tick)} {line.latest[0].what}" if line.latest else ""
    counts = (str(line.sent), str(line.skipped), str(line.failed))
    return line.name, _when(line), state, upcoming, last, *counts


def _when(line: ScheduleLine) -> str:
    spec = line.spec
    return f"{spec.cron} {spec.tz}" if spec.cron else f"every {spec.every_ms / 1000:g} s"


def _target(one: ScheduleTick) -> str:
    return f"{one.workflow}/{one.key}" if one.workflow else ""


def _plain(line: ScheduleLine) -> dict[str, Any]:
    spec = line.spec
    return {
        "name": line.name,
        "cron": spec.cron or None,
        "every_s": spec.every_ms / 1000 or None,
        "tz": spec.tz,
        "overlap": spec.overlap.value,
        "catch_up": spec.catch_up.value,
        "window_s": spec.window_ms / 1000 or None,
        "paused": line.paused,
        "reason": line.reason or None,
        "orphaned": line.orphaned,
        "next": list(line.next),
        "sent": line.sent,
        "skipped": line.skipped,
        "failed": line.failed,
        "waiting": [_plain_tick(one) for one in line.waiting],
        "latest": [_plain_tick(one) for one in line.latest],
    }


def _plain_tick(one: ScheduleTick) -> dict[str, Any]:
    return {"tick": one.tick, "what": one.what, "workflow": one.workflow or None, "key": one.key or None}
