"""
What senders and readers see of a system at work.
"""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import redis

from holdfast import (
    Accepted,
    AlreadyCompleted,
    Duplicate,
    Outcome,
    Rejected,
    ReplyTimeout,
    RunState,
    UsageError,
    connect,
    connect_async,
)
from holdfast.runtime.ids import new_id
from tests.flow.house import House
from tests.flow.shop import Balance, Close, Closed, NextLedger, Overdraw, Post, Posted, next_app


def test_every_outcome(home: House) -> None:
    """A caller is told what became of each command, and of a second copy what became of the first."""
    with home.crew(1):
        execute = home.client.execute
        refused, closing = new_id(), new_id()

        assert Accepted(1, (Posted("s", 0),)) == execute(Post("a", "s", 0), timeout=20)
        assert Rejected("overdrawn", {"sender": "s", "number": 1}) == execute(
            Overdraw("a", "s", 1), id=refused
        )
        assert Accepted(2, (Closed("s", 2),)) == execute(Close("a", "s", 2), id=closing)
        assert AlreadyCompleted("completed") == execute(Post("a", "s", 3))
        assert Duplicate(Accepted(2, (Closed("s", 2),))) == execute(Close("a", "s", 2), id=closing)
        assert Duplicate(Rejected("overdrawn", {"sender": "s", "number": 1})) == execute(
            Overdraw("a", "s", 1), id=refused
        )
        assert isinstance(execute(Overdraw("nobody", "s", 1)), Rejected)
        assert home.client.state(NextLedger, "nobody") is None


def test_states_now_and_then(home: House) -> None:
    """A state can be read as it is, as it was after a record, and as it was at a time; so can the records."""
    with home.crew(1):
        before = datetime.now(UTC)
        for number in range(3):
            home.client.execute(Post("a", "s", number), timeout=20)
        home.client.execute(Close("a", "s", 3))

    state = home.client.state
    records = home.client.history(NextLedger, "a")
    assert Balance(4, closed=True) == state(NextLedger, "a")
    assert [Balance(1), Balance(2)] == [state(NextLedger, "a", at=1), state(NextLedger, "a", at=2)]
    assert Balance(4, closed=True) == state(NextLedger, "a", at=99)
    assert state(NextLedger, "a", at=before) is None
    assert Balance(3) == state(NextLedger, "a", at=records[2].at)
    assert [1, 2, 3, 4] == [record.seq for record in records]
    assert records[1:3] == home.client.history(NextLedger, "a", after=1, limit=2)
    with pytest.raises(UsageError, match="needs a time zone"):
        state(NextLedger, "a", at=datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake under test


def test_instances_are_listed(home: House) -> None:
    """The directory finds instances by run state, the latest changed first, page by page."""
    with home.crew(1):
        for number in range(7):
            home.client.execute(Post(f"k{number}", "s", 0), timeout=20)
        home.client.execute(Close("k3", "s", 1))

    found, cursor = [], None
    while True:
        page = home.client.instances(NextLedger, limit=3, cursor=cursor)
        found += page.instances
        cursor = page.cursor
        if cursor is None:
            break

    assert "k3" == found[0].key
    assert {f"k{number}" for number in range(7)} == {line.key for line in found}
    assert ["k3"] == [line.key for line in home.client.instances("ledger", run_state="completed").instances]
    assert 6 == len(home.client.instances(NextLedger, run_state=RunState.RUNNING).instances)
    with pytest.raises(UsageError, match="'gone' is no run state"):
        home.client.instances(NextLedger, run_state="gone")


def test_a_reader_waits_for_what_comes(home: House) -> None:
    """Who waits is woken by the commit, and is told when it did not come in time."""
    with home.crew(1), ThreadPoolExecutor(1) as pool:
        begun = threading.Event()

        def wait() -> Balance:
            begun.set()
            return home.client.wait(NextLedger, "a", until=lambda state: state.count == 2, timeout=40)

        waiting = pool.submit(wait)
        begun.wait()
        home.client.send_many([Post("a", "s", 0), Post("a", "s", 1)])

        assert Balance(2) == waiting.result()
        with pytest.raises(ReplyTimeout, match="ledger/a did not come to what was waited for within"):
            home.client.wait(NextLedger, "a", until=lambda state: state.closed, timeout=0.05)
        with pytest.raises(ReplyTimeout, match="it does not exist"):
            home.client.wait(NextLedger, "b", until=lambda state: True, timeout=0.05)


def test_nobody_answers(home: House) -> None:
    """A caller without workers is told so in time, with the id to ask again with, and then learns the outcome."""
    command_id = new_id()
    with pytest.raises(ReplyTimeout, match=command_id):
        home.client.execute(Post("a", "s", 0), id=command_id, timeout=0.2)

    with home.crew(1):
        outcome = home.client.execute(Post("a", "s", 0), id=command_id, timeout=20)

    first = outcome.first if isinstance(outcome, Duplicate) else outcome
    assert Accepted(1, (Posted("s", 0),)) == first
    assert 1 == len(home.client.history(NextLedger, "a"))


def test_many_at_once_on_an_event_loop(home: House) -> None:
    """On an event loop, many callers and waiters at once each get their own."""

    async def main() -> tuple[list[Outcome], list[Balance]]:
        async with connect_async(next_app, home.settings) as client:
            waiters = [
                asyncio.create_task(
                    client.wait(NextLedger, f"k{n}", until=lambda state: state.count == 2, timeout=40)
                )
                for n in range(20)
            ]
            outcomes = await asyncio.gather(
                *(client.execute(Post(f"k{n}", "s", 0), timeout=20) for n in range(20))
            )
            await client.send_many(Post(f"k{n}", "s", 1) for n in range(20))
            states = await asyncio.gather(*waiters)
            assert [1, 2] == [record.seq for record in await client.history(NextLedger, "k7")]
            assert Balance(2) == await client.state(NextLedger, "k7")
            assert 20 == len((await client.instances(NextLedger)).instances)
            with pytest.raises(ReplyTimeout):
                await client.wait(NextLedger, "k1", until=lambda state: state.closed, timeout=0.05)
            return outcomes, states

    with home.crew(1):
        outcomes, states = asyncio.run(main())

    assert [Accepted(1, (Posted("s", 0),))] * 20 == outcomes
    assert [Balance(2)] * 20 == states


def test_a_lost_answer_is_asked_for_again(home: House) -> None:
    """A caller whose connection breaks while he waits is still told what became of his command."""
    server = redis.Redis.from_url(home.settings.redis_url)
    with home.crew(1):
        home.client.execute(Post("a", "s", 0), timeout=20)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(home.client.execute, Post("a", "s", 1), timeout=60)
        while not server.pubsub_channels(f"*{home.settings.namespace}*"):
            pass
        server.client_kill_filter(_type="pubsub")
        with home.crew(1):
            outcome = waiting.result()

    first = outcome.first if isinstance(outcome, Duplicate) else outcome
    assert Accepted(2, (Posted("s", 1),)) == first


def test_a_client_after_a_fork(home: House) -> None:
    """A process that forked connects anew and sends under ids of its own."""
    with home.crew(1):
        home.client.execute(Post("a", "parent", 0), timeout=20)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with connect(next_app, home.settings) as client:
                    client.execute(Post("a", "child", 0), timeout=20)
                code = 0
            finally:
                os._exit(code)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        home.client.execute(Post("a", "parent", 1), timeout=20)

    ids = [record.command_id for record in home.client.history(NextLedger, "a")]
    assert 3 == len(set(ids)) == len(ids)
