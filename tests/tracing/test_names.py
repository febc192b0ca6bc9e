"""
One list of names, in the code, in the docs, and in what is really emitted.
"""

import re
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from holdfast.actors.tracing import names
from holdfast.actors.tracing.doorman import TracedDoorman
from holdfast.actors.tracing.tracing import Tracing
from holdfast.brokers.memory import MemoryDeadLetters, MemoryServer
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.ports import Consumer, Delivery, Publisher
from tests.support.processes import eventually
from tests.tracing import shop
from tests.tracing.shop import Place, Poison, Stumble
from tests.tracing.stage import ALL, Stage, id_of, kinds, stage, value

DOCS = Path(__file__).parents[2] / "docs" / "tracing.md"


class Door:
    """
    A consumer and a publisher of foreign messages that are not there.
    """

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self.deliveries = list(deliveries)
        self.published: list[tuple[int, bytes]] = []

    def take(self, limit: int, timeout_s: float) -> list[Delivery]:
        taken, self.deliveries = self.deliveries, []
        return taken

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        pass

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        pass

    def publish(self, partition: int, body: bytes) -> Future[None]:
        self.published.append((partition, body))
        future: Future[None] = Future()
        future.set_result(None)
        return future


PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def foreign(it: Stage) -> None:
    """
    Have a message come in through the ingress queue.
    """
    body = b'{"type": "Refuse", "order": "o-1"}'
    door = Door([Delivery(-1, body, 0, None, attributes={"traceparent": PARENT})])
    settings = it.client.settings
    doorman = TracedDoorman(
        shop.app,
        cast("Consumer", door),
        cast("Publisher", door),
        MemoryDeadLetters(MemoryServer(4)),
        ManualClock(datetime(2026, 1, 1, tzinfo=UTC)),
        lambda: None,
        queues=(-1, -2),
        partitions=4,
        payload_bytes_max=1_000_000,
        batch_max=10,
        patience_s=1.0,
        tracing=Tracing(settings, it.provider),
    )
    batch = doorman.take(0)
    assert batch is not None
    doorman.work(batch)
    doorman.settle(batch)
    (span,) = it.all(names.FORWARD)
    assert span.parent is not None
    assert int("b" * 16, 16) == span.parent.span_id
    ((_, sent),) = door.published
    assert f"{id_of(span):016x}".encode() in sent


@pytest.fixture(scope="module", name="spans")
def _spans() -> Sequence[ReadableSpan]:
    """
    All that a shop can do.
    """
    with stage(shop.ticking(), trace_payloads=True) as it:
        it.client.execute(Place("o-1", remind_ms=20))
        it.await_state("o-1", "shipped", "remind")
        it.client.send(Stumble("o-2"))
        it.client.send(Poison("o-3"))
        foreign(it)
        eventually(lambda: ALL <= kinds(it.spans))
        eventually(lambda: len(it.all(names.BURY)) >= 3)
        # What buried something may end after that.
        eventually(lambda: set(names.ATTRIBUTES) <= attributes_of(ours_of(it.spans)))
        return it.spans


def ours_of(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    return [
        span for span in spans if span.instrumentation_scope and span.instrumentation_scope.name == "holdfast"
    ]


def attributes_of(spans: Sequence[ReadableSpan]) -> set[str]:
    return {name for span in spans for name in span.attributes or ()}


def table() -> list[tuple[str, str]]:
    """
    Return the first two columns of all tables in the docs whose first is a name.
    """
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", DOCS.read_text(), re.MULTILINE)
    return [(first, second) for first, second in rows]


def test_the_docs_list_every_span_and_no_other() -> None:
    """
    With its kind, in the order of the code.
    """
    listed = [row for row in table() if " " in row[0]]

    assert [(kind.name(kind.destination), kind.kind.name.lower()) for kind in names.SPANS] == listed


def test_the_docs_list_every_attribute_and_no_other() -> None:
    """
    In the order of the code.
    """
    assert list(names.ATTRIBUTES) == [row[0] for row in table() if " " not in row[0]]


def test_every_constant_is_in_the_lists() -> None:
    """
    No name can be used that is not listed.
    """
    own: dict[str, Any] = {name: found for name, found in vars(names).items() if name.isupper()}
    attributes = {
        found for name, found in own.items() if isinstance(found, str) and not name.startswith("EXCEPTION")
    }
    spans = {found for found in own.values() if isinstance(found, names.Kind)}

    assert (set(names.ATTRIBUTES), set(names.SPANS)) == (attributes, spans)


def test_every_name_is_emitted_and_no_other(spans: Sequence[ReadableSpan]) -> None:
    """
    By one shop in one go.
    """
    ours = ours_of(spans)

    assert {kind.operation for kind in names.SPANS} == kinds(ours)
    assert set(names.ATTRIBUTES) == attributes_of(ours)


def test_span_names_are_few(spans: Sequence[ReadableSpan]) -> None:
    """
    Whatever keys and ids there are: each is one operation and one destination that the code or the namespace names.
    """
    ours = {span.name for span in ours_of(spans)}
    patterns = {
        "send": r"t\w{8}\.commands",
        "receive": r"t\w{8}\.commands",
        "turn": r"t\w{8}\.commands",
        "commit": r"t\w{8}\.log",
        "forward": r"t\w{8}\.ingress",
        "run": "Charge|Ship|Break",
        "apply": "books",
        "tick": "hourly",
        "bury": "command|effect|projection",
    }

    for name in ours:
        operation, _, destination = name.partition(" ")
        assert re.fullmatch(patterns.get(operation, r"order|holdfast\.schedule"), destination)


def test_no_span_has_a_payload_unless_that_is_switched_on() -> None:
    """
    Of no kind, also none of a foreign message.
    """
    with stage(shop.ticking()) as it:
        it.client.execute(Place("o-1", remind_ms=20))
        it.await_state("o-1", "shipped", "remind")
        it.client.send(Stumble("o-2"))
        foreign(it)
        eventually(lambda: ALL <= kinds(it.spans))

        assert not any(value(span, names.PAYLOAD) for span in it.spans)
        assert not any(
            '"type"' in str(text) for span in it.spans for text in (span.attributes or {}).values()
        )


def test_operations_say_their_type(spans: Sequence[ReadableSpan]) -> None:
    """
    After the messaging conventions, and the kind of the span goes with it.
    """
    types = {kind.operation: kind.messaging for kind in names.SPANS}
    for span in spans:
        if value(span, names.OPERATION) is not None:
            assert span.name.split(" ")[0] == value(span, names.OPERATION)
            assert types[value(span, names.OPERATION)] == value(span, names.OPERATION_TYPE)
