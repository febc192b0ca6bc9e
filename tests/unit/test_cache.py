"""
The cache: bounded, the least recently used goes first.
"""

from concurrent.futures import ThreadPoolExecutor

from holdfast.runtime.actor import Actor, Handled
from holdfast.runtime.cache import ActorCache
from holdfast.runtime.keys import Ref
from tests import controls

DEFINITION = controls.app().definition("order")


def actor(key: str, partition: int = 0) -> Actor:
    """
    An actor of an order.
    """
    return Actor(Ref(partition, "order", key), DEFINITION, controls.OrderState())


def filled(size_max: int, *keys: str) -> ActorCache:
    """
    A cache with these actors, put in this order.
    """
    cache = ActorCache(size_max)
    for key in keys:
        cache.put(actor(key))
    return cache


def kept(cache: ActorCache, keys: str) -> str:
    """
    Which of these one-letter keys are in the cache.
    """
    return "".join(key for key in keys if cache.get(Ref(0, "order", key)) is not None)


def test_what_was_put_is_found() -> None:
    """
    The very same actor.
    """
    cache, one = ActorCache(), actor("a")
    cache.put(one)

    assert one is cache.get(one.ref)
    assert None is cache.get(Ref(0, "order", "b"))


def test_the_cache_is_bounded() -> None:
    """
    The one that was put longest ago goes first.
    """
    cache = filled(3, *"abcd")

    assert (3, "bcd") == (len(cache), kept(cache, "abcd"))


def test_what_is_used_stays() -> None:
    """
    Getting an actor and putting it again both count as use.
    """
    cache = filled(3, *"abc")
    cache.get(Ref(0, "order", "a"))
    cache.put(actor("b"))
    cache.put(actor("d"))
    cache.put(actor("e"))

    assert "bde" == kept(cache, "abcde")


def test_putting_again_replaces() -> None:
    """
    An instance is in the cache once.
    """
    cache, again = filled(3, "a"), actor("a")
    cache.put(again)

    assert (1, True) == (len(cache), again is cache.get(again.ref))


def test_dropping_forgets_one() -> None:
    """
    Dropping what is not there is no error.
    """
    cache = filled(3, *"ab")
    cache.drop(Ref(0, "order", "a"))
    cache.drop(Ref(0, "order", "z"))

    assert "b" == kept(cache, "ab")


def test_dropping_a_partition_returns_its_actors() -> None:
    """
    Their leases are to be released; the actors of other partitions stay.
    """
    cache = filled(10, *"ab")
    gone = [actor("c", 1), actor("d", 1)]
    for one in gone:
        cache.put(one)

    assert gone == cache.drop_partition(1)
    assert (2, [], "ab") == (len(cache), cache.drop_partition(1), kept(cache, "ab"))


def test_clearing_forgets_all() -> None:
    """
    After a failure that nobody understands, nothing is believed.
    """
    cache = filled(3, *"abc")
    cache.clear()

    assert 0 == len(cache)


def test_another_thread_may_drop_a_partition() -> None:
    """
    The steward takes a partition away while the lane works: neither stumbles over the other.
    """
    cache = ActorCache(200)

    def work(number: int) -> None:
        for n in range(2_000):
            if number == 0:
                cache.drop_partition(n % 4)
            else:
                cache.put(actor(str(n), n % 4))
                cache.get(Ref(n % 4, "order", str(n - 1)))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))

    assert len(cache) <= 200


def test_the_ids_that_actors_remember_are_bounded() -> None:
    """
    A thousand ids weigh as much as a hundred actors: those used least recently go, and the one at hand stays.
    """
    cache = ActorCache(100, ids_max=10)
    actors = [actor(key) for key in "abcd"]
    for one in actors:
        for number in range(4):
            one.remember(f"{one.ref.key}-{number}", Handled(number, 0))
        cache.put(one)
    assert "cd" == kept(cache, "abcd")

    for number in range(20):
        actors[3].remember(f"more-{number}", Handled(number, 0))
    assert cache.get(actors[3].ref) is actors[3]
    assert (1, "d") == (len(cache), kept(cache, "abcd"))

    cache.drop(actors[3].ref)
    cache.put(actors[0])
    cache.put(actors[1])
    assert "ab" == kept(cache, "abcd")
