"""
A rolling deploy: for a while workers run that do not know all that is sent.
"""

from contextlib import ExitStack
from pathlib import Path

from tests.flow.house import NEXT_APP, House, accounts, house, quick
from tests.flow.senders import Senders
from tests.flow.shop import NextLedger, Post, Refund
from tests.support.processes import eventually


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
        home.await_logs(a=1, b=1)

    assert [0] == home.numbers("a")
    with home.crew(1, app=NEXT_APP):
        home.await_logs(a=3)

    assert [0, 1, 2] == home.numbers("a")
    assert 0 == home.client.dead_letters.count()


def test_the_next_version_takes_over_under_load(home: House) -> None:
    """
    Commands that the old version does not know are kept back, with all that comes after them for their instances,
    while others go on. As the next version takes over under load it decides everything, in its senders' order.
    """
    with ExitStack() as old:
        old.enter_context(home.crew(1))
        with (
            Senders(home.client, accounts("old", 20), per_key=home.per_key, callers=1) as steady,
            Senders(home.client, accounts("new", 6), senders=1, per_key=1, kinds=(Post, Refund)) as mixed,
        ):
            home.await_progress()
            with home.crew(1, app=NEXT_APP):
                home.await_progress()
                old.close()
                home.await_shared(1)
                home.await_progress()
                home.check(mixed, at_least=50)
                home.check(steady, at_least=200)
        home.check_empty()
        records = [
            record for _, log in home.client.histories(NextLedger, accounts("new", 6)) for record in log
        ]
        assert {"Post", "Refund"} == {record.command for record in records}


def test_what_stays_unknown_is_kept_for_a_person(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """
    A command that nobody comes to know becomes a dead letter when patience ends, and what waited behind it goes on;
    the next version decides it when it is retried.
    """
    with house(quick(namespace, redis_url, patience_s=0.5), tmp_path) as hasty:
        with hasty.crew(1):
            hasty.client.send_many([Post("a", "s", 0), Refund("a", "s", 1), Post("a", "s", 2)])
            eventually(lambda: hasty.client.dead_letters.count() == 1)
            hasty.await_logs(a=2)
            letter = hasty.client.dead_letters.list()[0]
            assert [0, 2] == hasty.numbers("a")
            assert "has no message 'Refund'" in letter.error

        with hasty.crew(1, app=NEXT_APP):
            assert hasty.client.dead_letters.retry(letter.id)
            hasty.await_logs(a=3)

        assert [0, 2, 1] == hasty.numbers("a")
        assert 0 == hasty.client.dead_letters.count()
