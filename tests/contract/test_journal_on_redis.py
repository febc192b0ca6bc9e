"""
The journal on Redis when Redis is restarted, full, read-only, out of step or forgets its scripts.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.brokers.redis_journal import RedisJournal
from holdfast.brokers.redis_link import RedisLink
from holdfast.runtime.codec import encode
from holdfast.runtime.errors import SetupError, Unavailable
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Ahead, Commit, Committed, Conflict, Held, Opened
from tests import controls
from tests.contract.threads import begin, together
from tests.contract.worlds import RedisWorld, log_of, opened, write
from tests.support.processes import SECONDS_MAX, eventually
from tests.support.servers import RedisServer, redis_client

REF = controls.ref()


@pytest.fixture
def own_world(redis_server: RedisServer) -> Iterator[RedisWorld]:
    """
    A world on a server that the test may do anything to.
    """
    world = RedisWorld(redis_server.url, "own")
    yield world
    world.close()


# -- scripts that are forgotten


def test_forgotten_scripts_are_given_again(own_world: RedisWorld) -> None:
    """
    A server that forgets its scripts between any two calls is taught them again, and nothing runs twice.
    """
    journal, membership, desk = own_world.journal(), own_world.membership(), own_world.desk()
    refs = controls.refs(100)
    own_world.forget_scripts()
    results = journal.commit(
        [controls.commit(ref, "c-1", effects=[controls.effect(of=ref)]) for ref in refs], "a"
    )
    own_world.forget_scripts()
    views = [opened(one) for one in journal.open(refs, "a")]
    own_world.forget_scripts()
    journal.snapshot([(ref, controls.snapshot()) for ref in refs])
    own_world.forget_scripts()
    journal.release([(view.ref, view.token) for view in views], "a")
    own_world.forget_scripts()
    assert membership.claim(0, "command", "m-1", ["m-1"])
    own_world.forget_scripts()
    assert [controls.member()] == membership.beat(controls.member(), 60_000).living
    own_world.forget_scripts()
    membership.yield_(0, "command", "m-1")
    own_world.forget_scripts()
    desk.remember([(0, "c-1", b"no")])
    effects = [len(journal.effects(partition, 1_000)) for partition in range(controls.PARTITIONS)]

    assert [Committed(1)] * 100 == results
    assert [(1, 1)] * 100 == [
        (one.seq, one.snapshot.seq if one.snapshot else 0) for one in journal.read(refs)
    ]
    assert [2] * 100 == [opened(one).token for one in journal.open(refs, "b")]
    assert 100 == sum(effects)
    assert [None] * 4 == membership.owners("command")


def test_scripts_may_be_forgotten_at_any_moment(own_world: RedisWorld) -> None:
    """
    While another flushes the scripts all the time every increment of many threads counts exactly once.
    """
    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            own_world.client.script_flush()

    flushing = begin(flush)
    journals = [own_world.journal(leases=False) for _ in range(4)]
    refs = controls.refs(8)

    def increment(number: int) -> int:
        done = 0
        for step in range(25):
            views = [opened(one) for one in journals[number].open(refs, "a")]
            results = journals[number].commit(
                [
                    controls.commit(view, f"{number}.{step}", effects=[controls.effect(of=view.ref)])
                    for view in views
                ],
                "a",
            )
            done += sum(isinstance(one, Committed) for one in results)
        return done

    counts = together(4, increment)
    stop.set()
    flushing.result(SECONDS_MAX)
    effects = sum(len(journals[0].effects(partition, 10_000)) for partition in range(controls.PARTITIONS))

    assert sum(counts) == sum(one.seq for one in journals[0].read(refs)) == effects


# -- servers that go away


def test_a_restarted_server_is_used_again(own_world: RedisWorld, redis_server: RedisServer) -> None:
    """
    Without the server every verb says Unavailable; with it again the same objects go on where they were.
    """
    journal, directory, dead = own_world.journal(), own_world.directory(), own_world.dead_letters()
    desk, membership = own_world.desk(), own_world.membership()
    view = write(journal, REF, "c-1")
    redis_server.stop()
    verbs: list[Any] = [
        lambda: journal.open([REF], "a"),
        lambda: journal.read([REF, controls.ref("o-2")]),
        lambda: journal.commit([controls.commit(view, "c-2")], "a"),
        lambda: journal.snapshot([(REF, controls.snapshot())]),
        lambda: journal.release([(REF, view.token)], "a"),
        lambda: journal.entries(REF, 0, 10),
        lambda: journal.entry([(REF, 1)]),
        lambda: journal.follow(REF, 1, 10, 5),
        lambda: journal.effects(0, 10),
        lambda: journal.timers(0, 10),
        lambda: directory.instances("order"),
        lambda: dead.add([controls.dead_letter()]),
        dead.list,
        dead.count,
        lambda: dead.get("0.d-1"),
        lambda: dead.remove("0.d-1"),
        lambda: desk.remember([(0, "c-1", b"no")]),
        lambda: desk.recall([(0, "c-1")]),
        lambda: desk.reply([("a/b", b"")]),
        lambda: desk.begin([(0, "c-1")]),
        lambda: desk.clear([(0, "c-1")]),
        lambda: membership.beat(controls.member(), 1_000),
        membership.living,
        lambda: membership.leave("m-1"),
        lambda: membership.claim(0, "command", "m-1", []),
        lambda: membership.yield_(0, "command", "m-1"),
        lambda: membership.owners("command"),
    ]
    for verb in verbs:
        with pytest.raises(
            Unavailable, match=rf"Redis at redis://127.0.0.1:{redis_server.port}/0 does not answer"
        ):
            verb()
    redis_server.start()
    write(journal, view, "c-2")

    assert (2, "c-2") == (opened(journal.open([REF], "a")[0]).seq, journal.read([REF])[0].head)
    assert [1, 1] == [line.seq // 2 for line in directory.instances("order").instances] + desk.begin(
        [(0, "c-1")]
    )
    assert [controls.member()] == membership.beat(controls.member(), 60_000).living
    assert ([], 0) == (dead.list(), dead.count())


def test_waiting_ends_with_the_server(own_world: RedisWorld, redis_server: RedisServer) -> None:
    """
    Who waits on a log when the server is killed is told so, and not left waiting.
    """
    journal = own_world.journal()
    waiting = begin(lambda: journal.follow(REF, 0, 10, 60))
    eventually(lambda: any(client["cmd"] == "xread" for client in own_world.client.client_list()))
    redis_server.kill()

    with pytest.raises(Unavailable):
        waiting.result(SECONDS_MAX)


def test_an_answer_that_was_lost_is_found_in_the_log(
    own_world: RedisWorld, redis_server: RedisServer
) -> None:
    """
    A commit whose answer never came is not made again by itself; whether it was carried out is what the log says.
    """
    settings, journal = own_world.with_(), own_world.journal()
    view = write(journal, REF, "c-1")
    with RedisLink(settings, timeout_s=0.3) as link:
        hasty = RedisJournal(settings, link)
        # The line is there before the server stops, whatever the machine does meanwhile.
        eventually(lambda: _opens(hasty))
        redis_server.pause()
        commit = controls.commit(view, "c-2", effects=[controls.effect()])
        with pytest.raises(Unavailable):
            hasty.commit([commit], "a")
        redis_server.cont()
        # It was in the server's socket, so the server carries it out when it goes on.
        eventually(lambda: journal.read([REF])[0].seq == 2)

        assert [Conflict(2)] == journal.commit([commit], "a")
        assert "c-2" == journal.read([REF])[0].head
        assert [controls.effect()] == journal.effects(REF.partition, 10)


def test_an_absent_server_is_unavailable() -> None:
    """
    Nobody listens: that may change, so it is for trying again.
    """
    with RedisLink(controls.settings(redis_url="redis://127.0.0.1:1/0")) as link, pytest.raises(Unavailable):
        RedisJournal(controls.settings(), link).read([REF])


@pytest.mark.parametrize("password", ["wr0ng", "r1ght"])
def test_a_wrong_password_is_for_the_operator(
    own_world: RedisWorld, redis_server: RedisServer, password: str
) -> None:
    """
    A refused password is no passing trouble; the message names the setting and does not show the password.
    """
    if password == "wr0ng":
        own_world.client.config_set("requirepass", "r1ght")
    url = redis_server.url.replace("redis://", f"redis://:{password}@")
    settings = controls.settings(redis_url=url)
    with RedisLink(settings) as link, pytest.raises(SetupError, match="HOLDFAST_REDIS_URL") as caught:
        RedisJournal(settings, link).read([REF])

    assert password not in str(caught.value)


def test_missing_rights_are_for_the_operator(own_world: RedisWorld, redis_server: RedisServer) -> None:
    """
    A user that may not run scripts is refused with a sentence that says so.
    """
    own_world.client.acl_setuser(
        "limited", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-evalsha"]
    )
    settings = controls.settings(redis_url=redis_server.url.replace("redis://", "redis://limited:pw@"))
    with RedisLink(settings) as link, pytest.raises(SetupError, match="does not allow this user"):
        RedisJournal(settings, link).read([REF])


# -- servers that cannot write


def test_a_replica_cannot_be_written(
    own_world: RedisWorld, redis_server: RedisServer, tmp_path: Path
) -> None:
    """
    A replica, as after a failover, is no server to commit to: Unavailable, not a conflict; promoted it goes on.
    """
    view = write(own_world.journal(), REF, "c-1")
    own_world.client.config_set("repl-diskless-sync-delay", 0)
    # A replica with an AOF does not heed SIGTERM while it writes its first one.
    with RedisServer(tmp_path, appendonly="no") as replica:
        world = RedisWorld(replica.url, "own")
        world.client.replicaof("127.0.0.1", redis_server.port)
        eventually(lambda: len(world.everything()) == len(own_world.everything()))
        journal = world.journal()

        assert 1 == journal.read([REF])[0].seq
        for verb in (
            lambda: journal.commit([controls.commit(view, "c-2")], "a"),
            lambda: journal.commit(
                [controls.commit(ref, "c-2") for ref in controls.refs(10, workflow="x")], "a"
            ),
            lambda: journal.open([REF], "a"),
            lambda: journal.release([(REF, view.token)], "a"),
            lambda: journal.snapshot([(REF, controls.snapshot())]),
        ):
            with pytest.raises(Unavailable):
                verb()

        world.client.replicaof("NO", "ONE")

        assert 2 == write(journal, view, "c-2").seq
        world.close()


def test_a_full_server_is_not_written_by_half(own_world: RedisWorld) -> None:
    """
    A server without memory refuses the whole commit, which is Unavailable and no conflict; with memory again all goes on.
    """
    journal = own_world.journal()
    view = write(journal, REF, "c-1")
    before = own_world.everything()
    own_world.client.config_set("maxmemory", 1)
    views: list[Opened | Ref] = [view, *controls.refs(20, workflow="x")]
    commits = [
        controls.commit(one, "c-2", effects=[controls.effect()], timers=[controls.timer()]) for one in views
    ]
    for verb in (
        lambda: journal.commit(commits[:1], "a"),
        lambda: journal.commit(commits, "a"),
        lambda: journal.commit(commits[1:2], "a"),
        lambda: journal.open([REF], "a"),
        lambda: journal.snapshot([(REF, controls.snapshot())]),
    ):
        with pytest.raises(Unavailable, match="maxmemory"):
            verb()

    assert before == own_world.everything()
    assert 1 == journal.read([REF])[0].seq

    own_world.client.config_set("maxmemory", 0)

    assert [Committed(1)] * 21 == journal.commit(commits, "a")


# -- data that is out of step


def test_a_log_ahead_of_its_instance_is_told(redis_world: RedisWorld) -> None:
    """
    A log that has more than its instance knows of, as after a partial restore, is neither a conflict, which would be
    tried again for ever, nor an error of a script; nothing is written.
    """
    journal = redis_world.journal()
    view = write(journal, REF, "c-1")
    other = write(journal, controls.ref("o-2"), "c-1")
    redis_world.client.xadd(redis_world.keys.log(REF), {"r": controls.entry("ahead")}, id="2-0")
    before = redis_world.everything()
    commit = controls.commit(view, "c-2", effects=[controls.effect()], timers=[controls.timer()])

    assert [Ahead(1)] == journal.commit([commit], "a")
    assert before == redis_world.everything()
    assert [Ahead(1), Committed(1)] == journal.commit([commit, controls.commit(other, "c-2")], "a")


def test_a_log_without_its_instance_is_told(redis_world: RedisWorld) -> None:
    """
    The instance is gone and its log is there: nobody begins it anew, with a lease or without.
    """
    journal = redis_world.journal()
    write(journal, REF, "c-1", "c-2")
    redis_world.client.delete(redis_world.keys.actor(REF))
    before = redis_world.everything()

    for view in (REF, opened(journal.open([REF], "a")[0]), journal.read([REF])[0]):
        refusing = (
            Commit(REF, view.seq, view.head, view.token)
            if isinstance(view, Opened)
            else Commit(REF, 0, "", 0)
        )
        assert [Ahead(0)] * 2 == journal.commit([controls.commit(view, "c-3"), refusing], "a")
    assert before == redis_world.everything()


@pytest.mark.parametrize("kept", [0, 3, 1_000, 2_000])
def test_a_log_behind_its_instance_is_read_to_its_end(redis_world: RedisWorld, kept: int) -> None:
    """
    A log that has less than its instance knows of is returned as it is, for whoever folds it to notice.
    """
    journal = redis_world.journal()
    write(journal, REF, *(f"c-{seq}" for seq in range(1, 2_501)))
    log = redis_world.keys.log(REF)
    redis_world.client.xdel(log, *(f"{seq}-0" for seq in range(kept + 1, 2_501)))
    found = begin(lambda: journal.read([REF])[0]).result(SECONDS_MAX)

    assert (2_500, list(range(1, kept + 1))) == (found.seq, [seq for seq, _ in found.tail])


@pytest.mark.parametrize("kept", [0, 500])
@pytest.mark.parametrize("gone", [(501,), (1_200,), (1_900, 2_400), tuple(range(1_001, 2_001))])
def test_a_log_with_a_gap_is_read_as_it_is(redis_world: RedisWorld, gone: tuple[int, ...], kept: int) -> None:
    """
    Every record is returned under its own number, whatever is not there before it: whoever folds it notices.
    """
    journal = redis_world.journal()
    write(journal, REF, *(f"c-{seq}" for seq in range(1, 2_501)))
    if kept:
        encoded = encode(controls.snapshot(kept, f"c-{kept}"))
        redis_world.client.hset(redis_world.keys.snap(REF), mapping={"seq": kept, "data": encoded})
    redis_world.client.xdel(redis_world.keys.log(REF), *(f"{seq}-0" for seq in gone))
    expected = [(seq, f"c-{seq}") for seq in range(kept + 1, 2_501) if seq not in gone]

    for found in (opened(journal.open([REF], "a")[0]), journal.read([REF])[0]):
        assert 2_500 == found.seq
        assert expected == [(seq, controls.command_id(data)) for seq, data in found.tail]


@pytest.mark.parametrize("id_", ["3-1", "4-0"])
def test_an_entry_of_somebody_else_is_handed_on_as_nothing(redis_world: RedisWorld, id_: str) -> None:
    """
    An entry of a log that is no record has no bytes, so that whoever reads it says so, and only of its instance.
    """
    journal, feed = redis_world.journal(), redis_world.feed()
    view = write(journal, REF, "c-1", "c-2", "c-3")
    other = write(journal, controls.ref("o-2"), "c-1")
    redis_world.client.xadd(redis_world.keys.log(REF), {"x": "y", "r": "z"}, id=id_)
    number = int(id_[0])

    logs = [
        journal.read([REF, other.ref])[0].tail,
        journal.entries(REF, 0, 10),
        feed.records([(REF, 0)], 10)[0],
    ]
    for log in logs:
        assert [(number, b"")] == [(seq, data) for seq, data in log if not data]
        assert ["c-1", "c-2", "c-3"] == [controls.command_id(data) for _, data in log if data]
    assert [b""] == journal.entry([(REF, 4)]) or number != 4
    assert 3 == view.seq


@pytest.mark.parametrize("kind", ["log", "actor"])
def test_a_key_of_another_kind_is_no_conflict(redis_world: RedisWorld, kind: str) -> None:
    """
    A key that somebody else has written is an error that names it, and is not tried as a conflict; nothing is written.
    """
    redis_world.client.set(getattr(redis_world.keys, kind)(REF), "?")
    before = redis_world.everything()

    with pytest.raises(Unavailable, match="WRONGTYPE"):
        redis_world.journal().commit([controls.commit(REF, "c-1")], "a")

    assert before == redis_world.everything()


# -- the feed


def _feed(world: RedisWorld, partition: int) -> list[tuple[str, str, int, str]]:
    found: Any = world.client.xrange(world.keys.feed(partition))
    return [
        (fields[b"w"].decode(), fields[b"k"].decode(), int(fields[b"s"]), controls.command_id(fields[b"r"]))
        for _, fields in found
    ]


def test_without_readers_there_is_no_feed(redis_world: RedisWorld) -> None:
    """
    As long as no projection reads a partition its feed costs nothing.
    """
    write(redis_world.journal(), REF, "c-1")

    assert 0 == redis_world.client.exists(redis_world.keys.feed(REF.partition))


def test_the_feed_has_every_record_in_commit_order(redis_world: RedisWorld) -> None:
    """
    From the moment on that a partition has a reader its feed gets every record of every instance, and no refused one.
    """
    journal = redis_world.journal()
    first, second = controls.refs(2, partition=2)
    before = write(journal, first, "before")
    redis_world.client.hset(redis_world.keys.readers(2), "p", "0")
    view = write(journal, before, "c-1", "c-2")
    write(journal, second, "c-3")
    journal.commit([controls.commit(before, "conflict"), controls.commit(view)], "a")
    write(journal, view, "c-4")

    assert [
        ("order", first.key, 2, "c-1"),
        ("order", first.key, 3, "c-2"),
        ("order", second.key, 1, "c-3"),
        ("order", first.key, 4, "c-4"),
    ] == _feed(redis_world, 2)


def test_the_feed_agrees_with_the_logs(redis_world: RedisWorld) -> None:
    """
    With many writers the feed has each instance's records once, in order and without a gap.
    """
    for partition in range(controls.PARTITIONS):
        redis_world.client.hset(redis_world.keys.readers(partition), "p", "0")
    journals = [redis_world.journal(leases=False) for _ in range(4)]
    refs = controls.refs(12)

    def work(number: int) -> None:
        for step in range(20):
            views = [opened(one) for one in journals[number].open(refs, "a")]
            journals[number].commit(
                [controls.commit(view, f"{number}.{step}.{view.ref}") for view in views], "a"
            )

    together(4, work)
    fed = [line for partition in range(controls.PARTITIONS) for line in _feed(redis_world, partition)]

    for ref in refs:
        expected = [(seq, controls.command_id(data)) for seq, data in log_of(journals[0], ref)]
        assert expected == [(seq, command_id) for _, key, seq, command_id in fed if key == ref.key]


# -- one step


def test_a_commit_is_one_step(redis_world: RedisWorld) -> None:
    """
    Nobody who looks, at any moment, sees one part of a commit without the others.
    """
    keys, partition = redis_world.keys, REF.partition
    redis_world.client.hset(keys.readers(partition), "p", "0")
    journal = redis_world.journal()
    looks: set[tuple[int, ...]] = set()

    def work() -> None:
        view: Opened | Ref = REF
        for number in range(10_000):
            # It goes on until somebody has looked at it.
            if number >= 100 and len(looks) > 1:
                break
            commit = controls.commit(
                view,
                f"c-{number}",
                effects=[controls.effect(f"e-{number}")],
                timers=[controls.timer(f"t-{number}")],
            )
            result = journal.commit([commit], "a")[0]
            assert isinstance(result, Committed)
            view = opened(journal.open([REF], "a")[0])

    writing = begin(work)
    with redis_client(redis_world.url) as client:
        while not writing.done():
            pipe: Any = client.pipeline(transaction=True)
            pipe.hget(keys.actor(REF), "seq")
            pipe.xlen(keys.log(REF))
            pipe.xlen(keys.feed(partition))
            pipe.xlen(keys.effects(partition))
            pipe.zcard(keys.schedule(partition))
            pipe.hlen(keys.timers(partition))
            seq, *rest = pipe.execute()
            looks.add((int(seq or 0), *rest))
    writing.result(SECONDS_MAX)

    assert {(seq,) * 6 for seq, *_ in looks} == looks
    assert len(looks) > 1


def _opens(journal: RedisJournal) -> bool:
    try:
        journal.open([REF], "a")
    except Unavailable:
        return False
    return True


def test_a_lease_of_another_server_time_is_not_believed(redis_world: RedisWorld) -> None:
    """
    What counts is the time of the server: a lease that ended there is free, whatever a client's clock says.
    """
    journal = redis_world.journal()
    write(journal, REF, "c-1", owner="a")
    actor = redis_world.keys.actor(REF)

    assert isinstance(redis_world.journal().open([REF], "b")[0], Held)

    seconds, micros = redis_world.client.time()
    redis_world.client.hset(actor, "lease_until", str(seconds * 1000 + micros // 1000 - 1))

    assert isinstance(redis_world.journal().open([REF], "b")[0], Opened)
