"""
The journal: who may write, and what becomes of those who may not.
"""

import pytest

from holdfast.brokers import redis_journal
from holdfast.runtime.instance import RunState
from holdfast.runtime.ports import NO_LEASE, Committed, Conflict, Fenced, Held, Journal, Opened
from tests import controls
from tests.contract.worlds import World, committed, log_of, moved, opened, write
from tests.support.processes import eventually

REF = controls.ref()


# -- opening


def test_an_absent_instance_opens_empty(world: World) -> None:
    """
    An instance that nobody wrote to is at sequence number 0, with nothing to lease.
    """
    assert [Opened(REF, 0, "", 0, RunState.RUNNING, None, [])] == world.journal().open([REF], "a")


def test_looking_leaves_no_ghost(world: World) -> None:
    """
    Opening, reading, checking, releasing and snapshotting an instance that does not exist writes nothing at all.
    """
    journal = world.journal()
    before = world.everything()
    journal.open([REF], "a")
    journal.read([REF])
    checked = journal.commit([controls.commit(REF)], "a")
    journal.release([(REF, 0), (REF, 1)], "a")
    journal.snapshot([(REF, controls.snapshot())])

    assert [Committed(0)] == checked
    assert before == world.everything()
    assert world.directory().instances("order").instances == []


def test_what_was_committed_is_opened(world: World) -> None:
    """
    The next holder finds the sequence number, the head, the run state and the log as they were left.
    """
    write(world.journal(), REF, "c-1", "c-2")
    found = opened(world.journal().open([REF], "a")[0])

    assert (2, "c-2", RunState.RUNNING, None) == (found.seq, found.head, found.run_state, found.snapshot)
    assert [(1, controls.entry("c-1", token=0)), (2, controls.entry("c-2", token=0))] == list(found.tail)


def test_a_holder_need_not_open_again(world: World) -> None:
    """
    One commit after another goes through on the view that the commit before left behind.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1")
    view = write(journal, view, "c-2", "c-3")
    view = write(journal, view, "c-4")

    assert (4, "c-4") == (view.seq, view.head)
    assert [1, 2, 3, 4] == [seq for seq, _ in log_of(journal, REF)]


def test_answers_come_in_the_order_of_the_questions(world: World) -> None:
    """
    A batch over many partitions, larger than any one call to the server, is answered one by one in its own order.
    """
    journal = world.journal()
    refs = controls.refs(200)
    results = journal.commit([controls.commit(ref, f"c-{ref.key}") for ref in refs], "a")
    found = journal.open(refs, "a")

    assert [Committed(1)] * 200 == results
    assert [(ref, 1, f"c-{ref.key}", 1) for ref in refs] == [
        (one.ref, one.seq, one.head, one.token) for one in found if isinstance(one, Opened)
    ]
    assert refs == [one.ref for one in journal.read(refs)]


def test_empty_batches_are_nothing(world: World) -> None:
    """
    No verb minds being asked for nothing.
    """
    journal = world.journal()
    journal.release([], "a")
    journal.snapshot([])

    assert [[], [], [], []] == [
        journal.open([], "a"),
        journal.read([]),
        journal.commit([], "a"),
        journal.entry([]),
    ]


def test_one_instance_may_be_asked_for_twice(world: World) -> None:
    """
    A batch that names an instance twice is carried out in order: what builds on the first goes through.
    """
    journal = world.journal()
    first = controls.commit(REF, "c-1")
    second = controls.commit(moved(first, Committed(1)), "c-2")
    stale = controls.commit(REF, "c-3")

    assert [Committed(1), Committed(1), Conflict(2)] == journal.commit([first, second, stale], "a")
    assert [2, 2] == [opened(one).seq for one in journal.open([REF, REF], "a")]
    assert ["c-1", "c-2"] == _ids(journal)


# -- leases


def test_a_living_lease_is_held(world: World) -> None:
    """
    Who opens an instance that another holds learns who that is and for how long at most, and changes nothing.
    """
    write(world.journal(lease_ms=60_000), REF, "c-1", owner="a")
    before = world.everything()
    found = world.journal().open([REF], "b")[0]

    assert isinstance(found, Held)
    assert (REF, "a") == (found.ref, found.owner)
    assert 0 < found.remaining_ms <= 60_000
    assert before == world.everything()


def test_opening_again_confirms_the_lease(world: World) -> None:
    """
    A holder keeps its token, however often it opens.
    """
    journal = world.journal()
    token = write(journal, REF, "c-1").token

    assert [token, token] == [opened(journal.open([REF], "a")[0]).token for _ in range(2)]


def test_a_commit_renews_the_lease(world: World) -> None:
    """
    Who goes on writing goes on holding.
    """
    view = write(world.journal(lease_ms=60_000), REF, "c-1")

    def remaining_ms() -> int:
        found = world.journal().open([REF], "b")[0]
        assert isinstance(found, Held)
        return found.remaining_ms

    assert remaining_ms() <= 60_000
    write(world.journal(lease_ms=120_000), view, "c-2")

    assert remaining_ms() > 60_000


def test_an_expired_lease_is_free(world: World) -> None:
    """
    By the server's time a lease ends that nobody renews; the next holder's token fences the one before.
    """
    journal = world.journal(lease_ms=100)
    late = write(journal, REF, "c-1", owner="a")
    other = world.journal()
    eventually(lambda: isinstance(other.open([REF], "b")[0], Opened))
    token = opened(other.open([REF], "b")[0]).token
    before = world.everything()

    assert token > late.token
    assert [Fenced(token)] == journal.commit([controls.commit(late, "c-2")], "a")
    assert before == world.everything()


def test_an_expired_lease_that_nobody_took_is_still_good(world: World) -> None:
    """
    A slow holder may commit as long as no other took the lease: the token decides, not the clock.
    """
    journal = world.journal(lease_ms=100)
    view = write(journal, REF, "c-1", owner="a")
    witness = controls.ref("o-2")
    write(journal, witness, "c-1", owner="a")
    other = world.journal()
    # The witness's lease began later: once it is gone, so is ours.
    eventually(lambda: isinstance(other.open([witness], "b")[0], Opened))

    assert view.token == write(journal, view, "c-2", owner="a").token


def test_a_token_of_ones_own_can_be_stale(world: World) -> None:
    """
    An owner whose lease went to another and came back is fenced with its old token: the owner's name proves nothing.
    """
    journal, other = world.journal(), world.journal()
    old = write(journal, REF, "c-1", owner="a")
    journal.release([(REF, old.token)], "a")
    taken = opened(other.open([REF], "b")[0])
    other.release([(REF, taken.token)], "b")
    new = opened(journal.open([REF], "a")[0])

    assert old.token < taken.token < new.token
    assert [Fenced(new.token)] == journal.commit([controls.commit(old, "c-2")], "a")
    assert [Committed(new.token)] == journal.commit([controls.commit(new, "c-2")], "a")


def test_a_stolen_token_does_not_help(world: World) -> None:
    """
    A commit under the right token by another than its owner is fenced.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1", owner="a")
    before = world.everything()

    assert [Fenced(view.token)] == world.journal().commit([controls.commit(view, "c-2")], "b")
    assert before == world.everything()


def test_a_lease_that_was_never_taken_does_not_help(world: World) -> None:
    """
    Token 0, the token of an instance that does not exist yet, writes nothing to one that does, even on the exact view.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1", owner="a")
    before = world.everything()
    guessed = Opened(REF, view.seq, view.head, 0, RunState.RUNNING, None, ())

    assert [Fenced(view.token)] == world.journal().commit([controls.commit(guessed, "c-2")], "b")
    assert [Fenced(view.token)] == world.journal().commit([controls.commit(guessed)], "b")
    assert before == world.everything()


def test_a_released_lease_is_free_at_once(world: World) -> None:
    """
    After a release nobody waits for an expiry, and the token still grows.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1", owner="a")
    journal.release([(REF, view.token)], "a")
    found = opened(world.journal().open([REF], "b")[0])

    assert view.token < found.token
    assert [Fenced(found.token)] == journal.commit([controls.commit(view, "c-2")], "a")


@pytest.mark.parametrize(("owner", "behind"), [("b", 0), ("a", 1)])
def test_only_the_holder_can_release(world: World, owner: str, behind: int) -> None:
    """
    Neither another owner nor an old token gives up a lease.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1", owner="a")
    journal.release([(REF, view.token)], "a")
    view = opened(journal.open([REF], "a")[0])
    before = world.everything()
    world.journal().release([(REF, view.token - behind)], owner)

    assert before == world.everything()


def test_leases_are_released_in_one_batch(world: World) -> None:
    """
    Of a batch of releases each counts for itself.
    """
    journal = world.journal()
    refs = controls.refs(150)
    journal.commit([controls.commit(ref, "c-1") for ref in refs], "a")
    journal.release([(ref, 1 if number % 2 else 7) for number, ref in enumerate(refs)], "a")

    assert [Opened if number % 2 else Held for number in range(150)] == [
        type(one) for one in world.journal().open(refs, "b")
    ]


def test_who_serves_the_partition_takes_over(world: World) -> None:
    """
    The member that serves an instance's partition need not wait for the lease of one that no longer does.
    """
    journal, membership = world.journal(), world.membership()
    membership.claim(REF.partition, "command", "a", ["a"])
    view = write(journal, REF, "c-1", owner="a")
    membership.claim(REF.partition, "command", "b", ["b"])
    found = opened(world.journal().open([REF], "b")[0])

    assert view.token < found.token
    assert [Fenced(found.token)] == journal.commit([controls.commit(view, "c-2")], "a")
    assert ["c-1"] == _ids(journal)


@pytest.mark.parametrize(("pool", "server"), [("effect", "b"), ("command", "c")])
def test_nobody_else_takes_over(world: World, pool: str, server: str) -> None:
    """
    Serving the partition for another pool, or not at all, opens no living lease.
    """
    write(world.journal(), REF, "c-1", owner="a")
    world.membership().claim(REF.partition, pool, server, [server])

    assert isinstance(world.journal().open([REF], "b")[0], Held)


def test_the_holder_opens_although_another_serves(world: World) -> None:
    """
    As long as the new server did not come, the holder's own lease is good.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1", owner="a")
    world.membership().claim(REF.partition, "command", "b", ["b"])

    assert view.token == opened(journal.open([REF], "a")[0]).token
    assert view.token == write(journal, view, "c-2", owner="a").token


def test_tokens_only_grow(world: World) -> None:
    """
    Through releases, takeovers and commits each new holder's token is higher than all before.
    """
    journal, membership = world.journal(), world.membership()
    tokens = [write(journal, REF, "c-1", owner="m-0").token]
    for number in range(1, 6):
        owner = f"m-{number}"
        membership.claim(REF.partition, "command", owner, [owner])
        view = opened(journal.open([REF], owner)[0])
        view = write(journal, view, f"c-{number + 1}", owner=owner)
        tokens.append(view.token)
        if number % 2:
            journal.release([(REF, view.token)], owner)

    assert sorted(set(tokens)) == tokens


def test_a_long_log_is_read_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However many pages and round trips a log takes: every entry is there, once and in order, also the last few.
    """
    monkeypatch.setattr(redis_journal, "ENTRIES_PER_CALL", 10)
    monkeypatch.setattr(redis_journal, "PAGES_PER_TRIP", 3)
    ids = [f"c-{seq}" for seq in range(1, 98)]
    journal = world.journal()
    write(journal, REF, *ids)

    (found,) = journal.read([REF])

    assert list(enumerate(ids, 1)) == [(seq, controls.command_id(data)) for seq, data in found.tail]


# -- views that no longer hold


@pytest.mark.parametrize(
    ("seq", "head"),
    [(0, ""), (1, "c-1"), (3, "c-3"), (2, "c-1"), (2, "fork"), (2, ""), (0, "c-2"), (-1, "c-2")],
)
def test_a_stale_view_conflicts(world: World, seq: int, head: str) -> None:
    """
    A commit on another sequence number or head, behind or ahead, writes nothing and learns where the log is.
    """
    journal = world.journal()
    token = write(journal, REF, "c-1", "c-2").token
    before = world.everything()
    stale = controls.commit(Opened(REF, seq, head, token, RunState.RUNNING, None, ()), "c-9")

    assert [Conflict(2)] == journal.commit([stale], "a")
    assert before == world.everything()


def test_a_view_of_what_is_not_there_conflicts(world: World) -> None:
    """
    A commit on an instance that was lost makes no new one in the middle of its life.
    """
    journal = world.journal()
    view = Opened(REF, 5, "c-5", NO_LEASE, RunState.RUNNING, None, ())
    before = world.everything()

    assert [Conflict(0)] == journal.commit([controls.commit(view, "c-6")], "a")
    assert before == world.everything()


def test_a_commit_goes_through_once(world: World) -> None:
    """
    The same commit again, as after a lost answer, changes nothing.
    """
    journal = world.journal()
    commit = controls.commit(REF, "c-1", effects=[controls.effect()], timers=[controls.timer()])
    first = journal.commit([commit], "a")
    before = world.everything()
    second = journal.commit([commit], "a")

    assert ([Committed(1)], [Conflict(1)]) == (first, second)
    assert before == world.everything()


def test_two_views_of_one_seq_differ_by_their_head(world: World) -> None:
    """
    After a lost write the same sequence number was written again with another command: who saw the first conflicts.
    """
    journal = world.journal()
    write(journal, REF, "written-again")
    lost = Opened(REF, 1, "lost", 1, RunState.RUNNING, None, ())

    assert [Conflict(1)] == journal.commit([controls.commit(lost, "c-2")], "a")


def test_a_check_confirms_the_view(world: World) -> None:
    """
    A commit without entries says that the view still holds, and writes nothing.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1")
    before = world.everything()

    assert [Committed(view.token)] == journal.commit([controls.commit(view)], "a")
    assert before == world.everything()


def test_a_check_finds_that_the_view_no_longer_holds(world: World) -> None:
    """
    A commit without entries conflicts or is fenced exactly as one with entries would be, and writes nothing.
    """
    journal, other = world.journal(), world.journal()
    fenced, conflicting = controls.refs(2)
    old = [write(journal, ref, "c-1", owner="a") for ref in (fenced, conflicting)]
    journal.release([(fenced, old[0].token)], "a")
    token = opened(other.open([fenced], "b")[0]).token
    write(journal, old[1], "c-2", owner="a")
    before = world.everything()

    assert [Fenced(token), Conflict(2)] == journal.commit([controls.commit(view) for view in old], "a")
    assert before == world.everything()


def test_one_of_many_hinders_no_other(world: World) -> None:
    """
    In a batch over one partition and several, those whose view holds go through and those whose does not write nothing.
    """
    journal, other = world.journal(), world.journal()
    refs = [*controls.refs(40, partition=0), *(controls.ref(f"x-{number}") for number in range(40))]
    views = [write(journal, ref, "c-1", owner="a") for ref in refs]
    stale, lost = set(range(0, 80, 7)), set(range(3, 80, 7))
    for number in stale:
        write(journal, views[number], "c-2", owner="a")
    for number in lost:
        journal.release([(refs[number], views[number].token)], "a")
        opened(other.open([refs[number]], "b")[0])
    results = journal.commit(
        [controls.commit(view, "c-3", effects=[controls.effect(f"c-3:{view.ref.key}")]) for view in views],
        "a",
    )
    heads = [one.head for one in journal.read(refs)]
    effects = {
        one.id for partition in range(controls.PARTITIONS) for one in journal.effects(partition, 1_000)
    }
    through = [number for number in range(80) if number not in stale | lost]

    assert [
        Conflict(2) if number in stale else Fenced(2) if number in lost else Committed(1)
        for number in range(80)
    ] == results
    assert ["c-2" if number in stale else "c-1" if number in lost else "c-3" for number in range(80)] == heads
    assert {f"c-3:{refs[number].key}" for number in through} == effects


# -- without leases


def test_a_reader_takes_no_lease(world: World) -> None:
    """
    Reading disturbs no holder, is refused by none, and claims nothing.
    """
    journal = world.journal()
    view = write(journal, REF, "c-1", owner="a")
    before = world.everything()
    found = world.journal().read([REF])[0]

    assert (1, "c-1", NO_LEASE) == (found.seq, found.head, found.token)
    assert before == world.everything()
    assert [Committed(view.token)] == journal.commit([controls.commit(view)], "a")


def test_an_optimistic_commit_needs_no_lease(world: World) -> None:
    """
    The exact sequence number and head are enough to write; the lease stays whose it is, and its holder conflicts.
    """
    journal, other = world.journal(), world.journal()
    held = write(journal, REF, "c-1", owner="a")
    view = other.read([REF])[0]
    result = other.commit([controls.commit(view, "c-2")], "b")

    assert [Committed(NO_LEASE)] == result
    assert [Conflict(2)] == other.commit([controls.commit(view, "c-3")], "b")
    assert [Conflict(2)] == journal.commit([controls.commit(held, "c-3")], "a")
    assert isinstance(other.open([REF], "b")[0], Held)
    assert held.token == opened(journal.open([REF], "a")[0]).token


def test_an_optimistic_commit_may_be_the_first(world: World) -> None:
    """
    An instance can begin without a lease, and be leased later.
    """
    journal = world.journal()
    view = Opened(REF, 0, "", NO_LEASE, RunState.RUNNING, None, ())

    assert [Committed(NO_LEASE)] == journal.commit([controls.commit(view, "c-1")], "a")
    assert committed(journal.commit([controls.commit(journal.read([REF])[0], "c-2")], "b")[0]) == NO_LEASE
    found = opened(journal.open([REF], "b")[0])
    assert (2, "c-2", 1) == (found.seq, found.head, found.token)


def test_leases_can_be_switched_off(world: World) -> None:
    """
    Without leases everybody opens everything, and the sequence number and head alone decide who writes.
    """
    journal, other = world.journal(leases=False), world.journal(leases=False)
    write(journal, REF, "c-1", owner="a")
    first, second = opened(journal.open([REF], "a")[0]), opened(other.open([REF], "b")[0])
    write(other, second, "c-2", owner="b")

    assert (NO_LEASE, NO_LEASE) == (first.token, second.token)
    assert [Conflict(2)] == journal.commit([controls.commit(first, "c-3")], "a")
    assert ["c-1", "c-2"] == _ids(journal)


# -- names


def test_every_key_is_an_instance_of_its_own(world: World) -> None:
    """
    Braces, colons, percent signs, control characters, other alphabets and 512 bytes name instances like any text.
    """
    journal = world.journal()
    refs = [controls.ref(key, workflow) for workflow in ("order", "order.x", "o") for key in controls.KEYS]
    views = [
        moved(commit, result)
        for commits in ([controls.commit(ref, f"1 {ref}") for ref in refs],)
        for commit, result in zip(commits, journal.commit(commits, "a"), strict=True)
    ]
    results = journal.commit([controls.commit(view, f"2 {view.ref}") for view in views], "a")
    found = journal.open(refs, "a")

    assert [Committed(1)] * len(refs) == results
    assert [(ref, 2, f"2 {ref}") for ref in refs] == [
        (opened(one).ref, opened(one).seq, opened(one).head) for one in found
    ]
    assert [[f"1 {ref}", f"2 {ref}"] for ref in refs] == [
        [controls.command_id(data) for _, data in opened(one).tail] for one in found
    ]


@pytest.mark.parametrize("name", ["like", "lik", "like-", "like-0", "Like", "like_0"])
def test_namespaces_cannot_see_one_another(world: World, name: str) -> None:
    """
    The same instances, and keys that are made to look like another namespace's, stay apart.
    """
    mine, yours = world.neighbour("like0"), world.neighbour(name)
    keys = [*controls.KEYS, *(f"{{{other}.0}}:actor:order:o-1" for other in ("like0", name))]
    refs = [controls.ref(key) for key in keys]
    mine.journal().commit(
        [controls.commit(ref, "c-1", effects=[controls.effect(of=ref)]) for ref in refs], "a"
    )
    before = mine.everything()

    assert [0] * len(refs) == [opened(one).seq for one in yours.journal().open(refs, "b")]
    assert [[]] * controls.PARTITIONS == [
        yours.journal().effects(partition, 10) for partition in range(controls.PARTITIONS)
    ]

    yours.journal().commit([controls.commit(ref, "c-9") for ref in refs], "b")

    assert before == mine.everything()
    assert {"c-1"} == {one.head for one in mine.journal().read(refs)}


def _ids(journal: Journal) -> list[str]:
    """
    Return the ids of the commands in the log of the instance that most tests are about.
    """
    return [controls.command_id(data) for _, data in log_of(journal, REF)]
