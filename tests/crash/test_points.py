"""
A worker is struck between every two steps of every flow: nothing is lost, doubled, reordered or left behind.

The workers of a transport are shared by all tests of this file; each strike meets what the ones before it left.
"""

import contextlib
import itertools
import signal
from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest

from holdfast.runtime.faults import Point
from tests.chaos.history import wrongs_of_ticks
from tests.chaos.mill import BELL, Choke, Did, Empty, Hopper, Milling, Pour
from tests.crash.field import PATIENCE_S, Field, open_field
from tests.crash.strike import order
from tests.flow.test_foreign import Message, publish
from tests.support.processes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: What every load passes, by flow and in order.
COMMAND = [
    Point.RECEIVED,
    Point.OPENED,
    Point.UNIQUES_CLAIMED,
    Point.DECIDED,
    Point.COMMITTED,
    Point.UNIQUES_SETTLED,
    Point.SNAPSHOT,
    Point.BARRIER_PASSED,
    Point.EFFECTS_STARTED,
    Point.REPLIED,
    Point.ACKED,
]
EFFECT = [
    Point.EFFECT_READ,
    Point.EFFECT_PLACED,
    Point.EFFECT_BEGUN,
    Point.EFFECT_DURABLE,
    Point.EFFECT_RUN,
    Point.EFFECT_PUBLISHED,
    Point.EFFECT_BURIED,
    Point.EFFECT_FINISHED,
    Point.EFFECT_PUT_OFF,
]
TIMER = [
    Point.TIMER_MOVED,
    Point.TIMER_DURABLE,
    Point.TICK_HALF_SENT,
    Point.TIMER_PUBLISHED,
    Point.TIMER_REMOVED,
]
PROJECTION = [
    Point.PROJECTION_READ,
    Point.PROJECTION_WRITTEN,
    Point.POSITION_WRITTEN,
    Point.POSITION_STORED,
    Point.FEED_ACKNOWLEDGED,
    Point.FEED_TRIMMED,
]
#: What is passed when workers come and go.
PARTITION = [
    Point.PARTITION_CLAIMED,
    Point.HANDOVER_DRAINED,
    Point.HANDOVER_RELEASED,
    Point.HANDOVER_YIELDED,
    Point.SCHEDULES_BEGUN,
]
#: What is passed when something is done that is seldom done.
INGRESS = [Point.INGRESS_RECEIVED, Point.INGRESS_REPUBLISHED, Point.INGRESS_ACKED]
PARKING = [Point.PARKED_LETTERS_WRITTEN, Point.PARKED]
FREEING = [Point.PARKED_LETTERS_REMOVED, Point.UNPARKED]
REBUILD = [Point.SWITCH_BEGUN, Point.MODEL_SWITCHED, Point.READERS_REMOVED, Point.MODEL_DROPPED]
RETENTION = [
    Point.ARCHIVED,
    Point.DELETION_SENT,
    Point.REMAINING_TIMERS_REMOVED,
    Point.REMAINING_EFFECTS_REMOVED,
    Point.REMAINS_REMOVED,
]
#: Each in a test of its own.
OTHERS = [
    Point.LOG_TRIMMED,
    Point.DEAD_LETTERS_WRITTEN,
    Point.DEAD_LETTER_SENT,
    Point.INGRESS_BURIED,
]
STRUCK = [*COMMAND, *EFFECT, *TIMER, *PROJECTION, *PARTITION]
STRUCK += [*INGRESS, *PARKING, *FREEING, *REBUILD, *RETENTION, *OTHERS]

GROUPS = {"command": COMMAND, "effect": EFFECT, "timer": TIMER, "projection": PROJECTION}
#: What the transport has a part in.
CARRIED = [
    *COMMAND,
    Point.EFFECT_PUBLISHED,
    Point.TICK_HALF_SENT,
    Point.TIMER_PUBLISHED,
    Point.HANDOVER_DRAINED,
]


def named(group: Sequence[Point]) -> str:
    """
    Return a name for a test of these points.
    """
    return f"{group[0]}..{group[-1]}"


def test_every_point_is_struck() -> None:
    """
    No point is without its strike, and none is listed twice.
    """
    assert sorted(Point) == sorted(STRUCK)


@pytest.fixture(scope="module")
def rabbit_field(redis_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """
    Workers whose commands come over RabbitMQ.
    """
    folder = tmp_path_factory.mktemp("rabbit-field")
    with open_field(folder, redis_url, amqp_url, "sqlite") as field:
        yield field


@pytest.fixture(scope="module")
def redis_field(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """
    Workers whose commands come over Redis Streams. Their read model is in Redis too: who sleeps in a transaction of
    SQLite's holds the lock that all others need.
    """
    with open_field(tmp_path_factory.mktemp("redis-field"), redis_url, "", "redis") as field:
        yield field


# -- on RabbitMQ, at every point


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_workers_die_between_two_steps(rabbit_field: Field, group: Sequence[Point]) -> None:
    """
    Under load a worker is killed at each point in turn: what it had in its hands is done once, in order, and callers are
    told what the logs say.
    """
    field = rabbit_field
    with field.load(f"die-{group[0]}") as load:
        field.await_more(load, 20)
        field.kill(load, group)
    field.check(load)


def test_workers_die_with_the_ticks_of_a_schedule(rabbit_field: Field) -> None:
    """
    Whatever was struck so far: each tick has come once.
    """
    field, seen = rabbit_field, 0

    def bells() -> int:
        return len(field.client.history(Milling, BELL))

    seen = bells()
    field.strike(Point.TICK_HALF_SENT, signal.SIGKILL)
    field.strike(Point.TIMER_PUBLISHED, signal.SIGKILL)
    eventually(lambda: bells() >= max(seen + 2, 4), PATIENCE_S)
    until = bells()

    def wrongs() -> list[str]:
        records = field.client.history(Milling, BELL)[:until]
        return list(wrongs_of_ticks(BELL, records, timedelta(seconds=1), {}))

    # One that was struck comes after those that follow it.
    with contextlib.suppress(AssertionError):
        eventually(lambda: not wrongs(), PATIENCE_S)
    assert [] == wrongs()


def test_workers_die_as_others_come(rabbit_field: Field) -> None:
    """
    A worker is killed when it has just claimed a partition, in each step of handing one over, and as it begins.
    """
    field = rabbit_field
    with field.load("handover") as load:
        field.kill_at_all(PARTITION, field.replace_a_worker)
        field.home.await_shared(3)
        field.await_more(load, 20)
    field.check(load)


def test_workers_die_at_the_door(rabbit_field: Field) -> None:
    """
    The worker that sends foreign messages on is killed in each step of that: each is decided once, in order, and what is
    no message is kept.
    """
    field, numbers = rabbit_field, itertools.count()
    sent: list[int] = []

    def send() -> None:
        messages = []
        for number in itertools.islice(numbers, 5):
            sent.append(number)
            body = f'{{"type": "Grind", "mill": "door", "sender": "s", "number": {number}}}'
            messages.append(Message(body.encode(), message_id=f"door-{number}"))
        publish(field.home, *messages)

    def recorded() -> list[int]:
        records = field.client.history(Milling, "door")
        return [event.number for one in records for event in one.events if isinstance(event, Did)]

    for point in INGRESS:
        field.strike(point, signal.SIGKILL, send)
    field.strike(
        Point.INGRESS_BURIED, signal.SIGKILL, lambda: publish(field.home, Message(b"\xff", message_id="bad"))
    )
    send()
    eventually(lambda: len(recorded()) >= len(sent), PATIENCE_S)

    assert sent == recorded()
    letters = field.client.dead_letters.list(kind="ingress")
    assert {("bad", b"\xff")} == {(letter.command_id, letter.body) for letter in letters}


def test_programs_die_with_dead_letters(rabbit_field: Field) -> None:
    """
    A worker is killed when it has written a dead letter, and a program when it has sent it again: the letter is there,
    and at last the command is decided once.
    """
    field = rabbit_field
    choking, numbers = field.folder / "choke", itertools.count()
    choking.touch()
    field.strike(
        Point.DEAD_LETTERS_WRITTEN,
        signal.SIGKILL,
        lambda: field.client.send(Choke("choker", "s", next(numbers))),
    )
    count = next(numbers)
    letters = field.client.dead_letters

    def ids() -> set[str]:
        return {letter.command_id for letter in letters.list(workflow="mill", key="choker")}

    eventually(lambda: len(ids()) == count, PATIENCE_S)
    choking.unlink()
    first = letters.list(workflow="mill", key="choker")[0]
    order(field.folder, Point.DEAD_LETTER_SENT, signal.SIGKILL).touch()

    assert -signal.SIGKILL == field.retry(first.id)
    assert first.command_id in ids()
    while letters.retry_all(workflow="mill", key="choker"):
        pass
    eventually(lambda: len(field.client.history(Milling, "choker")) >= count, PATIENCE_S)
    eventually(lambda: field.client.pending() == 0, PATIENCE_S)
    assert count == len(field.client.history(Milling, "choker"))
    assert set() == ids()


def test_workers_die_with_parked_instances(rabbit_field: Field) -> None:
    """
    A worker is killed when it has parked an instance that the projection cannot follow, and when it has freed it: in the
    end the read model has each event once and in order.
    """
    field, poison = rabbit_field, rabbit_field.folder / "poison"

    def retry() -> int:
        return field.client.projections.retry("board")

    for point in FREEING:
        poison.touch()
        with field.load(f"{point}", mills=6, callers=0, kinds=("Poison", "Grind")) as load:
            field.kill(load, PARKING)
        poison.unlink()
        field.strike(point, signal.SIGKILL, retry)
        eventually(lambda: not (retry() or field.client.projections.parked("board")), PATIENCE_S)
        field.check(load)
    assert [] == field.client.dead_letters.list(kind="projection")


def test_workers_die_in_a_rebuild(rabbit_field: Field) -> None:
    """
    A worker is killed in each step in which a rebuilt read model takes the place of the live one.
    """
    field = rabbit_field
    with field.load("rebuilt") as load:
        field.await_more(load, 50)
        field.kill(load, REBUILD, field.rebuild)
    eventually(field.settled, PATIENCE_S)
    field.check(load)


def test_workers_die_as_data_are_deleted(rabbit_field: Field) -> None:
    """
    Instances that were kept long enough are deleted with all that they left, whoever dies in between.
    """
    field, numbers, hoppers = rabbit_field, itertools.count(), []

    def fill() -> None:
        hopper = f"hopper-{next(numbers)}"
        field.client.send_many([Pour(hopper, 1), Pour(hopper, 2), Empty(hopper)])
        hoppers.append(hopper)

    for point in RETENTION:
        field.strike(point, signal.SIGKILL, fill)
    for hopper in hoppers:
        eventually(lambda hopper=hopper: field.gone(hopper), PATIENCE_S)  # type: ignore[misc]  # bound at once

    archived = {line.split()[0] for line in (field.folder / "archive").read_text().splitlines()}
    assert set(hoppers) <= archived


def test_workers_die_as_logs_are_cut_off(rabbit_field: Field) -> None:
    """
    The state is the fold of everything, whatever of the log is left.
    """
    field, numbers = rabbit_field, itertools.count()
    field.strike(
        Point.LOG_TRIMMED,
        signal.SIGKILL,
        lambda: field.client.send_many([Pour("cut", next(numbers)) for _ in range(12)]),
    )
    count = next(numbers)
    found = field.client.wait(Hopper, "cut", until=lambda one: len(one.numbers) >= count, timeout=PATIENCE_S)

    assert tuple(range(count)) == found.numbers


@pytest.mark.parametrize(
    "points", [(Point.RECEIVED, Point.DECIDED), (Point.COMMITTED, Point.REPLIED)], ids=named
)
def test_workers_sleep_past_their_leases(rabbit_field: Field, points: Sequence[Point]) -> None:
    """
    Workers are stopped at points for so long that others take everything over, and go on where they were: what they
    still want to write is refused, nothing is doubled, and they take up their share again.
    """
    field = rabbit_field
    with field.load(f"sleep-{points[0]}") as load:
        field.await_more(load, 20)
        field.stop(load, points)
    field.check(load)


# -- on Redis Streams: what the transport has a part in, and all sleeping, since there it takes less time


def test_workers_die_with_streams(redis_field: Field) -> None:
    """
    As on RabbitMQ: what was handed out to the dead is handed out again.
    """
    field = redis_field
    with field.load("streams") as load:
        field.await_more(load, 20)
        field.kill(load, CARRIED[:-1])
        field.kill(load, CARRIED[-1:], field.replace_a_worker)
    field.check(load)


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_workers_sleep_at_every_point(redis_field: Field, group: Sequence[Point]) -> None:
    """
    Workers are stopped at each point, two at a time: what they still want to do when they go on is refused, or changes
    nothing.
    """
    field = redis_field
    with field.load(f"nap-{group[0]}") as load:
        field.await_more(load, 20)
        for start in range(0, len(group), 2):
            field.stop(load, group[start : start + 2])
    field.check(load)


def test_a_sleeper_is_refused(redis_field: Field) -> None:
    """
    What a worker had decided before it slept is not written when it goes on.
    """
    field = redis_field
    with field.load("refused") as load:
        # Looked at before: soon after the strike it is not among the living any more.
        ids = {member.pid: member.id for member in field.home.await_shared(3)}
        pid = field.strike(Point.DECIDED, signal.SIGSTOP)
        field.home.await_shared(2, without=[ids[pid]])
        field.await_more(load, 100)
        # What was refused to it before it slept says nothing.
        (field.folder / f"refused.{pid}").unlink(missing_ok=True)
        field.wake(pid)
        eventually(lambda: field.refused(pid), PATIENCE_S)
    field.check(load)
