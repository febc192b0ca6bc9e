"""`holdfast demo`: watch orders survive a killed worker."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED, Failed
from holdfast.demo.proof import Proof, prove
from holdfast.demo.show import Show, Told
from holdfast.demo.stage import APP, cast, ground
from holdfast.demo.view import View
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import HoldfastError

#: What is promised: others carry a dead process's work on within this time.
GONE_ON_S = 15.0
#: How much of the workers' log is shown when something went wrong.
LOG_LINES = 30


@click.command(short_help="Watch orders survive a killed worker.")
@click.option(
    "--orders", type=click.IntRange(10, 100_000), default=600, show_default=True, help="Orders.", metavar="N"
)
@click.option(
    "--processes",
    type=click.IntRange(1, 32),
    default=2,
    show_default=True,
    help="Worker processes.",
    metavar="N",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the data in this folder, to look at them afterwards; else nothing is left.",
)
def demo(orders: int, processes: int, data_dir: Path | None) -> int:
    """Send orders, kill a worker in the middle of a rush, and prove from the logs that nothing was lost or done twice.

    It needs no server and touches none of yours: a private Redis runs in a folder of its own. It takes some ten
    seconds. Exit code 1 if anything is not as promised.
    """
    with _interruptible(), _folder(data_dir) as folder, ground(folder) as (settings, server, durable):
        paper = output.paper()
        paper.print(output.text(server))
        if not durable:
            paper.print(
                output.text(
                    "So no worker is killed here: it would take all data along. Install redis-server."
                )
            )
        log = folder / "workers.log"
        try:
            with cast(settings, processes, log) as (client, ports), View(paper, orders) as view:
                if durable:
                    view.say(f"{_workers(processes)} started")
                told = Show(client, ports, view, orders=orders, processes=processes).perform(killing=durable)
                if not durable:
                    proof = prove(settings, orders, None)
                view.say("all is decided; the workers stop")
            if durable:
                proof = prove(settings, orders, told.kill)
        except HoldfastError as error:
            _show_log(log)
            raise Failed(f"the demonstration failed: {error}") from error
        fine = _tell(paper, proof, told, processes)
        if not fine:
            _show_log(log)
        if data_dir is not None and durable:
            paper.print(Text())
            paper.print(output.text(_keepsake(settings)))
    return DONE if fine else FAILED


def _tell(paper: Console, proof: Proof, told: Told, processes: int) -> bool:
    """Print what was proved, and return whether all of it is as promised."""
    kill, went_on = told.kill, proof.went_on_s
    claims = [
        (
            f"{proof.orders:,} orders, {proof.sent:,} commands, {proof.twice:,} of them sent twice on purpose",
            True,
        ),
        (
            f"{proof.records:,} records read back cold: every accepted command once, in the order sent",
            proof.right == proof.orders,
        ),
        (
            f"{proof.missing} missing, {proof.duplicates} duplicates",
            proof.missing == proof.duplicates == 0,
        ),
        (
            f"{proof.refused} cancellations that came too late were refused",
            proof.refused + proof.records == proof.sent,
        ),
        (
            f"{proof.delivered:,} orders delivered, and closed",
            proof.delivered == proof.completed == proof.orders,
        ),
        (
            f"{proof.waiting} commands waiting, {proof.dead_letters} dead letters",
            proof.waiting == proof.dead_letters == 0,
        ),
    ]
    if kill is not None:
        after = "never went on" if went_on is None else f"went on after {went_on:.2f} s"
        claims.append(
            (
                f"worker {kill.pid} was killed in the middle; the work on its {len(kill.partitions)} partitions {after}",
                went_on is not None and went_on <= GONE_ON_S,
            )
        )
    paper.print(Text())
    paper.print(Text("What was proved", "bold"))
    for claim, holds in claims:
        paper.print(
            Text.assemble(("  ok  ", "green") if holds else ("  NO  ", "bold red"), output.text(claim))
        )
    for difference in proof.differences:
        paper.print(output.text(f"      {difference}"))
    rate = told.commands / told.seconds
    workers = _workers(processes) if kill is not None else "one thread"
    paper.print(
        output.text(
            f"      {rate:,.0f} commands per second in the last rush, confirmed, decided and logged by {workers}"
        )
    )
    return all(holds for _, holds in claims)


def _workers(processes: int) -> str:
    return "1 worker process" if processes == 1 else f"{processes} worker processes"


def _keepsake(settings: Settings) -> str:
    where = f"HOLDFAST_DATA_DIR={settings.data_dir} HOLDFAST_NAMESPACE={settings.namespace}"
    return f"The data are kept: {where} holdfast list {APP}"


def _show_log(log: Path) -> None:
    if log.exists():
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]:
            output.note(line)


@contextmanager
def _folder(data_dir: Path | None) -> Iterator[Path]:
    """Yield the folder for the data; one of our own is removed at the end."""
    if data_dir is not None:
        data_dir.mkdir(parents=True, exist_ok=True)
        yield data_dir
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGTERM, and a terminal that is closed, end the demonstration as Ctrl-C does: tidily."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    former = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, former, strict=True):
            signal.signal(number, handler)
