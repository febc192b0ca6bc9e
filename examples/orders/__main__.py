"""The command line: python -m examples.orders. Places orders, kills a worker among them, and proves what came of it."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from holdfast import Client, ReplyTimeout, RunState, Settings, Supervisor, connect
from holdfast.actors import wiring
from holdfast.actors.partitions import this_host
from holdfast.runtime.config import MEMORY_URL

#: Where workers find this package.
ROOT = Path(__file__).resolve().parents[2]
APP = "examples.orders.app:app"
#: How long everything together may take.
PATIENCE_S = 120.0
#: How often it is looked whether it has happened.
STEP_S = 0.1
#: Every so manieth order wants what there is only one of.
RARE = 20


@click.command()
@click.option(
    "--orders", type=click.IntRange(10, 100_000), default=300, show_default=True, help="Orders.", metavar="N"
)
@click.option(
    "--processes",
    type=click.IntRange(1, 16),
    default=2,
    show_default=True,
    help="Worker processes.",
    metavar="N",
)
@click.option("--kill/--no-kill", default=True, show_default=True, help="Kill a worker among the orders.")
def main(orders: int, processes: int, kill: bool) -> None:
    """Place orders with a payment provider that fails, and prove that nobody was charged twice.

    A private Redis runs in a folder of its own, of which nothing is left. Exit code 1 if anything is not as it must be.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-orders-")))
        # Before the app is imported, here and in the workers.
        os.environ["ORDERS_DIR"] = str(folder / "shop")
        client = stack.enter_context(_shop(folder, processes))
        began = time.monotonic()
        _place(client, orders)
        if kill:
            click.echo(f"a worker was killed: process {_kill(client, orders)}")
        _await_end(client, orders)
        seconds = time.monotonic() - began
        fine = _tell(client, orders)
        click.echo(f"      {orders / seconds:,.0f} orders per second, each of three effects and more")
    sys.exit(0 if fine else 1)


@contextmanager
def _shop(folder: Path, processes: int) -> Iterator[Client]:
    """Open the shop: a server, workers of every pool, and a client."""
    from examples.orders.app import app

    settings, server = wiring.ground(Settings.of(data_dir=folder / "redis", namespace="orders"))
    if settings.redis_url == MEMORY_URL:
        raise click.ClickException("no redis-server was found; install one")
    log = folder / "workers.log"
    try:
        with (
            Supervisor(APP, settings, processes=processes, folder=ROOT, log_file=log),
            connect(app, settings) as client,
        ):
            yield client
    except Exception:
        click.echo(log.read_text(errors="replace")[-4_000:], err=True)
        raise
    finally:
        if server is not None:
            server.stop()


def _place(client: Client, orders: int) -> None:
    from examples.orders.workflow import PlaceOrder

    client.send_many(
        PlaceOrder(
            f"o-{number}",
            f"customer-{number % 50}",
            "a single rare vase" if number % RARE == 0 else "tea",
            1,
            500 + number,
        )
        for number in range(orders)
    )
    click.echo(f"{orders:,} orders placed")


def _kill(client: Client, orders: int) -> int:
    """Kill a worker of ours once some of the orders are finished, and return which process that was."""
    _until(lambda: _finished(client) >= orders // 4, "the first orders are not finished")
    ports = wiring.open_ports(client.settings)
    try:
        pid = next(member.pid for member in ports.membership.living() if member.host == this_host())
    finally:
        ports.close()
    os.kill(pid, signal.SIGKILL)
    return pid


def _finished(client: Client) -> int:
    ports = wiring.open_ports(client.settings)
    try:
        return ports.directory.count("order", RunState.COMPLETED)
    finally:
        ports.close()


def _await_end(client: Client, orders: int) -> None:
    """Wait until every order is finished and the read model has them all."""
    from examples.orders.app import sales_file
    from examples.orders.sales import by_status

    _until(lambda: _finished(client) >= orders, "orders are not finished")

    def shown() -> bool:
        found = by_status(sales_file())
        return sum(found[status][0] for status in ("shipped", "cancelled") if status in found) >= orders

    _until(shown, "the read model is behind")


def _until(happened: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() > deadline:
            raise ReplyTimeout(f"{otherwise} after {PATIENCE_S:.0f} s")
        time.sleep(STEP_S)


def _tell(client: Client, orders: int) -> bool:
    """Read everything back, print what was proved, and return whether all of it is as it must be."""
    from examples.orders.app import provider, sales_file, warehouse
    from examples.orders.proof import Tally, prove
    from examples.orders.sales import by_status
    from examples.orders.workflow import Order

    tally = Tally()
    for number in range(orders):
        tally.add(client.history(Order, f"o-{number}"))
    claims = prove(orders, tally, provider().books(), warehouse().counts(), by_status(sales_file()))
    for claim in claims:
        click.echo(f"  {'ok' if claim.holds else 'NO'}  {claim.sentence}")
    return all(claim.holds for claim in claims)


if __name__ == "__main__":
    # Ended by SIGTERM, too, nothing stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main(prog_name="python -m examples.orders")
