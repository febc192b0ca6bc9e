"""
What is stuck: found for every reason that there is, and nothing that moves.
"""

from datetime import timedelta
from typing import NamedTuple

import msgspec
import pytest

from holdfast.actors import stuck
from holdfast.actors.roster import roster
from holdfast.actors.stuck import KINDS, Findings, Search, Stuck
from holdfast.brokers.memory import (
    MemoryDeadLetters,
    MemoryJournal,
    MemoryMembership,
    MemoryServer,
    MemoryTransport,
)
from holdfast.brokers.memory_backlog import MemoryBacklog
from holdfast.runtime.backlog import RETRY
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import POOLS
from holdfast.runtime.record import TimerEntry
from tests import controls

MINUTE_MS = 60_000
HOUR = timedelta(hours=1)
TTL_MS = 10**9


class Site:
    """An installation in memory, whose clock stands still until it is moved."""

    def __init__(self) -> None:
        self.clock = ManualClock(controls.NOW)
        self.server = MemoryServer(controls.PARTITIONS, self.clock)
        self.journal = MemoryJournal(self.server)
        self.dead_letters = MemoryDeadLetters(self.server)
        self.membership = MemoryMembership(self.server)
        self.transport = MemoryTransport(self.server)
        self.backlog = MemoryBacklog(self.server)

    @property
    def now_ms(self) -> int:
        return self.server.now_ms()

    def commit(self, ref: Ref, **asked: object) -> None:
        """
        Let an instance come to be.
        """
        self.journal.commit([controls.commit(ref, "c-1", **asked)], "a")

    def staff(self, *pools: str) -> None:
        """
        Let one member serve these pools everywhere.
        """
        member = controls.member("m-1", pools)
        self.membership.beat(member, TTL_MS)
        for pool in pools:
            for partition in range(controls.PARTITIONS):
                self.membership.claim(partition, pool, member.id, [member.id])

    def find(
        self,
        *workflows: str,
        older_ms: int = 10 * MINUTE_MS,
        limit: int = 100,
        kinds: tuple[str, ...] = KINDS,
    ) -> Findings:
        """
        Look for what is stuck.
        """
        search = Search(self.backlog, self.dead_letters, self.membership, self.transport)
        return search.find(workflows or ("order",), older_ms, limit, kinds)


@pytest.fixture
def site() -> Site:
    """
    An installation with all pools served.
    """
    site = Site()
    site.staff(*POOLS)
    return site


def only(found: Findings) -> Stuck:
    """
    Return the one item.
    """
    (item,) = found.items
    assert found.whole
    return item


def waits(item: Stuck) -> list[str]:
    """
    Return the kinds of what an item waits for.
    """
    return [wait.kind for wait in item.waits]


def test_what_moves_is_not_stuck(site: Site) -> None:
    """
    A young instance, whatever it waits for, a finished one, and another workflow's are left out.
    """
    site.commit(controls.ref("done"), run_state=RunState.COMPLETED)
    site.commit(controls.ref("x", "other"))
    site.clock.advance(HOUR)
    effect = msgspec.structs.replace(controls.effect(), at_ms=site.now_ms)
    site.commit(controls.ref(), effects=[effect], timers=[controls.timer()])

    assert Findings([]) == site.find()


def test_an_instance_for_which_nothing_is_on_its_way_waits_for_a_command(site: Site) -> None:
    """
    It is told with where it is in its life, and since when nothing happened.
    """
    site.commit(controls.ref("o-1"))
    since = site.now_ms
    site.clock.advance(HOUR)
    item = only(site.find())

    assert ("order", "o-1", RunState.RUNNING, since) == (
        item.workflow,
        item.key,
        item.run_state,
        item.since_ms,
    )
    assert [("command", "a command", since, 0)] == item.waits


def test_an_instance_waits_for_its_timer(site: Site) -> None:
    """
    The command that will be sent and when; the timer of another instance is not mistaken for it.
    """
    ref = controls.ref("o-1")
    mine = controls.timer(f"{ref.scope}/expiry", due_ms=site.now_ms + 100 * MINUTE_MS)
    site.commit(ref, timers=[mine, controls.timer("order/9/something/expiry")])
    site.clock.advance(HOUR)
    (wait,) = only(site.find()).waits

    assert ("timer", mine.due_ms) == (wait.kind, wait.until_ms)
    assert wait.what.endswith(" to be sent")


def test_an_overdue_timer_is_stuck_itself(site: Site) -> None:
    """
    What should have been sent long ago is told even where its instance has moved since, and since it was due.
    """
    ref = controls.ref("o-1")
    due_ms = site.now_ms + 1
    envelope = encode_envelope(controls.envelope(controls.ExpireOrder("o-1")))
    site.commit(ref, timers=[TimerEntry(f"{ref.scope}/expiry", envelope, 0, due_ms)])
    site.clock.advance(HOUR)
    site.journal.commit([controls.commit(site.journal.read([ref])[0], "c-2")], "a")
    behind, item = site.find().items

    assert "pool timer" == behind.name
    assert (None, due_ms, "o-1") == (item.run_state, item.since_ms, item.key)
    assert [("timer", "ExpireOrder, which is overdue", due_ms, due_ms)] == item.waits


def test_an_effect_that_does_not_end_is_stuck(site: Site) -> None:
    """
    With the name of the effect, its id, and since when it is to be run.
    """
    ref = controls.ref("o-1")
    site.commit(ref, effects=[controls.effect("c-1:0", of=ref)])
    site.clock.advance(HOUR)
    (wait,) = only(site.find()).waits

    assert "effect" == wait.kind
    assert wait.what == "ChargeCard to be run, or to end (c-1:0)"


def test_an_effect_between_two_tries_is_told_with_the_next(site: Site) -> None:
    """
    It waits since its decision, until the next try.
    """
    ref = controls.ref("o-1")
    site.commit(ref)
    effect = controls.effect("c-1:0", of=ref)
    due_ms = site.now_ms + 90 * MINUTE_MS
    name = f"{RETRY}order/o-1:c-1:0"
    site.server.timers[ref.partition][name] = (due_ms, TimerEntry(name, encode(effect), 0, due_ms))
    site.clock.advance(HOUR)
    (wait,) = only(site.find()).waits

    assert ("retry", effect.at_ms, due_ms) == (wait.kind, wait.since_ms, wait.until_ms)
    assert "ChargeCard" in wait.what


def test_a_paused_instance_waits_to_be_resumed(site: Site) -> None:
    """
    Nothing else will move it.
    """
    site.commit(controls.ref("o-1"), run_state=RunState.PAUSED)
    site.clock.advance(HOUR)

    assert ["resume"] == waits(only(site.find()))


def test_a_dead_letter_stops_its_instance(site: Site) -> None:
    """
    Whoever waits for a person is told with the letter's id and error; a letter of nobody stands for itself.
    """
    site.commit(controls.ref("o-1"))
    at_ms = site.now_ms
    letter = controls.dead_letter("0.d-1", workflow="order", key="o-1", at_ms=at_ms)
    foreign = controls.dead_letter("0.d-2", workflow="", key="", kind="ingress", at_ms=at_ms)
    site.dead_letters.add([letter, foreign])
    site.clock.advance(HOUR)
    nameless, mine = site.find().items

    assert ("ingress 0.d-2", ["dead-letter"]) == (nameless.name, waits(nameless))
    assert ("o-1", ["dead-letter"]) == (mine.key, waits(mine))
    assert "0.d-1" in mine.waits[0].what
    assert letter.error in mine.waits[0].what


@pytest.mark.parametrize("pool", ["command", "effect", "timer", "projection"])
def test_a_pool_that_nobody_serves_is_stuck_where_it_has_work(pool: str) -> None:
    """
    It is told first, with how much waits in which partitions; without work it is nobody's concern.
    """
    site = Site()
    site.staff(*(one for one in POOLS if one != pool))
    ref = controls.ref("o-1")
    site.server.readers[ref.partition]["sales"] = "0-0"
    site.commit(ref, effects=[controls.effect(of=ref)], timers=[controls.timer(due_ms=site.now_ms + 1)])
    site.transport.publisher().publish(ref.partition, b"x")
    site.clock.advance(HOUR)
    first = site.find().items[0]

    assert (f"pool {pool}", ["worker"]) == (first.name, waits(first))
    assert first.waits[0].what == f"a worker with --pool {pool}: 1 wait in partition {ref.partition}"
    assert [pool] == [
        post.pool for post in roster(site.backlog, site.membership, site.transport) if post.deserted
    ]


@pytest.mark.parametrize("pool", ["timer", "projection"])
def test_a_pool_that_is_served_but_late_is_told(site: Site, pool: str) -> None:
    """
    Timers that are not sent and records that are not read although somebody is there to.
    """
    ref = controls.ref("o-1")
    if pool == "timer":
        site.commit(ref, timers=[controls.timer(due_ms=site.now_ms)])
    else:
        site.server.readers[ref.partition]["sales"] = "0-0"
        site.commit(ref)
    site.clock.advance(HOUR)
    first = site.find().items[0]

    assert (f"pool {pool}", ["behind"]) == (first.name, waits(first))
    assert first.waits[0].what == f"its workers to catch up: 1 wait in partition {ref.partition}"


class Line(NamedTuple):
    """What the effect pool says."""

    state: str
    workflow: str = "order"
    key: str = "o-1"
    id: str = "c-1:0"
    effect: str = "ChargeCard"
    attempts: int = 2
    since_ms: int = controls.NOW_MS
    until_ms: int = 0
    error: str = "Unreachable: away"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (Line("waiting", attempts=0, error=""), ("effect", "ChargeCard (c-1:0) to be run")),
        (Line("running", error=""), ("effect", "ChargeCard (c-1:0) to end, tried 2 times")),
        (Line("retry"), ("retry", "the next try of ChargeCard (c-1:0), tried 2 times: Unreachable: away")),
        (Line("limit", error="stripe"), ("limit", "its turn for ChargeCard (c-1:0): stripe")),
        (Line("rate", effect="", error=""), ("limit", "its turn for an effect (c-1:0)")),
    ],
)
def test_the_effect_pool_knows_more(site: Site, line: Line, expected: tuple[str, str]) -> None:
    """
    Where it is asked, what it says counts: whether an effect runs, was tried, or waits for its turn.
    """
    ref = controls.ref("o-1")
    site.commit(ref, effects=[controls.effect(of=ref)])
    site.clock.advance(HOUR)
    search = Search(
        site.backlog,
        site.dead_letters,
        site.membership,
        site.transport,
        lambda: [line, line._replace(key="other")],
    )
    items = {item.key: item for item in search.find(["order"], 10 * MINUTE_MS, 100).items}

    assert {"o-1", "other"} == set(items)
    assert [expected] == [(wait.kind, wait.what) for wait in items["o-1"].waits]


def test_a_dead_member_serves_nothing() -> None:
    """
    Who holds a partition and no longer lives does not count.
    """
    site = Site()
    site.membership.beat(controls.member("m-1"), MINUTE_MS)
    site.membership.claim(0, "command", "m-1", ["m-1"])
    site.transport.publisher().publish(0, b"x")

    assert [] == site.find(older_ms=0).items

    site.clock.advance(HOUR)

    assert "pool command" == only(site.find(older_ms=0)).name


def test_several_reasons_are_told_together(site: Site) -> None:
    """
    One instance is one item, with all that it waits for.
    """
    ref = controls.ref("o-1")
    timer = controls.timer(f"{ref.scope}/expiry", due_ms=site.now_ms + 10**9)
    site.commit(ref, effects=[controls.effect(of=ref)], timers=[timer], run_state=RunState.PAUSED)
    site.clock.advance(HOUR)

    assert ["resume", "effect", "timer"] == waits(only(site.find()))


def test_the_longest_stuck_come_first_and_the_rest_is_told_of(site: Site) -> None:
    """
    Up to the limit, and whether there are more.
    """
    for number in range(5):
        site.commit(controls.ref(f"o-{number}"))
        site.clock.advance(HOUR)

    assert [f"o-{number}" for number in range(5)] == [one.key for one in site.find().items]
    assert site.find(limit=5).whole
    assert ["o-0", "o-1"] == [one.key for one in site.find(limit=2).items]
    assert not site.find(limit=2).whole
    assert ["o-0", "o-1"] == [one.key for one in site.find(older_ms=4 * 60 * MINUTE_MS).items]


def test_what_was_not_looked_at_is_not_denied(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where more is scheduled than is looked at, an instance is not said to have no timer.
    """
    monkeypatch.setattr(stuck, "SCHEDULED_MAX", 3)
    ref = controls.ref("o-1")
    timers = [controls.timer(f"order/1/x/{number}", due_ms=site.now_ms + 10**9) for number in range(3)]
    site.commit(ref, timers=timers)
    site.clock.advance(HOUR)
    found = site.find()

    assert not found.whole
    assert ["a command, or a timer that is far ahead"] == [wait.what for wait in found.items[0].waits]


def test_only_some_reasons_are_of_interest(site: Site) -> None:
    """
    Whoever watches for mechanics' work does not hear of customers who take their time.
    """
    site.commit(controls.ref("customer"))
    site.commit(controls.ref("mechanic"), run_state=RunState.PAUSED)
    site.clock.advance(HOUR)

    assert ["mechanic"] == [one.key for one in site.find(kinds=("resume", "dead-letter")).items]
    assert ["customer"] == [one.key for one in site.find(kinds=("command",)).items]


def test_what_is_of_no_interest_takes_no_place(site: Site) -> None:
    """
    The limit is of what is shown: idle customers, however many, hide no mechanics' work and are not told of.
    """
    for number in range(5):
        site.commit(controls.ref(f"customer-{number}"))
        site.clock.advance(HOUR)
    site.commit(controls.ref("mechanic"), run_state=RunState.PAUSED)
    site.clock.advance(HOUR)
    site.membership.leave("m-1")
    site.transport.publisher().publish(0, b"waits")

    paused = site.find(kinds=("resume",), limit=2)
    deserted = site.find(kinds=("worker",), limit=2)

    assert (["mechanic"], True) == ([one.key for one in paused.items], paused.whole)
    assert (["pool command"], True) == ([one.name for one in deserted.items], deserted.whole)
