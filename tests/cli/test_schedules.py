"""
`holdfast schedules`: what comes when, from the command line.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast import Client, Settings
from tests.cli.desk import run, working
from tests.flow.bells import Bell, small_app
from tests.support.processes import eventually

APP = "tests.flow.bells:small_app"


@pytest.fixture
def tower(settings: Settings) -> Iterator[Client]:
    """
    Bells with a worker, whose schedules are set.
    """
    with working(small_app, settings) as client:
        eventually(lambda: len(client.schedules.list()) == len(small_app.schedules))
        yield client


def test_schedules_are_listed(tower: Client) -> None:
    """
    By name, with when they come next.
    """
    head, *lines = run("schedules", "list", APP).out.splitlines()

    assert ["name", "when", "state", "next", "last", "sent", "skipped", "failed"] == head.split()
    assert ["daily", "faulty", "plain", "queued", "single"] == [line.split()[0] for line in lines]
    assert "0 2 * * * Europe/Berlin" in lines[0]
    assert all("ticking" in line for line in lines)

    found = run("schedules", "list", APP, "--json").lines

    assert {"name": "daily", "cron": "0 2 * * *", "every_s": None, "paused": False, "orphaned": False} == {
        name: found[0][name] for name in ("name", "cron", "every_s", "paused", "orphaned")
    }
    assert 5 == len(found[0]["next"])


def test_a_schedule_is_told_what_to_do(tower: Client) -> None:
    """
    Paused, resumed, triggered, backfilled, shown and removed.
    """
    assert "daily paused" == run("schedules", "pause", APP, "daily", "--reason", "rest").out.strip()
    assert "paused" in run("schedules", "list", APP).out
    assert "rest" == run("schedules", "show", APP, "daily", "--json").json["reason"]
    assert "daily resumed" == run("schedules", "resume", APP, "daily").out.strip()
    assert "plain triggered" == run("schedules", "trigger", APP, "plain").out.strip()

    span = ("--from", "2026-01-01T00:00Z", "--to", "2026-01-03T00:00Z")

    assert "2 ticks of daily will be sent" == run("schedules", "backfill", APP, "daily", *span).out.strip()
    eventually(lambda: run("schedules", "show", APP, "daily", "--json").json["sent"] == 2)

    shown = run("schedules", "show", APP, "daily").out

    assert "bell/daily" in shown
    assert 5 == sum(" next " in line for line in shown.splitlines())
    assert "daily removed" == run("schedules", "remove", APP, "daily").out.strip()
    assert "there is no schedule 'daily'" == run("schedules", "show", APP, "daily", code=1).sentence


def test_what_makes_no_sense_is_refused(tower: Client) -> None:
    """
    In a sentence that names the schedule: exit code 1, as where any other command is refused or finds nothing.
    """
    assert "schedule 'daily': not paused" == run("schedules", "resume", APP, "daily", code=1).sentence
    run("schedules", "pause", APP, "daily")
    assert "schedule 'daily': paused already" == run("schedules", "pause", APP, "daily", code=1).sentence
    for verb in ("pause", "resume", "trigger", "remove"):
        assert "schedule 'x': there is no such schedule" == run("schedules", verb, APP, "x", code=1).sentence
    assert "there is no schedule 'x'" == run("schedules", "show", APP, "x", code=1).sentence
    span = ("--from", "2026-01-01T03:00Z", "--to", "2026-01-01T04:00Z")
    sentence = run("schedules", "backfill", APP, "daily", *span, code=1).sentence
    assert "schedule 'daily': there is no tick in that time" == sentence


def test_a_wrong_call_is_told(settings: Settings) -> None:
    """
    Exit code 2: it could never be right.
    """
    wrong = ("--from", "soon", "--to", "2026-01-01T04:00Z")
    assert "is no time" in run("schedules", "backfill", APP, "daily", *wrong, code=2).sentence
    assert "there is no module" in run("schedules", "pause", "nothing:app", "daily", code=2).sentence


def test_what_was_removed_has_no_past(settings: Settings) -> None:
    """
    Code that still has it brings it back at the next start, with nothing counted.
    """

    def daily() -> Any:
        return run("schedules", "show", APP, "daily", "--json").json

    with working(small_app, settings) as client:
        eventually(lambda: client.schedules.get("daily") is not None)
        run("schedules", "trigger", APP, "daily")
        eventually(lambda: 1 == daily()["sent"])
        run("schedules", "remove", APP, "daily")
    with working(small_app, settings) as client:
        eventually(lambda: client.schedules.get("daily") is not None)

        assert (0, []) == (daily()["sent"], daily()["latest"])
        run("schedules", "trigger", APP, "daily")
        eventually(lambda: 1 == daily()["sent"])
        eventually(lambda: 2 == client.state(Bell, "daily"))


def test_an_app_without_schedules(settings: Settings) -> None:
    """
    Says so.
    """
    assert run("schedules", "list", "tests.cli.shop:app").sentence.startswith("no schedules; ")
