"""The commands by name; each is imported when it is called."""

from __future__ import annotations

import importlib

import click

import holdfast
from holdfast.cli.ending import Commands

NOTES = """\b
APP   your app as module:name, importable from this folder: shop.orders:app
TYPE  a workflow by its type or its class; for `send` a command by its class
\b
Exit codes, of every command:
  0  done
  1  failed: what is named is not there, was refused as things stand, was not
     accepted (send --wait), or a server is away or set up otherwise
  2  wrong usage: no such command, option, app, workflow or projection, or
     content that fits none; the same call will never work
`stuck` and `doctor` end with 1 where they find something too.
"""


#: Where each command is, in the order in which help shows them; without a name it is called as its module.
_PLACES = {
    "demo": "demo",
    "dev": "dev",
    "worker": "worker",
    "send": "send",
    "state": "state",
    "history": "history",
    "trace": "trace",
    "list": "listing:list_",
    "diagram": "diagram",
    "pools": "pools",
    "stuck": "stuck",
    "timers": "timers",
    "schedules": "schedules",
    "projections": "projections",
    "dead": "dead",
    "doctor": "doctor",
    "pause": "runs:pause",
    "resume": "runs:resume",
    "cancel": "runs:cancel",
    "delete-data": "runs:delete_data",
    "observations": "observations",
    "sizes": "sizes",
    "rewrap": "rewrap",
    "check-histories": "check_histories",
}


class _Main(Commands):
    """Imports the one that is called: a worker that starts anew does not wait for what only others need."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names as help shows them."""
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Return a command, or None if there is none of that name."""
        module, _, name = _PLACES.get(cmd_name, "").partition(":")
        if not module:
            return None
        found: click.Command = getattr(importlib.import_module(f"holdfast.cli.{module}"), name or module)
        return found


@click.group(
    "holdfast",
    cls=_Main,
    epilog=NOTES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(holdfast.__version__, prog_name="holdfast", message="%(prog)s %(version)s")
def main() -> None:
    """Durable actors on the RabbitMQ and Redis that you already run.

    Settings are read from HOLDFAST_* variables, above all HOLDFAST_REDIS_URL and HOLDFAST_AMQP_URL. Where no server
    is named, a private Redis keeps its data in .holdfast/ of this folder.
    """
