"""How a command ends: with an exit code, and with one sentence on standard error where something went wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import Any

import click

from holdfast.cli.notes import note
from holdfast.runtime.errors import HoldfastError, Refused, UsageError, WorkflowError

#: Done; it went wrong, or was refused as things stand; the call can never be right.
DONE, FAILED, WRONG_USAGE = 0, 1, 2

#: What newer versions of click raise where there are no arguments at all.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class Failed(click.ClickException):
    """The command failed for the reason in the message."""

    exit_code = FAILED


class Commands(click.Group):
    """Commands in the order in which they were added, whose errors are sentences and not tracebacks."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names as help shows them."""
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and exit."""
        _prepare()
        sys.exit(self._run(*args, **(kwargs | {"standalone_mode": False})))

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            code = super().main(*args, **kwargs)
            sys.stdout.flush()
        except click.UsageError as error:
            if isinstance(error, _NO_ARGUMENTS) and error.ctx is not None:
                click.echo(error.ctx.get_help(), err=True)
            else:
                note(_usage(error))
            return WRONG_USAGE
        except click.ClickException as error:
            note(error.format_message())
            return error.exit_code
        except (WorkflowError, Refused) as error:
            note(str(error))
            return FAILED
        except UsageError as error:
            note(str(error))
            return WRONG_USAGE
        except HoldfastError as error:
            note(str(error))
            return FAILED
        except (KeyboardInterrupt, click.Abort):
            note("interrupted")
            return FAILED
        except BrokenPipeError:
            # Nothing more is written to a pipe that nobody reads, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        return code if isinstance(code, int) else DONE


def _usage(error: click.UsageError) -> str:
    """Return what was wrong with the call, and where to read how it should be."""
    path = error.ctx.command_path if error.ctx else "holdfast"
    return f"{error.format_message().rstrip('.')} (see {path} --help)"


def _prepare() -> None:
    """Keep libraries from writing to standard error, and output from failing for a letter that it cannot show."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # where there is such a thing
