"""
The feed: who registers sees every record after that, in order; what nobody needs is forgotten.
"""

import threading

import pytest

from holdfast.runtime.feed import START, Generations, Reader, Step, place_of
from holdfast.runtime.keys import Ref
from tests import controls
from tests.contract.worlds import FeedAndParking, RedisWorld, World, write
from tests.support.processes import SECONDS_MAX, eventually
from tests.support.servers import RedisServer

READER = Reader("books", 1)
OTHER = Reader("sums", 1)
EVERYWHERE = range(controls.PARTITIONS)


def fill(world: World, partition: int, count: int = 3, first: int = 1) -> list[Ref]:
    """
    Commit a record to each of so many new instances of a partition.
    """
    refs = controls.refs(first + count - 1, partition=partition)[first - 1 :]
    for ref in refs:
        write(world.journal(), ref, f"c-{ref.key}")
    return refs


def follow(feed: FeedAndParking, reader: Reader, partition: int) -> str:
    """
    Register a reader whose walk is done, and return its position.
    """
    place = feed.register(reader, [partition], "a")[partition]
    assert feed.acknowledge(reader, [Step(partition, place.position, 0)], "a") == [True]
    return place.position


def test_a_reader_sees_what_comes_after_it(world: World) -> None:
    """
    Every record since it registered, in commit order, with its instance, number and bytes; nothing from before.
    """
    feed = world.feed()
    fill(world, 1, 2)
    place = feed.register(READER, [1], "a")[1]
    refs = fill(world, 1, 3, first=3)
    view = write(world.journal(), controls.ref("seen", "counter"), "c-1", "c-2")
    entries = feed.read(READER, {1: place.position}, 100, "a")[1]

    assert (START, "", 0) == (place.position, place.walk, place.walked)
    assert entries is not None
    seen = [(one.ref, one.seq) for one in entries if one.ref.workflow == "order"]
    assert [(ref, 1) for ref in refs] == seen
    assert sorted(place_of(one.id) for one in entries) == [place_of(one.id) for one in entries]
    assert [controls.command_id(one.data) for one in entries if one.ref in refs] == [
        f"c-{ref.key}" for ref in refs
    ]
    assert view.ref.partition != 1 or len(entries) == 5


def test_reading_goes_on_behind_a_position(world: World) -> None:
    """
    In pieces of the asked size, in several partitions at once.
    """
    feed = world.feed()
    feed.register(READER, [0, 1], "a")
    first, second = fill(world, 0, 5), fill(world, 1, 2)
    found = feed.read(READER, {0: START, 1: START}, 3, "a")
    again = feed.read(READER, {0: (found[0] or [])[-1].id, 1: (found[1] or [])[-1].id}, 3, "a")

    assert first == [one.ref for piece in (found[0], again[0]) for one in piece or []]
    assert second == [one.ref for one in found[1] or []]
    assert [] == again[1]
    assert {} == feed.read(READER, {}, 3, "a")


def test_a_known_reader_goes_on_where_it_was(world: World) -> None:
    """
    Registering again changes nothing; the walk and what was walked over are kept with the position.
    """
    feed = world.feed()
    feed.register(READER, EVERYWHERE, "a")
    fill(world, 2)
    end = feed.end([2])[0]
    feed.acknowledge(READER, [Step(2, end, 3, "somewhere", 7)], "a")
    feed.acknowledge(READER, [Step(2, end, 0, "further", 2)], "a")

    assert (end, "further", 9) == world.feed().register(READER, [2], "b")[2]
    feed.acknowledge(READER, [Step(2, end, 0, None, 1)], "a")
    assert (end, None, 10) == world.feed().register(READER, [2], "b")[2]


def test_who_does_not_serve_does_nothing(world: World) -> None:
    """
    A worker that lost a partition can neither register, nor read, nor move the position.
    """
    feed = world.feed()
    feed.register(READER, [1], "a")
    fill(world, 1)
    world.membership().claim(1, "projection", "b", ["a", "b"])

    assert {1: None} == feed.read(READER, {1: START}, 10, "a")
    assert [False] == feed.acknowledge(READER, [Step(1, "9-9", 1)], "a")
    assert {} == feed.register(OTHER, [1], "a")
    assert len(feed.read(READER, {1: START}, 10, "b")[1] or []) == 3
    assert [True] == feed.acknowledge(READER, [Step(1, feed.end([1])[0], 3)], "b")


def test_a_reader_that_was_removed_reads_nothing(world: World) -> None:
    """
    Neither does it come back by what it acknowledges; the feed of the last one is emptied and no longer written.
    """
    feed = world.feed()
    for reader in (READER, OTHER):
        feed.register(reader, [1], "a")
    fill(world, 1)
    feed.remove(READER, [1])

    assert {1: None} == feed.read(READER, {1: START}, 10, "a")
    assert [False] == feed.acknowledge(READER, [Step(1, "9-9", 1)], "a")
    assert [] == feed.behind(READER)
    assert len(feed.read(OTHER, {1: START}, 10, "a")[1] or []) == 3

    end = feed.end([1])
    feed.remove(OTHER, [1])
    fill(world, 1, 2, first=4)
    assert end == feed.end([1])
    assert end == [feed.register(OTHER, [1], "a")[1].position]
    assert [] == feed.read(OTHER, {1: START}, 10, "a")[1]


def test_news_wake_who_waits(world: World) -> None:
    """
    A commit ends the wait at once, and says where; without any it ends by itself.
    """
    feed, found = world.feed(), list[int]()
    feed.register(READER, EVERYWHERE, "a")
    thread = threading.Thread(
        target=lambda: found.extend(feed.await_news(dict.fromkeys(EVERYWHERE, START), 120))
    )
    if isinstance(world, RedisWorld):
        thread.start()
        eventually(lambda: bool(world.client.info("clients")["blocked_clients"]))
    else:
        thread.start()
    fill(world, 3, 1)
    thread.join(SECONDS_MAX)

    assert [3] == found
    assert [] == world.feed().await_news({0: START}, 0.01)
    assert [] == world.feed().await_news({}, 0.01)


def test_logs_are_read_in_stretches(world: World) -> None:
    """
    Of many instances at once, each from its own place; one that does not exist has nothing.
    """
    refs = controls.refs(2)
    for ref in refs:
        write(world.journal(), ref, *(f"c-{number}" for number in range(1, 6)))
    found = world.feed().records([(refs[0], 0), (refs[1], 3), (controls.ref("never"), 0)], 3)

    assert [[1, 2, 3], [4, 5], []] == [[seq for seq, _ in entries] for entries in found]
    assert "c-4" == controls.command_id(found[1][0][1])


@pytest.mark.parametrize("limit", [1, 7, 1_000])
def test_a_walk_meets_every_instance(world: World, limit: int) -> None:
    """
    All of the partition and of the workflows, whatever their run state and their keys are, in steps.
    """
    ours = {*map(controls.ref, controls.KEYS), *controls.refs(150, partition=2)}
    for ref in ours:
        write(world.journal(), ref, "c-1")
    write(world.journal(), controls.ref("n", "counter"), "c-1")
    feed, found = world.feed(), set[Ref]()
    for partition in EVERYWHERE:
        walk: str | None = ""
        while walk is not None:
            refs, walk = feed.instances(partition, ["order"], walk, limit)
            assert all(ref.partition == partition for ref in refs)
            found.update(refs)

    assert ours == found
    assert len(found) == feed.count(["order"])
    assert len(found) + 1 == feed.count(["counter", "order"])


def test_a_walk_goes_on_after_a_restart(redis_server: RedisServer) -> None:
    """
    Also when the server was started again in the middle: it lays out its sets anew, and none is missed for that.
    """
    world = RedisWorld(redis_server.url, "own")
    refs = controls.refs(1_500, partition=2)
    journal = world.journal()
    for start in range(0, len(refs), 100):
        journal.commit([controls.commit(ref, "c-1") for ref in refs[start : start + 100]], "a")
    feed, found = world.feed(), set[Ref]()
    walk: str | None = ""
    while walk is not None and len(found) < 700:
        some, walk = feed.instances(2, ["order"], walk, 100)
        found.update(some)

    redis_server.restart()
    feed = world.feed()
    while walk is not None:
        some, walk = feed.instances(2, ["order"], walk, 100)
        found.update(some)

    assert set(refs) == found
    world.close()


def test_lag_is_counted(world: World) -> None:
    """
    In records that the reader is not done with, also after the feed was trimmed and from the middle of it on.
    """
    feed = world.feed()
    fill(world, 1)
    follow(feed, READER, 1)
    fill(world, 1, 4, first=4)
    entries = feed.read(READER, {1: START}, 3, "a")[1] or []
    (before,) = feed.behind(READER)
    feed.acknowledge(READER, [Step(1, entries[-1].id, 3)], "a")
    late = follow(feed, OTHER, 1)
    feed.trim([1])
    fill(world, 1, 2, first=8)
    (after,) = feed.behind(READER)
    (other,) = feed.behind(OTHER)

    assert (1, 4, 0) == (before.partition, before.records, before.parked)
    assert (1, 3) == (after.partition, after.records)
    assert entries[-1].id == after.place.position
    assert (2, late) == (other.records, other.place.position)
    assert after.seconds >= 0


def test_the_feed_is_kept_for_the_slowest(world: World) -> None:
    """
    Nothing that a reader has still to read is trimmed, and all that every one has read is, but for a last node.
    """
    feed = world.feed()
    for reader in (READER, OTHER):
        follow(feed, reader, 1)
    fill(world, 1, 300)
    end = feed.end([1])[0]
    feed.acknowledge(READER, [Step(1, end, 300)], "a")

    assert 0 == feed.trim([1])
    assert len(feed.read(OTHER, {1: START}, 1_000, "a")[1] or []) == 300

    feed.acknowledge(OTHER, [Step(1, end, 300)], "a")
    assert feed.trim([1]) >= 150
    assert 0 == feed.trim([1, 2])
    fill(world, 1, 1, first=301)
    assert len(feed.read(OTHER, {1: end}, 1_000, "a")[1] or []) == 1


def test_a_wait_for_positions_ends_with_them(world: World) -> None:
    """
    When every partition is there and walked, and not before; who never comes makes it end in time.
    """
    feed, waiting = world.feed(), world.feed()
    found: list[bool] = []
    for partition in (1, 2):
        feed.register(READER, [partition], "a")
        fill(world, partition)
    ends = dict(zip((1, 2), feed.end([1, 2]), strict=True))
    assert not waiting.await_positions(READER, ends, 0.01)
    thread = threading.Thread(target=lambda: found.append(waiting.await_positions(READER, ends, 120)))
    thread.start()
    feed.acknowledge(READER, [Step(1, ends[1], 3, "walking")], "a")
    feed.acknowledge(READER, [Step(2, ends[2], 3)], "a")
    assert not world.feed().await_positions(READER, ends, 0.01)
    feed.acknowledge(READER, [Step(1, ends[1], 0)], "a")
    thread.join(SECONDS_MAX)

    assert [True] == found
    assert world.feed().await_positions(READER, ends, 0)
    assert not world.feed().await_positions(READER, {1: "9999999999999-0"}, 0.01)
    assert not world.feed().await_positions(OTHER, {1: START}, 0.01)


def test_generations_change_for_one(world: World) -> None:
    """
    Who knows them changes them; who is late learns so. Forgotten ones may begin again.
    """
    feed = world.feed()
    first, second = Generations(), Generations(building=2, retired=(7,))

    assert (None, 0) == feed.generations("books")
    assert [True, False] == [feed.change("books", None, first), world.feed().change("books", None, second)]
    assert (first, 0) == feed.generations("books")
    assert [True, False] == [feed.change("books", first, second), feed.change("books", first, first)]
    assert second == world.feed().generations("books")[0]
    assert feed.change("sums", None, first)
    assert ["books", "sums"] == feed.projections()
    assert [True, False] == [feed.change("books", second, None), feed.change("books", second, None)]
    assert ["sums"] == feed.projections()
