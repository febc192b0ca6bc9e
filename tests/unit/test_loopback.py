"""
The short way of a command within a process: what goes it, what ends its future, and that nothing is lost on it.
"""

import threading
from concurrent.futures import Future

import pytest

from holdfast.brokers.memory import MemoryConsumer, MemoryPublisher, MemoryServer
from holdfast.runtime.errors import PublishFailed, Unavailable
from holdfast.runtime.loopback import INBOX_MAX, Loopback, LoopbackConsumer
from holdfast.runtime.ports import Delivery

PARTITIONS = 4


class Office:
    """
    A process with a publisher and a consumer that serves partition 1, and the next process, which waits for its turn.
    """

    def __init__(self) -> None:
        self.server = MemoryServer(PARTITIONS)
        self.loopback = Loopback()
        self.publisher = self.loopback.publisher(MemoryPublisher(self.server))
        self.consumer = self.loopback.consumer(MemoryConsumer(self.server))
        self.consumer.assign(1)
        self.next = Loopback().consumer(MemoryConsumer(self.server))

    def take(self, consumer: LoopbackConsumer | None = None, limit: int = 100) -> list[Delivery]:
        return (consumer or self.consumer).take(limit, 0)

    @property
    def queued(self) -> list[bytes]:
        """
        What the queue of the partition has that nobody took.
        """
        return [one.body for one in self.server.queues[1]]


@pytest.fixture
def office() -> Office:
    return Office()


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [one.body for one in deliveries]


def ended(future: Future[None]) -> bool:
    return future.done() and future.exception() is None


def test_what_is_handed_on_is_taken_here_and_its_future_ends_with_the_acknowledgement(office: Office) -> None:
    future = office.publisher.hand_on(1, b"a")
    taken = office.take()
    assert bodies(taken) == [b"a"]
    assert taken[0].redeliveries == 0
    assert not future.done()
    assert office.consumer.outstanding(1) == 1
    assert not office.queued

    office.consumer.ack(taken)
    assert ended(future)
    assert office.consumer.outstanding(1) == 0


def test_what_is_published_goes_through_the_queue(office: Office) -> None:
    assert ended(office.publisher.publish(1, b"a"))
    assert office.queued == [b"a"]


def test_what_nobody_takes_here_goes_through_the_queue(office: Office) -> None:
    assert ended(office.publisher.hand_on(2, b"a"))
    assert bodies(list(office.server.queues[2])) == [b"a"]


def test_the_inbox_comes_before_the_queue_and_the_limit_is_kept(office: Office) -> None:
    office.publisher.publish(1, b"queued")
    for body in (b"a", b"b"):
        office.publisher.hand_on(1, body)
    taken = office.take(limit=1)
    assert bodies(taken) == [b"a"]
    office.consumer.ack(taken)
    assert bodies(office.take(limit=2)) == [b"b", b"queued"]


def test_a_take_that_waits_is_woken(office: Office) -> None:
    taken: list[Delivery] = []
    waiting = threading.Thread(target=lambda: taken.extend(office.consumer.take(10, 60)))
    waiting.start()
    office.publisher.hand_on(1, b"a")
    waiting.join(50)
    assert bodies(taken) == [b"a"]


def test_queues_that_fail_hold_up_nothing_of_the_inbox(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What was taken out of it is handed over; the failure is told when there is nothing else.
    """

    def take(_limit: int, _timeout_s: float) -> list[Delivery]:
        raise Unavailable

    monkeypatch.setattr(office.consumer._inner, "take", take)
    future = office.publisher.hand_on(1, b"a")
    taken = office.take()
    assert bodies(taken) == [b"a"]
    office.consumer.ack(taken)
    assert ended(future)
    assert office.consumer.outstanding(1) == 0
    with pytest.raises(Unavailable):
        office.take()


def test_what_is_put_off_goes_into_the_queue_as_well_once(office: Office) -> None:
    """
    The next take says that the batch before was settled: what was not acknowledged waits for something.
    """
    future = office.publisher.hand_on(1, b"a")
    taken = office.take()
    assert bodies(office.take()) == [b"a"]  # the copy
    assert ended(future)
    office.take()
    assert not office.queued

    office.consumer.ack(taken)
    assert office.consumer.outstanding(1) == 1  # the copy
    assert ended(future)


def test_a_revoked_partition_leaves_everything_to_the_next_in_order(office: Office) -> None:
    futures = [office.publisher.hand_on(1, body) for body in (b"a", b"b", b"c")]
    taken = office.take(limit=1)
    office.consumer.revoke(1)
    assert all(map(ended, futures))
    assert office.consumer.outstanding(1) == 1
    office.consumer.ack(taken)
    assert office.consumer.outstanding(1) == 0

    assert ended(office.publisher.hand_on(1, b"d"))
    office.next.assign(1)
    # What was worked on is there once more: whoever decides it knows it by its id.
    assert bodies(office.take(office.next)) == [b"a", b"b", b"c", b"d"]


def test_what_is_given_back_goes_into_the_queue(office: Office) -> None:
    future = office.publisher.hand_on(1, b"a")
    office.publisher.publish(1, b"queued")
    taken = office.take()
    office.consumer.give_back(taken)
    assert ended(future)
    assert office.consumer.outstanding(1) == 0
    assert sorted(office.queued) == [b"a", b"queued"]


def test_what_is_given_back_after_the_revocation_is_not_copied_twice(office: Office) -> None:
    office.publisher.hand_on(1, b"a")
    taken = office.take()
    office.consumer.revoke(1)
    office.consumer.give_back(taken)
    assert office.queued == [b"a"]


def test_a_full_inbox_leaves_the_rest_to_the_queue(office: Office) -> None:
    for number in range(INBOX_MAX + 2):
        office.publisher.hand_on(1, b"%d" % number)
    assert office.queued == [b"%d" % INBOX_MAX, b"%d" % (INBOX_MAX + 1)]


def test_the_end_of_a_worker_fails_what_was_not_decided(office: Office) -> None:
    """
    Its sender keeps what it stands for.
    """
    futures = [office.publisher.hand_on(1, body) for body in (b"a", b"b")]
    (taken,) = office.take(limit=1)
    office.consumer.close()
    # Whoever worked on it meanwhile may say so.
    office.consumer.ack([taken])
    for future in futures:
        with pytest.raises(PublishFailed, match="before the command was decided"):
            future.result(0)
    assert not office.queued
    assert ended(office.publisher.hand_on(1, b"c"))
    assert office.queued == [b"c"]


def test_a_copy_that_fails_is_the_senders_to_know(office: Office) -> None:
    future = office.publisher.hand_on(1, b"a")
    office.publisher.close()
    office.consumer.revoke(1)
    with pytest.raises(PublishFailed, match="closed"):
        future.result(0)


def test_two_consumers_take_each_what_is_theirs(office: Office) -> None:
    other = office.loopback.consumer(MemoryConsumer(office.server))
    other.assign(2)
    office.publisher.hand_on(1, b"one")
    office.publisher.hand_on(2, b"two")
    assert bodies(office.take()) == [b"one"]
    assert bodies(office.take(other)) == [b"two"]
    # A partition that moved from one to the other is not lost with the one before.
    other.assign(1)
    office.consumer.revoke(1)
    office.publisher.hand_on(1, b"three")
    assert b"three" in bodies(office.take(other))
