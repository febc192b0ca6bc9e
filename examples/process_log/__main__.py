"""The command line: python -m examples.process_log LOG.xes.gz."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from examples.process_log.case import cases
from examples.process_log.crew import Stuck, Transport, hire
from examples.process_log.display import Display
from examples.process_log.replay import Report, replay
from examples.process_log.xes import LogError, read
from holdfast import HoldfastError

SERVERS = ("HOLDFAST_AMQP_URL", "HOLDFAST_REDIS_URL")
#: What a shell reports of a program that was interrupted.
EXIT_INTERRUPTED = 130
#: Lines of the workers' log that are shown when something went wrong.
TAIL_LINES = 20


@click.command()
@click.argument("logs", nargs=-1, required=True, type=Path, metavar="LOG...")
@click.option(
    "--transport",
    type=click.Choice(list(Transport), case_sensitive=False),
    help="What carries the commands: the servers that HOLDFAST_AMQP_URL and HOLDFAST_REDIS_URL name, or a private "
    "one. RabbitMQ if both are set.",
)
@click.option(
    "--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker processes."
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each log.")
def main(logs: tuple[Path, ...], transport: str | None, processes: int, as_json: bool) -> None:
    """Replay process logs (XES, also with gzip) through Holdfast.

    Each trace becomes an instance and each event a command, sent in the order in which they happened. Then every
    instance is read back and compared with the file. The time is that from the first command sent to the last one
    decided.

    Exits with 1 if anything is missing, different or there twice.
    """
    chosen = _transport(transport)
    exact = [_run(log, chosen, processes, as_json=as_json) for log in logs]
    sys.exit(0 if all(exact) else 1)


def _transport(asked: str | None) -> Transport:
    missing = [name for name in SERVERS if not os.environ.get(name)]
    if asked is None:
        return Transport.EMBEDDED if missing else Transport.RABBITMQ
    chosen = Transport(asked)
    if chosen is Transport.RABBITMQ and missing:
        message = (
            f"--transport rabbitmq needs servers: set {' and '.join(missing)}, "
            "as in HOLDFAST_AMQP_URL=amqp://guest:guest@localhost:5672/ HOLDFAST_REDIS_URL=redis://localhost:6379/0"
        )
        raise click.UsageError(message)
    return chosen


def _run(log: Path, transport: Transport, processes: int, *, as_json: bool) -> bool:
    """Replay one log, say what came of it, and return whether all is as it should be."""
    number, name = tempfile.mkstemp(prefix="process-log-workers-", suffix=".log")
    os.close(number)
    workers_log = Path(name)
    try:
        with Display() as display:
            found = cases(display.watch("read", read(log)))
            with hire(transport, processes, workers_log) as crew:
                report = replay(found, crew, display)
    except (LogError, Stuck, HoldfastError) as error:
        click.echo(f"{log}: {' '.join(str(error).split())}", err=True)
        _keep(workers_log)
        return False
    except KeyboardInterrupt:
        click.echo(f"{log}: interrupted", err=True)
        workers_log.unlink()
        sys.exit(EXIT_INTERRUPTED)
    _print(log, report, as_json=as_json)
    if report.exact:
        workers_log.unlink()
    else:
        click.echo(f"{log}: the log differs from the file: {report.example or 'records too many'}", err=True)
        _keep(workers_log)
    return report.exact


def _print(log: Path, report: Report, *, as_json: bool) -> None:
    facts = {
        "log": str(log),
        "instances": report.instances,
        "commands": report.commands,
        "mismatches": report.mismatches,
        "duplicates": report.duplicates,
        "seconds": round(report.seconds, 3),
        "per_second": round(report.per_second, 1),
    }
    if as_json:
        click.echo(msgspec.json.encode(facts))
    else:
        click.echo(
            f"{log}: {report.instances:,} instances, {report.commands:,} commands, {report.mismatches:,} mismatches, "
            f"{report.duplicates:,} duplicates, {report.seconds:.1f} seconds, {report.per_second:,.0f} commands a second"
        )


def _keep(workers_log: Path) -> None:
    """Say where the workers' log is and how it ends; one that says nothing is removed."""
    lines = workers_log.read_text(errors="replace").splitlines()
    if not lines:
        workers_log.unlink()
        return
    click.echo(f"the workers' log is {workers_log}; it ends with", err=True)
    for line in lines[-TAIL_LINES:]:
        click.echo(f"    {line}", err=True)


if __name__ == "__main__":
    # Ended by SIGTERM, too, nothing stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main(prog_name="python -m examples.process_log")
