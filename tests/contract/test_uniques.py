"""
Unique keys: one unfinished instance has each, and no crash locks one up or lets a second one in.
"""

from concurrent.futures import ThreadPoolExecutor

from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Committed, Conflict
from holdfast.runtime.uniques import Claim, Claimed, Contested, Taken
from tests import controls
from tests.contract.worlds import World
from tests.support.processes import eventually

A, B = controls.ref("a"), controls.ref("b")
#: A claim that has run out as soon as it was made.
AT_ONCE = 1


def have(world: World, ref: Ref, unique: str, until_ms: int = 0) -> None:
    """
    Have an instance record a unique key, as its commit does.
    """
    journal = world.journal()
    view = journal.read([ref])[0]
    commit = controls.commit(view, f"c-{view.seq + 1}", unique=unique, unique_until_ms=until_ms)
    assert isinstance(journal.commit([commit], "w")[0], Committed)


def taken(world: World, ref: Ref, unique: str) -> bool:
    """
    Claim and have a key, if nobody else does.
    """
    (result,) = world.uniques().claim([Claim(unique, ref, 1)])
    if isinstance(result, Claimed):
        have(world, ref, unique, result.until_ms)
        world.uniques().confirm([Claim(unique, ref, 1)])
    return isinstance(result, Claimed)


def test_one_has_it(world: World) -> None:
    """
    Whoever comes later is told who; the same instance may claim it again, and another key is another's.
    """
    assert taken(world, A, "u")

    uniques = world.uniques()
    assert [Taken("a")] == uniques.claim([Claim("u", B, 1)])
    again, other = uniques.claim([Claim("u", A, 2), Claim("v", B, 1)])
    assert isinstance(again, Claimed)
    assert isinstance(other, Claimed)
    assert ["a", None] == [uniques.find("order", one) for one in ("u", "never")]


def test_keys_are_a_workflows_own(world: World) -> None:
    """
    The same key for an instance of another workflow is another key.
    """
    assert taken(world, A, "u")
    assert taken(world, controls.ref("a", "counter"), "u")
    assert [Taken("a")] == world.uniques().claim([Claim("u", controls.ref("b", "counter"), 1)])


def test_a_claim_is_contested_until_it_is_decided(world: World) -> None:
    """
    While its holder is about to commit, nobody can say whose the key will be; also within one call.
    """
    first, second = world.uniques().claim([Claim("u", A, 1), Claim("u", B, 1)])

    assert isinstance(first, Claimed)
    assert Contested("a") == second
    assert [Contested("a")] == world.uniques().claim([Claim("u", B, 1)])
    assert world.uniques().find("order", "u") is None
    have(world, A, "u", first.until_ms)
    assert [Taken("a")] == world.uniques().claim([Claim("u", B, 1)])
    assert "a" == world.uniques().find("order", "u")


def test_an_abandoned_claim_goes_to_the_next(world: World) -> None:
    """
    A worker died before its commit: the key is free after a while, and the commit would be refused by then.
    """
    uniques = world.uniques(claim_ms=AT_ONCE)
    (late,) = uniques.claim([Claim("u", A, 1)])
    assert isinstance(late, Claimed)

    eventually(lambda: isinstance(uniques.claim([Claim("u", B, 1)])[0], Claimed))

    commit = controls.commit(A, "c-1", unique="u", unique_until_ms=late.until_ms)
    assert Conflict(0) == world.journal().commit([commit], "w")[0]


def test_a_commit_that_was_never_confirmed_holds(world: World) -> None:
    """
    A worker died between its commit and the confirmation: the instance has the key all the same.
    """
    uniques = world.uniques(claim_ms=AT_ONCE)
    uniques.claim([Claim("u", A, 1)])
    have(world, A, "u")

    eventually(lambda: [Taken("a")] == uniques.claim([Claim("u", B, 1)]))
    assert "a" == uniques.find("order", "u")


def test_a_key_that_was_given_up_is_free(world: World) -> None:
    """
    Whether the word of it arrived or not.
    """
    for number, said in enumerate((True, False)):
        assert taken(world, A if number == 0 else controls.ref("a2"), f"u-{number}")
        ref = A if number == 0 else controls.ref("a2")
        have(world, ref, "")
        if said:
            world.uniques().give_up([Claim(f"u-{number}", ref, 2)])
        assert world.uniques().find("order", f"u-{number}") is None
        assert taken(world, controls.ref(f"next-{number}"), f"u-{number}")


def test_a_finished_instance_has_no_key(world: World) -> None:
    """
    By its run state alone.
    """
    assert taken(world, A, "u")
    view = world.journal().read([A])[0]
    world.journal().commit([controls.commit(view, "end", run_state=RunState.CANCELLED)], "w")

    assert world.uniques().find("order", "u") is None
    assert taken(world, B, "u")


def test_late_words_change_nothing(world: World) -> None:
    """
    A worker that slept gives up, or confirms, what was claimed for a later record since.
    """
    uniques = world.uniques()
    uniques.claim([Claim("u", A, 5)])
    uniques.give_up([Claim("u", A, 5), Claim("u", A, 3), Claim("u", B, 9)])
    uniques.confirm([Claim("u", A, 4), Claim("u", B, 5)])
    assert [Contested("a")] == uniques.claim([Claim("u", B, 1)])

    uniques.give_up([Claim("u", A, 6)])
    assert isinstance(uniques.claim([Claim("u", B, 1)])[0], Claimed)


def test_in_a_race_one_wins(world: World) -> None:
    """
    Many instances in many partitions want one key at once, again and again: exactly one has it each time.
    """
    for race in range(5):
        refs = [controls.ref(f"r-{race}-{number}") for number in range(8)]
        with ThreadPoolExecutor(len(refs)) as threads:
            won = list(threads.map(lambda ref, race=race: taken(world, ref, f"race-{race}"), refs))
        assert 1 == won.count(True)
        holder = world.uniques().find("order", f"race-{race}")
        assert holder == refs[won.index(True)].key
