"""
A namespace in Redis: fixed when it is first used, and removed without touching its neighbours.
"""

from typing import Any

import pytest

from holdfast.brokers import redis_namespace
from holdfast.runtime.errors import PartitionsMismatch
from tests import controls
from tests.contract.threads import together
from tests.contract.worlds import RedisWorld, write


def test_the_number_of_partitions_is_fixed(redis_world: RedisWorld) -> None:
    """
    Whoever comes with another number is refused, with both numbers and the way out; whoever comes with the same is not.
    """
    link = redis_world.link()

    assert redis_namespace.stored_partitions(redis_world.settings, link) is None

    redis_namespace.settle(redis_world.settings, link)
    redis_namespace.settle(redis_world.settings, link)

    assert controls.PARTITIONS == redis_namespace.stored_partitions(redis_world.settings, link)
    with pytest.raises(PartitionsMismatch, match=r"created with 4 partitions.* is 8.*HOLDFAST_PARTITIONS=4"):
        redis_namespace.settle(redis_world.with_(partitions=8), link)


def test_what_is_fixed_is_not_written_again(redis_world: RedisWorld) -> None:
    """
    Whoever comes later only reads, so he also gets in when the server takes no writes; what is missing is written.
    """
    link, client, key = redis_world.link(), redis_world.client, redis_world.keys.meta()
    redis_namespace.settle(redis_world.settings, link)
    first = client.hgetall(key)
    written = _written(client)
    redis_namespace.settle(redis_world.settings, link)

    assert written == _written(client)
    client.hdel(key, "incarnation")
    redis_namespace.settle(redis_world.settings, link)
    assert first.keys() == client.hgetall(key).keys()


def _written(client: Any) -> int:
    """
    How often anything was asked to be set in a hash.
    """
    return int(client.info("commandstats").get("cmdstat_hsetnx", {}).get("calls", 0))


def test_one_of_many_fixes_it(redis_world: RedisWorld) -> None:
    """
    Of processes that come first at the same moment with different numbers one number wins, and only those with it stay.
    """
    links = [redis_world.link() for _ in range(8)]

    def settle(number: int) -> int | None:
        try:
            redis_namespace.settle(redis_world.with_(partitions=number + 1), links[number])
        except PartitionsMismatch:
            return None
        return number + 1

    stayed = [number for number in together(8, settle) if number is not None]

    assert [redis_namespace.stored_partitions(redis_world.settings, links[0])] == stayed


def test_a_removal_takes_all_of_one_namespace(redis_world: RedisWorld) -> None:
    """
    Every key of a namespace goes, and none of one whose name or whose keys look like it.
    """
    name = redis_world.settings.namespace
    neighbours = [
        redis_world.neighbour(other) for other in (f"{name}0", f"{name}-0", name[:-1], name.upper())
    ]
    for world in (redis_world, *neighbours):
        refs = [
            controls.ref(key) for key in (*controls.KEYS, f"{{{name}.0}}:log:order:x", f"{{{name}}}:meta")
        ]
        world.journal().commit(
            [
                controls.commit(ref, "c-1", effects=[controls.effect()], timers=[controls.timer()])
                for ref in refs
            ],
            "a",
        )
        world.desk().remember([(0, "c-1", b"no")])
        world.desk().begin([(1, "c-1")])
        world.dead_letters().add([controls.dead_letter()])
        world.membership().beat(controls.member(), 60_000)
        world.membership().claim(0, "command", "m-1", ["m-1"])
    before = [world.everything() for world in neighbours]
    redis_namespace.settle(redis_world.settings, redis_world.link())
    keys = len(redis_world.everything())

    assert keys == redis_namespace.erase(redis_world.settings, redis_world.link())
    assert {} == redis_world.everything()
    assert before == [world.everything() for world in neighbours]

    write(redis_world.journal(), controls.ref(), "c-1")
