"""
Effects are run by real workers on real servers, whatever their handlers do.

The workers of a transport are shared by the tests of this file; each keeps to errands of its own.
"""

import time
from collections.abc import Iterator

import pytest

from holdfast.runtime.effect_queue import PendingEffect
from tests.flow.conftest import TRANSPORTS
from tests.flow.errands import AWAKE, BRIEF, Run
from tests.flow.house import CALM, PATIENCE_S
from tests.flow.office import Office, office
from tests.support.processes import eventually

KINDS = ["thread", "loop"]


@pytest.fixture(scope="module")
def desk(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """
    An office with one worker, its commands on Redis.
    """
    folder = tmp_path_factory.mktemp("office")
    with office(folder, redis_url, patience_s=1.0, **CALM) as it, it.crew(1):
        yield it


@pytest.fixture(scope="module")
def rabbit_desk(redis_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """
    An office with one worker, its commands on RabbitMQ.
    """
    folder = tmp_path_factory.mktemp("rabbit-office")
    with office(folder, redis_url, amqp_url, **CALM) as it, it.crew(1):
        yield it


@pytest.fixture(params=TRANSPORTS)
def either(request: pytest.FixtureRequest) -> Office:
    """
    Each of the offices, for tests of what the transport has a part in.
    """
    found: Office = request.getfixturevalue("rabbit_desk" if request.param == "rabbitmq" else "desk")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_results_come_back(either: Office, kind: str) -> None:
    """
    What a handler returns is decided: one command, several, also of other instances, or none; and nothing is left.
    """
    for how in ("ok", "several", "nothing"):
        either.ask(f"{kind}-{how}", kind, how)

    assert ["ok 1"] == either.notes(f"{kind}-ok", 1)
    assert ["one 1", "two 1"] == either.notes(f"{kind}-several", 2)
    assert ["three 1"] == either.notes(f"{kind}-several-other", 1)
    eventually(lambda: either.calls(f"{kind}-nothing") != [], PATIENCE_S)
    either.await_idle()
    assert [] == either.notes(f"{kind}-nothing", 0)
    assert [1] == [call.attempt for call in either.calls(f"{kind}-nothing")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_handler_is_tried_again(either: Office, kind: str) -> None:
    """
    It is called with the same idempotency key and the number of the attempt, until it succeeds.
    """
    either.ask(f"{kind}-again", kind, "fail-twice")

    assert ["fail-twice 3"] == either.notes(f"{kind}-again", 1)
    made = either.calls(f"{kind}-again")
    assert [1, 2, 3] == [call.attempt for call in made]
    assert 1 == len({call.key for call in made})
    assert made[0].key.startswith(f"errand/{kind}-again/")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("how", "error", "attempts"),
    [
        ("fail", "LookupError: never", 3),
        ("permanent", "Permanent: the card is stolen", 1),
        ("exit", "SystemExit: 3", 3),
        ("outrage", "Outrage", 3),
        ("interrupt", "KeyboardInterrupt", 3),
        ("wrong", "returned int; it must return nothing, a command or a list of commands", 1),
        ("hang", "took longer than its 0.5 s", 3),
        ("hang-deeply", "took longer than its 0.5 s", 3),
    ],
)
def test_a_bad_handler_hurts_nobody(desk: Office, kind: str, how: str, error: str, attempts: int) -> None:
    """
    Its effect ends as a dead letter with its bytes and its error, its process is told, and others go on.
    """
    name, brief = f"{kind}-{how}", how.startswith("hang")
    desk.ask(name, f"brief-{kind}" if brief else kind, how)
    desk.ask(f"{name}-beside", kind, "ok")

    assert ["ok 1"] == desk.notes(f"{name}-beside", 1)
    (note,) = desk.notes(name, 1)
    assert f"gave up after {attempts}" in note
    assert error in note
    desk.await_idle()
    letter = desk.letter(name)
    kinds = {"thread": "OnThread", "loop": "OnLoop"}
    assert (attempts, f"Brief{kinds[kind]}" if brief else kinds[kind]) == (
        letter.attempts,
        letter.message_type,
    )
    assert error in letter.error
    assert letter.body
    assert letter.traceback


@pytest.mark.parametrize("kind", KINDS)
def test_a_heartbeat_gives_more_time(desk: Office, kind: str) -> None:
    """
    A handler that says that it still works may take longer than its timeout.
    """
    desk.ask(f"{kind}-slow", f"brief-{kind}", "slow")

    # An attempt that the machine let stand still between two heartbeats is made again.
    (note,) = desk.notes(f"{kind}-slow", 1)
    assert note in ("slow 1", "slow 2", "slow 3")
    last = max(desk.calls(f"{kind}-slow"), key=lambda call: call.attempt)
    assert last.ended - last.began > BRIEF


def test_a_long_wait_is_in_the_schedule(desk: Office) -> None:
    """
    Between two attempts the effect is not in the outbox; tools see why and until when it waits.
    """
    found: list[PendingEffect] = []

    def seen(name: str) -> bool:
        found[:] = [line for line in desk.pending() if line.key == name and line.state == "retry"]
        return bool(found) or desk.notes(name, 0) != []

    for number in range(10):
        desk.ask(f"later-{number}", "later", "fail-twice")
        eventually(lambda number=number: seen(f"later-{number}"), PATIENCE_S)  # type: ignore[misc]  # mypy cannot type a default in a lambda
        assert ["fail-twice 3"] == desk.notes(f"later-{number}", 1)
        # Who stood still during both waits looks at those of another.
        if found:
            break
    (line,) = found

    assert "LookupError: not yet" in line.error
    assert line.until_ms > line.since_ms
    desk.await_idle()


def test_slow_handlers_hold_up_no_others(desk: Office) -> None:
    """
    While as many threads sleep as there may be, coroutines run; and the other way round.
    """
    desk.ask_at_once(Run("crowd", "thread", "sleep", 64), Run("nimble", "loop", "ok"))
    try:
        desk.notes("nimble", 1)
    finally:
        (desk.folder / AWAKE).touch()

    assert 64 == len(desk.notes("crowd", 64))
    (nimble,) = desk.calls("nimble")
    assert all(nimble.ended < call.ended for call in desk.calls("crowd"))


def test_a_limit_holds(desk: Office) -> None:
    """
    No more run at once than may, and another value of the key is not held up.
    """
    desk.ask_at_once(Run("limited", "limited", "a", 24), Run("limited-other", "limited", "b"))
    desk.notes("limited-other", 1)
    desk.notes("limited", 24)

    made = desk.calls("limited")
    assert 24 == len(made)
    (other,) = desk.calls("limited-other")
    assert other.ended < max(call.ended for call in made)
    assert 2 == max(sum(one.began <= call.began < one.ended for one in made) for call in made)


def test_a_rate_holds(desk: Office) -> None:
    """
    Three are let through at once, three not before half a second has passed, and so on: a handler may begin any time
    after it was let through, but never before.
    """
    asked = time.monotonic()
    desk.ask("rated", "rated", "a", count=8)
    desk.notes("rated", 8)
    began = sorted(call.began for call in desk.calls("rated"))

    assert 8 == len(began)
    # The server counts in whole milliseconds.
    assert [] == [at - asked for place, at in enumerate(began) if at - asked < 0.5 * (place // 3) - 0.002]


def test_what_nobody_handles_is_given_up_after_a_while(desk: Office) -> None:
    """
    A newer worker may have a handler; when none comes in time it is a dead letter that says so.
    """
    desk.ask("orphan", "orphan", "ok")

    (note,) = desk.notes("orphan", 1)
    assert "no handler for Orphan of Errand in this process" in note
    letter = desk.letter("orphan")
    assert ("Orphan", 0) == (letter.message_type, letter.attempts)


def test_many(either: Office) -> None:
    """
    Thousands of effects are each run once and come back once.
    """
    count = 1_500
    for number in range(3):
        either.ask(f"many-{number}", "loop" if number % 2 else "thread", "ok", count=count // 3)
    for number in range(3):
        assert ["ok 1"] * (count // 3) == either.notes(f"many-{number}", count // 3)
        assert count // 3 == len(either.calls(f"many-{number}"))
