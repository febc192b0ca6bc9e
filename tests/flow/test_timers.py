"""
Timers on real servers: they come, once, never early, and whatever becomes of the workers.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast import App, Client, Settings, Supervisor, connect, connect_async
from holdfast.actors import wiring
from holdfast.runtime.faults import Point
from holdfast.runtime.instance import RunState
from tests.crash.strike import ENV_FOLDER, order
from tests.flow.alarms import Alarm, Arm, Clock, Disarm, Rang, Repeat, Smash, Told, app
from tests.flow.house import CALM, PATIENCE_S, ROOT, House, house, quick, shared_house
from tests.flow.skew import ENV_SKEW
from tests.support.processes import eventually
from tests.support.servers import RabbitServer

APP = "tests.flow.alarms:app"

#: So many timers come due while a worker is struck.
MANY = 1_000
#: What senders send; timers send the rest.
HEARD = {"Arm", "Disarm", "Smash"}


@pytest.fixture(scope="module", params=["rabbitmq", "redis"])
def ringing(
    request: pytest.FixtureRequest, redis_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """
    A client of a house with a worker that the tests share; each keeps to keys of its own.
    """
    folder = tmp_path_factory.mktemp("ringing")
    with (
        shared_house(folder, redis_url, amqp_url if request.param == "rabbitmq" else "", **CALM) as home,
        home.crew(1, APP),
        connect(app, home.settings) as client,
    ):
        yield client


def rang(client: Client, key: str) -> list[str]:
    """
    Return what an alarm rang for, in order.
    """
    return [
        event.mark
        for record in client.history(Alarm, key)
        for event in record.events
        if isinstance(event, Rang)
    ]


def await_rang(client: Client, key: str, count: int) -> Clock:
    """
    Wait until an alarm has rung so often.
    """
    return client.wait(Alarm, key, until=lambda state: len(state.rang) >= count, timeout=PATIENCE_S)


def told(client: Client, name: str, make: Callable[[str], Sequence[Told]], *, within_ms: int) -> str:
    """
    Send commands to an alarm, and return its key as soon as all of them were decided within so much time. Where it took
    longer, as on a machine that stood still, a timer may have been due before its alarm had heard everything: then
    another alarm is told the same.
    """
    for number in range(30):
        key, began = f"{name}-{number}", time.monotonic()
        commands = make(key)
        client.send_many(commands)

        def heard(key: str = key, count: int = len(commands)) -> bool:
            return sum(one.command in HEARD for one in client.history(Alarm, key)) >= count

        eventually(heard, PATIENCE_S)
        if time.monotonic() - began < within_ms / 1000:
            return key
    raise AssertionError("the machine is never quick enough")


def test_timers_come_in_their_order(ringing: Client) -> None:
    """
    Timers with delays and with times come by when they are due, whatever the order in which they were set.
    """

    def timers(key: str) -> list[Told]:
        now = datetime.now(UTC)
        return [
            Arm(key, "third", after_ms=700),
            Arm(key, "second", at=now + timedelta(milliseconds=400)),
            Arm(key, "first", after_ms=0),
            Arm(key, "past", at=now - timedelta(days=1)),
        ]

    key = told(ringing, "order", timers, within_ms=350)
    await_rang(ringing, key, 4)

    assert {"first", "past"} == set(rang(ringing, key)[:2])
    assert ["second", "third"] == rang(ringing, key)[2:]


def test_a_timer_is_never_early(ringing: Client) -> None:
    """
    By the server's own clock, no timer's command is decided before its time.
    """
    keys = [f"early-{number}" for number in range(100)]
    ringing.send_many(Arm(key, "x", after_ms=37 + number) for number, key in enumerate(keys))
    for key in keys:
        await_rang(ringing, key, 1)
    listed = {line.key: line for line in ringing.instances(Alarm, limit=1_000).instances}
    waited = [(listed[key].updated - listed[key].created) / timedelta(milliseconds=1) for key in keys]

    assert [] == [(number, ms) for number, ms in enumerate(waited) if ms < 37 + number]


def test_timers_are_replaced_and_cancelled(ringing: Client) -> None:
    """
    A slot has one timer: the one that was set last, unless it is cancelled; and one that is cancelled and set again in
    one decision comes.
    """
    hour = 3_600_000

    def timers(key: str) -> list[Told]:
        return [
            Arm(key, "never", after_ms=hour, slot="a"),
            Arm(key, "never", after_ms=400, slot="b"),
            Arm(key, "never", after_ms=400, slot="c"),
            Arm(key, "sooner", after_ms=1, slot="a"),
            Disarm(key, "b"),
            Disarm(key, "c", again_ms=2),
            Disarm(key, "unknown"),
            Arm(key, "last", after_ms=900),
        ]

    key = told(ringing, "slots", timers, within_ms=350)
    await_rang(ringing, key, 3)
    ringing.wait(Alarm, key, until=lambda state: "last" in state.rang, timeout=PATIENCE_S)

    assert ["c again", "last", "sooner"] == sorted(rang(ringing, key))
    # A timer is listed until its sender has heard that its command was decided.
    eventually(lambda: ringing.timers(Alarm, key) == [], PATIENCE_S)


def test_a_timer_sets_itself_again(ringing: Client) -> None:
    """
    A heartbeat in one slot goes on: that it was sent does not take away the one that it set.
    """
    ringing.send(Repeat("beat", 20))
    await_rang(ringing, "beat", 21)

    assert [str(left) for left in range(20, -1, -1)] == rang(ringing, "beat")


def test_a_finished_instance_consumes_its_timers(ringing: Client) -> None:
    """
    A timer of an instance that has finished comes to nothing: no record, no dead letter, nothing left pending.
    """
    key = told(ringing, "done", lambda key: [Arm(key, "x", after_ms=500), Smash(key)], within_ms=450)
    ringing.send(Arm("after", "x", after_ms=600))
    await_rang(ringing, "after", 1)
    eventually(lambda: ringing.timers(Alarm, key) == [] and ringing.pending() == 0, PATIENCE_S)

    assert [] == rang(ringing, key)
    assert 0 == ringing.dead_letters.count()
    assert RunState.COMPLETED in {
        line.run_state for line in ringing.instances(Alarm, limit=1_000).instances if line.key == key
    }


def test_pending_timers_are_listed(ringing: Client) -> None:
    """
    The client shows what an instance waits for, and when it will come.
    """
    at = datetime(2999, 1, 1, tzinfo=UTC)
    ringing.execute(Arm("listed", "x", at=at, slot="far"), timeout=PATIENCE_S)
    (timer,) = ringing.timers("alarm", "listed")

    assert ("alarm", "listed", "far", at, "Ring") == (
        timer.workflow,
        timer.key,
        timer.name,
        timer.due,
        timer.command,
    )
    assert timer in ringing.timers()
    assert timer in ringing.timers(Alarm)

    ringing.execute(Disarm("listed", "far"), timeout=PATIENCE_S)


# -- what becomes of workers


@pytest.mark.parametrize("point", [Point.TIMER_MOVED, Point.TIMER_PUBLISHED])
@pytest.mark.parametrize("transport", ["rabbitmq"])
def test_a_worker_dies_with_timers_in_its_hands(
    home: House, point: Point, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The worker that has just moved, or just published, a thousand timers is killed: each of them rings once.
    """
    monkeypatch.setenv(ENV_FOLDER, str(tmp_path))
    keys = [f"k-{number}" for number in range(MANY)]
    with home.crew(2, APP, preload="tests.crash.strike"), connect(app, home.settings) as client:
        at = datetime.now(UTC) + timedelta(seconds=4)
        # Before the first is due, also where it takes longer than that until the last is set.
        order(tmp_path, point, signal.SIGKILL).touch()
        client.send_many(Arm(key, "x", at=at) for key in keys)

        def counts() -> Counter[int]:
            return Counter(
                sum(isinstance(event, Rang) for record in records for event in record.events)
                for _, records in client.histories(Alarm, keys)
            )

        eventually(lambda: counts()[0] == 0, PATIENCE_S)
        eventually(lambda: client.pending() == 0 and client.timers() == [], PATIENCE_S)

        assert not order(tmp_path, point, signal.SIGKILL).exists(), "nobody was struck"
        assert {1: MANY} == counts()
        assert 0 == client.dead_letters.count()


@pytest.mark.parametrize("transport", ["redis"])
def test_a_sleeping_worker_does_no_harm(home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A worker is stopped with timers in its hands until others have sent them, and goes on: none rings twice.
    """
    monkeypatch.setenv(ENV_FOLDER, str(tmp_path))
    keys = [f"k-{number}" for number in range(200)]
    with home.crew(2, APP, preload="tests.crash.strike"), connect(app, home.settings) as client:
        order(tmp_path, Point.TIMER_MOVED, signal.SIGSTOP).touch()
        client.send_many(Arm(key, "x", after_ms=300) for key in keys)
        eventually(lambda: bool(list(tmp_path.glob("timer-moved.SIGSTOP.*"))), PATIENCE_S)
        (struck,) = tmp_path.glob("timer-moved.SIGSTOP.*")
        for key in keys:
            await_rang(client, key, 1)
        os.kill(int(struck.name.rpartition(".")[2]), signal.SIGCONT)
        home.await_shared(2)
        client.send(Arm("end", "x", after_ms=100))
        await_rang(client, "end", 1)
        eventually(lambda: client.pending() == 0 and client.timers() == [], PATIENCE_S)

        assert {1: len(keys)} == Counter(len(rang(client, key)) for key in keys)


@pytest.mark.parametrize("skew_s", [-7_200, 7_200])
@pytest.mark.parametrize("transport", ["redis"])
def test_clocks_of_workers_do_not_matter(home: House, skew_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A worker whose clock is hours off fires no timer before its time and none hours late: the server's clock counts.
    """
    monkeypatch.setenv(ENV_SKEW, str(skew_s))
    keys = [f"k-{number}" for number in range(50)]
    with home.crew(1, APP, preload="tests.flow.skew"), connect(app, home.settings) as client:
        at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
        client.send_many(Arm(key, "x", after_ms=500) for key in keys)
        client.send(Arm("at", "soon", at=datetime.now(UTC) + timedelta(milliseconds=700)))
        client.send(Arm("at", "not yet", at=at))
        for key in keys:
            await_rang(client, key, 1)
        await_rang(client, "at", 1)
        lines = {line.key: line for line in client.instances(Alarm, limit=100).instances}

        assert [] == [
            key for key in keys if lines[key].updated - lines[key].created < timedelta(milliseconds=500)
        ]
        assert ["soon"] == rang(client, "at")
        # A timer is listed until its sender has heard that its command was decided.
        eventually(lambda: len(client.timers()) == 1, PATIENCE_S)
        assert [at] == [timer.due for timer in client.timers()]


@pytest.mark.parametrize("transport", ["redis"])
def test_timers_survive_all_workers(home: House) -> None:
    """
    Timers that come due while no worker lives are sent when the next one starts.
    """
    with connect(app, home.settings) as client:
        # The longer ones are for a machine that was too busy to stop the worker before they were due.
        for after_ms in (2_000, 10_000, 20_000):
            keys = [f"k-{after_ms}-{number}" for number in range(50)]
            with home.crew(1, APP):
                client.send_many(Arm(key, "x", after_ms=after_ms) for key in keys)
                await_set(client, keys)
            early = [key for key in keys if rang(client, key)]
            if not early:
                break
        assert set(keys) <= {timer.key for timer in client.timers(limit=200)}
        eventually(lambda: all(timer.due < datetime.now(UTC) for timer in client.timers()), PATIENCE_S)
        assert [] == [key for key in keys if rang(client, key)]
        with home.crew(1, APP):
            for key in keys:
                await_rang(client, key, 1)
            assert {1: 50} == Counter(len(rang(client, key)) for key in keys)


def await_set(client: Client, keys: Sequence[str]) -> None:
    """
    Wait until each of these alarms has set its timer.
    """
    for key in keys:
        client.wait(Alarm, key, until=lambda _: True, timeout=PATIENCE_S)


# -- one pool only, and none but memory


def test_the_pools_may_be_apart(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """
    One process decides and another one fires.
    """
    with (
        house(quick(namespace, redis_url), tmp_path) as home,
        home.crew(1, APP, pools=["command"]),
        connect(app, home.settings) as client,
    ):
        client.execute(Arm("k", "x", after_ms=0), timeout=PATIENCE_S)
        assert 1 == len(client.timers())
        with Supervisor(APP, home.settings, pools=["timer"], folder=ROOT, log_file=home.log):
            await_rang(client, "k", 1)


def test_a_broker_that_comes_back_gets_what_was_due(
    rabbit_server: RabbitServer, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """
    Timers that come due while RabbitMQ is down are sent when it is back, once, where the process that sends them has no
    command pool.
    """
    settings = quick(namespace, redis_url, rabbit_server.url)
    given: dict[str, Any] = {"folder": ROOT, "settings": settings, "processes": 1}
    with (
        house(settings, tmp_path) as home,
        Supervisor(APP, pools=("command",), log_file=home.log, **given),
        Supervisor(APP, pools=("timer",), log_file=home.log, **given),
        connect(app, settings) as client,
    ):
        # The longer ones are for a machine that was too busy to kill anybody before they were due.
        for after_ms in (1_500, 10_000, 20_000):
            keys = [f"k-{after_ms}-{number}" for number in range(20)]
            client.send_many(Arm(key, "x", after_ms=after_ms) for key in keys)
            await_set(client, keys)
            rabbit_server.kill()
            if len(client.timers()) == len(keys):
                break
            rabbit_server.start()
            eventually(lambda: client.timers() == [], PATIENCE_S)
        eventually(lambda: all(timer.due < datetime.now(UTC) for timer in client.timers()), PATIENCE_S)
        assert len(keys) == len(client.timers())
        rabbit_server.start()
        for key in keys:
            await_rang(client, key, 1)
        eventually(lambda: client.timers() == [], PATIENCE_S)

        assert {1: len(keys)} == Counter(len(rang(client, key)) for key in keys)


def test_timers_need_no_broker_where_their_commands_are_decided(
    rabbit_server: RabbitServer, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """
    A process that serves the partition of a timer decides its command although RabbitMQ is down.
    """
    keys = [f"k-{number}" for number in range(20)]
    # Who is believed dead could not come back to its partitions before RabbitMQ does.
    settings = quick(namespace, redis_url, rabbit_server.url, **CALM)
    with house(settings, tmp_path) as home, home.crew(1, APP), connect(app, settings) as client:
        client.send_many(Arm(key, "x", after_ms=1_500) for key in keys)
        await_set(client, keys)
        rabbit_server.kill()
        for key in keys:
            await_rang(client, key, 1)
        eventually(lambda: client.timers() == [], PATIENCE_S)
        rabbit_server.start()

        assert {1: len(keys)} == Counter(len(rang(client, key)) for key in keys)


def test_timers_are_listed_asynchronously() -> None:
    """
    The asynchronous client shows the same.
    """
    settings = Settings.of(redis_url="memory://", namespace="timers-asynchronously", partitions=4)

    async def listed() -> list[str | None]:
        async with connect_async(app, settings) as client:
            await client.execute(Arm("m", "x", after_ms=3_600_000, slot="s"))
            return [timer.name for timer in await client.timers(Alarm, "m")]

    assert ["s"] == asyncio.run(listed())
    wiring.remove_namespace(settings)


def test_timers_fire_in_memory() -> None:
    """
    Without any server, timers come as well, in the process of the client.
    """
    settings = Settings.of(redis_url="memory://", namespace="timers-in-memory", partitions=4)
    with connect(App(workflows=[Alarm]), settings) as client:

        def timers(key: str) -> list[Told]:
            return [
                Arm(key, "b", after_ms=300),
                Arm(key, "a", after_ms=1),
                Arm(key, "c", after_ms=350, slot="s"),
                Disarm(key, "s"),
                Arm(key, "d", after_ms=400),
            ]

        key = told(client, "m", timers, within_ms=250)
        await_rang(client, key, 3)
        assert ["a", "b", "d"] == rang(client, key)
    wiring.remove_namespace(settings)
