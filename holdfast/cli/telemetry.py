"""What the commands that start workers take about metrics, health and logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from holdfast.cli.ending import Failed
from holdfast.runtime.config import LogFormat, Settings

_OPTIONS = (
    click.option(
        "--metrics-port",
        type=click.IntRange(0, 65_535),
        help="Serve /metrics, /health and /ready here, the second process on the next port, and so on; "
        "HOLDFAST_METRICS_PORT without this, 0 for nowhere.",
        metavar="N",
    ),
    click.option(
        "--metrics-host",
        help="The address for that, 0.0.0.0 for all; HOLDFAST_METRICS_HOST or 127.0.0.1 without this.",
        metavar="HOST",
    ),
    click.option(
        "--log-format",
        type=click.Choice([form.value for form in LogFormat]),
        help="How log lines are written; HOLDFAST_LOG_FORMAT or auto without this: text at a terminal, else JSON.",
    ),
)


def telemetry_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options `metrics_port`, `metrics_host` and `log_format`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings_of(processes: int, **given: Any) -> Settings:
    """Return the settings of the environment, with what was given on the command line and is not None.

    Raises:
        Failed: There are not as many ports as processes.
    """
    settings = Settings.from_environment(
        None, **{name: value for name, value in given.items() if value is not None}
    )
    if settings.metrics_port + processes > 65_536:
        raise Failed(
            "there are not so many ports: each process serves its metrics on one of its own; "
            f"name a --metrics-port of at most {65_536 - processes:,}"
        )
    return settings
