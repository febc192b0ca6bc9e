"""The commands by name."""

import click

import holdfast
from holdfast.cli.dead import dead
from holdfast.cli.demo import demo
from holdfast.cli.dev import dev
from holdfast.cli.diagram import diagram
from holdfast.cli.doctor import doctor
from holdfast.cli.ending import Commands
from holdfast.cli.history import history
from holdfast.cli.listing import list_
from holdfast.cli.observations import observations
from holdfast.cli.pools import pools
from holdfast.cli.projections import projections
from holdfast.cli.runs import cancel, delete_data, pause, resume
from holdfast.cli.schedules import schedules
from holdfast.cli.send import send
from holdfast.cli.sizes import sizes
from holdfast.cli.state import state
from holdfast.cli.stuck import stuck
from holdfast.cli.timers import timers
from holdfast.cli.worker import worker

NOTES = """\b
APP   your app as module:name, importable from this folder: shop.orders:app
TYPE  a workflow by its type or its class; for `send` a command by its class
\b
Exit codes: 0 done, 1 failed, 2 wrong usage.
"""


@click.group(
    "holdfast",
    cls=Commands,
    epilog=NOTES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(holdfast.__version__, prog_name="holdfast", message="%(prog)s %(version)s")
def main() -> None:
    """Durable actors on the RabbitMQ and Redis that you already run.

    Settings are read from HOLDFAST_* variables, above all HOLDFAST_REDIS_URL and HOLDFAST_AMQP_URL. Where no server
    is named, a private Redis keeps its data in .holdfast/ of this folder.
    """


for command in (
    demo,
    dev,
    worker,
    send,
    state,
    history,
    list_,
    diagram,
    pools,
    stuck,
    timers,
    schedules,
    projections,
    dead,
    doctor,
):
    main.add_command(command)
for run_command in (pause, resume, cancel, delete_data, observations, sizes):
    main.add_command(run_command)
