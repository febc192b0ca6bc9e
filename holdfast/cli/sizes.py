"""`holdfast sizes`: what takes room."""

from __future__ import annotations

import click

from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.installation import reading

#: Instances measured of each workflow where nothing else is said.
SAMPLE = 200

JSON = """\b
--json prints one line per workflow: workflow, instances, bytes, sampled,
largest (of the sample: key, bytes).
"""


@click.command(short_help="Show what takes room.", epilog=JSON)
@click.argument("app_path", metavar="APP")
@click.option(
    "--sample",
    type=click.IntRange(1, 100_000),
    default=SAMPLE,
    show_default=True,
    help="Measure N instances of each workflow.",
    metavar="N",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def sizes(app_path: str, sample: int, as_json: bool) -> None:
    """Show how many bytes the instances of each workflow take in Redis, and the largest of those that were measured.

    Only a sample is measured, picked by chance; the bytes are reckoned from it.
    """
    app = load_app(app_path)
    with reading(app) as (ports, _), output.waiting("measuring"):
        found = ports.sizes.sizes([definition.type for definition in app.definitions], sample)
    if as_json:
        for size in found:
            largest = [{"key": key, "bytes": count} for key, count in size.largest]
            output.emit(size._asdict() | {"largest": largest})
        return
    rows = ((one.workflow, str(one.instances), f"{one.bytes:,}", str(one.sampled)) for one in found)
    output.paper().print(output.table(("workflow", "instances", "bytes", "measured"), rows))
    largest_rows = [(one.workflow, key, f"{count:,}") for one in found for key, count in one.largest]
    if largest_rows:
        output.paper().print()
        output.paper().print(output.table(("largest", "key", "bytes"), largest_rows))
