"""
The transport: what was confirmed arrives, in order, until it is acknowledged.
"""

import threading
import time
from concurrent.futures import Future

import pytest

from holdfast.brokers.care import COMPANY
from holdfast.runtime.errors import PublishFailed
from holdfast.runtime.ports import Consumer, Delivery
from tests import controls
from tests.contract.threads import begin, together
from tests.contract.transports import (
    QUIET_S,
    SECONDS_MAX,
    Carrier,
    bodies,
    collect,
    confirmed,
    drain,
    numbers,
)
from tests.support.processes import eventually

EVERY = range(controls.PARTITIONS)


# -- publishing


def test_what_was_confirmed_is_there(carrier: Carrier) -> None:
    """
    A message is in its partition's queue, and in no other, as soon as its future has ended.
    """
    publisher = carrier.publisher()
    confirmed([publisher.publish(2, b"one")])

    eventually(lambda: [0, 0, 1, 0] == carrier.transport.depths())
    assert [(2, b"one", 0)] == [
        (one.partition, one.body, one.redeliveries) for one in collect(carrier.consumer(*EVERY), 1)
    ]


def test_messages_keep_their_order(carrier: Carrier) -> None:
    """
    What one sender sends to a partition is handed out in the order sent, whatever goes to others meanwhile.
    """
    consumer, publisher = carrier.consumer(*EVERY), carrier.publisher()
    futures = [publisher.publish(partition, body) for body in numbers(500) for partition in EVERY]
    found = collect(consumer, 2_000)
    confirmed(futures)

    assert [numbers(500)] * len(EVERY) == [bodies(found, partition) for partition in EVERY]
    assert {0} == {one.redeliveries for one in found}
    eventually(lambda: [0] * len(EVERY) == [carrier.transport.depth(partition) for partition in EVERY])


def test_many_threads_share_a_publisher(carrier: Carrier) -> None:
    """
    Messages of many threads through one publisher all arrive once, each thread's in its order.
    """
    publisher = carrier.publisher()

    def send(number: int) -> None:
        confirmed([publisher.publish(1, b"%d %d" % (number, step)) for step in range(100)])

    together(6, send)
    found = bodies(collect(carrier.consumer(1), 600))

    for number in range(6):
        assert [b"%d %d" % (number, step) for step in range(100)] == [
            body for body in found if body.startswith(b"%d " % number)
        ]


@pytest.mark.parametrize("body", [b"", bytes(range(256)), "日本".encode(), b"\r\n$-1\r\n", b"x" * 1_400_000])
def test_any_bytes_are_carried(carrier: Carrier, body: bytes) -> None:
    """
    Empty, binary and large messages arrive byte for byte, with what is before and behind them.
    """
    carrier.send(0, [b"before", body, b"behind"])

    assert [b"before", body, b"behind"] == bodies(collect(carrier.consumer(0), 3))


def test_closing_a_publisher_sends_what_is_on_its_way(carrier: Carrier) -> None:
    """
    A publisher that is closed at once has sent everything that it was given, and takes nothing more.
    """
    publisher = carrier.transport.publisher()
    futures = [publisher.publish(3, body) for body in numbers(2_000)]
    publisher.close()

    assert [True] * 2_000 == [future.done() and future.exception() is None for future in futures]
    with pytest.raises(PublishFailed, match="closed"):
        publisher.publish(3, b"late")
    publisher.close()
    assert numbers(2_000) == bodies(collect(carrier.consumer(3), 2_000))


def test_publishers_are_closed_while_they_are_used(carrier: Carrier) -> None:
    """
    A publish at the moment of closing either is confirmed or fails; no sender is left waiting.
    """
    publisher = carrier.transport.publisher()

    def send(number: int) -> list[bytes]:
        if number == 0:
            publisher.close()
            return []
        sent: list[bytes] = []
        while True:
            body = b"%d %d" % (number, len(sent))
            try:
                confirmed([publisher.publish(0, body)])
            except PublishFailed:
                return sent
            sent.append(body)

    sent = {body for bodies_ in together(4, send) for body in bodies_}
    consumer = carrier.consumer(0)
    found = bodies(collect(consumer, len(sent)))
    while rest := consumer.take(1_000, QUIET_S):
        consumer.ack(rest)
        found += bodies(rest)

    assert sent <= set(found)
    assert len(set(found)) == len(found)


def test_a_sender_that_gave_up_harms_no_other(carrier: Carrier) -> None:
    """
    A future that its sender cancels, as an asyncio task's is, stops neither the message nor those behind it.
    """
    publisher = carrier.publisher()
    futures: list[Future[None]] = []
    for body in numbers(300):
        futures.append(publisher.publish(0, body))
        futures[-1].cancel()
    confirmed([publisher.publish(0, b"300")])

    assert numbers(301) == bodies(collect(carrier.consumer(0), 301))


# -- taking


@pytest.mark.parametrize("timeout_s", [0, 0.4])
def test_an_empty_take_ends_in_time(carrier: Carrier, timeout_s: float) -> None:
    """
    Where nothing comes an empty list does, after the timeout and not before.
    """
    consumer = carrier.consumer(0)
    consumer.take(10, 0)
    start = time.monotonic()

    assert [] == consumer.take(10, timeout_s)
    assert timeout_s <= time.monotonic() - start < timeout_s + SECONDS_MAX


def test_a_take_ends_when_something_comes(carrier: Carrier) -> None:
    """
    Who waits for a message gets it when it is sent, long before the timeout.
    """
    consumer = carrier.consumer(0)
    assert [] == consumer.take(10, QUIET_S)
    start = time.monotonic()
    taking = begin(lambda: consumer.take(10, SECONDS_MAX))
    carrier.send(0, [b"one"])

    assert [b"one"] == bodies(taking.result(SECONDS_MAX))
    assert time.monotonic() - start < SECONDS_MAX / 2


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_a_take_keeps_its_limit(carrier: Carrier, limit: int) -> None:
    """
    However much waits in however many partitions, no call returns more than it was asked for, and nothing is skipped.
    """
    for partition in EVERY:
        carrier.send(partition, numbers(20))
    consumer = carrier.consumer(*EVERY)
    found: list[Delivery] = []
    while len(found) < 80:
        taken = consumer.take(limit, SECONDS_MAX)
        assert 0 < len(taken) <= limit
        consumer.ack(taken)
        found += taken

    assert [numbers(20)] * len(EVERY) == [bodies(found, partition) for partition in EVERY]


def test_only_what_is_assigned_is_taken(carrier: Carrier) -> None:
    """
    A consumer gets messages of its partitions only; one without partitions gets none.
    """
    for partition in EVERY:
        carrier.send(partition, [b"%d" % partition])
    idle, some = carrier.consumer(), carrier.consumer(1, 3)

    assert [1, 3] == sorted(one.partition for one in collect(some, 2))
    assert [] == some.take(10, QUIET_S)
    assert [] == idle.take(10, 0)


def test_partitions_may_be_assigned_at_any_time(carrier: Carrier) -> None:
    """
    A consumer that waits already begins to get what it is assigned later; assigning twice gives nothing twice.
    """
    carrier.send(2, numbers(10))
    consumer = carrier.consumer(0)
    taking = begin(lambda: collect(consumer, 10))
    consumer.assign(2)
    consumer.assign(2)

    assert numbers(10) == bodies(taking.result(SECONDS_MAX))
    assert [] == consumer.take(10, QUIET_S)


def test_consumers_share_the_partitions(carrier: Carrier) -> None:
    """
    Consumers of different partitions work at once, and each message is handed out once.
    """
    consumers = [carrier.consumer(partition) for partition in EVERY]
    taking = [begin(lambda consumer=consumer: collect(consumer, 100)) for consumer in consumers]  # type: ignore[misc]  # mypy cannot type a default in a lambda
    publisher = carrier.publisher()
    confirmed([publisher.publish(partition, body) for body in numbers(100) for partition in EVERY])

    assert [numbers(100)] * len(EVERY) == [bodies(one.result(SECONDS_MAX)) for one in taking]


# -- acknowledging


def test_what_is_acknowledged_does_not_come_back(carrier: Carrier) -> None:
    """
    In any order and any pieces, what was acknowledged is gone for good, and what was not comes back in order.
    """
    carrier.send(0, numbers(12))
    first = carrier.consumer(0)
    taken = collect(first, 12, ack=False)
    for piece in ([3, 1], [2], [11], [5, 9, 7], [6, 8]):
        first.ack([taken[number] for number in piece])
    first.ack([])
    eventually(lambda: first.outstanding(0) == 3)
    first.close()

    assert [b"0", b"4", b"10"] == bodies(collect(carrier.consumer(0), 3))


def test_acknowledging_twice_is_harmless(carrier: Carrier) -> None:
    """
    Neither a second acknowledgement nor one after closing does anything to anybody.
    """
    carrier.send(0, numbers(3))
    consumer = carrier.consumer(0)
    taken = collect(consumer, 3, ack=False)
    consumer.ack(taken[:2])
    consumer.ack(taken[:2])
    carrier.send(0, numbers(3, 5))
    taken += collect(consumer, 2, ack=False)
    consumer.ack(taken[:3])
    eventually(lambda: consumer.outstanding(0) == 2)
    consumer.close()
    consumer.ack(taken)
    consumer.close()

    assert numbers(3, 5) == bodies(collect(carrier.consumer(0), 2))


def test_what_is_outstanding_is_counted(carrier: Carrier) -> None:
    """
    A consumer knows how many messages of each partition it was handed and is not done with.
    """
    carrier.send(0, numbers(5))
    carrier.send(1, numbers(3))
    consumer = carrier.consumer(0, 1)
    taken = collect(consumer, 8, ack=False)
    eventually(lambda: [5, 3, 0] == [consumer.outstanding(partition) for partition in (0, 1, 2)])
    if carrier.features.counts_taken:
        assert [5, 3, 0, 0] == [carrier.transport.depth(partition) for partition in EVERY]

    consumer.ack([one for one in taken if one.partition == 0][:2])
    eventually(lambda: [3, 3] == [consumer.outstanding(partition) for partition in (0, 1)])

    consumer.ack(taken)
    eventually(lambda: [0, 0] == [consumer.outstanding(partition) for partition in (0, 1)])


# -- coming back


def test_what_was_not_acknowledged_comes_back_first(carrier: Carrier) -> None:
    """
    After a consumer closed, the next one gets what was left in its order, before all that is newer, and marked.
    """
    carrier.send(0, numbers(30))
    first = carrier.consumer(0)
    taken = collect(first, 30, ack=False)
    first.ack(taken[:10])
    eventually(lambda: first.outstanding(0) == 20)
    first.close()
    carrier.send(0, numbers(30, 80))
    found = collect(carrier.consumer(0), 70)

    assert numbers(10, 80) == bodies(found)
    assert [True] * 20 == [one.redeliveries >= 1 for one in found[:20]]


def test_what_came_during_the_work_does_not_overtake(carrier: Carrier) -> None:
    """
    Messages that arrived while others were being worked on stay behind them when the worker dies.
    """
    publisher = carrier.publisher()
    first = carrier.consumer(0)
    confirmed([publisher.publish(0, body) for body in numbers(20)])
    collect(first, 20, ack=False)
    confirmed([publisher.publish(0, body) for body in numbers(20, 400)])
    collect(first, 5, ack=False)
    first.close()

    assert numbers(400) == bodies(collect(carrier.consumer(0), 400))


def test_every_crash_counts(carrier: Carrier) -> None:
    """
    However many consumers come and go without an end, nothing is lost or overtaken, and the first knows how often.
    """
    carrier.send(0, numbers(30))
    for crashes in range(4):
        consumer = carrier.consumer(0)
        taken = collect(consumer, 1, ack=False, limit=1)
        consumer.close()
        assert [(b"0", crashes)] == [(one.body, one.redeliveries) for one in taken]

    assert numbers(30) == bodies(collect(carrier.consumer(0), 30))


# -- handing over


def test_the_next_consumer_gets_only_the_rest(carrier: Carrier) -> None:
    """
    A consumer that was told to stop finishes what it took; the next one begins right behind it.
    """
    carrier.send(0, numbers(400))
    first, second = carrier.consumer(0), carrier.consumer()
    before = collect(first, 100) + collect(first, 10, ack=False)
    first.revoke(0)
    first.ack(before[100:])
    before += drain(first, 0)
    second.assign(0)
    after = collect(second, 400 - len(before))

    assert numbers(400) == bodies(before) + bodies(after)
    assert [] == first.take(10, 0)


def test_a_handover_under_load_keeps_the_order(carrier: Carrier) -> None:
    """
    While messages keep coming a partition goes from one consumer to the next and back: each is handed out once, in order.
    """
    publisher = carrier.publisher()
    futures: list[Future[None]] = []
    consumers = [carrier.consumer(), carrier.consumer()]
    found: list[Delivery] = []

    def send() -> None:
        for body in numbers(600):
            futures.append(publisher.publish(0, body))
            if len(futures) % 50 == 0:
                futures[-1].result(SECONDS_MAX)

    sending = begin(send)
    turn = 0
    while len(found) < 600:
        consumer = consumers[turn % 2]
        turn += 1
        consumer.assign(0)
        for _ in range(3):
            taken = consumer.take(100, 1)
            consumer.ack(taken)
            found += taken
        found += drain(consumer, 0)
        assert turn < 500, f"only {len(found)} messages came"
    sending.result(SECONDS_MAX)
    confirmed(futures)

    assert numbers(600) == bodies(found)


def test_a_handover_while_others_take_keeps_the_order(carrier: Carrier) -> None:
    """
    Consumers whose threads take all the time, as workers do, hand a partition to one another without overlap or loss.
    """
    consumers = [carrier.consumer(), carrier.consumer()]
    found: list[bytes] = []
    stop = threading.Event()

    def work(consumer: Consumer) -> None:
        while not stop.is_set():
            taken = consumer.take(50, 0.2)
            found.extend(bodies(taken))
            consumer.ack(taken)

    working = [begin(lambda consumer=consumer: work(consumer)) for consumer in consumers]  # type: ignore[misc]  # mypy cannot type a default in a lambda
    publisher = carrier.publisher()
    futures: list[Future[None]] = []
    for turn in range(8):
        owner = consumers[turn % 2]
        owner.assign(0)
        for body in numbers(turn * 100, turn * 100 + 100):
            futures.append(publisher.publish(0, body))
            if body.endswith(b"50"):
                futures[-1].result(SECONDS_MAX)
                eventually(lambda turn=turn: len(found) > turn * 100)  # type: ignore[misc]  # mypy cannot type a default in a lambda
        owner.revoke(0)
        eventually(lambda owner=owner: owner.outstanding(0) == 0)  # type: ignore[misc]  # mypy cannot type a default in a lambda
    consumers[0].assign(0)
    eventually(lambda: len(found) >= 800)
    stop.set()
    confirmed(futures)
    for one in working:
        one.result(SECONDS_MAX)

    assert numbers(800) == found


def test_many_partitions_are_handed_over_at_once(carrier: Carrier) -> None:
    """
    All partitions of a consumer that leaves are finished and taken on, each in order.
    """
    publisher = carrier.publisher()
    confirmed([publisher.publish(partition, body) for body in numbers(200) for partition in EVERY])
    first, second = carrier.consumer(*EVERY), carrier.consumer()
    found = collect(first, 40)
    for partition in EVERY:
        first.revoke(partition)
    for partition in EVERY:
        found += drain(first, partition)
        second.assign(partition)
    found += collect(second, 800 - len(found))

    assert [numbers(200)] * len(EVERY) == [bodies(found, partition) for partition in EVERY]


@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_given_back_comes_first(carrier: Carrier, at_once: bool) -> None:
    """
    What was taken of a revoked partition and cannot be done goes to the next consumer, in order and before the rest.
    """
    carrier.send(0, numbers(60))
    first, second = carrier.consumer(0), carrier.consumer()
    taken = collect(first, 25, ack=False)
    first.revoke(0)
    first.ack(taken[:10])
    if at_once:
        first.give_back(taken[10:])
    else:
        first.give_back(taken[10:15])
        first.give_back([])
        first.give_back(taken[15:])
    while first.outstanding(0):
        first.give_back(first.take(1_000, 0))
    carrier.send(0, numbers(60, 70))
    second.assign(0)
    found = collect(second, 60)

    assert numbers(10, 70) == bodies(found)
    assert [True] * 15 == [one.redeliveries >= 1 for one in found[:15]]


def test_a_partition_can_come_back_to_its_consumer(carrier: Carrier) -> None:
    """
    A consumer that gave a partition up and gets it again goes on where it was: nothing in its hands is handed out twice.
    """
    carrier.send(0, numbers(20))
    consumer = carrier.consumer(0)
    taken = collect(consumer, 5, ack=False)
    consumer.revoke(0)
    consumer.assign(0)
    carrier.send(0, numbers(20, 25))
    consumer.ack(taken)
    taken += collect(consumer, 20)

    assert numbers(25) == bodies(taken)
    eventually(lambda: consumer.outstanding(0) == 0)
    assert [] == consumer.take(10, QUIET_S)


def test_revoking_ends_however_early_it_comes(carrier: Carrier) -> None:
    """
    A partition that is revoked the moment that its first messages come is drained like any other.
    """
    found: list[Delivery] = []
    for step in range(3):
        for partition in EVERY:
            carrier.send(partition, numbers(step * 40, step * 40 + 40))
        consumer = carrier.consumer(*EVERY)
        found += collect(consumer, 1)
        for partition in EVERY:
            consumer.revoke(partition)
        for partition in EVERY:
            found += drain(consumer, partition)
        consumer.close()
    found += collect(carrier.consumer(*EVERY), 480 - len(found))

    assert [numbers(120)] * len(EVERY) == [bodies(found, partition) for partition in EVERY]


def test_revoking_what_was_never_assigned_is_harmless(carrier: Carrier) -> None:
    """
    A consumer that has not a partition does not mind giving it up.
    """
    carrier.send(1, [b"one"])
    consumer = carrier.consumer(1)
    consumer.revoke(0)
    consumer.revoke(0)

    assert [b"one"] == bodies(collect(consumer, 1))
    eventually(lambda: consumer.outstanding(0) == 0)


def test_nobody_overtakes_a_living_consumer(carrier: Carrier) -> None:
    """
    A consumer that is assigned a partition too early gets nothing of it until the other gave it up and finished.
    """
    if not carrier.features.exclusive:
        pytest.skip("whoever claims a partition in the membership has this transport's partition for himself")
    carrier.send(0, numbers(10))
    first, second = carrier.consumer(0), carrier.consumer()
    taken = collect(first, 10, ack=False)
    second.assign(0)
    carrier.send(0, numbers(10, 20))

    assert [] == second.take(10, QUIET_S)

    taken += collect(first, 10, ack=False)
    first.revoke(0)
    first.ack(taken)
    taken += drain(first, 0)
    carrier.send(0, numbers(20, 30))

    assert numbers(20) == bodies(taken)
    assert numbers(20, 30) == bodies(collect(second, 10))


def test_a_dead_consumer_does_not_hold_up_the_next(carrier: Carrier) -> None:
    """
    A consumer that waits for another's end gets all that was left as soon as the other is closed: first what that had.
    """
    carrier.send(0, numbers(60))
    first = carrier.consumer(0)
    collect(first, 10, ack=False)
    second = carrier.consumer()
    if carrier.features.exclusive:
        second.assign(0)
        assert [] == second.take(10, QUIET_S)
        first.close()
    else:
        first.close()
        second.assign(0)

    assert numbers(60) == bodies(collect(second, 60))


# -- care


def test_what_kills_its_workers_dies_alone(carrier: Carrier) -> None:
    """
    When worker after worker dies, fewer and fewer messages are handed out together, at last one; then all is fast again.
    """
    assert (None, 32, 8) == COMPANY
    carrier.send(0, numbers(60))
    sizes = []
    for crashes in range(5):
        consumer = carrier.consumer(0)
        taken = consumer.take(1_000, SECONDS_MAX) if crashes else collect(consumer, 60, ack=False)
        consumer.close()
        assert numbers(len(taken)) == bodies(taken)
        assert crashes == taken[0].redeliveries
        sizes.append(len(taken))
    consumer = carrier.consumer(*EVERY)
    rest = collect(consumer, 60)
    sent = 60

    def fast() -> bool:
        nonlocal sent
        batches: list[list[Delivery]] = []
        carrier.send(0, numbers(sent, sent + 100))
        if carrier.features.fetches_ahead:
            eventually(lambda: consumer.outstanding(0) > COMPANY[1])
        while sum(len(batch) for batch in batches) < 100:
            batches.append(consumer.take(1_000, SECONDS_MAX))
            consumer.ack(batches[-1])
        rest.extend(one for batch in batches for one in batch)
        sent += 100
        return max(len(batch) for batch in batches) > COMPANY[1]

    eventually(fast)

    assert [60, 32, 8, 1, 1] == sizes
    assert numbers(sent) == bodies(rest)


def test_who_dies_alone_has_no_company_from_elsewhere(carrier: Carrier) -> None:
    """
    What was handed out again and again comes alone over all partitions of a consumer, before or after what is fresh.
    """
    for partition in EVERY:
        carrier.send(partition, numbers(4))
    for _ in COMPANY:
        consumer = carrier.consumer(0, 1)
        collect(consumer, 8, ack=False)
        consumer.close()
    consumer = carrier.consumer(*EVERY)
    batches: list[list[Delivery]] = []
    while sum(len(batch) for batch in batches) < 16:
        batches.append(consumer.take(1_000, SECONDS_MAX))
        consumer.ack(batches[-1])
    found = [one for batch in batches for one in batch]

    assert [numbers(4)] * len(EVERY) == [bodies(found, partition) for partition in EVERY]
    assert {1} == {len(batch) for batch in batches if max(one.redeliveries for one in batch) >= len(COMPANY)}
    assert [0, 1] == sorted({one.partition for one in found if one.redeliveries >= len(COMPANY)})


# -- lines that break


def test_a_cut_loses_and_reorders_nothing(carrier: Carrier) -> None:
    """
    While connections are cut again and again every message that was confirmed arrives, each first time in order.
    """
    if carrier.proxy is None:
        pytest.skip("there is no line")
    proxy, publisher, consumer = carrier.proxy, carrier.publisher(), carrier.consumer(0)
    sent: list[bytes] = []
    found: list[bytes] = []

    def send() -> None:
        for body in numbers(80):
            while True:
                try:
                    confirmed([publisher.publish(0, body)])
                    break
                except PublishFailed:
                    continue
            sent.append(body)
            if len(sent) % 30 == 15:
                proxy.cut()

    sending = begin(send)
    until = time.monotonic() + 2 * SECONDS_MAX
    while len(set(found)) < 80 and time.monotonic() < until:
        try:
            taken = consumer.take(100, 0.5)
        except Exception:
            continue
        consumer.ack(taken)
        found += bodies(taken)
    sending.result(SECONDS_MAX)
    firsts = list(dict.fromkeys(found))

    assert numbers(80) == sent
    assert numbers(80) == firsts


def test_a_consumer_comes_back(carrier: Carrier) -> None:
    """
    After a cut a consumer goes on by itself: what it had not acknowledged or not yet seen comes in order, then the rest.
    """
    if carrier.proxy is None:
        pytest.skip("there is no line")
    carrier.send(0, numbers(30))
    consumer = carrier.consumer(0)
    taken = collect(consumer, 20, ack=False)
    consumer.ack(taken[:10])
    eventually(lambda: carrier.transport.depth(0) <= 20 and consumer.outstanding(0) <= 20)
    carrier.proxy.cut()
    found: list[Delivery] = []

    def took() -> bool:
        try:
            found.extend(consumer.take(100, 0.5))
        except Exception:
            return False
        consumer.ack(taken)
        consumer.ack(found)
        return b"39" in bodies(found)

    carrier.send(0, numbers(30, 40))
    eventually(took)
    firsts = list(dict.fromkeys(bodies(taken) + bodies(found)))

    assert numbers(40) == firsts
    eventually(lambda: consumer.outstanding(0) == 0 and carrier.transport.depth(0) == 0)
