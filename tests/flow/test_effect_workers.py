"""
Workers that run effects die, are stopped and come to help: every effect is run, and its result decided once.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import Unavailable
from holdfast.runtime.faults import Point
from tests.crash.strike import ENV_FOLDER as ENV_STRIKE
from tests.crash.strike import order
from tests.flow.conftest import TRANSPORTS
from tests.flow.house import CALM, PATIENCE_S
from tests.flow.office import Office, office
from tests.support.processes import eventually
from tests.support.servers import RedisServer


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Iterator[Office]:
    """
    An office of the test's own, without workers yet.
    """
    with office(tmp_path, redis_url) as it:
        yield it


@pytest.fixture
def calm_place(redis_url: str, tmp_path: Path) -> Iterator[Office]:
    """
    As `place`, for a test in which nobody dies.
    """
    with office(tmp_path, redis_url, **CALM) as it:
        yield it


@pytest.fixture(scope="module", params=TRANSPORTS)
def field(
    request: pytest.FixtureRequest, redis_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Office]:
    """
    An office with two workers that can be struck.
    """
    folder = tmp_path_factory.mktemp("field")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_STRIKE, str(folder))
        with (
            office(folder, redis_url, amqp_url if request.param == "rabbitmq" else "") as it,
            it.crew(2, preload="tests.crash.strike"),
        ):
            yield it


@pytest.mark.parametrize(
    "point", [Point.EFFECTS_STARTED, Point.EFFECT_RUN, Point.EFFECT_PUBLISHED, Point.EFFECT_FINISHED]
)
def test_a_worker_dies_between_two_steps(field: Office, point: Point) -> None:
    """
    One of two is killed at a point: its effect is run again under the same key, and the result is decided once.
    """
    names = [f"{point}-{number}" for number in range(12)]
    order(field.folder, point, signal.SIGKILL).touch()
    for number, name in enumerate(names):
        field.ask(name, "thread" if number % 2 else "loop", "ok")
    for name in names:
        field.notes(name, 1)
    field.await_idle()
    made = [field.calls(name) for name in names]

    assert not order(field.folder, point, signal.SIGKILL).exists()
    assert [1] * 12 == [len(field.notes(name, 1)) for name in names]
    assert [1] * 12 == [len({call.key for call in calls}) for calls in made]
    if point in (Point.EFFECT_RUN, Point.EFFECT_PUBLISHED):
        # What was run and not finished is run again.
        assert any(len(calls) > 1 for calls in made)
    assert [] == field.client.dead_letters.list()


def test_a_worker_sleeps_until_it_is_thought_dead(field: Office) -> None:
    """
    What a stopped worker held is run by others, under the same key; what it still does when it goes on changes nothing.
    """
    if field.home.settings.amqp_url:
        pytest.skip("the transport has no part in it")
    names = [f"sleeper-{number}" for number in range(8)]
    order(field.folder, Point.EFFECT_RUN, signal.SIGSTOP).touch()
    for name in names:
        field.ask(name, "loop", "ok")
    try:
        for name in names:
            field.notes(name, 1)
        field.await_idle()
    finally:
        (struck,) = field.folder.glob(f"{Point.EFFECT_RUN}.SIGSTOP.*")
        os.kill(int(struck.name.rpartition(".")[2]), signal.SIGCONT)
    field.ask("awake", "loop", "ok")
    field.notes("awake", 1)

    assert [1] * 8 == [len(field.notes(name, 1)) for name in names]
    assert [1] * 8 == [len({call.key for call in field.calls(name)}) for name in names]


def test_an_effect_that_kills_its_workers_is_found_out(place: Office) -> None:
    """
    After its attempts it is a dead letter, its process is told, and its neighbours are run.
    """
    with place.crew(1):
        place.ask("killer", "thread", "kill")
        for number in range(20):
            place.ask(f"n-{number}", "later", "ok")
        (note,) = place.notes("killer", 1)

        assert "it may kill its worker" in note
        for number in range(20):
            assert 1 == len(place.notes(f"n-{number}", 1))
            assert [] == place.letters(f"n-{number}")
        letter = place.letter("killer")
        assert ("it may kill its worker" in letter.error, 3) == (True, letter.attempts)
        assert 3 == len(place.calls("killer"))


def test_a_slow_living_worker_is_not_robbed(calm_place: Office) -> None:
    """
    When others come to help, what runs is left to who runs it, and is run once.
    """
    place = calm_place
    with place.crew(1):
        for number in range(12):
            place.ask(f"s-{number}", "later", "long")
        eventually(lambda: all(place.calls(f"s-{number}") for number in range(12)), PATIENCE_S)
        with place.crew(1):
            for number in range(12):
                assert ["long 1"] == place.notes(f"s-{number}", 1)
            place.await_idle()
            assert [1] * 12 == [len(place.calls(f"s-{number}")) for number in range(12)]


def test_a_clean_stop_finishes_what_runs(calm_place: Office) -> None:
    """
    Workers that are told to stop let their handlers end; the rest is done by those who come after them.
    """
    place = calm_place
    # The larger ones are for a machine that was too busy to stop anybody before all was done.
    for count in (200, 1_000, 2_000):
        crowd = f"crowd-{count}"
        with place.crew(1):
            place.ask(crowd, "thread", "nap", count=count)
            eventually(lambda crowd=crowd: len(place.calls(crowd)) >= 10, PATIENCE_S)  # type: ignore[misc]  # mypy cannot type a default in a lambda
        ran = len(place.calls(crowd))
        if ran < count:
            break
    with place.crew(1):
        assert count == len(place.notes(crowd, count))
        place.await_idle()

    assert ran < count
    assert count == len(place.calls(crowd))


def test_an_outage_of_redis_is_waited_out(redis_server: RedisServer, tmp_path: Path) -> None:
    """
    Redis dies and comes back while effects run and fail: each is decided once, and nothing is left behind.
    """
    with office(tmp_path, redis_server.url) as place, place.crew(1):
        place.ask("crowd", "thread", "nap", count=80)
        place.ask("trouble", "loop", "fail-twice", count=20)
        eventually(lambda: len(place.calls("crowd")) >= 20, PATIENCE_S)
        redis_server.kill()
        redis_server.restart()

        # A client that meets the outage is told so; the notes are asked for when it is over.
        eventually(lambda: _answers(place), PATIENCE_S)
        assert {"nap 1", "nap 2", "nap 3"} >= set(place.notes("crowd", 80))
        assert 20 == len(place.notes("trouble", 20))
        place.await_idle()
        assert 80 == len({call.key for call in place.calls("crowd")})
        assert 80 == len(place.notes("crowd", 80))


def _answers(place: Office) -> bool:
    try:
        place.notes("crowd", 0)
    except Unavailable:
        return False
    return True
