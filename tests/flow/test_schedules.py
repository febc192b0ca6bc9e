"""
Schedules: each tick once, whatever crashes; and what people may do with them.
"""

import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast import Accepted, App, Client, ScheduleLine, Settings, UsageError, connect
from holdfast.actors import wiring
from holdfast.runtime.faults import Point
from holdfast.runtime.timetable import ScheduleWorkflow
from tests.crash.strike import ENV_FOLDER, order
from tests.flow.bells import ENV_MENDED, Bell, Stop, Struck, app, next_app, small_app
from tests.flow.house import PATIENCE_S, House
from tests.support.processes import eventually


class Tower:
    """
    An installation in memory, on which one app after another is deployed.
    """

    def __init__(self, name: str) -> None:
        self.settings = Settings.of(redis_url="memory://", namespace=name, partitions=4)

    def deployed(self, what: App = small_app) -> Client:
        """
        Return a client of an app, to be used in a `with`; its schedules are set.
        """
        client = connect(what, self.settings)
        eventually(
            lambda: all(
                client.schedules.get(name) is not None and client.schedules.get(name).spec == schedule.spec  # type: ignore[union-attr]  # as looked at before
                for name, schedule in what.schedules.items()
            )
        )
        return client


@pytest.fixture
def tower(request: pytest.FixtureRequest) -> Iterator[Tower]:
    """
    A tower of the test's own.
    """
    it = Tower(f"tower-{abs(hash(request.node.name)):x}")
    yield it
    wiring.remove_namespace(it.settings)


def line(client: Client, name: str) -> ScheduleLine:
    """
    Return a schedule that must be there.
    """
    found = client.schedules.get(name)
    assert found is not None
    return found


def rung(client: Client, bell: str) -> list[datetime]:
    """
    Return for which ticks a bell rang.
    """
    return [
        event.tick
        for record in client.history(Bell, bell)
        for event in record.events
        if isinstance(event, Struck)
    ]


def await_rung(client: Client, bell: str, count: int) -> None:
    """
    Wait until a bell has rung so often.
    """
    eventually(lambda: len(rung(client, bell)) >= count, PATIENCE_S)


# -- on real servers


@pytest.mark.parametrize("transport", ["redis"])
def test_each_tick_comes_once_whatever_crashes(
    home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Workers are killed when they have just moved and just published a tick: no tick is left out, none comes twice.
    """
    monkeypatch.setenv(ENV_FOLDER, str(tmp_path))
    with (
        home.crew(2, "tests.flow.bells:app", preload="tests.crash.strike"),
        connect(app, home.settings) as client,
    ):

        def bells() -> list[str]:
            return sorted(listed.key for listed in client.instances(Bell, limit=1_000).instances)

        eventually(lambda: len(bells()) >= 1, PATIENCE_S)
        for point in (Point.TIMER_MOVED, Point.TIMER_PUBLISHED):
            mark, count = order(tmp_path, point, signal.SIGKILL), len(bells())
            mark.touch()
            eventually(lambda mark=mark: not mark.exists(), PATIENCE_S)  # type: ignore[misc]  # mypy cannot type a default in a lambda
            eventually(lambda count=count: len(bells()) > count + 1, PATIENCE_S)  # type: ignore[misc]  # as above

        last = time_of(bells()[-1])

        def gapless() -> bool:
            ticks = [tick for tick in map(time_of, bells()) if tick <= last]
            return [ticks[0] + timedelta(seconds=n) for n in range(len(ticks))] == ticks

        # One that was struck comes after those that follow it.
        eventually(gapless, PATIENCE_S)
        found = bells()
        assert {1} == {len(rung(client, key)) for key in found}
        assert 0 == client.dead_letters.count()
        assert {"sent"} == {tick.what for tick in line(client, "second").latest}


def time_of(bell: str) -> datetime:
    """
    Return the tick that a bell of its own rings for.
    """
    return datetime.strptime(bell, "second-%Y%m%d%H%M%S").replace(tzinfo=UTC)


# -- what people do


def test_schedules_are_listed(tower: Tower) -> None:
    """
    With their next ticks in their own time zone.
    """
    with tower.deployed() as client:
        assert ["daily", "faulty", "plain", "queued", "single"] == [
            one.name for one in client.schedules.list()
        ]

        daily = line(client, "daily")

        hours = Counter((tick.hour, tick.minute) for tick in daily.next)
        # In spring there is a day without that hour.
        assert hours in ({(2, 0): 5}, {(2, 0): 4, (3, 0): 1})
        assert datetime.now(UTC) < daily.next[0] <= datetime.now(UTC) + timedelta(days=1, hours=1)
        assert {"Europe/Berlin"} == {str(tick.tzinfo) for tick in daily.next}
        assert not daily.orphaned
        assert None is client.schedules.get("unknown")
        assert 5 == len(client.timers(ScheduleWorkflow))


def test_a_schedule_is_triggered(tower: Tower) -> None:
    """
    As often as one asks, paused or not, each time with a command of its own.
    """
    with tower.deployed() as client:
        client.schedules.trigger("plain")
        client.schedules.pause("plain", reason="rest")
        client.schedules.trigger("plain")
        await_rung(client, "plain", 2)
        eventually(lambda: line(client, "plain").sent == 2)

        assert ["sent", "sent"] == [one.what for one in line(client, "plain").latest]
        assert ("bell", "plain") == (
            line(client, "plain").latest[0].workflow,
            line(client, "plain").latest[0].key,
        )


def test_a_schedule_is_paused_and_resumed(tower: Tower) -> None:
    """
    It says why, and has no next tick meanwhile; what makes no sense is refused.
    """
    with tower.deployed() as client:
        client.schedules.pause("daily", reason="holidays")

        assert (True, "holidays", ()) == (
            line(client, "daily").paused,
            line(client, "daily").reason,
            line(client, "daily").next,
        )
        assert [] == client.timers(ScheduleWorkflow, "daily")
        with pytest.raises(UsageError, match="schedule 'daily': paused already"):
            client.schedules.pause("daily")

        client.schedules.resume("daily")

        assert not line(client, "daily").paused
        assert 1 == len(client.timers(ScheduleWorkflow, "daily"))
        with pytest.raises(UsageError, match="not paused"):
            client.schedules.resume("daily")
        with pytest.raises(UsageError, match="there is no such schedule"):
            client.schedules.trigger("unknown")


def test_a_time_is_backfilled(tower: Tower) -> None:
    """
    Every tick of it, in the schedule's time zone; a second time they come again.
    """
    begin, end = datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC)
    expected = ["2026-03-27T01:00", "2026-03-28T01:00", "2026-03-29T01:00", "2026-03-30T00:00"]
    with tower.deployed() as client:
        assert 4 == client.schedules.backfill("daily", begin, end)
        await_rung(client, "daily", 4)
        assert expected == sorted(f"{tick.astimezone(UTC):%Y-%m-%dT%H:%M}" for tick in rung(client, "daily"))
        assert 4 == client.schedules.backfill("daily", begin, end)
        await_rung(client, "daily", 8)
        with pytest.raises(UsageError, match="time zone"):
            client.schedules.backfill("daily", begin.replace(tzinfo=None), end)
        with pytest.raises(UsageError, match="no tick"):
            client.schedules.backfill("daily", end, begin)


def test_overlaps_are_skipped_or_wait(tower: Tower) -> None:
    """
    While the instance of the last tick runs, the next one is skipped, or waits until that has finished.
    """
    with tower.deployed() as client:
        for name in ("single", "queued"):
            client.schedules.trigger(name)
            await_rung(client, name, 1)
            eventually(lambda name=name: line(client, name).sent == 1)  # type: ignore[misc]  # mypy cannot type a default in a lambda
            client.schedules.trigger(name)
        eventually(lambda: line(client, "single").skipped == 1)

        assert "overlap" == line(client, "single").latest[0].what
        eventually(lambda: ["waiting"] == [one.what for one in line(client, "queued").waiting])

        assert isinstance(client.execute(Stop("queued")), Accepted)
        eventually(lambda: line(client, "queued").sent == 2, PATIENCE_S)

        eventually(lambda: line(client, "queued").waiting == ())


def test_a_faulty_command_is_tried_again(
    tower: Tower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What raises is tried again; once it is mended, the tick is sent.
    """
    monkeypatch.setenv(ENV_MENDED, str(tmp_path / "mended"))
    with tower.deployed() as client:
        client.schedules.trigger("faulty")
        eventually(
            lambda: any(
                "LookupError: not yet" in str(event)
                for record in client.history(ScheduleWorkflow, "faulty")
                for event in record.events
            )
        )
        (tmp_path / "mended").touch()
        await_rung(client, "faulty", 1)
        eventually(lambda: line(client, "faulty").sent == 1)


def test_a_deployment_changes_schedules(tower: Tower) -> None:
    """
    What the code says counts from then on; what it no longer has is orphaned until it is removed; what is new begins.
    """
    with tower.deployed() as client:
        client.schedules.pause("plain")
    with tower.deployed(next_app) as client:
        assert {3} == {tick.hour for tick in line(client, "daily").next}
        assert line(client, "plain").paused
        assert ["faulty", "queued", "single"] == [one.name for one in client.schedules.list() if one.orphaned]

        client.schedules.remove("single")

        assert "single" not in [one.name for one in client.schedules.list()]
        assert [] == client.timers(ScheduleWorkflow, "single")

        await_rung(client, "even", 2)

        assert {0} == {tick.second % 2 for tick in rung(client, "even")}
        eventually(lambda: "filtered" in {tick.what for tick in line(client, "even").latest})
    with tower.deployed() as client:
        assert not line(client, "single").orphaned
        assert {2} == {tick.hour for tick in line(client, "daily").next}
