"""
Namespaces cannot reach each other, whatever their business keys contain.
"""

import fnmatch
import uuid
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import Accepted, Client, Settings, connect
from holdfast.actors import wiring
from holdfast.brokers.keys import Keys
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref, partition_of
from tests.cli.desk import working
from tests.conftest import remove_keys
from tests.security.boxes import Bell, Box, Put, Ring, Stumble, app
from tests.support.processes import eventually

PARTITIONS = 2

#: Text that has tripped others up: what separates, what matches, what ends a string.
NASTY = st.one_of(
    st.text(min_size=1, max_size=40),
    st.lists(
        st.sampled_from(
            [
                *(
                    "{",
                    "}",
                    ":",
                    "*",
                    "?",
                    "[",
                    "]",
                    "\\",
                    "%",
                    "%7B",
                    "\n",
                    "\r\n",
                    "\0",
                    " ",
                    "/",
                    ".",
                    "-",
                ),
                *(
                    "log",
                    "actor",
                    "meta",
                    "shop",
                    "shop.0",
                    "}:log:box:",
                    "{shop.0}",
                    "ü",
                    "\u202e",
                    "'",
                    '"',
                ),
            ]
        ),
        min_size=1,
        max_size=12,
    ).map("".join),
)


def is_key(text: str) -> bool:
    try:
        return 0 < len(text.encode()) <= 512
    except UnicodeEncodeError:
        return False


@given(key=NASTY.filter(is_key), workflow=st.sampled_from(["box", "bell"]), name=NASTY.filter(is_key))
def test_every_key_is_within_its_namespace(key: str, workflow: str, name: str) -> None:
    """
    Whatever the business key, every Redis key has the namespace's own beginning, which is no other's, and one hash tag.
    """
    for namespace, others in (("shop", ("shop-2", "sho", "shop_", "s")), ("shop-2", ("shop", "shop-22"))):
        own = Keys(namespace)
        ref = Ref(partition_of(workflow, key, PARTITIONS), workflow, key)
        made = [
            *(
                call(ref)
                for call in (own.actor, own.log, own.snap, own.parked, own.parked_bodies, own.observations)
            ),
            own.unique(ref.partition, workflow, name),
            own.instances(ref.partition, workflow, RunState.RUNNING),
            own.slots(name),
            own.starts(name),
            own.secrets(ref.partition),
        ]
        for one in made:
            assert one.count("{") == 1 == one.count("}"), one
            assert one.startswith((f"{{{namespace}.", f"{{{namespace}}}:")), one
            for other in others:
                assert not any(fnmatch.fnmatchcase(one, glob) for glob in Keys(other).patterns()), (
                    one,
                    other,
                )


@given(first=NASTY.filter(is_key), second=NASTY.filter(is_key))
def test_two_instances_have_no_key_in_common(first: str, second: str) -> None:
    """
    Escaping loses nothing.
    """
    own = Keys("shop")
    refs = [Ref(0, "box", first), Ref(0, "box", second)]
    keys = [{call(ref) for call in (own.actor, own.log, own.snap)} for ref in refs]

    assert (first == second) is bool(keys[0] & keys[1])
    assert (first == second) is (refs[0].scope == refs[1].scope)


@pytest.fixture(scope="module")
def two(redis_url: str) -> Iterator[tuple[Client, Client]]:
    """
    Two installations on one Redis, the name of one the beginning of the other's, each with a worker.
    """
    name = f"t{uuid.uuid4().hex[:8]}"
    quick = {"redis_url": redis_url, "partitions": PARTITIONS, "heartbeat_ms": 50, "member_ttl_ms": 10_000}
    one, other = Settings.of(namespace=name, **quick), Settings.of(namespace=f"{name}-2", **quick)
    with working(app, one) as first, working(app, other) as second:
        for client in (first, second):
            # What a worker makes when it begins is there from now on.
            client.wait_for(
                "seen", client.execute(Put("first of all", "a later thing"), timeout=40), timeout=40
            )
            settle(client, "first of all")
        yield first, second
    remove_keys(redis_url, name)
    remove_keys(redis_url, f"{name}-2")


def dump(client: Client) -> dict[bytes, bytes]:
    """
    Return everything that a namespace has, but for what changes by itself.
    """
    with redis.Redis.from_url(client.settings.redis_url) as raw:
        found = {}
        for pattern in Keys(client.settings.namespace).patterns():
            for key in raw.scan_iter(pattern):
                if not key.endswith(
                    (b"}:members", b"}:member-facts", b":serving", b":commands", b":schedule")
                ):
                    found[key] = raw.dump(key)
        # Schedules tick, and instances of theirs with them.
        return {
            key: data
            for key, data in found.items()
            if b"bell" not in key
            and b"holdfast.schedule" not in key
            and not key.endswith(
                (
                    b":timers",
                    b":timer-names",
                    b":due",
                    b":feed",
                    b":readers",
                    b":reading",
                    b":positions",
                    b":data:count",
                )
            )
        }


def settle(client: Client, key: str) -> None:
    """
    Wait until everything that a box asked for has come about, and the read model has it.
    """

    def settled() -> bool:
        state, lag = client.state(Box, key), client.projections.lag("seen")
        # An effect leaves the outbox after what it led to was decided, and a command is noted after it was.
        left = [one for load in client._ports().backlog.loads() for one in [load.effects] if one]
        return state is None or (
            len(state.prices) == len(state.items)
            and left == []
            and lag != []
            and not any(one.records for one in lag)
            and len(client.observations(Box, key)) >= 2 * len(state.items)
        )

    eventually(settled)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(key=NASTY.filter(is_key))
def test_what_one_does_the_other_does_not_see(key: str, two: tuple[Client, Client]) -> None:
    """
    A command with any key at all changes nothing of the other installation; both may have an instance of this key.
    """
    first, second = two
    before = dump(first)
    assert isinstance(second.execute(Put(key, "a later thing"), timeout=40), Accepted)
    second.send(Stumble(key, "x"))
    assert before == dump(first)

    state = second.state(Box, key)
    assert state is not None
    assert state.items
    mine = first.state(Box, key)
    first.execute(Put(key, "a later thing"), timeout=40)
    again = first.state(Box, key)
    assert again is not None
    assert len(again.items) == (len(mine.items) if mine else 0) + 1
    assert isinstance(first.execute(Ring(key), timeout=40), Accepted)
    assert first.state(Bell, key) is not None
    settle(first, key)


def test_removing_one_leaves_the_other(redis_url: str) -> None:
    """
    Erasing a namespace takes nothing of one whose name begins alike.
    """
    name = f"t{uuid.uuid4().hex[:8]}"
    both = [
        Settings.of(namespace=one, redis_url=redis_url, partitions=PARTITIONS) for one in (name, f"{name}-2")
    ]
    for one in both:
        with connect(app, one) as client:
            client.send(Put("k", "x"))
    wiring.remove_namespace(both[0])
    with redis.Redis.from_url(redis_url) as raw:
        assert [] == list(raw.scan_iter(f"{{{name}.*")) + list(raw.scan_iter(f"{{{name}}}*"))
        assert list(raw.scan_iter(f"{{{name}-2*"))
    wiring.remove_namespace(both[1])
