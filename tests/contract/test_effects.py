"""
The outbox as a queue: whoever begins an effect holds it, until it is finished, put off, or its holder is dead.
"""

import pytest

from holdfast.runtime.clock import SystemClock, to_ms
from holdfast.runtime.codec import encode
from holdfast.runtime.effect_queue import (
    ENDED_MAX,
    START,
    Begun,
    HeldBy,
    Note,
    PutOff,
    Refusal,
    Ticket,
    Waiting,
)
from holdfast.runtime.ports import Committed
from holdfast.runtime.record import EffectEntry
from tests import controls
from tests.contract.threads import begin, together
from tests.contract.worlds import World, write
from tests.support.processes import SECONDS_MAX, eventually

REF = controls.ref()
PARTITION = REF.partition
NOTE = Note("retry", "it failed", controls.NOW_MS)


def asked(world: World, *effects: EffectEntry) -> list[Waiting]:
    """
    Commit effects, and return them as they arrive.
    """
    journal = world.journal()
    view = journal.read([REF])[0]
    journal.commit([controls.commit(view, f"c-{view.seq + 1}", effects=list(effects))], "a")
    return world.effects().arrivals({PARTITION: START}, 1_000, 1)


def ticket(waiting: Waiting, entry: EffectEntry, seen: int = 0) -> Ticket:
    """
    Return what the port knows an effect by.
    """
    return Ticket(waiting.partition, waiting.position, entry.workflow, entry.key, entry.id, seen)


def tickets(world: World, count: int) -> list[Ticket]:
    """
    Ask for some effects, and return their tickets.
    """
    effects = [controls.effect(f"c-1:{number}") for number in range(count)]
    return [ticket(found, entry) for found, entry in zip(asked(world, *effects), effects, strict=True)]


def again(world: World, former: Ticket) -> Ticket:
    """
    Return the ticket of an effect that has come back.
    """
    (waiting,) = world.effects().arrivals({PARTITION: former.position}, 10, 1)
    return former._replace(position=waiting.position)


# -- arriving


def test_effects_arrive_in_order_and_byte_for_byte(world: World) -> None:
    """
    All that was asked for is handed out, in the order of the commits.
    """
    effects = [controls.effect(f"c-1:{number}") for number in range(30)]
    found = asked(world, *effects)

    assert [encode(effect) for effect in effects] == [waiting.data for waiting in found]


def test_only_what_is_behind_a_position_arrives(world: World) -> None:
    """
    A reader goes on where it was, up to a limit; when there is nothing more it gets nothing.
    """
    found = asked(world, *(controls.effect(f"c-1:{number}") for number in range(5)))
    queue = world.effects()

    assert found[2:4] == queue.arrivals({PARTITION: found[1].position}, 2, 1)
    assert [] == queue.arrivals({PARTITION: found[4].position}, 10, 0.01)
    assert [] == queue.arrivals({}, 10, 0.01)


def test_several_partitions_are_read_together(world: World) -> None:
    """
    Each is read from its own position.
    """
    journal, refs = world.journal(), controls.refs(12)
    for ref in refs:
        journal.commit([controls.commit(ref, "c-1", effects=[controls.effect(of=ref)])], "a")
    found = world.effects().arrivals(dict.fromkeys(range(controls.PARTITIONS), START), 100, 1)

    assert sorted(ref.partition for ref in refs) == sorted(waiting.partition for waiting in found)


def test_a_commit_wakes_who_waits(world: World) -> None:
    """
    A reader that waits gets an effect as soon as it was asked for, long before its time is up.
    """
    reader, journal = world.effects(), world.journal()
    position = START

    def woken() -> bool:
        """
        Say whether a wait was ended by a commit; it ends by itself where the machine stood still for longer.
        """
        nonlocal position
        waiting = begin(lambda: reader.arrivals({PARTITION: position}, 10, 5))
        view = journal.read([REF])[0]
        journal.commit([controls.commit(view, f"c-{view.seq + 1}", effects=[controls.effect()])], "a")
        found = waiting.result(SECONDS_MAX)
        (arrived,) = found or reader.arrivals({PARTITION: position}, 10, 1)
        position = arrived.position
        return bool(found)

    eventually(woken)


# -- beginning


def test_who_begins_holds(world: World) -> None:
    """
    Others are told who holds an effect, and how often it was begun.
    """
    one, other = tickets(world, 2)
    queue = world.effects()

    assert [Begun(1)] == queue.begin([one], "a")
    assert ["", "a"] == world.effects().holders([other, one])
    assert [HeldBy("a", 1), Begun(1)] == world.effects().begin([one, other], "b")
    assert ["a", "b"] == queue.holders([one, other])


def test_what_the_dead_held_is_taken_by_name(world: World) -> None:
    """
    Naming the dead takes from them and from nobody else; the attempts go on.
    """
    one, other = tickets(world, 2)
    queue = world.effects()
    queue.begin([one], "a")
    queue.begin([other], "b")

    assert [Begun(2), HeldBy("b", 1)] == queue.begin([one, other], "c", {"a"})
    assert [False, True] == queue.finish([one, other], "b")


def test_a_lost_answer_is_not_counted_twice(world: World) -> None:
    """
    A holder that does not know of its attempt gets the same one; a holder that does gets the next.
    """
    (one,) = tickets(world, 1)
    queue = world.effects()
    queue.begin([one], "a")

    assert [Begun(1)] == queue.begin([one], "a")
    assert [Begun(2)] == queue.begin([one._replace(seen=1)], "a")


def test_what_is_gone_is_not_begun(world: World) -> None:
    """
    Who comes too late is told so, and leaves nothing behind.
    """
    (one,) = tickets(world, 1)
    queue = world.effects()
    queue.finish([one], "a")
    before = world.everything()

    assert [Refusal.GONE] == queue.begin([one], "a")
    assert before == world.everything()


def test_nothing_is_begun_in_the_partition_of_another(world: World) -> None:
    """
    Who no longer serves a partition begins nothing of it.
    """
    (one,) = tickets(world, 1)
    world.membership().claim(PARTITION, "effect", "b", ["b"])

    assert [Refusal.FENCED] == world.effects().begin([one], "a")
    assert [Begun(1)] == world.effects().begin([one], "b")


def test_one_of_many_begins(world: World) -> None:
    """
    When several begin the same effects at once, each is held by one of them, whom the others are told.
    """
    wanted = tickets(world, 20)
    queues = [world.effects() for _ in range(3)]
    found = together(3, lambda number: list(queues[number].begin(wanted, f"m-{number}")))

    for replies in zip(*found, strict=True):
        assert 1 == replies.count(Begun(1))


# -- finishing


def test_what_is_finished_is_gone(world: World) -> None:
    """
    It leaves the outbox, and nothing of it is left; the others stay.
    """
    one, other = tickets(world, 2)
    queue = world.effects()
    queue.begin([one, other], "a")

    assert [True] == queue.finish([one], "a")
    assert [False, True] == queue.holds([one, other], "a")
    assert [other.id] == [line.id for line in queue.pending(PARTITION, 10)]
    assert [True] == queue.finish([other], "a")
    assert [] == queue.pending(PARTITION, 10)


def test_the_end_of_what_led_to_nothing_is_remembered(world: World) -> None:
    """
    With its attempts and the server's time, for whoever knows the effect; of others, and of what was not ours, nothing is.
    """
    one, told, lost = tickets(world, 3)
    queue = world.effects()
    queue.begin([one, told], "a")
    queue.begin([lost], "b")
    before_ms = to_ms(SystemClock().now())

    assert [True, True, False] == queue.finish([one, told, lost], "a", [2, 0, 4])
    ((mark, end),) = queue.ended(PARTITION).items()
    assert (one.mark, 2) == (mark, end.attempts)
    assert before_ms <= end.at_ms <= to_ms(SystemClock().now())
    assert {} == queue.ended(PARTITION + 1)
    assert one.key not in repr(queue.ended(PARTITION))


def test_the_latest_ends_are_remembered(world: World) -> None:
    """
    About as many as there is room for.
    """
    queue = world.effects()
    known: list[Ticket] = []
    for number in range(1, ENDED_MAX // 100 + 6):
        effects = [controls.effect(f"c-{number}:{index}") for index in range(100)]
        some = [ticket(found, entry) for found, entry in zip(asked(world, *effects), effects, strict=True)]
        queue.begin(some, "a")
        queue.finish(some, "a", [1] * 100)
        known += some

    marks = list(queue.ended(PARTITION))
    assert ENDED_MAX <= len(marks) <= ENDED_MAX + 100
    assert [one.mark for one in known[-ENDED_MAX:]] == marks[-ENDED_MAX:]


def test_only_its_holder_finishes(world: World) -> None:
    """
    A holder that was taken for dead changes nothing any more.
    """
    (one,) = tickets(world, 1)
    queue = world.effects()
    queue.begin([one], "a")
    queue.begin([one], "b", {"a"})
    before = world.everything()

    assert [False] == queue.finish([one], "a")
    assert [False] == queue.put_off([PutOff(one, 1, NOTE)], "a")
    assert [False] == queue.holds([one], "a")
    assert before == world.everything()
    assert [True] == queue.finish([one], "b")


def test_a_holder_finishes_in_the_partition_of_another(world: World) -> None:
    """
    What a living process runs is its own, also when the partition has gone to somebody else.
    """
    (one,) = tickets(world, 1)
    queue = world.effects()
    queue.begin([one], "a")
    world.membership().claim(PARTITION, "effect", "b", ["b"])

    assert [HeldBy("a", 1)] == queue.begin([one], "b")
    assert [True] == queue.finish([one], "a")


def test_what_nobody_holds_is_finished_by_who_serves(world: World) -> None:
    """
    Bytes that are no effect are given up without being begun.
    """
    (one,) = tickets(world, 1)
    world.membership().claim(PARTITION, "effect", "b", ["b"])

    assert [False] == world.effects().finish([one], "a")
    assert [True] == world.effects().finish([one], "b")


# -- putting off


def test_what_is_put_off_comes_back(world: World) -> None:
    """
    It leaves the outbox, comes back with the same bytes at another position, and keeps its attempts.
    """
    entry = controls.effect()
    (waiting,) = asked(world, entry)
    one, queue = ticket(waiting, entry), world.effects()
    queue.begin([one], "a")

    assert [True] == queue.put_off([PutOff(one, 1, NOTE)], "a")
    assert [] == queue.arrivals({PARTITION: START}, 10, 0.01)
    eventually(lambda: world.fire(PARTITION) == 1)
    (back,) = queue.arrivals({PARTITION: START}, 10, 1)
    assert (waiting.data, True) == (back.data, back.position != waiting.position)
    assert [Begun(2)] == queue.begin([ticket(back, entry)], "b")


def test_it_is_not_early(world: World) -> None:
    """
    Before its time it stays where it is.
    """
    (one,) = tickets(world, 1)
    world.effects().put_off([PutOff(one, 60_000, NOTE)], "a")

    assert 0 == world.fire(PARTITION)
    (line,) = world.effects().pending(PARTITION, 10)
    assert ("retry", "it failed", 0) == (line.state, line.error, line.attempts)
    assert line.until_ms > line.since_ms


def test_what_was_finished_cannot_be_put_off(world: World) -> None:
    """
    It would be run again.
    """
    (one,) = tickets(world, 1)
    queue = world.effects()
    queue.finish([one], "a")

    assert [False] == queue.put_off([PutOff(one, 1, NOTE)], "a")
    assert [] == queue.pending(PARTITION, 10)


def test_finishing_forgets_the_note(world: World) -> None:
    """
    Nothing of an effect outlives it, however often it was put off.
    """
    (one,) = tickets(world, 1)
    queue = world.effects()
    for _ in range(3):
        queue.begin([one], "a")
        queue.put_off([PutOff(one, 1, NOTE)], "a")
        eventually(lambda: world.fire(PARTITION) == 1)
        one = again(world, one._replace(position=START))
    queue.begin([one], "a")
    assert [True] == queue.finish([one], "a")

    assert [] == queue.pending(PARTITION, 10)
    other = tickets(world, 1)
    assert [Begun(1)] == queue.begin(other, "a")


# -- giving back what was given up


def test_a_restored_effect_begins_anew(world: World) -> None:
    """
    It arrives again, with its attempts forgotten.
    """
    entry = controls.effect()
    (waiting,) = asked(world, entry)
    one, queue = ticket(waiting, entry), world.effects()
    queue.begin([one], "a")
    queue.finish([one], "a")
    queue.restore(one, waiting.data)
    (back,) = queue.arrivals({PARTITION: waiting.position}, 10, 1)

    assert waiting.data == back.data
    assert [Begun(1)] == queue.begin([ticket(back, entry)], "a")


# -- for tools


def test_tools_see_what_waits_and_runs(world: World) -> None:
    """
    Which instance and which effect, in what state, how often it was begun and by whom.
    """
    waits, runs, off = tickets(world, 3)
    queue = world.effects()
    queue.begin([runs, off], "a")
    queue.put_off([PutOff(off, 60_000, Note("limit", "ChargeCard:x", controls.NOW_MS))], "a")
    lines = {line.id: line for line in queue.pending(PARTITION, 100)}

    assert {waits.id: "waiting", runs.id: "running", off.id: "limit"} == {
        one: line.state for one, line in lines.items()
    }
    assert (0, 1, 1) == tuple(lines[one.id].attempts for one in (waits, runs, off))
    assert ("", "a", "") == tuple(lines[one.id].owner for one in (waits, runs, off))
    assert {("order", "o-1", "ChargeCard")} == {
        (line.workflow, line.key, line.effect) for line in lines.values()
    }
    assert 2 == len(queue.pending(PARTITION, 2))


def test_many_at_once(world: World) -> None:
    """
    More than one call's worth is begun, put off and finished, each answered in its place.
    """
    effects = [controls.effect(f"c-1:{number}") for number in range(300)]
    found = asked(world, *effects)
    wanted = [ticket(waiting, entry) for waiting, entry in zip(found, effects, strict=True)]
    queue = world.effects()
    queue.finish(wanted[::3], "a")
    replies = queue.begin(wanted, "a")

    assert [Refusal.GONE if index % 3 == 0 else Begun(1) for index in range(300)] == replies
    assert [index % 3 != 0 for index in range(300)] == queue.finish(wanted, "a")


def test_keys_do_not_meet(world: World) -> None:
    """
    Effects of different instances with the same id are different effects, whatever is in the keys.
    """
    journal, queue = world.journal(), world.effects()
    refs = [controls.ref(key) for key in controls.KEYS]
    for ref in refs:
        write(journal, ref)
        journal.commit([controls.commit(ref, "c-1", effects=[controls.effect("c-1:0", of=ref)])], "a")
    for partition in range(controls.PARTITIONS):
        found = queue.arrivals({partition: START}, 100, 0.01)
        entries = [one for one in refs if one.partition == partition]
        wanted = [
            Ticket(partition, waiting.position, ref.workflow, ref.key, "c-1:0")
            for waiting, ref in zip(found, entries, strict=True)
        ]
        assert [Begun(1)] * len(entries) == queue.begin(wanted, "a")


# -- beginning with the commit that asks


def begun_by_a_commit(world: World, owner: str, *begins: bool) -> tuple[tuple[str, ...], list[Ticket]]:
    """
    Commit an effect for each flag; return where those are that were begun, and the tickets of all.
    """
    effects = [controls.effect(f"c-1:{number}") for number in range(len(begins))]
    commit = controls.commit(REF, "c-1", effects=effects)
    commit.begins = begins
    (made,) = world.journal().commit([commit], owner)
    assert isinstance(made, Committed)
    found = world.effects().arrivals({PARTITION: START}, 10, 1)
    return made.begun, [ticket(one, effect) for one, effect in zip(found, effects, strict=True)]


def test_a_commit_begins_effects_of_its_owner(world: World) -> None:
    """
    Those that it names, with their first attempt counted; they are in the outbox as all others are.
    """
    world.membership().claim(PARTITION, "effect", "a", ["a"])
    begun, all_three = begun_by_a_commit(world, "a", True, False, True)

    assert (all_three[0].position, all_three[2].position) == begun
    lines = {line.id: line for line in world.effects().pending(PARTITION, 10)}
    assert ["a", "", "a"] == [lines[one.id].owner for one in all_three]
    assert [1, 0, 1] == [lines[one.id].attempts for one in all_three]
    # Who did not get the commit's answer is not counted twice, and one who has it finishes.
    assert [Begun(1), Begun(1)] == world.effects().begin(all_three[:2], "a")
    assert [True] * 3 == world.effects().finish([one._replace(seen=1) for one in all_three], "a")


def test_what_a_dead_process_has_committed_and_begun_is_taken_from_it(world: World) -> None:
    """
    As whatever else it held.
    """
    world.membership().claim(PARTITION, "effect", "a", ["a"])
    _, held = begun_by_a_commit(world, "a", True)
    world.membership().yield_(PARTITION, "effect", "a")
    queue = world.effects()

    assert [HeldBy("a", 1)] == queue.begin(held, "b")
    assert [Begun(2)] == queue.begin(held, "b", {"a"})


@pytest.mark.parametrize("server", ["b", None])
def test_a_commit_begins_nothing_where_another_serves(world: World, server: str | None) -> None:
    """
    Nor where nobody does: the effect waits in the outbox for who comes.
    """
    if server is not None:
        world.membership().claim(PARTITION, "effect", server, [server])
    begun, held = begun_by_a_commit(world, "a", True)

    assert () == begun
    assert [Begun(1)] == world.effects().begin(held, server or "c")


def test_what_nobody_knows_of_is_let_go_in_the_partition_of_another(world: World) -> None:
    """
    What is named stays held, and so does what others hold; the attempts of the rest are not counted. While the
    partition is ours, nothing is let go: it is found in the outbox.
    """
    world.membership().claim(PARTITION, "effect", "a", ["a"])
    _, (known, unknown, again, untouched) = begun_by_a_commit(world, "a", True, True, True, False)
    queue = world.effects()
    queue.begin([again._replace(seen=1)], "a")

    assert not queue.let_go(PARTITION, "a", [known])
    assert ["a", "a", "a", ""] == [line.owner for line in queue.pending(PARTITION, 10)]

    world.membership().yield_(PARTITION, "effect", "a")
    world.membership().claim(PARTITION, "effect", "b", ["b"])
    queue.begin([untouched], "b")
    assert queue.let_go(PARTITION, "a", [known])

    assert [HeldBy("a", 1), Begun(1), Begun(2), Begun(1)] == queue.begin(
        [known, unknown, again, untouched], "b"
    )
    assert [True] == queue.finish([known._replace(seen=1)], "a")
