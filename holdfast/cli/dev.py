"""`holdfast dev`: a worker and a server of its own, for the desk."""

from __future__ import annotations

import warnings
from pathlib import Path

import click

from holdfast.actors import wiring
from holdfast.actors.client import connect
from holdfast.actors.pools import POOLS, needed
from holdfast.actors.supervisor import Supervisor
from holdfast.actors.worker import load_app
from holdfast.brokers.embedded import EmbeddedRedis
from holdfast.cli.ending import Failed
from holdfast.cli.notes import note
from holdfast.cli.serving import Signals, knock, logs_shown, serve
from holdfast.cli.telemetry import settings_of, telemetry_options
from holdfast.cli.worker import describe
from holdfast.runtime.app import App
from holdfast.runtime.config import MEMORY_URL, Settings


@click.command(short_help="Serve an app with a private server, nothing to install.")
@click.argument("app_path", metavar="APP")
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.", metavar="N"
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the private server keeps its data; HOLDFAST_DATA_DIR or .holdfast without this.",
)
@telemetry_options
def dev(
    app_path: str,
    processes: int,
    data_dir: Path | None,
    metrics_port: int | None,
    metrics_host: str | None,
    log_format: str | None,
) -> None:
    """Serve APP without installing anything: a private Redis keeps the data in .holdfast/ of this folder.

    `holdfast send` and all reading commands join it from other shells in the same folder. Ctrl-C ends in good order.
    Kill it, start it again, and the work goes on. Servers that HOLDFAST_REDIS_URL and HOLDFAST_AMQP_URL name are
    used instead.
    """
    app = load_app(app_path)
    settings = settings_of(
        processes,
        data_dir=data_dir,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        log_format=log_format,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says is said below, for everyone to see
        settings, server = wiring.ground(settings)
    with logs_shown(settings), Signals() as signals:
        if settings.redis_url == MEMORY_URL:
            _serve_here(app, app_path, settings, signals)
            return
        try:
            if server is not None:
                note(server.describe())
            knock(settings, signals)
            if not signals.stop.is_set():
                note(describe(app_path, settings, needed(app, POOLS), processes))
                note("Ctrl-C ends it in good order; start it again and the work goes on")
                _serve(app_path, settings, server, processes, signals)
        finally:
            if server is not None:
                server.stop()
        note("stopped" if server is None else f"stopped; the data stay in {server.folder}")


def _serve(
    app_path: str, settings: Settings, server: EmbeddedRedis | None, processes: int, signals: Signals
) -> None:
    supervisor = Supervisor(app_path, settings, processes=processes, preload="holdfast.cli.quiet")
    if server is None:
        serve(supervisor, signals)
        return
    serve(supervisor, signals, lambda: _keep_up(server, settings))


def _keep_up(server: EmbeddedRedis, settings: Settings) -> None:
    """See to it that there is a server: a `holdfast send` may have begun this one, and taken it along."""
    if server.start() != settings.redis_url:
        raise Failed("the private server came back at another address; start `holdfast dev` again")


def _serve_here(app: App, app_path: str, settings: Settings, signals: Signals) -> None:
    """Serve in this process, with everything in memory."""
    note(
        f"no redis-server was found: {app_path} is served in this process, everything is kept in memory, and NOTHING "
        "WILL SURVIVE it; other processes cannot send to it. Install redis-server for more"
    )
    if settings.metrics_port:
        note("metrics and health are not served here: that takes worker processes, which take redis-server")
    with connect(app, settings):
        signals.stop.wait()
    note("stopped; nothing was kept")
