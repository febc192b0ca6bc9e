"""
Commands that cannot be decided: they end as dead letters, and nobody else suffers.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import Accepted, DeadLettered, Parked
from holdfast.runtime.keys import partition_of
from holdfast.runtime.suspicion import SUSPECT_REDELIVERIES
from tests.flow.house import PATIENCE_S, House, house, quick
from tests.flow.shop import ENV_MENDED, Book, Kill, Post, Stumble, Write
from tests.support.processes import eventually


@pytest.fixture
def mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    The file whose presence mends the bugs in the workers that are started from now on.
    """
    monkeypatch.setenv(ENV_MENDED, str(tmp_path / "mended"))
    return tmp_path / "mended"


@pytest.fixture
def hasty(transport: str, redis_url: str, amqp_url: str, namespace: str, tmp_path: Path) -> Iterator[House]:
    """
    A house that gives a command up after two turns that it did not survive.
    """
    amqp_url = amqp_url if transport == "rabbitmq" else ""
    with house(quick(namespace, redis_url, amqp_url, deliveries_max=2), tmp_path) as it:
        yield it


def test_a_command_that_raises_is_kept_and_retried(calm: House, mended: Path) -> None:
    """
    A command whose `decide` raises becomes a dead letter that says why; its caller is told, the next command of its
    instance goes on, and once the bug is mended a retry decides it, once.
    """
    home = calm
    with home.crew(1):
        outcome = home.client.execute(Stumble("a", "s", 1), timeout=PATIENCE_S)
        assert isinstance(outcome, DeadLettered)
        assert "LookupError: stumbled over 1" == outcome.error
        assert isinstance(home.client.execute(Post("a", "s", 2), timeout=PATIENCE_S), Accepted)
        letter = home.client.dead_letters.get(outcome.dead_letter_id)
        assert letter is not None
        assert "stumbled over 1" in letter.traceback
        assert ("ledger", "a", "Stumble", 3) == (
            letter.workflow,
            letter.key,
            letter.message_type,
            letter.attempts,
        )

        mended.touch()
        assert home.client.dead_letters.retry(letter.id)
        assert not home.client.dead_letters.retry(letter.id)

        home.await_logs(a=2)
        assert isinstance(home.client.execute(Post("a", "s", 3), timeout=PATIENCE_S), Accepted)
        assert [2, 1, 3] == home.numbers("a")
        assert 0 == home.client.dead_letters.count()


def test_a_command_that_kills_its_worker_takes_nobody_with_it(hasty: House, mended: Path) -> None:
    """
    A command whose `decide` ends the process becomes a dead letter after a few deaths; all its neighbours, in its
    partition and in others, are decided once and in order, and none of them becomes a dead letter. Mended and sent
    again, it is decided too.
    """
    keys = [f"n-{number}" for number in range(60)]
    middle = len(keys) // 2
    partition = partition_of("ledger", keys[middle], hasty.settings.partitions)
    assert sum(partition_of("ledger", key, hasty.settings.partitions) == partition for key in keys) > 5
    hasty.client.send_many(Post(key, "s", 0) for key in keys)
    hasty.client.send_many(Post(key, "s", 1) for key in keys[:middle])
    hasty.client.send(Kill(keys[middle], "s", 99))
    hasty.client.send_many(Post(key, "s", 1) for key in keys[middle:])

    with hasty.crew(2) as crew:
        eventually(lambda: hasty.client.dead_letters.count() == 1, 60)
        eventually(lambda: hasty.decided() >= 2 * len(keys), PATIENCE_S)
        # Whoever counts the dead may be a moment behind.
        turns = hasty.settings.deliveries_max
        eventually(lambda: crew.restarts >= turns)
        deaths = crew.restarts

        letter = hasty.client.dead_letters.list()[0]
        assert ("Kill", keys[middle]) == (letter.message_type, letter.key)
        assert "may kill its worker" in letter.error
        assert {key: [0, 1] for key in keys} == {key: hasty.numbers(key) for key in keys}
        assert 1 == hasty.client.dead_letters.count()
        # As many turns as it was given, and what made it suspect before: deaths, and handovers to whoever came back.
        assert turns <= deaths <= turns + SUSPECT_REDELIVERIES, f"{deaths} workers died"

        mended.touch()
        assert hasty.client.dead_letters.retry(letter.id)
        hasty.await_logs(**{keys[middle]: 3})

    assert [0, 1, 99] == hasty.numbers(keys[middle])
    hasty.check_empty()


def test_an_instance_may_wait_behind_its_dead_letter(home: House, mended: Path) -> None:
    """
    It pauses by itself and keeps what comes; mended, retried and resumed, all is recorded in the order in which it was
    sent, also when a worker died in between.
    """
    with home.crew(1):
        for line in range(10, 20):
            home.client.send(Write("b", line))
        eventually(lambda: home.client.dead_letters.count() == 1, PATIENCE_S)
        home.strike_one_down()
        home.await_shared(1)
        assert Parked("Write became a dead letter") == home.client.execute(Write("b", 20), timeout=PATIENCE_S)
        (listed,) = home.client.instances(Book, run_state="paused").instances
        assert ("b", 4) == (listed.key, listed.seq)

        mended.touch()
        assert 1 == home.client.dead_letters.retry_all(workflow="book")
        assert isinstance(home.client.resume(Book, "b", timeout=PATIENCE_S), Accepted)
        eventually(lambda: home.client.state(Book, "b") == 20, PATIENCE_S)

    written = [event.line for record in home.client.history(Book, "b") for event in record.events]
    assert list(range(10, 21)) == written
    assert 0 == home.client.dead_letters.count()
    home.check_empty()
