"""`holdfast worker`: worker processes on your servers."""

from __future__ import annotations

import click

from holdfast.actors.pools import POOLS, needed
from holdfast.actors.supervisor import Supervisor
from holdfast.actors.worker import load_app
from holdfast.cli.ending import Failed
from holdfast.cli.notes import note
from holdfast.cli.serving import PATIENCE_S, Signals, knock, logs_shown, serve
from holdfast.cli.telemetry import settings_of, telemetry_options
from holdfast.runtime.config import MEMORY_URL, Settings, TransportKind
from holdfast.runtime.redaction import hide_password


def _check_pools(_ctx: click.Context, _param: click.Parameter, pools: tuple[str, ...]) -> tuple[str, ...]:
    for pool in pools:
        if pool not in POOLS:
            raise click.BadParameter(f"there is no pool {pool!r}; there are: {', '.join(POOLS)}")
    return pools


@click.command(short_help="Serve an app on your servers.")
@click.argument("app_path", metavar="APP")
@click.option(
    "--pool",
    "pools",
    multiple=True,
    default=POOLS,
    show_default=True,
    callback=_check_pools,
    help="A kind of work to serve; may be repeated.",
    metavar="POOL",
)
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.", metavar="N"
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Lanes per process: batches that are worked on at a time.",
    metavar="N",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=PATIENCE_S,
    show_default=True,
    help="Seconds to wait at the start for servers that are away.",
    metavar="S",
)
@telemetry_options
def worker(
    app_path: str,
    pools: tuple[str, ...],
    processes: int,
    threads: int,
    patience: float,
    metrics_port: int | None,
    metrics_host: str | None,
    log_format: str | None,
) -> None:
    """Serve APP with worker processes, on the servers in HOLDFAST_REDIS_URL and HOLDFAST_AMQP_URL.

    Without HOLDFAST_AMQP_URL commands travel over Redis Streams. SIGTERM and Ctrl-C end in good order: partitions
    are handed over once what was taken from them is finished. SIGHUP starts the processes anew, in good order.
    """
    settings = settings_of(
        processes, metrics_port=metrics_port, metrics_host=metrics_host, log_format=log_format
    )
    if settings.embedded or settings.redis_url == MEMORY_URL:
        raise Failed(
            "a worker needs servers: set HOLDFAST_REDIS_URL (and HOLDFAST_AMQP_URL for RabbitMQ), "
            "or run `holdfast dev APP`, which brings its own"
        )
    pools = needed(load_app(app_path), pools)
    with logs_shown(settings), Signals() as signals:
        knock(settings, signals, patience)
        if signals.stop.is_set():
            return
        note(describe(app_path, settings, pools, processes))
        serve(Supervisor(app_path, settings, processes=processes, pools=pools, lanes=threads), signals)
        note("stopped")


def describe(app_path: str, settings: Settings, pools: tuple[str, ...], processes: int) -> str:
    """Return what is served, and on what."""
    carrier = (
        "Redis Streams" if settings.transport is TransportKind.REDIS else hide_password(settings.amqp_url)
    )
    return (
        f"{processes} {'process serves' if processes == 1 else 'processes serve'} the {' and '.join(pools)} {'pool' if len(pools) == 1 else 'pools'} of "
        f"{app_path}; commands over {carrier}, logs in {hide_password(settings.redis_url)}, namespace "
        f"{settings.namespace}, {settings.partitions} partitions, durability {settings.durability}"
    )
