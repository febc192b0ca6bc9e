"""
Work goes on, complete and in order, while workers come, go and die.
"""

from tests.flow.house import House, accounts
from tests.flow.senders import Senders
from tests.support.processes import eventually


def test_killed_workers_lose_double_and_reorder_nothing(home: House) -> None:
    """
    Workers are killed with SIGKILL again and again under load, before they have recovered from the death before: each
    command is decided once, in its sender's order, and callers are told what the logs say.
    """
    with home.crew(3) as crew:
        with Senders(home.client, accounts("a", 40), per_key=home.per_key, callers=2) as senders:
            for _ in range(6):
                home.await_progress(60)
                home.strike_one_down()
            home.await_progress()
        home.check(senders, at_least=400)
        eventually(lambda: crew.restarts == 6)
        home.await_shared(3)
    home.check_empty()


def test_workers_that_join_and_leave_keep_the_order(home: House) -> None:
    """
    Workers join and leave under load: the partitions end up evenly shared, and each command is decided once, in its
    sender's order. What was handed over was finished first.
    """
    with home.crew(1), Senders(home.client, accounts("a", 40), per_key=home.per_key, callers=1) as senders:
        home.await_progress()
        with home.crew(2):
            home.await_progress()
        home.await_shared(1)
        home.await_progress()
        home.check(senders, at_least=300)
    home.check_empty()
    assert "not drained in time" not in home.said()
