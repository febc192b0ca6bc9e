"""
How a worker starts: without what it does not need, since work waits meanwhile.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: What the work of no worker needs that nothing was asked of.
NEEDLESS = (
    "cryptography.hazmat",
    "greenlet",
    "holdfast.actors.async_client",
    "holdfast.actors.client",
    "holdfast.actors.simulation",
    "holdfast.actors.supervisor",
    "holdfast.brokers.memory",
    "holdfast.brokers.otlp",
    "holdfast.cli",
    "holdfast.demo",
    "holdfast.runtime.exploration",
    "holdfast.runtime.testing",
    "hypothesis",
    "matplotlib",
    "opentelemetry.exporter",
    "opentelemetry.sdk.trace.export",
    "prometheus_client",
    "psycopg",
    "pytest",
    "rich",
    "sqlalchemy",
    "unittest",
)
#: What `holdfast worker` needs and each of its workers does not.
OF_THE_COMMAND = {"holdfast.actors.supervisor", "holdfast.cli"}


def loaded(program: str) -> set[str]:
    """
    The modules that are loaded when a program has run in an interpreter of its own.
    """
    said = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(said.stdout.split())


@pytest.mark.parametrize(
    ("program", "needless"),
    [
        pytest.param(
            "import holdfast.actors.master, holdfast.actors.worker, benchmarks.steps", NEEDLESS, id="worker"
        ),
        pytest.param(
            "import holdfast.cli.worker",
            [name for name in NEEDLESS if name not in OF_THE_COMMAND],
            id="holdfast worker",
        ),
        pytest.param(
            "from holdfast import App, Command, Decision, Event, Workflow, accept, reject",
            [*NEEDLESS, "asyncio", "dramatiq", "pika", "redis"],
            id="a workflow",
        ),
    ],
)
def test_a_start_imports_nothing_that_it_does_not_need(program: str, needless: list[str]) -> None:
    """
    A worker that was killed is started again the sooner.
    """
    assert set() == loaded(program) & set(needless)


def test_a_command_brings_no_other() -> None:
    """
    The command line imports what is called, and that alone.
    """
    others = {"holdfast.cli.demo", "holdfast.cli.diagram", "holdfast.cli.output"}
    program = "import click\nfrom holdfast.cli import main\nmain.get_command(click.Context(main), 'worker')"

    found = loaded(program)

    assert "holdfast.cli.worker" in found
    assert set() == found & others
