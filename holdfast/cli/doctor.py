"""`holdfast doctor`: are the servers as the promises need them?"""

from __future__ import annotations

from itertools import chain

import click
from rich.table import Column, Table
from rich.text import Text

from holdfast.actors.worker import load_app
from holdfast.brokers.checkup import examine
from holdfast.brokers.finding import Finding, Status, error, ok, worst
from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED
from holdfast.runtime.app import App
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import HoldfastError

#: How each status is shown.
_SIGNS = {
    Status.OK: ("ok", "green"),
    Status.WARNING: ("warning", "yellow"),
    Status.ERROR: ("ERROR", "bold red"),
}


JSON = """\b
--json prints: status (ok, warning, error: the worst),
findings (check, status, found, remedy).
"""


@click.command(short_help="Are the servers as they must be?", epilog=JSON)
@click.argument("app_path", metavar="[APP]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(app_path: str | None, as_json: bool) -> int:
    """Look at the servers of the settings, and say of each thing that is not well what to do. Exit code 1 on an error.

    With APP also look whether the app loads, and whether all workers know its workflows. Queues that are missing in
    RabbitMQ are declared; nothing else is changed.
    """
    settings = Settings.from_environment()
    findings = []
    app, said = _examine_app(app_path)
    workflows = [definition.type for definition in app.definitions] if app is not None else []
    for finding in chain(said, examine(settings, workflows)):
        findings.append(finding)
        if not as_json:
            _show(finding)
    status = worst(findings)
    if as_json:
        output.emit({"status": str(status), "findings": [finding._asdict() for finding in findings]})
    return FAILED if status is Status.ERROR else DONE


def _show(finding: Finding) -> None:
    sign, style = _SIGNS[finding.status]
    grid = Table.grid(Column(width=8), Column(width=15), Column(overflow="fold"))
    grid.add_row(Text(sign, style), Text(finding.check, "bold"), output.text(finding.found))
    if finding.remedy:
        grid.add_row("", "", output.text(finding.remedy, "italic"))
    output.paper().print(grid)


def _examine_app(app_path: str | None) -> tuple[App | None, list[Finding]]:
    """Return the app, if one is named and loads, and what is to be said of it."""
    if app_path is None:
        return None, []
    try:
        app = load_app(app_path)
    except HoldfastError as failure:
        return None, [error("app", str(failure), "correct the app, or name another")]
    workflows = ", ".join(
        f"{definition.type} ({len(definition.commands.by_tag)} commands)" for definition in app.definitions
    )
    return app, [ok("app", f"{app_path} has {workflows}")]
