"""
Conflicts, outages, duplicates and telemetry that fails: what a lane traces of batches that do not go through at once.
"""

import logging
import uuid
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio, Sampler
from opentelemetry.trace import StatusCode

from holdfast import Settings
from holdfast.actors.tracing import names, tracing
from holdfast.actors.tracing.commands import CommandSpans, TracedJournal
from holdfast.actors.tracing.context import LATE_MS
from holdfast.actors.tracing.lottery import Ids
from holdfast.actors.tracing.tracing import Tracing
from holdfast.brokers.memory import MemoryJournal
from holdfast.runtime.errors import Unavailable
from holdfast.runtime.ports import Delivery
from holdfast.runtime.turn import Turn
from holdfast.runtime.turn_result import TurnResult
from tests.controls import NOW_MS, PARTITIONS
from tests.tracing.stage import id_of, kinds, linked, value
from tests.unit.desk import Desk, ref, sent
from tests.unit.test_turn_conflicts import Rival
from tests.unit.trouble import Do

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


class Lane:
    """
    What a lane does around its turn, over a desk.
    """

    def __init__(
        self,
        desk: Desk,
        journal: MemoryJournal | None = None,
        *processors: SpanProcessor,
        sampler: Sampler | None = None,
    ) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, id_generator=Ids(), shutdown_on_exit=False)
        for processor in processors or (SimpleSpanProcessor(self.exporter),):
            self.provider.add_span_processor(processor)
        settings = Settings.of(redis_url="memory://", namespace=f"t{uuid.uuid4().hex[:8]}")
        self.spans = CommandSpans(Tracing(settings, self.provider), lambda: NOW_MS)
        traced: Any = TracedJournal(journal or desk.journal, self.spans)
        self.turn = Turn(
            desk.app,
            traced,
            desk.answers,
            desk.answers,
            owner="w-1",
            clock=desk.clock,
            partitions=PARTITIONS,
            spans=self.spans,
        )

    def work(self, *deliveries: Delivery) -> TurnResult:
        self.spans.taken(len(deliveries))
        return self.again(*deliveries)

    def again(self, *deliveries: Delivery) -> TurnResult:
        self.spans.working()
        result = self.turn.run(deliveries)
        self.spans.worked(result)
        self.spans.settled(result)
        return result

    def all(self, kind: names.Kind) -> list[ReadableSpan]:
        return [
            one for one in self.exporter.get_finished_spans() if one.name.startswith(f"{kind.operation} ")
        ]


def test_a_conflict_has_one_decision() -> None:
    """
    What is decided again on what another wrote is the same decision; the commits are two.
    """
    desk = Desk(leases=False)
    lane = Lane(desk, Rival(desk, 2))
    lane.work(sent(Do("t-1"), "c-1", trace=PARENT), sent(Do("t-1"), "c-2", trace=PARENT))

    decided = lane.all(names.DECIDE)
    assert ["c-1", "c-2"] == [value(span, names.MESSAGE_ID) for span in decided]
    assert [1, 1, 0] == [value(span, names.CONFLICTS) for span in lane.all(names.COMMIT)]
    (turn,) = lane.all(names.TURN)
    assert (2, 2) == (value(turn, names.CONFLICTS), value(turn, names.ACCEPTED))
    recorded = [entry.trace for entry in desk.log(ref()) if entry.command_id.startswith("c-")]
    assert [f"{id_of(span):016x}" for span in decided] == [(trace or "").split("-")[2] for trace in recorded]


class Away(MemoryJournal):
    """
    A journal that is away after it wrote, or before.
    """

    wrote = True
    times = 1

    def commit(self, commits: Any, owner: str) -> Any:
        results = super().commit(commits, owner) if self.wrote or not self.times else []
        if self.times:
            self.times -= 1
            message = "away"
            raise Unavailable(message)
        return results


@pytest.mark.parametrize("wrote", [True, False])
def test_an_outage_has_one_decision(wrote: bool) -> None:
    """
    Whether the commit had come through, so that the batch finds a duplicate, or not, so that it is decided anew.
    """
    desk = Desk()
    journal = Away(desk.server)
    journal.wrote = wrote
    lane = Lane(desk, journal)
    delivery = sent(Do("t-1"), "c-1", trace=PARENT)
    with pytest.raises(Unavailable):
        lane.work(delivery)
    lane.turn.doubt()
    lane.again(delivery)

    (decided,) = lane.all(names.DECIDE)
    (entry,) = desk.log(ref())
    assert f"{id_of(decided):016x}" == (entry.trace or "").split("-")[2]
    assert ("accepted", 1) == (value(decided, names.OUTCOME), value(decided, names.SEQ))
    failed = lane.all(names.COMMIT)[0]
    assert ("Unavailable", StatusCode.ERROR) == (value(failed, names.ERROR_TYPE), failed.status.status_code)


def test_what_was_handled_has_none() -> None:
    """
    A redelivery is decided by nobody; a batch of nothing else has no spans at all.
    """
    desk = Desk()
    lane = Lane(desk)
    lane.work(sent(Do("t-1"), "c-1", trace=PARENT))
    before = len(lane.exporter.get_finished_spans())
    lane.turn.cache.clear()
    lane.work(sent(Do("t-1"), "c-1", trace=PARENT, redeliveries=1))

    assert before == len(lane.exporter.get_finished_spans())


def test_a_batch_that_is_left_to_others_exports_no_decision() -> None:
    """
    Whoever has it next decides it.
    """
    desk = Desk()
    lane = Lane(desk)
    lane.spans.taken(1)
    lane.spans.working()
    lane.turn.run([sent(Do("t-1"), "c-1", trace=PARENT)])
    lane.spans.worked(None)
    lane.spans.settled(None)

    assert {"receive", "turn", "commit"} == kinds(lane.exporter.get_finished_spans())
    assert "Unfinished" == value(lane.all(names.TURN)[0], names.ERROR_TYPE)


@pytest.mark.parametrize(("age_ms", "linked_only"), [(0, False), (LATE_MS, False), (LATE_MS + 1, True)])
def test_what_comes_late_is_linked(age_ms: int, linked_only: bool) -> None:
    """
    A command that waited for longer than minutes is a trace of its own, kept as that of its sender is.
    """
    lane = Lane(Desk(), sampler=ParentBasedTraceIdRatio(1e-9))
    lane.work(sent(Do("t-1"), "c-1", trace=PARENT, sent_ms=NOW_MS - age_ms))

    (decided,) = lane.all(names.DECIDE)
    sender = int("b" * 16, 16)
    assert linked_only == (decided.parent is None)
    assert ({sender} if linked_only else set()) == linked(decided)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense1",
        f"ff-{'a' * 32}-{'b' * 16}-01",
        f"00-{'0' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'b' * 16}-01-x",
        "1" * 5000,
    ],
)
def test_anybody_may_have_written_the_context(text: str) -> None:
    """
    What is no W3C context is none.
    """
    lane = Lane(Desk())
    result = lane.work(sent(Do("t-1"), "c-1", trace=text))

    (decided,) = lane.all(names.DECIDE)
    assert (1, None) == (result.accepted, decided.parent)


def test_a_failure_of_decide_is_on_its_span() -> None:
    """
    With what it raised; and there is a span for the dead letter below it.
    """
    lane = Lane(Desk())
    lane.work(sent(Do("t-1", "raise"), "c-1", trace=PARENT))

    (decided,), (buried,) = lane.all(names.DECIDE), lane.all(names.BURY)
    assert "dead" == value(decided, names.OUTCOME)
    assert buried.parent is not None
    assert id_of(decided) == buried.parent.span_id


class Broken(SpanProcessor):
    """
    Raises wherever it can.
    """

    def __init__(self, where: str) -> None:
        self._where = where

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        if self._where == "start":
            raise LookupError(self._where)

    def on_end(self, span: ReadableSpan) -> None:
        if self._where == "end":
            raise LookupError(self._where)


@pytest.mark.parametrize("where", ["start", "end"])
def test_telemetry_that_fails_breaks_nothing(where: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    Everything is decided as without it, and the log says so once.
    """
    tracing._said.clear()
    desk = Desk()
    lane = Lane(desk, None, Broken(where))
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            result = lane.work(sent(Do("t-1"), f"c-{number}", trace=PARENT))
            assert (1, []) == (result.accepted, result.dead)

    assert ["c-0", "c-1", "c-2"] == desk.commands(ref())
    assert 1 == sum("a span was lost" in record.message for record in caplog.records)
