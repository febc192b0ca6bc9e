"""
The doorman: what is kept back at the door, and what is said of it.
"""

import pytest

from holdfast.actors.doorman import DoorBatch, Doorman
from holdfast.brokers.memory import MemoryDeadLetters, MemoryPublisher, MemoryServer, MemoryTransport
from holdfast.runtime.app import App
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.ports import Delivery
from tests import controls


def test_it_is_said_once_that_messages_are_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    """
    Behind one of an unknown type all wait, to keep their order: a warning names the type and for how long, and is not
    given again at every try.
    """
    server = MemoryServer(controls.PARTITIONS)
    doorman = Doorman(
        App(workflows=[controls.Order]),
        MemoryTransport(server).consumer("m-1"),
        MemoryPublisher(server),
        MemoryDeadLetters(server),
        ManualClock(controls.NOW),
        lambda: None,
        queues=(-1, -2),
        partitions=controls.PARTITIONS,
        payload_bytes_max=1_000_000,
        batch_max=10,
        patience_s=120.0,
    )
    bodies = [b'{"type": "Nonsense"}', b'{"type": "PlaceOrder", "order_id": "o-1", "amount": 1}']
    batch = DoorBatch([Delivery(-1, body, 0, tag) for tag, body in enumerate(bodies)])

    for _ in range(3):
        doorman.work(batch)
        batch = DoorBatch(batch.deferred)

    assert bodies == [delivery.body for delivery in batch.deliveries]
    (record,) = caplog.records
    assert record.message == "foreign messages are kept back behind one that this process cannot read"
    assert "Nonsense" in record.__dict__["error"]
    assert record.__dict__["for_s"] == 120.0
