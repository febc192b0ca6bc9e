"""
Mailboxes: a batch is sorted by instance, in order, and read once.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.runtime.codec import encode
from holdfast.runtime.errors import KeyRefused, Undecodable
from holdfast.runtime.mailbox import sort
from holdfast.runtime.ports import Delivery
from tests import controls
from tests.controls import PARTITIONS, PlaceOrder

APP = controls.app()


def letters(deliveries: list[Delivery]) -> dict[str, list[tuple[int, str]]]:
    """
    By instance: the place in the batch and the command id of each of its letters.
    """
    return {
        str(box.ref): [(letter.index, letter.envelope.id) for letter in box.letters]
        for box in sort(APP, deliveries, PARTITIONS).mailboxes
    }


def test_every_command_is_in_its_instances_mailbox_in_order() -> None:
    """
    Mailboxes come in the order of their first letter.
    """
    batch = [
        controls.delivery(PlaceOrder("o-2"), command_id="c-1"),
        controls.delivery(PlaceOrder("o-1"), command_id="c-2"),
        controls.delivery(controls.Add("o-1"), command_id="c-3"),
        controls.delivery(PlaceOrder("o-2"), command_id="c-4"),
    ]

    expected = {
        "order/o-2": [(0, "c-1"), (3, "c-4")],
        "order/o-1": [(1, "c-2")],
        "counter/o-1": [(2, "c-3")],
    }
    found = letters(batch)
    assert list(expected.items()) == list(found.items())


def test_a_letter_carries_its_command() -> None:
    """
    Decoded once, here.
    """
    ((letter,),) = [
        box.letters for box in sort(APP, [controls.delivery(PlaceOrder("o-1", 5))], PARTITIONS).mailboxes
    ]

    assert (PlaceOrder("o-1", 5), None, None) == (letter.command, letter.stalled, letter.broken)


@pytest.mark.parametrize("key", controls.KEYS)
def test_any_key_finds_its_mailbox(key: str) -> None:
    """
    Whatever characters are in it.
    """
    assert {f"order/{key}": [(0, "c-1")]} == letters([controls.delivery(PlaceOrder(key))])


def test_a_type_that_is_not_known_yet_is_a_letter_that_waits() -> None:
    """
    It keeps its place, and says why it waits.
    """
    unknown = controls.delivery(payload=encode({"type": "ShipOrder"}))

    (box,) = sort(APP, [controls.delivery(command_id="c-0"), unknown], PARTITIONS).mailboxes

    assert [None, "Order has no message 'ShipOrder'"] == [
        letter.stalled and str(letter.stalled)[:32] for letter in box.letters
    ]


def test_a_workflow_that_is_not_known_yet_is_a_mailbox_that_waits() -> None:
    """
    All of its letters do.
    """
    batch = [controls.delivery(workflow="unheard", key="x", command_id=f"c-{n}") for n in range(3)]

    (box,) = sort(APP, batch, PARTITIONS).mailboxes

    assert (None, 3) == (box.definition, sum(letter.stalled is not None for letter in box.letters))


def test_a_payload_that_does_not_fit_is_a_broken_letter() -> None:
    """
    It is known whose it is, so it keeps its place among them.
    """
    ((letter,),) = [
        box.letters for box in sort(APP, [controls.delivery(payload=b"\xc1")], PARTITIONS).mailboxes
    ]

    assert isinstance(letter.broken, Undecodable)


def test_what_cannot_be_read_is_set_aside_with_its_reason() -> None:
    """
    It has no instance to wait behind.
    """
    stray = controls.delivery()
    stray.partition = (stray.partition + 1) % PARTITIONS
    batch = [
        Delivery(0, b"garbage", 0, None),
        controls.delivery(),
        stray,
        controls.delivery(key=""),
        controls.delivery(command_id=""),
    ]

    found = sort(APP, batch, PARTITIONS)

    assert [(0, Undecodable), (2, Undecodable), (3, KeyRefused), (4, Undecodable)] == [
        (index, type(error)) for index, _, error in found.unreadable
    ]
    assert [batch[0], batch[2], batch[3], batch[4]] == [delivery for _, delivery, _ in found.unreadable]
    assert 1 == len(found.mailboxes)


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_garbage_is_set_aside_and_nothing_worse(bodies: list[bytes]) -> None:
    """
    Whatever the bytes, sorting comes to an end, and no delivery is lost.
    """
    batch = [Delivery(0, body, 0, None) for body in bodies]

    found = sort(APP, batch, PARTITIONS)

    assert len(bodies) == len(found.unreadable) + sum(len(box.letters) for box in found.mailboxes)
