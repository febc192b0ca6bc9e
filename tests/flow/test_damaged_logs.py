"""
Logs that somebody else has put a hand to, or that were restored without their instances: whoever meets one says so.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from holdfast import HistoryError
from holdfast.brokers.keys import Keys
from holdfast.runtime.keys import Ref, partition_of
from tests.flow.house import CALM, PATIENCE_S, House, house, quick
from tests.flow.shop import NextLedger, Post
from tests.support.processes import eventually
from tests.support.servers import redis_client

RECORDS = 201


@pytest.fixture
def home(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[House]:
    """
    A house whose workers wait two seconds for what they cannot read.
    """
    with house(quick(namespace, redis_url, patience_s=2.0, **CALM), tmp_path) as it:
        yield it


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """
    What damages logs.
    """
    with redis_client(redis_url) as it:
        yield it


def ref(home: House, key: str) -> Ref:
    """
    A ledger.
    """
    return Ref(partition_of("ledger", key, home.settings.partitions), "ledger", key)


def log_of(home: House, key: str) -> str:
    """
    The stream with a ledger's log.
    """
    return Keys(home.settings.namespace).log(ref(home, key))


def fill(home: House, *keys: str, records: int = RECORDS) -> None:
    """
    Have a worker write logs; then it goes, and takes with it what it had at hand.
    """
    with home.crew(1):
        home.client.send_many(Post(key, "s", number) for number in range(records) for key in keys)
        home.await_logs(**dict.fromkeys(keys, records))


def test_a_log_that_is_ahead_of_its_instance_is_told(home: House, client: redis.Redis) -> None:
    """
    After a partial restore: said once when the waiting begins, and a dead letter that says what to do when it ends.
    Other instances of the partition go on, and what is lacking may be put back.
    """
    fill(home, "o", "other", records=3)
    actor = Keys(home.settings.namespace).actor(ref(home, "o"))
    was = client.dump(actor)
    assert was is not None
    client.delete(actor)
    # Both are there before anybody waits for the log: so they lose patience together.
    home.client.send(Post("o", "s", 3), id="late")
    home.client.send(Post("o", "s", 4), id="later")
    with home.crew(1):
        eventually(lambda: "the log of ledger/o goes beyond its instance" in home.said(), PATIENCE_S)
        home.client.send(Post("other", "s", 3))
        home.await_logs(other=4)
        eventually(lambda: len(home.client.dead_letters.list()) == 2, PATIENCE_S)
        letters = home.client.dead_letters.list()
        client.restore(actor, 0, was)
        for letter in sorted(letters, key=lambda one: one.command_id):
            home.client.dead_letters.retry(letter.id)
        home.await_logs(o=5)

    assert 1 == home.said().count("commands are kept back")
    assert {"late", "later"} == {letter.command_id for letter in letters}
    for letter in letters:
        assert (
            "HistoryError: the log of ledger/o goes beyond its instance, which ends at 0: one of the two was lost or "
            "restored without the other; restore both from one backup, then retry the dead letters"
        ) in letter.error


def test_commands_to_a_log_with_a_gap_are_told(home: House, client: redis.Redis) -> None:
    """
    Nothing is decided on a state that lacks a record, and a person is told at once and not when patience ends.
    """
    fill(home, "o")
    client.xdel(log_of(home, "o"), "100-0")
    with home.crew(1):
        began = time.time()
        home.client.send(Post("o", "s", RECORDS))
        eventually(lambda: len(home.client.dead_letters.list()) == 1, PATIENCE_S)
        eventually(lambda: "command became a dead letter" in home.said(), PATIENCE_S)

    said = home.said()
    assert 1 == said.count("commands are kept back")
    told = said.index("the log of ledger/o goes from 99 to 101")
    assert told < said.index("command became a dead letter")
    (letter,) = home.client.dead_letters.list()
    assert letter.at_ms - began * 1000 > home.settings.patience_s * 1000 - 1


def ways(home: House) -> list[Callable[[], object]]:
    """
    Every way to read a whole log.
    """
    return [
        lambda: home.client.history(NextLedger, "o"),
        lambda: dict(home.client.histories(NextLedger, ["o"])),
        lambda: home.client.state(NextLedger, "o"),
        lambda: home.client.state(NextLedger, "o", at=RECORDS),
    ]


def test_a_gap_in_a_log_is_told(home: House, client: redis.Redis) -> None:
    """
    Whoever reads a log learns that records between two others are gone; also who reads it piece by piece.
    """
    fill(home, "o")
    client.xdel(log_of(home, "o"), "100-0", "101-0")

    for way in ways(home):
        with pytest.raises(HistoryError, match="the log of ledger/o goes from 99 to 102; records between"):
            way()
    with pytest.raises(HistoryError, match="from 99 to 102"):
        home.client.history(NextLedger, "o", after=99)
    assert 99 == len(home.client.history(NextLedger, "o", limit=99))
    assert 100 == len(home.client.history(NextLedger, "o", after=101))


def test_a_log_without_its_beginning_has_no_gap(home: House, client: redis.Redis) -> None:
    """
    Its first records were trimmed: what is left is a history.
    """
    fill(home, "o", records=20)
    client.xtrim(log_of(home, "o"), minid="11-0", approximate=False)

    expected = list(range(11, 21))
    assert expected == [one.seq for one in home.client.history(NextLedger, "o")]
    assert expected == [one.seq for one in home.client.history(NextLedger, "o", after=5)]
    assert [expected] == [[one.seq for one in log] for _, log in home.client.histories(NextLedger, ["o"])]


@pytest.mark.parametrize("id_", [f"{RECORDS + 1}-0", f"{RECORDS}-1", "*"])
def test_an_entry_that_is_no_record_is_told(home: House, client: redis.Redis, id_: str) -> None:
    """
    What another program put into a log is named by whoever reads it, and commands to that instance are kept back.
    """
    fill(home, "o")
    found = client.xadd(log_of(home, "o"), {"x": "y"}, id=id_)
    assert isinstance(found, bytes)
    number = int(found.partition(b"-")[0])

    for way in ways(home):
        with pytest.raises(HistoryError, match=f"record {number} of ledger/o is none"):
            way()
    with home.crew(1):
        home.client.send(Post("o", "s", RECORDS))
        eventually(lambda: f"record {number} of ledger/o is none" in home.said(), PATIENCE_S)
