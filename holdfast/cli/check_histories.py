"""`holdfast check-histories`: does the code of today read and fold what was recorded, as the code of then did?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED, Failed
from holdfast.cli.installation import reading
from holdfast.cli.naming import moment, workflow_named
from holdfast.runtime.app import App
from holdfast.runtime.clock import from_ms
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import UnknownType
from holdfast.runtime.histories import Difference, check_archived, check_log, comparable
from holdfast.runtime.keys import Ref, partition_of

JSON = """\b
--json prints: checked (how many instances), compared (how many of
them had a stored state to be compared with), difference (null, or
workflow, key, seq, event_index, event, what: the first that was found).
"""
#: Instances that are read at a time.
PAGE = 100


@click.command("check-histories", short_help="Try today's code on what is stored.", epilog=JSON)
@click.argument("app_path", metavar="APP")
@click.option("--workflow", "type_", metavar="TYPE", help="Only instances of this workflow.")
@click.option("--since", type=moment, metavar="TIME", help="Only if changed at or after this time.")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Only the N latest changed of each workflow."
)
@click.option(
    "--archive",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Not what is in Redis, but a folder (or a file) of an archive.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check_histories(
    app_path: str,
    type_: str | None,
    since: datetime | None,
    sample: int | None,
    archive: Path | None,
    as_json: bool,
) -> int:
    """Read and fold every stored history with the code of APP, and name the first record and event that differ.

    A state is compared where one was stored: in a snapshot (`snapshot_every`) of the same state_version, or in an
    archive. Of other histories it is known that they can be read and that evolve takes every event.

    It writes nothing. With --archive no server is needed, so it can run wherever your tests do. Exit code 1 where
    something differs.
    """
    app = load_app(app_path)
    definitions = [workflow_named(app, type_)] if type_ else list(app.definitions)
    found = (
        _stored(app, definitions, since, sample)
        if archive is None
        else _archived(app, definitions, archive, since, sample)
    )
    checked, compared, difference = 0, 0, None
    for difference, known in found:
        checked += 1
        compared += known
        if difference is not None:
            break
    if as_json:
        told = difference._asdict() if difference is not None else None
        output.emit({"checked": checked, "compared": compared, "difference": told})
    elif difference is not None:
        output.note(_sentence(difference))
    else:
        output.paper().print(
            output.text(
                f"{checked:,} histories can be read and folded by this code; {compared:,} of them have a state that was "
                "stored, and come to it"
            )
        )
    return DONE if difference is None else FAILED


def _sentence(one: Difference) -> str:
    event = f", event {one.event_index} ({one.event})" if one.event_index >= 0 else ""
    return f"{one.workflow}/{one.key}, record {one.seq}{event}: {one.what}"


def _stored(
    app: App, definitions: list[Definition], since: datetime | None, sample: int | None
) -> Iterator[tuple[Difference | None, bool]]:
    with reading(app) as (ports, reader):
        for definition in definitions:
            left, cursor = sample, None
            while left is None or left > 0:
                limit = PAGE if left is None else min(PAGE, left)
                page = ports.directory.instances(definition.type, since=since, limit=limit, cursor=cursor)
                refs = [reader.ref(definition.type, one.key) for one in page.instances]
                wholes = ports.journal.read(refs, snapshots=False) if refs else []
                snapshots = ports.journal.read(refs) if refs else []
                for whole, opened in zip(wholes, snapshots, strict=True):
                    if opened.seq != whole.seq:
                        # It went on in between: the log up to where it was is as good.
                        opened = ports.journal.read([whole.ref])[0]  # noqa: PLW2901 - the same instance
                    known = opened.snapshot if opened.snapshot and opened.snapshot.seq <= whole.seq else None
                    compared = comparable(definition, whole.ref, known)
                    yield check_log(definition, whole.ref, whole.tail, known, whole.seq), compared
                left = None if left is None else left - len(refs)
                cursor = page.cursor
                if cursor is None:
                    break


def _archived(
    app: App, definitions: list[Definition], archive: Path, since: datetime | None, sample: int | None
) -> Iterator[tuple[Difference | None, bool]]:
    """Check the lines of an archive; of an instance that is there twice, after a crash, the last one counts."""
    wanted = {definition.type for definition in definitions}
    left: dict[str, int | None] = dict.fromkeys(wanted, sample)
    files = sorted(archive.glob("*.jsonl"), reverse=True) if archive.is_dir() else [archive]
    if not files:
        raise Failed(f"there are no .jsonl files in {archive}")
    for file in files:
        lines: dict[tuple[str, str], Any] = {}
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            try:
                one = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise Failed(f"line {number} of {file} is no JSON of an archive: {error}") from error
            lines.pop((workflow := str(one.get("workflow")), key := str(one.get("key"))), None)
            lines[workflow, key] = one
        for (workflow, key), one in reversed(lines.items()):
            if workflow not in wanted or left[workflow] == 0 or (since is not None and _last(one) < since):
                if workflow not in {definition.type for definition in app.definitions}:
                    raise UnknownType(
                        f"{file} has instances of {workflow!r}, which this app has no workflow for"
                    )
                continue
            count = left[workflow]
            left[workflow] = None if count is None else count - 1
            ref = Ref(partition_of(workflow, key, 1), workflow, key)
            yield check_archived(app.definition(workflow), one, ref.partition), one.get("state") is not None


def _last(line: dict[str, Any]) -> datetime:
    records = line.get("records") or [{}]
    return msgspec.convert(records[-1].get("at", from_ms(0)), datetime)
