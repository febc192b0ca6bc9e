"""
Losses: whoever saw an instance further than its log goes learns of it, whoever is asked.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.brokers.durability import Barrier
from holdfast.brokers.redis_dead_letters import RedisDeadLetters
from holdfast.brokers.redis_journal import RedisJournal
from holdfast.brokers.redis_link import RedisLink
from holdfast.brokers.redis_losses import RedisLosses
from holdfast.runtime.clock import SystemClock
from holdfast.runtime.codec import encode
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import NotDurable, Unavailable
from holdfast.runtime.keys import Ref
from holdfast.runtime.loss import Known, Loss, Watchman
from holdfast.runtime.ports import Commit, Committed, Opened
from tests import controls
from tests.contract.pairs import Pair
from tests.support.processes import SECONDS_MAX, eventually
from tests.support.servers import RedisServer

REF = controls.ref()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """
    A pair of its own for each test.
    """
    with (
        RedisServer(tmp_path / "a") as primary,
        RedisServer(tmp_path / "b", repl_diskless_sync_delay=0) as replica,
    ):
        found = Pair(primary, replica)
        try:
            yield found
        finally:
            found.close()


def entry(id_: str) -> bytes:
    """
    An entry as the codec makes it, as far as anybody looks here.
    """
    return encode((id_, "Test", 1, 0, ()))


def write(journal: RedisJournal, ref: Ref, *ids: str) -> Known:
    """
    Commit commands one after another, and return what is known then.
    """
    seq = 0
    for id_ in ids:
        (found,) = journal.open([ref], "a")
        assert isinstance(found, Opened)
        seq = found.seq + 1
        commit = Commit(ref, found.seq, found.head, found.token, [entry(id_)], id_)
        assert isinstance(journal.commit([commit], "a")[0], Committed)
    return Known(ref, seq, ids[-1])


def again(journal: RedisJournal, ref: Ref, *ids: str) -> Known:
    """
    As `write`, once the server is back.
    """
    until = time.monotonic() + SECONDS_MAX
    while True:
        try:
            return write(journal, ref, *ids)
        except Unavailable:
            assert time.monotonic() < until


def test_what_is_there_is_not_lost(pair: Pair) -> None:
    """
    Where the log ends or goes on, what is known of it stands.
    """
    with RedisLink(pair.settings) as link:
        journal, losses = RedisJournal(pair.settings, link), RedisLosses(pair.settings, link)
        first = write(journal, REF, "c-1")
        last = write(journal, REF, "c-2", "c-3")

        assert [] == losses.compare([first, last])
        assert 0 == losses.epoch() == losses.refresh()


def test_what_is_gone_is_named(pair: Pair) -> None:
    """
    A shorter log, another record under the same number, and an instance that is not there are losses.
    """
    with RedisLink(pair.settings) as link:
        journal, losses = RedisJournal(pair.settings, link), RedisLosses(pair.settings, link)
        write(journal, REF, "c-1", "c-2")
        longer, other, absent = Known(REF, 3, "c-3"), Known(REF, 1, "x"), Known(controls.ref("o-9"), 1, "y")

        assert losses.compare([longer, other, absent]) == [
            Loss(longer, 2, "c-2"),
            Loss(other, 2, "c-2"),
            Loss(absent, 0, ""),
        ]


def test_a_promoted_replica_without_the_last_records_is_noticed(pair: Pair) -> None:
    """
    The replica lacks two records when it is promoted: the watchman says which, and a dead letter tells a person. It is
    told once, also where the same number has been given again.
    """
    with RedisLink(pair.settings) as link:
        journal, losses = RedisJournal(pair.settings, link), RedisLosses(pair.settings, link)
        letters = RedisDeadLetters(pair.settings, link)
        watchman = Watchman(losses, letters, SystemClock())
        kept = write(journal, controls.ref("o-2"), "d-1")
        write(journal, REF, "c-1")
        eventually(lambda: pair.replica.client().exists(*_keys(pair.settings)) == 1)
        pair.part()
        known = write(journal, REF, "c-2", "c-3")
        pair.fail_over()
        watchman.doubt([known, kept])
        eventually(lambda: _settled(watchman))
        again(journal, REF, "e-2")

        assert watchman.calm()
        (letter,) = letters.list()
        assert ("lost", REF.workflow, REF.key) == (letter.kind, letter.workflow, letter.key)
        assert "records 2 to 3" in letter.error
        assert [Loss(known, 2, "e-2")] == watchman.examine([known])
        assert 1 == letters.count(kind="lost")


def test_who_handed_an_instance_over_still_knows_it(pair: Pair) -> None:
    """
    A partition went to another worker while its server was well, and that is lost before the other has seen its
    instances: the one who had them tells what is gone.
    """
    with RedisLink(pair.settings) as link:
        journal, losses = RedisJournal(pair.settings, link), RedisLosses(pair.settings, link)
        letters = RedisDeadLetters(pair.settings, link)
        watchman = Watchman(losses, letters, SystemClock())
        write(journal, REF, "c-1")
        eventually(lambda: pair.replica.client().exists(*_keys(pair.settings)) == 1)
        pair.part()
        watchman.doubt([write(journal, REF, "c-2", "c-3")])

        assert [] == watchman.settle()
        assert watchman.calm()

        pair.fail_over()
        eventually(lambda: _settled(watchman))

        assert ["lost"] == [letter.kind for letter in letters.list()]


def test_a_loss_that_could_not_be_told_is_told_later(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A conflict meets what the former server had not; when it is to be told, the new one does not answer.
    """
    with RedisLink(pair.settings) as link:
        journal, losses = RedisJournal(pair.settings, link), RedisLosses(pair.settings, link)
        letters = RedisDeadLetters(pair.settings, link)
        watchman = Watchman(losses, letters, SystemClock())
        write(journal, REF, "c-1")
        eventually(lambda: pair.replica.client().exists(*_keys(pair.settings)) == 1)
        pair.part()
        known = write(journal, REF, "c-2", "c-3")
        pair.fail_over()
        eventually(lambda: _reached(link))

        with monkeypatch.context() as away:
            away.setattr(letters, "add", _unanswered)
            with pytest.raises(Unavailable):
                watchman.meet([known])
        assert not watchman.calm()
        assert [known] == [loss.known for loss in watchman.settle()]

        assert ["lost"] == [letter.kind for letter in letters.list()]
        assert [known] == [loss.known for loss in watchman.meet([known])]
        assert watchman.calm()


def test_nothing_is_lost_where_the_same_server_answers(pair: Pair) -> None:
    """
    A line that was cut says nothing about the server.
    """
    with RedisLink(pair.settings) as link:
        journal, losses = RedisJournal(pair.settings, link), RedisLosses(pair.settings, link)
        watchman = Watchman(losses, RedisDeadLetters(pair.settings, link), SystemClock())
        watchman.doubt([write(journal, REF, "c-1")])
        pair.address.cut()
        eventually(lambda: _settled(watchman))

        assert 0 == losses.epoch()


def test_no_barrier_speaks_for_a_server_that_is_gone(pair: Pair, tmp_path: Path) -> None:
    """
    What was written to the former primary is not covered by a barrier on the new one, though that has a replica.
    """
    settings = Settings.of(
        **{name: getattr(pair.settings, name) for name in ("namespace", "redis_url", "partitions")},
        durability="replicated(1)",
    )
    with RedisServer(tmp_path / "c", repl_diskless_sync_delay=0) as third, RedisLink(settings) as link:
        third.client().execute_command("REPLICAOF", "127.0.0.1", pair.replica.port)
        barrier = Barrier(settings, link, waitaof=False)
        journal = RedisJournal(settings, link, barrier)
        write(journal, REF, "c-1")
        eventually(lambda: _barrier(journal) == "")
        pair.part()
        write(journal, REF, "c-2")
        pair.fail_over()
        eventually(lambda: pair.replica.client().info("replication")["connected_slaves"] == 1)
        eventually(lambda: _reached(link))

        said: list[str] = []

        def answered() -> bool:
            said.append(_barrier(journal))
            return not said[-1].startswith("only 0 of 1 replicas")  # it stood still

        eventually(answered)
        assert "another server answers" in said[-1]
        again(journal, REF, "c-3")
        eventually(lambda: _barrier(journal) == "")


def test_a_demoted_primary_is_let_go(pair: Pair) -> None:
    """
    A server that takes no writes any more is left: at its address another may answer by now.
    """
    with RedisLink(pair.settings) as link:
        journal = RedisJournal(pair.settings, link)
        write(journal, REF, "c-1")
        eventually(lambda: pair.replica.client().exists(*_keys(pair.settings)) == 1)
        pair.replica.client().execute_command("REPLICAOF", "NO", "ONE")
        pair.address.lead_to(pair.replica.port)
        pair.primary.client().execute_command("REPLICAOF", "127.0.0.1", pair.replica.port)

        again(journal, REF, "c-2")
        assert 1 <= link.changes


def _keys(settings: Settings) -> list[str]:
    return [f"{{{settings.namespace}.{REF.partition}}}:actor:{REF.workflow}:{REF.key}"]


def _settled(watchman: Watchman) -> bool:
    try:
        watchman.settle()
    except Unavailable:
        return False
    return True


def _barrier(journal: RedisJournal) -> str:
    """
    Take the barrier, and return why it was not reached; nothing where it was.
    """
    try:
        journal.barrier()
    except NotDurable as error:
        return str(error)
    return ""


def _reached(link: RedisLink) -> bool:
    try:
        link.touch()
    except Exception:
        return False
    return True


def _unanswered(_: object) -> None:
    raise Unavailable
