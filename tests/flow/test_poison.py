"""
Commands that cannot be decided: they end as dead letters, and nobody else suffers.
"""

from pathlib import Path

import pytest

from holdfast import Accepted, Command, DeadLettered
from holdfast.runtime.keys import partition_of
from tests.flow.house import House
from tests.flow.shop import ENV_MENDED, Kill, NextLedger, Post, Stumble
from tests.support.processes import eventually


def neighbours(home: House, count: int) -> list[str]:
    """
    Return keys that share the partition of the first of them.
    """
    partitions = home.settings.partitions
    keys = (f"n-{number}" for number in range(10_000))
    return [key for key in keys if partition_of("ledger", key, partitions) == 0][:count]


def numbers(home: House, key: str) -> list[int]:
    return [event.number for record in home.client.history(NextLedger, key) for event in record.events]


def test_a_command_that_raises_is_kept_and_retried(
    home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A command whose `decide` raises becomes a dead letter that says why; its caller is told, the next command of its
    instance goes on, and once the bug is mended a retry decides it, once.
    """
    monkeypatch.setenv(ENV_MENDED, str(tmp_path / "mended"))
    with home.crew(1):
        outcome = home.client.execute(Stumble("a", "s", 1), timeout=20)
        assert isinstance(outcome, DeadLettered)
        assert "LookupError: stumbled over 1" == outcome.error
        assert isinstance(home.client.execute(Post("a", "s", 2), timeout=20), Accepted)
        letter = home.client.dead_letters.get(outcome.dead_letter_id)
        assert letter is not None
        assert "stumbled over 1" in letter.traceback
        assert ("ledger", "a", "Stumble", 3) == (
            letter.workflow,
            letter.key,
            letter.message_type,
            letter.attempts,
        )

        (tmp_path / "mended").touch()
        assert home.client.dead_letters.retry(letter.id)
        assert not home.client.dead_letters.retry(letter.id)

        home.client.wait(NextLedger, "a", until=lambda state: state.count == 2)
        assert [2, 1] == numbers(home, "a")
        assert 0 == home.client.dead_letters.count()


def test_a_command_that_kills_its_worker_takes_nobody_with_it(home: House) -> None:
    """
    A command whose `decide` ends the process becomes a dead letter after a few deaths; all its neighbours in the
    partition are decided once and in order, and none of them becomes a dead letter.
    """
    keys = neighbours(home, 40)
    commands: list[Command] = [Post(key, "s", number) for number in range(2) for key in keys]
    middle = len(commands) // 2
    home.client.send_many([*commands[:middle], Kill(keys[0], "s", 99), *commands[middle:]])

    with home.crew(1) as crew:
        eventually(lambda: home.client.dead_letters.count() == 1, 90)
        for key in keys:
            home.client.wait(NextLedger, key, until=lambda state: state.count == 2, timeout=60)
        restarts = crew.restarts

    letter = home.client.dead_letters.list()[0]
    assert ("Kill", keys[0]) == (letter.message_type, letter.key)
    assert "may kill its worker" in letter.error
    assert {key: [0, 1] for key in keys} == {key: numbers(home, key) for key in keys}
    assert 1 == home.client.dead_letters.count()
    assert restarts >= home.settings.deliveries_max
    assert 0 == home.client.pending()
