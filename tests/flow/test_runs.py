"""
Instances are paused, resumed, cancelled and emptied while work goes on and workers die.
"""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast import (
    Accepted,
    AlreadyCompleted,
    DataDeleted,
    Duplicate,
    Parked,
    Rejected,
    RunState,
    connect_async,
)
from holdfast.actors import wiring
from holdfast.actors.caretaker import Caretaker
from holdfast.actors.reader import Reader
from holdfast.runtime.clock import ManualClock
from tests.flow.house import PATIENCE_S, House, accounts
from tests.flow.senders import Senders
from tests.flow.shop import Balance, Close, Guest, NextLedger, Post, Sit
from tests.support.processes import eventually


def test_pausing_under_load_loses_and_reorders_nothing(home: House) -> None:
    """
    Instances are paused and resumed again and again under load while workers are killed: each command is decided once,
    in its sender's order, and between a pause and its resume nothing is.
    """
    keys = accounts("p", 12)
    choice = random.Random("pauses")
    with home.crew(2):
        with Senders(home.client, keys, per_key=home.per_key) as senders:
            for round_ in range(4):
                home.await_progress(30)
                chosen = choice.sample(keys, 6)
                for number, key in enumerate(chosen):
                    move(home, "pause", key, f"pause-{round_}-{number}")
                await_parked(home, chosen)
                home.strike_one_down()
                for number, key in enumerate(chosen):
                    move(home, "resume", key, f"resume-{round_}-{number}")
        home.check(senders, at_least=150)
    assert [0] * len(keys) == [home.parked(key) for key in keys]
    for key in keys:
        nothing_while_paused(home, key)
    home.check_empty()


def await_parked(home: House, keys: list[str]) -> None:
    """
    Wait until commands are kept for each of these.
    """
    eventually(lambda: all(home.parked(key) for key in keys), PATIENCE_S)


def move(home: House, verb: str, key: str, command_id: str) -> None:
    """
    Pause or resume, until somebody answers.
    """
    outcome = getattr(home.client, verb)(NextLedger, key, id=command_id, timeout=PATIENCE_S)
    first = outcome.first if isinstance(outcome, Duplicate) else outcome
    assert isinstance(first, Accepted), outcome


def nothing_while_paused(home: House, key: str) -> None:
    paused = False
    for record in home.client.history(NextLedger, key):
        if record.control is not None:
            assert ("resume" if paused else "pause") == record.control.verb
            paused = not paused
        else:
            assert not paused, f"{key} decided {record.command_id} while it was paused"
    assert not paused


def test_a_paused_instance_tells_its_callers(busy: House) -> None:
    """
    A caller learns that his command is kept and why, and what became of it when he asks again after the resume.
    """
    client = busy.client
    client.execute(Post("told", "s", 1), timeout=PATIENCE_S)
    assert isinstance(client.pause(NextLedger, "told", reason="lunch", timeout=PATIENCE_S), Accepted)

    assert Parked("lunch") == client.execute(Post("told", "s", 2), id="two", timeout=PATIENCE_S)
    assert Parked("lunch") == client.execute(Post("told", "s", 2), id="two", timeout=PATIENCE_S)
    again = client.pause(NextLedger, "told", timeout=PATIENCE_S)
    assert isinstance(again, Rejected)
    assert "the instance is paused already" == again.reason
    assert isinstance(client.resume(NextLedger, "told", timeout=PATIENCE_S), Accepted)

    outcome = client.execute(Post("told", "s", 2), id="two", timeout=PATIENCE_S)
    assert isinstance(outcome, Duplicate)
    assert isinstance(outcome.first, Accepted)
    assert [1, 2] == busy.numbers("told")


def test_a_cancelled_instance_can_be_emptied(busy: House) -> None:
    """
    Cancelled, it answers that it is; emptied, its history says when and why, and its state is not there to be had.
    """
    client = busy.client
    client.execute(Post("over", "s", 1), timeout=PATIENCE_S)
    refused = client.delete_data(NextLedger, "over", timeout=PATIENCE_S)
    assert isinstance(refused, Rejected)

    assert isinstance(client.cancel(NextLedger, "over", reason="enough", timeout=PATIENCE_S), Accepted)
    assert AlreadyCompleted("cancelled") == client.execute(Post("over", "s", 2), timeout=PATIENCE_S)
    assert Balance(1) == client.state(NextLedger, "over")
    assert ["over"] == keys_in(busy, RunState.CANCELLED)

    assert isinstance(
        client.delete_data(NextLedger, "over", reason="asked for", timeout=PATIENCE_S), Accepted
    )
    assert AlreadyCompleted("data-deleted") == client.execute(Post("over", "s", 3), timeout=PATIENCE_S)
    assert AlreadyCompleted("data-deleted") == client.delete_data(NextLedger, "over", timeout=PATIENCE_S)
    with pytest.raises(DataDeleted, match="the data of ledger/over was deleted with record 3"):
        client.state(NextLedger, "over")
    with pytest.raises(DataDeleted):
        client.wait(NextLedger, "over", until=lambda state: False, timeout=5)
    (record,) = client.history(NextLedger, "over")
    assert record.control is not None
    assert (3, (), "delete-data", "asked for") == (
        record.seq,
        record.events,
        record.control.verb,
        record.control.reason,
    )
    assert ["over"] == keys_in(busy, RunState.DATA_DELETED)


def keys_in(home: House, run_state: RunState) -> list[str]:
    return [one.key for one in home.client.instances(NextLedger, run_state=run_state).instances]


def test_a_pause_may_end_by_itself(busy: House) -> None:
    """
    After the time that was said it is resumed, and what came meanwhile is decided.
    """
    client = busy.client
    client.execute(Post("nap", "s", 1), timeout=PATIENCE_S)
    outcome: Any = client.pause(NextLedger, "nap", resume_after=timedelta(seconds=1), timeout=PATIENCE_S)
    assert isinstance(outcome, Accepted)
    client.execute(Post("nap", "s", 2), timeout=PATIENCE_S)

    busy.await_logs(nap=2)
    assert [None, "pause", "resume", None] == [
        one.control and one.control.verb for one in client.history(NextLedger, "nap")
    ]


def test_a_seat_has_one_guest(home: House) -> None:
    """
    Guests in all partitions go from seat to seat at once while workers are killed: at the end no two sit on one, each
    was told what its log says, and every seat whose guest went home is free again.
    """
    guests = [f"g-{number}" for number in range(16)]
    seats = [f"s-{number}" for number in range(5)]

    def wander(guest: str) -> None:
        choice = random.Random(guest)
        for number in range(12):
            seat = choice.choice([*seats, ""])
            outcome = home.client.execute(Sit(guest, seat), id=f"{guest}-{number}", timeout=PATIENCE_S)
            told = outcome.first if isinstance(outcome, Duplicate) else outcome
            recorded = any(one.command_id == f"{guest}-{number}" for one in home.client.history(Guest, guest))
            assert recorded == isinstance(told, Accepted), told

    with home.crew(2):
        with ThreadPoolExecutor(len(guests)) as threads:
            walks = [threads.submit(wander, guest) for guest in guests]
            for _ in range(2):
                before = sum(walk.done() for walk in walks)
                home.strike_one_down()
                home.await_shared(2)
                assert before <= sum(walk.done() for walk in walks)
            for walk in walks:
                walk.result()
        where = [seat for guest in guests if (seat := home.client.state(Guest, guest))]
        assert len(where) == len(set(where)), where
        assert where == [
            home.client.state(Guest, holder)
            for seat in where
            if (holder := home.client.find(Guest, unique=seat))
        ]
        for guest in guests:
            home.client.execute(Sit(guest, "home"), timeout=PATIENCE_S)
        assert [None] * len(seats) == [home.client.find(Guest, unique=seat) for seat in seats]
        late = home.client.execute(Sit("late", seats[0]), timeout=PATIENCE_S)
        assert isinstance(late, Accepted)


def test_finished_instances_go_when_their_time_has_come(busy: House) -> None:
    """
    A month and a day after its end the data of an instance is deleted; that of one that goes on is not.
    """
    client, settings = busy.client, busy.settings
    client.execute(Post("gone", "s", 1), timeout=PATIENCE_S)
    client.execute(Close("gone", "s", 2), timeout=PATIENCE_S)
    client.execute(Post("stays", "s", 1), timeout=PATIENCE_S)
    clock = ManualClock(datetime.now(UTC) + timedelta(days=31))
    ports, transport = wiring.open_ports(settings), wiring.open_transport(settings)
    reader = Reader(client.app, settings.partitions, lambda: ports.journal)
    caretaker = Caretaker(
        client.app,
        settings.partitions,
        ports.directory,
        reader,
        transport.publisher(),
        clock,
        close=ports.close,
    )
    try:
        assert caretaker.step() >= 1
        eventually(lambda: "gone" in keys_in(busy, RunState.DATA_DELETED), PATIENCE_S)
    finally:
        caretaker.stop()
    (record,) = client.history(NextLedger, "gone")
    assert record.control is not None
    assert "kept long enough" == record.control.reason
    assert Balance(1) == client.state(NextLedger, "stays")


def test_runs_are_moved_without_threads_waiting(busy: House) -> None:
    """
    The asynchronous client has the same verbs.
    """

    async def play() -> list[type]:
        async with connect_async(busy.client.app, busy.settings) as client:
            await client.execute(Post("async", "s", 1), timeout=PATIENCE_S)
            outcomes = [
                await client.pause(NextLedger, "async", resume_after=timedelta(hours=1), timeout=PATIENCE_S),
                await client.execute(Post("async", "s", 2), timeout=PATIENCE_S),
                await client.resume(NextLedger, "async", timeout=PATIENCE_S),
                await client.cancel(NextLedger, "async", timeout=PATIENCE_S),
                await client.delete_data(NextLedger, "async", timeout=PATIENCE_S),
            ]
            with pytest.raises(DataDeleted):
                await client.wait(NextLedger, "async", until=lambda state: False, timeout=PATIENCE_S)
            return [type(one) for one in outcomes]

    assert [Accepted, Parked, Accepted, Accepted, Accepted] == asyncio.run(play())
