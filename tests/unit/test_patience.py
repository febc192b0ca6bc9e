"""
Patience: with a type that a deploy may bring, and none with a queue full of garbage.
"""

import pytest

from holdfast.runtime.patience import WAITED_FOR_MAX, Patience
from tests import controls


class Watch:
    """
    A clock that is moved by hand.
    """

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    """
    What patience goes by.
    """
    return Watch()


def ran_out(one: Patience, name: str, *, many: bool = False) -> bool:
    """
    Look at a message that just came in.
    """
    one.look()
    return one.ran_out(controls.delivery(), name, many=many)


def test_a_type_is_waited_for_from_when_it_was_first_met(watch: Watch) -> None:
    """
    However many messages of it come, a queue stands still for it once and not for each of them.
    """
    one = Patience(30, watch)

    assert not ran_out(one, "Refund")
    watch.now += 29
    assert not ran_out(one, "Refund")
    watch.now += 1
    assert ran_out(one, "Refund")
    assert not ran_out(one, "Another")


def test_the_next_deploy_is_waited_for_again(watch: Watch) -> None:
    """
    When nothing of it came for a while, patience begins anew.
    """
    one = Patience(30, watch)
    ran_out(one, "Refund")
    watch.now += 30
    assert ran_out(one, "Refund")

    watch.now += 31
    assert not ran_out(one, "Refund")


def test_nobody_waits_for_more_types_than_a_deploy_brings(watch: Watch) -> None:
    """
    Of a flood of made-up names only the first are waited for; later ones are, when these are forgotten.
    """
    one = Patience(30, watch)

    assert [False] * WAITED_FOR_MAX == [ran_out(one, str(number)) for number in range(WAITED_FOR_MAX)]
    assert ran_out(one, "one more")
    watch.now += 31
    assert not ran_out(one, "one more")


def test_instances_are_waited_for_however_many(watch: Watch) -> None:
    """
    A deploy may make any number of logs unreadable for a while.
    """
    one = Patience(30, watch)

    assert not any(ran_out(one, str(number), many=True) for number in range(3 * WAITED_FOR_MAX))


def test_without_patience_the_second_look_is_the_last(watch: Watch) -> None:
    """
    What is first met in one look has time until the next.
    """
    one = Patience(0, watch)
    delivery = controls.delivery()
    one.look()
    assert not one.ran_out(delivery, "Refund")
    assert not one.ran_out(controls.delivery(), "Refund")
    delivery.deferred_since = watch.now
    watch.now += 1
    one.look()

    assert one.ran_out(delivery, "Refund")


def test_that_a_waiting_begins_is_known(watch: Watch) -> None:
    """
    It begins with a name that is not waited for, or not any more; where names crowd each other out, with a message that
    has not waited.
    """
    one = Patience(30, watch)

    assert one.begins(controls.delivery(), "Refund")
    ran_out(one, "Refund")
    assert not one.begins(controls.delivery(), "Refund")
    watch.now += 31
    one.look()
    assert one.begins(controls.delivery(), "Refund")
    waited = controls.delivery()
    waited.deferred_since = watch.now
    assert one.begins(waited, "Refund")
    for number in range(WAITED_FOR_MAX):
        ran_out(one, f"order/o-{number}", many=True)
    assert not one.begins(waited, "Refund")
    assert one.begins(controls.delivery(), "Refund")
