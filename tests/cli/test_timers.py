"""
`holdfast timers`: what will be sent, and when.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from holdfast import Client, Settings
from tests.cli.desk import run, working
from tests.flow.alarms import Arm, app

FAR = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
def clocks(settings: Settings) -> Iterator[Client]:
    """
    Alarms with a worker, some of which are set.
    """
    with working(app, settings) as client:
        client.execute(Arm("a", "x", at=FAR, slot="morning"))
        client.execute(Arm("b", "x", at=FAR.replace(year=2998), slot="\x1b[31m[bold]"))
        client.execute(Arm("a", "x", at=FAR.replace(year=2997)), id="c-3")
        yield client


def test_timers_are_listed(clocks: Client) -> None:
    """
    The next one first; no app is needed, and nothing of a name reaches the terminal as it is.
    """
    head, *lines = run("timers").out.splitlines()

    assert ["due", "workflow", "key", "name", "command"] == head.split()
    assert ["a", "b", "a"] == [line.split()[3] for line in lines]
    assert "\\x1b[31m[bold]" in lines[1]
    assert all(line.endswith("Ring") for line in (one.rstrip() for one in lines))


def test_timers_of_a_workflow_or_an_instance(clocks: Client) -> None:
    """
    A type and a key narrow the list down.
    """
    assert 3 == len(run("timers", "alarm", "--json").lines)
    assert 2 == len(run("timers", "alarm", "a", "--json").lines)
    assert "no timers" == run("timers", "order").sentence
    assert "no timers" == run("timers", "alarm", "c").sentence


def test_timers_as_json(clocks: Client) -> None:
    """
    One line per timer with all that is known of it.
    """
    first = run("timers", "--json", "--limit", "1").lines

    assert [
        {
            "workflow": "alarm",
            "key": "a",
            "name": None,
            "due": "2997-01-01T00:00:00Z",
            "command": "Ring",
            "command_id": "c-3:t0",
        }
    ] == first
    assert "there are more than 2; see --limit" == run("timers", "--limit", "2").sentence
