"""
Schedules: what is wrong with one is said when the app is made, and its ticks come when they should.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from holdfast import App, CatchUp, Overlap, Schedule, WorkflowError
from holdfast.runtime.schedule import ticks_after, ticks_before
from tests import controls


def schedule(**changes: Any) -> Schedule:
    """
    Return a schedule that places an order, with some of it otherwise.
    """
    values: dict[str, Any] = {
        "name": "nightly",
        "cron": "0 2 * * *",
        "command": lambda tick: controls.PlaceOrder(f"o-{tick:%d}"),
    }
    return Schedule(**(values | changes))


def times(found: Any, count: int) -> list[str]:
    """
    Return some ticks, in UTC.
    """
    return [f"{tick:%m-%d %H:%M}" for tick in islice(found, count)]


# -- declarations


async def soon(tick: datetime) -> controls.PlaceOrder:
    """
    What a schedule would have to wait for.
    """
    return controls.PlaceOrder("o-1")


def one_by_one(tick: datetime) -> Iterator[controls.PlaceOrder]:
    """
    What a schedule would have to go through.
    """
    yield controls.PlaceOrder("o-1")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "two words"}, "schedule 'two words': a name is 1 to 64 letters"),
        ({"name": ""}, "a name is"),
        ({"name": "x" * 65}, "a name is"),
        ({"cron": None}, "it needs either `cron` or `every`"),
        ({"every": timedelta(hours=1)}, "it needs either `cron` or `every`"),
        (
            {"cron": "0 2 * *"},
            "schedule 'nightly': the cron line '0 2 * *' cannot be read: Wrong number of fields",
        ),
        ({"cron": "61 * * * *"}, "cannot be read: Bad minute"),
        ({"cron": "0 0 31 2 *"}, "the cron line '0 0 31 2 *'"),
        ({"tz": "Mars/Olympus"}, "schedule 'nightly': there is no time zone 'Mars/Olympus'"),
        ({"tz": "../etc"}, "there is no time zone"),
        ({"tz": ""}, "there is no time zone"),
        ({"cron": None, "every": timedelta(milliseconds=10)}, "the least is 0:00:01"),
        ({"overlap": "wait"}, "overlap is 'wait'; there are: allow, skip, queue"),
        ({"catch_up": "some"}, "catch_up is 'some'; there are: skip, last, all"),
        ({"overlap": None}, "overlap is None; there are: allow, skip, queue"),
        ({"catch_up": CatchUp}, "catch_up is the class CatchUp; there are: skip, last, all"),
        ({"name": None}, "schedule None: a name is"),
        ({"cron": 5}, "schedule 'nightly': `cron` is 5; it must be a line, such as cron=\"0 2 * * *\""),
        ({"cron": None, "every": 3}, "`every` is 3; it must be a timedelta, such as timedelta(hours=1)"),
        ({"cron": None, "every": "1h"}, "`every` is '1h'; it must be a timedelta"),
        ({"cron": None, "every": timedelta}, "`every` is the class timedelta; it must be a timedelta"),
        ({"cron": None, "every": timedelta.max}, "the least is 0:00:01 and the most 36500 days"),
        (
            {"window": 5},
            "schedule 'nightly': `window` is 5; it must be a timedelta, such as timedelta(hours=1)",
        ),
        ({"window": timedelta(0)}, "`window` is 0:00:00; the least is 0:00:00.001000"),
        ({"tz": None}, 'there is no time zone None; write the name of one, such as tz="Europe/Berlin"'),
        (
            {"tz": ZoneInfo("UTC")},
            "there is no time zone zoneinfo.ZoneInfo(key='UTC'); write the name of one",
        ),
        (
            {"command": "PlaceOrder"},
            "`command` is 'PlaceOrder', which cannot be called; write def command(tick), or command=lambda tick: ",
        ),
        ({"command": controls.PlaceOrder("o-1")}, "which cannot be called; write def command(tick)"),
        (
            {"command": controls.PlaceOrder},
            "`command` is the class PlaceOrder; write def command(tick), or command=lambda",
        ),
        ({"command": None}, "`command` is None, which cannot be called"),
        (
            {"command": lambda: controls.PlaceOrder("o-1")},
            "schedule 'nightly': `command` takes (), but is called with (tick); write def command(tick)",
        ),
        ({"command": lambda tick, app: None}, "`command` takes (tick, app), but is called with (tick)"),
        (
            {"command": soon},
            "`command` is async, but nobody awaits it; write def command(tick) without async",
        ),
        ({"command": one_by_one}, "`command` has a yield, so that calling it runs nothing"),
        ({"filter": "weekdays"}, "`filter` is 'weekdays', which cannot be called; write def filter(tick)"),
        ({"filter": 0}, "`filter` is 0, which cannot be called"),
        ({"filter": lambda: True}, "`filter` takes (), but is called with (tick)"),
        ({"filter": soon}, "`filter` is async"),
    ],
)
def test_a_wrong_schedule_is_refused_when_the_app_is_made(changes: dict[str, Any], problem: str) -> None:
    """
    The message names the schedule and says what is wrong.
    """
    with pytest.raises(WorkflowError) as caught:
        App(workflows=[controls.Order], schedules=[schedule(**changes)])

    assert problem in str(caught.value)
    assert str(caught.value).startswith("schedule ")


def test_names_are_unique() -> None:
    """
    Two schedules of one name would share a past.
    """
    with pytest.raises(WorkflowError, match="two schedules have the name 'nightly'"):
        App(workflows=[controls.Order], schedules=[schedule(), schedule()])


def test_the_built_in_workflow_is_in_every_app() -> None:
    """
    It is found by its type, is not among the app's own workflows, and nobody else may have its type.
    """
    app = controls.app()

    assert "holdfast.schedule" == app.definition("holdfast.schedule").type
    assert "holdfast.schedule" not in [definition.type for definition in app.definitions]

    class Impostor(controls.Counter):
        type = "holdfast.schedule"

    with pytest.raises(WorkflowError, match="is Holdfast's own"):
        App(workflows=[Impostor])


def test_policies_are_words_or_values() -> None:
    """
    A word says the same as the value.
    """
    said = schedule(overlap="queue", catch_up="all").spec

    assert schedule(overlap=Overlap.QUEUE, catch_up=CatchUp.ALL).spec == said
    assert said.fingerprint == schedule(overlap="queue", catch_up="all").spec.fingerprint
    assert said.fingerprint != schedule().spec.fingerprint


# -- ticks

BERLIN = "Europe/Berlin"
SPRING, AUTUMN = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "tz", "begin", "expected"),
    [
        ("0 2 * * *", "UTC", SPRING, ["03-29 02:00", "03-30 02:00"]),
        ("@daily", BERLIN, SPRING, ["03-28 23:00", "03-29 22:00"]),
        # 02:30 does not exist on the 29th: it comes at 03:00, when the gap is over.
        ("30 2 * * *", BERLIN, SPRING, ["03-29 01:00", "03-30 00:30"]),
        # 02:30 exists twice on the 25th: the first one counts.
        ("30 2 * * *", BERLIN, AUTUMN, ["10-25 00:30", "10-26 01:30"]),
        # What comes every hour comes every hour.
        ("0 * * * *", BERLIN, datetime(2026, 3, 29, 0, 30, tzinfo=UTC), ["03-29 01:00", "03-29 02:00"]),
        (
            "0 * * * *",
            BERLIN,
            datetime(2026, 10, 24, 23, 30, tzinfo=UTC),
            ["10-25 00:00", "10-25 01:00", "10-25 02:00"],
        ),
        ("0 9 * * MON-FRI", "America/New_York", SPRING, ["03-30 13:00", "03-31 13:00"]),
    ],
)
def test_ticks_of_a_cron_line(cron: str, tz: str, begin: datetime, expected: list[str]) -> None:
    """
    They come by the clock of the time zone, through the nights in which that changes too, and backwards the same.
    """
    spec = schedule(cron=cron, tz=tz).spec
    found = list(islice(ticks_after(spec, begin), len(expected)))

    assert expected == times(found, 9)
    assert list(reversed(found)) == list(islice(ticks_before(spec, found[-1]), len(found)))
    assert found[0] not in list(islice(ticks_after(spec, found[0]), 3))


@pytest.mark.parametrize("cron", ["30 2 * * *", "15 1,2,3 * * *", "*/10 * * * *", "0 * * * *", "0 2 * * *"])
@pytest.mark.parametrize("night", [SPRING, AUTUMN])
def test_the_next_tick_and_the_last_one_are_found_from_any_moment(cron: str, night: datetime) -> None:
    """
    Also in the hour that comes twice: whoever looks from there does not find the tick that came in the first of them.
    """
    spec = schedule(cron=cron, tz=BERLIN).spec
    ticks = list(islice(ticks_after(spec, night), 200))

    for minutes in range(0, 18 * 60, 7):
        moment = night + timedelta(minutes=minutes, seconds=11)
        assert next(tick for tick in ticks if tick > moment) == next(ticks_after(spec, moment))
        if moment > ticks[0]:
            assert max(tick for tick in ticks if tick <= moment) == next(ticks_before(spec, moment))


def test_ticks_of_an_interval() -> None:
    """
    They are its multiples, wherever one begins to look; a tick is not after itself, but at or before itself.
    """
    spec = schedule(cron=None, every=timedelta(minutes=20)).spec
    begin = datetime(2026, 1, 1, 12, 5, tzinfo=UTC)

    assert ["01-01 12:20", "01-01 12:40", "01-01 13:00"] == times(ticks_after(spec, begin), 3)
    assert ["01-01 12:00", "01-01 11:40"] == times(ticks_before(spec, begin), 2)
    assert ["01-01 12:40"] == times(ticks_after(spec, begin.replace(minute=20)), 1)
    assert ["01-01 12:20"] == times(ticks_before(spec, begin.replace(minute=20)), 1)


def test_a_tick_is_told_in_its_own_zone() -> None:
    """
    What `command` and `filter` see is the time that the cron line means.
    """
    spec = schedule(tz=BERLIN).spec
    tick = next(ticks_after(spec, SPRING))

    assert "2026-03-29T03:00:00+02:00" == spec.local(tick).isoformat()
