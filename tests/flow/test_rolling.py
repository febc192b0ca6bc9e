"""
A rolling deploy: for a while workers run that do not know all that is sent.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.house import NEXT_APP, House, house, quick
from tests.flow.shop import NextLedger, Post, Refund
from tests.support.processes import eventually


def numbers(home: House, key: str) -> list[int]:
    return [event.number for record in home.client.history(NextLedger, key) for event in record.events]


def test_what_is_unknown_waits_for_the_next_version(home: House) -> None:
    """
    A command that the old version does not know is kept back, with what comes after it for its instance; others go on,
    and the next version decides it in its place.
    """
    with home.crew(1):
        home.client.send(Post("a", "s", 0))
        home.client.send(Refund("a", "s", 1))
        home.client.send(Post("a", "s", 2))
        home.client.send(Post("b", "s", 0))
        home.client.wait(NextLedger, "b", until=lambda state: state.count == 1)
        home.client.wait(NextLedger, "a", until=lambda state: state.count == 1)

    assert [0] == numbers(home, "a")
    with home.crew(1, app=NEXT_APP):
        home.client.wait(NextLedger, "a", until=lambda state: state.count == 3)

    assert [0, 1, 2] == numbers(home, "a")
    assert 0 == home.client.dead_letters.count()


@pytest.fixture
def hasty(transport: str, redis_url: str, amqp_url: str, namespace: str, tmp_path: Path) -> Iterator[House]:
    """
    A house whose workers have little patience with what they do not know.
    """
    amqp_url = amqp_url if transport == "rabbitmq" else ""
    with house(quick(namespace, redis_url, amqp_url, patience_s=0.5), tmp_path) as it:
        yield it


def test_what_stays_unknown_is_kept_for_a_person(hasty: House) -> None:
    """
    A command that nobody comes to know becomes a dead letter when patience ends, and what waited behind it goes on;
    the next version decides it when it is retried.
    """
    with hasty.crew(1):
        hasty.client.send_many([Post("a", "s", 0), Refund("a", "s", 1), Post("a", "s", 2)])
        hasty.client.wait(NextLedger, "a", until=lambda state: state.count == 2)
        eventually(lambda: hasty.client.dead_letters.count() == 1)
        letter = hasty.client.dead_letters.list()[0]
        assert [0, 2] == numbers(hasty, "a")
        assert "has no message 'Refund'" in letter.error

    with hasty.crew(1, app=NEXT_APP):
        assert hasty.client.dead_letters.retry(letter.id)
        hasty.client.wait(NextLedger, "a", until=lambda state: state.count == 3)

    assert [0, 2, 1] == numbers(hasty, "a")
