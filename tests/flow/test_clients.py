"""
What senders and readers see of a system at work.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
import pytest

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
from tests.contract.transports import line_to, through
from tests.flow.house import PATIENCE_S, House
from tests.flow.shop import Balance, Close, Closed, NextLedger, Overdraw, Post, Posted, next_app
from tests.support.processes import eventually


def first(outcome: Outcome) -> Outcome:
    """
    Return what was decided of a command, whether its sender is told so for the first time or not.
    """
    return outcome.first if isinstance(outcome, Duplicate) else outcome


def test_one_id_for_two_instances_is_two_commands(busy: House) -> None:
    """
    Callers who use one id for several instances at once are each told what became of their own.
    """
    keys = [f"same-{number}" for number in range(12)]
    with ThreadPoolExecutor(len(keys)) as threads:
        outcomes = list(threads.map(lambda key: busy.client.execute(Post(key, key, 1), id="one"), keys))

    assert [Accepted(1, (Posted(key, 1),)) for key in keys] == outcomes


def test_every_outcome(busy: House) -> None:
    """
    A caller is told what became of each command, and of a second copy what became of the first.
    """
    execute = busy.client.execute
    refused, closing = new_id(), new_id()

    assert Accepted(1, (Posted("s", 0),)) == execute(Post("every", "s", 0))
    assert Rejected("overdrawn", {"sender": "s", "number": 1}) == execute(
        Overdraw("every", "s", 1), id=refused
    )
    assert Accepted(2, (Closed("s", 2),)) == execute(Close("every", "s", 2), id=closing)
    assert AlreadyCompleted("completed") == execute(Post("every", "s", 3))
    assert Duplicate(Accepted(2, (Closed("s", 2),))) == execute(Close("every", "s", 2), id=closing)
    assert Duplicate(Rejected("overdrawn", {"sender": "s", "number": 1})) == execute(
        Overdraw("every", "s", 1), id=refused
    )
    assert isinstance(execute(Overdraw("nobody", "s", 1)), Rejected)
    assert busy.client.state(NextLedger, "nobody") is None


def test_states_now_and_then(busy: House) -> None:
    """
    A state can be read as it is, as it was after a record, and as it was at a time; so can the records.
    """
    before = datetime.now(UTC)
    for number in range(3):
        busy.client.execute(Post("then", "s", number))
    busy.client.execute(Close("then", "s", 3))

    state = busy.client.state
    records = busy.client.history(NextLedger, "then")
    assert Balance(4, closed=True) == state(NextLedger, "then")
    assert [Balance(1), Balance(2)] == [state(NextLedger, "then", at=1), state(NextLedger, "then", at=2)]
    assert Balance(4, closed=True) == state(NextLedger, "then", at=99)
    assert state(NextLedger, "then", at=before) is None
    at_once = [record for record in records if record.at == records[2].at]
    assert Balance(at_once[-1].seq, closed=at_once[-1].seq == 4) == state(
        NextLedger, "then", at=records[2].at
    )
    assert [1, 2, 3, 4] == [record.seq for record in records]
    assert records[1:3] == busy.client.history(NextLedger, "then", after=1, limit=2)
    with pytest.raises(UsageError, match="needs a time zone"):
        state(NextLedger, "then", at=datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake under test


def test_instances_are_listed(busy: House) -> None:
    """
    The directory finds instances by run state, the latest changed first, page by page.
    """
    keys = [f"listed-{number}" for number in range(7)]
    start = datetime.now(UTC)
    for key in keys:
        busy.client.execute(Post(key, "s", 0))
    busy.client.execute(Close("listed-3", "s", 1))

    found, cursor = [], None
    while True:
        page = busy.client.instances(NextLedger, limit=3, since=start, cursor=cursor)
        found += page.instances
        cursor = page.cursor
        if cursor is None:
            break

    assert "listed-3" == found[0].key
    assert sorted(keys) == sorted(line.key for line in found if line.key in keys)
    completed = busy.client.instances("ledger", run_state="completed").instances
    assert ["listed-3"] == [line.key for line in completed if line.key in keys]
    running = busy.client.instances(NextLedger, run_state=RunState.RUNNING).instances
    assert 6 == len([line for line in running if line.key in keys])
    with pytest.raises(UsageError, match="'gone' is no run state"):
        busy.client.instances(NextLedger, run_state="gone")


def test_a_reader_is_woken(busy: House) -> None:
    """
    Who waits is woken by the commit, long before his time is up; and he is told when it did not come in time.
    """
    wait = busy.client.wait
    with ThreadPoolExecutor(1) as pool:
        start = time.monotonic()
        waiting = pool.submit(wait, NextLedger, "woken", until=counts(2), timeout=100)
        busy.client.send_many([Post("woken", "s", 0), Post("woken", "s", 1)])

        assert Balance(2) == waiting.result()
        assert time.monotonic() - start < 50
    assert Balance(2) == wait(NextLedger, "woken", until=counts(2), timeout=0)
    with pytest.raises(ReplyTimeout, match="ledger/woken did not come to what was waited for within"):
        wait(NextLedger, "woken", until=lambda state: state.closed, timeout=0.05)
    with pytest.raises(ReplyTimeout, match="it does not exist"):
        wait(NextLedger, "never", until=lambda state: True, timeout=0.05)


def counts(number: int) -> Callable[[Balance], bool]:
    return lambda state: state.count == number


def test_nobody_answers(home: House) -> None:
    """
    A caller without workers is told so in time, with the id to ask again with, and then learns the outcome.
    """
    command_id = new_id()
    with pytest.raises(ReplyTimeout, match=command_id):
        home.client.execute(Post("a", "s", 0), id=command_id, timeout=0.2)

    with home.crew(1):
        outcome = home.client.execute(Post("a", "s", 0), id=command_id, timeout=PATIENCE_S)

    assert Accepted(1, (Posted("s", 0),)) == first(outcome)
    assert 1 == len(home.client.history(NextLedger, "a"))


def test_many_at_once_on_an_event_loop(busy: House) -> None:
    """
    On an event loop, many callers and waiters at once each get their own.
    """
    keys = [f"loop-{number}" for number in range(50)]

    async def main() -> None:
        async with connect_async(next_app, busy.settings) as client:
            waiting = [
                asyncio.create_task(client.wait(NextLedger, key, until=counts(2), timeout=40)) for key in keys
            ]
            outcomes = await asyncio.gather(
                *(client.execute(Post(key, key, 0), timeout=PATIENCE_S) for key in keys),
                *(client.execute(Overdraw(key, key, 1), timeout=PATIENCE_S) for key in keys),
            )
            await client.send_many(Post(key, key, 2) for key in keys)

            assert [Balance(2)] * 50 == await asyncio.gather(*waiting)
            assert [Accepted(1, (Posted(key, 0),)) for key in keys] == outcomes[:50]
            assert [Rejected("overdrawn", {"sender": key, "number": 1}) for key in keys] == outcomes[50:]
            assert [1, 2] == [record.seq for record in await client.history(NextLedger, "loop-7")]
            assert Balance(2) == await client.state(NextLedger, "loop-7")
            assert [] != (await client.instances(NextLedger, limit=1)).instances
            with pytest.raises(ReplyTimeout):
                await client.wait(NextLedger, "loop-1", until=lambda state: state.closed, timeout=0.05)

    asyncio.run(main())


def test_a_lost_answer_is_asked_for_again(home: House) -> None:
    """
    A caller who cannot be reached when his command is decided learns what became of it as soon as he can.
    """
    if home.settings.clustered:
        pytest.skip("one line does not lead to a cluster")
    with line_to(home.settings.redis_url) as line, ThreadPoolExecutor(1) as pool:
        settings = msgspec.structs.replace(home.settings, redis_url=through(line, home.settings.redis_url))
        with connect(next_app, settings) as client:
            waiting = pool.submit(client.execute, Post("a", "s", 1), timeout=100)
            eventually(lambda: home.client.pending() == 1)
            line.down()
            with home.crew(1):
                home.client.wait(NextLedger, "a", until=counts(1))
                # The same worker thread answers this one after that one.
                assert isinstance(home.client.execute(Overdraw("a", "t", 1), timeout=PATIENCE_S), Rejected)
                assert not waiting.done()
                line.up()
                start = time.monotonic()
                outcome = waiting.result()

    assert time.monotonic() - start < 50
    assert Accepted(1, (Posted("s", 1),)) == first(outcome)
    assert 1 == len(home.client.history(NextLedger, "a"))


def test_a_client_after_a_fork(busy: House) -> None:
    """
    A process that forked uses the client that it was forked with, or one of its own, and so does its parent: nobody
    gets what is the other's.
    """
    busy.client.execute(Post("fork", "parent", 0))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert isinstance(busy.client.execute(Post("fork", "child", 0)), Accepted)
            busy.client.send(Post("fork", "child", 1))
            assert Balance(3) == busy.client.wait(NextLedger, "fork", until=counts(3))
            busy.client.close()
            with connect(next_app, busy.settings) as client:
                client.execute(Post("fork", "child", 2))
            code = 0
        finally:
            os._exit(code)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    busy.client.execute(Post("fork", "parent", 1))

    records = busy.client.history(NextLedger, "fork")
    told = [(event.sender, event.number) for record in records for event in record.events]
    assert [("parent", 0), ("child", 0), ("child", 1), ("child", 2), ("parent", 1)] == told
    assert 5 == len({record.command_id for record in records})
