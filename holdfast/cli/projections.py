"""`holdfast projections`: read models, how far they are, and what they parked."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from holdfast.actors.projection_desk import ProjectionDesk, ProjectionStatus
from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED, Commands, Failed
from holdfast.cli.installation import join, opened
from holdfast.cli.naming import workflow_named
from holdfast.runtime.app import App
from holdfast.runtime.clock import from_ms
from holdfast.runtime.feed import ParkedKey

#: How often progress is looked at.
LOOK_STEP_S = 0.2
#: How many parked instances are looked at, and told, where they keep a rebuild from its end.
PARKED_LOOKED_AT_MAX = 10_000
PARKED_SHOWN = 5

STATUS_JSON = """\b
--json prints one line per generation: name, generation, state (live, building,
switching, retired), known (whether the app has it), records, seconds (the
lag), percent (of the walk over all instances), parked.
"""
PARKED_JSON = """\b
--json prints one line per instance: generation, workflow, key, seq, index,
event, error, traceback, kind (handler, unreadable, gone, ahead), attempts,
at, given_up (whether it waits for a person).
"""
REBUILD_JSON = """\b
--json prints when it is over, or begun with --no-wait: name, generation.
"""


@contextmanager
def _desk(app: App) -> Iterator[ProjectionDesk]:
    with join() as settings, opened(settings) as ports:
        yield ProjectionDesk(app, ports.feed, ports.parking, settings)


def _as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")(command)


_app = click.argument("app_path", metavar="APP")
_name = click.argument("name", metavar="NAME")


@click.group(cls=Commands, short_help="Look after read models.")
def projections() -> None:
    """Look after projections: how far their read models are, rebuilding them, and what they parked."""


@projections.command("list", short_help="List them.", epilog=STATUS_JSON)
@_app
@_as_json
def list_(app_path: str, as_json: bool) -> None:
    """List the projections of APP, and those that were served once and are still in the feeds."""
    with _desk(load_app(app_path)) as desk:
        _show(desk.list(), as_json=as_json)


@projections.command(short_help="How far one is behind.", epilog=STATUS_JSON)
@_app
@_name
@_as_json
def lag(app_path: str, name: str, as_json: bool) -> None:
    """Show how far the projection NAME is behind, in records and seconds."""
    with _desk(load_app(app_path)) as desk:
        _show(desk.lag(name), as_json=as_json)


def _show(found: list[ProjectionStatus], *, as_json: bool) -> None:
    if as_json:
        for status in found:
            output.emit(dataclasses.asdict(status))
    elif found:
        columns = (
            "projection",
            "generation",
            "state",
            "records behind",
            "seconds behind",
            "walked",
            "parked",
        )
        output.paper().print(output.table(columns, map(_row, found)))
        for status in found:
            if not status.known:
                output.note(
                    f"{status.name} is not in the app and keeps the feed from being trimmed: projections remove"
                )
    else:
        output.note("no projections")


def _row(status: ProjectionStatus) -> tuple[str, ...]:
    return (
        status.name,
        str(status.generation),
        status.state,
        f"{status.records:,}",
        f"{status.seconds:.1f}",
        f"{status.percent:g} %",
        str(status.parked),
    )


@projections.command(short_help="Build one anew.", epilog=REBUILD_JSON)
@_app
@_name
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it has taken over.")
@_as_json
def rebuild(app_path: str, name: str, wait: bool, as_json: bool) -> None:
    """Build the read model of NAME anew from the logs, beside the live one, and switch when it has drawn level.

    Workers do it; interrupting this command does not stop them. While an instance is parked in the new generation it
    does not switch, and this command waits and says which one: `projections retry` has it tried again, when what is
    wrong was mended, and `projections skip` leaves the event out.
    """
    with _desk(load_app(app_path)) as desk:
        generation = desk.rebuild(name)
        if wait:
            _await_switch(desk, app_path, name, generation)
    if as_json:
        output.emit({"name": name, "generation": generation})
    else:
        done = "is live" if wait else "is being built"
        output.paper().print(output.text(f"{name} generation {generation} {done}"))


def _await_switch(desk: ProjectionDesk, app_path: str, name: str, generation: int) -> None:
    """Wait until a generation has taken over, and say how far it is and what keeps it from that."""
    told, known = "", ""
    while True:
        found = next((one for one in desk.lag(name) if one.generation == generation), None)
        if found is None or found.state == "live":
            return
        text = (
            f"generation {generation}: {found.state}, {found.percent:g} %, {found.records:,} records behind"
        )
        if text != told:
            output.note(text)
            told = text
        stopped = _stopped(desk, name, generation) if found.parked else ""
        if stopped and stopped != known:
            output.note(
                f"generation {generation} does not take over while anything of it is parked: {stopped}"
            )
            output.note(
                f"mend what is wrong, then: holdfast projections retry {app_path} {name}; or leave the event out: "
                f"holdfast projections skip {app_path} {name} TYPE KEY. Ctrl-C ends the waiting, not the rebuild"
            )
        known = stopped
        time.sleep(LOOK_STEP_S)


def _stopped(desk: ProjectionDesk, name: str, generation: int) -> str:
    """Return which instances of a generation wait for a person, and why; empty where none does."""
    everything = desk.parked(name, limit=PARKED_LOOKED_AT_MAX)
    found = [one for where, one in everything if where == generation and one.given_up]
    shown = [f"{one.workflow}/{one.key} at record {one.seq} ({one.error})" for one in found[:PARKED_SHOWN]]
    more = len(found) - len(shown)
    return ", ".join(shown) + (f", and {more} more (see projections parked)" if more else "")


@projections.command(short_help="List what one has parked.", epilog=PARKED_JSON)
@_app
@_name
@click.option("--key", help="Only this instance.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most N.", metavar="N"
)
@_as_json
def parked(app_path: str, name: str, key: str | None, limit: int, as_json: bool) -> None:
    """List the instances that NAME has parked: an event of each could not be applied. The others go on."""
    with _desk(load_app(app_path)) as desk:
        found = desk.parked(name, key=key, limit=limit)
    if as_json:
        for generation, one in found:
            output.emit({"generation": generation} | _facts(one))
    elif found:
        columns = ("instance", "record", "event", "at", "tries", "error")
        output.paper().print(output.table(columns, (_parked_row(one) for _, one in found)))
    else:
        output.note("nothing is parked")


def _facts(one: ParkedKey) -> dict[str, Any]:
    names = ("workflow", "key", "seq", "index", "event", "error", "traceback", "kind", "attempts")
    facts = {name: getattr(one, name) for name in names}
    return facts | {"at": from_ms(one.at_ms), "given_up": one.given_up}


def _parked_row(one: ParkedKey) -> tuple[str, ...]:
    tries = str(one.attempts) if one.given_up else f"{one.attempts}, goes on"
    return (
        f"{one.workflow}/{one.key}",
        str(one.seq),
        one.event,
        output.time(from_ms(one.at_ms)),
        tries,
        one.error,
    )


@projections.command(short_help="Try parked instances again.")
@_app
@_name
@click.argument("type_", metavar="[TYPE", required=False)
@click.argument("key", metavar="KEY]", required=False)
def retry(app_path: str, name: str, type_: str | None, key: str | None) -> int:
    """Have what NAME has parked tried again: everything, or one instance of the workflow TYPE."""
    app = load_app(app_path)
    workflow = workflow_named(app, type_).type if type_ else None
    with _desk(app) as desk:
        count = desk.retry(name, workflow, key)
    output.paper().print(output.text(f"{count} to be tried again"))
    return DONE if count or key is None else FAILED


@projections.command(short_help="Leave an event out, for good.")
@_app
@_name
@click.argument("type_", metavar="TYPE")
@click.argument("key", metavar="KEY")
def skip(app_path: str, name: str, type_: str, key: str) -> None:
    """Have NAME leave out, for good, the event at which it parked the instance KEY of the workflow TYPE."""
    app = load_app(app_path)
    workflow = workflow_named(app, type_).type
    with _desk(app) as desk:
        if not desk.skip(name, workflow, key):
            raise Failed(f"{name} has not parked {workflow}/{key}")
    output.paper().print(output.text(f"the event of {workflow}/{key} will be left out"))


@projections.command(short_help="Forget one that the app no longer has.")
@_app
@_name
def remove(app_path: str, name: str) -> None:
    """Forget the projection NAME, which APP no longer has, so that the feed is not kept for it.

    Its tables or keys are left to you. Do it when no worker has it any more: one that does would begin it anew.
    """
    with _desk(load_app(app_path)) as desk:
        desk.remove(name)
    output.paper().print(output.text(f"{name} removed"))
