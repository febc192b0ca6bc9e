"""
Every span and link, over ports in memory.
"""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    DEFAULT_ON,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import SpanKind, StatusCode

from holdfast import Accepted, Retry, connect_async
from holdfast.actors.tracing import names
from holdfast.actors.tracing.context import UNSAMPLED_ENDS
from holdfast.brokers.memory_feed import MemoryFeed
from holdfast.runtime.errors import Unavailable
from holdfast.runtime.feed import Reader, Step
from tests.support.processes import eventually
from tests.tracing import shop
from tests.tracing.shop import Place, Poison, Refuse, Shipped, Stumble
from tests.tracing.stage import Stage, id_of, linked, stage, trace_of, value


@pytest.fixture(name="it")
def _it() -> Iterator[Stage]:
    with stage() as it:
        yield it


def test_one_trace_leads_from_the_sender_to_the_last_effect(it: Stage) -> None:
    """
    Each span is below the one that led to it: the sender's own, send, decide, run, decide, run, decide.
    """
    with shop.tracer().start_as_current_span("outside") as outside:
        it.client.send(Place("o-1"))
    it.await_state("o-1", "placed", "paid", "shipped")

    last = it.one(names.DECIDE, command="Shipped")
    way = [last]
    while way[-1].parent is not None:
        way.append(it.parent(way[-1]))
    ns = it.client.settings.namespace
    assert [
        "decide order",
        "run Ship",
        "decide order",
        "run Charge",
        "decide order",
        f"send {ns}.commands",
        "outside",
    ] == [span.name for span in way]
    assert {outside.get_span_context().trace_id} == {trace_of(span) for span in way}
    kinds = {span.name.split(" ")[0]: span.kind for span in way}
    assert (SpanKind.PRODUCER, SpanKind.CONSUMER) == (kinds["send"], kinds["decide"])
    it.await_quiet()
    it.wholesome()


def test_all_spans_of_an_instance_are_found_by_it(it: Stage) -> None:
    """
    By type and key, or by the conversation of the messaging conventions; names say neither.
    """
    it.client.send(Place("o-1", remind_ms=20))
    it.await_state("o-1", "placed", "paid", "shipped", "remind")
    it.one(names.DECIDE, command="Shipped")
    it.one(names.FIRE)

    for kind in (names.SEND, names.DECIDE, names.RUN, names.WAIT, names.FIRE):
        for span in it.all(kind):
            found = [value(span, name) for name in (names.WORKFLOW, names.KEY, names.CONVERSATION_ID)]
            assert ["order", "o-1", "order/o-1"] == found
            assert "o-1" not in span.name


def test_a_batch_has_links_to_what_is_in_it(it: Stage) -> None:
    """
    Receive, turn and commit are below one another, in a trace of their own, with a link to each sender's span.
    """
    it.client.send_many([Place(f"o-{i}") for i in range(20)])
    for i in range(20):
        it.await_state(f"o-{i}", "shipped")
    it.await_quiet()

    sent = {id_of(span) for span in it.all(names.SEND)}
    for kind in (names.RECEIVE, names.TURN, names.COMMIT):
        spans = it.all(kind)
        links = [link for span in spans for link in linked(span)]
        assert sent <= set(links)
        assert len(links) == len(set(links)) == len(it.all(names.DECIDE))
        for span in spans:
            assert kind is not names.RECEIVE or span.parent is None
    for commit in it.all(names.COMMIT):
        turn = it.parent(commit)
        assert ("turn", "receive") == (turn.name.split(" ")[0], it.parent(turn).name.split(" ")[0])
    count = sum(value(span, names.BATCH_COUNT) for span in it.all(names.RECEIVE))
    assert count == len(it.all(names.DECIDE)) == 60


def test_a_batch_of_one_is_still_linked(it: Stage) -> None:
    """
    What is below a sender's span is the decision, not the batch.
    """
    it.client.execute(Place("o-1"))
    # There are others, for what it led to.
    eventually(lambda: bool(it.all(names.RECEIVE)))
    receive = min(it.all(names.RECEIVE), key=lambda span: span.start_time or 0)

    assert {id_of(it.one(names.SEND))} == linked(receive)
    assert id_of(it.one(names.SEND)) == id_of(it.parent(it.one(names.DECIDE, command="Place")))


def test_a_duplicate_is_not_decided_and_has_no_span(it: Stage) -> None:
    """
    However often it is sent, and in whatever batch, a command has one span of its decision.
    """
    for _ in range(3):
        it.client.execute(Place("o-1"), id="same")
    it.await_state("o-1", "shipped")
    it.await_quiet()

    assert 3 == len(it.all(names.EXECUTE)) == len(it.all(names.SEND))
    assert 1 == len(it.all(names.DECIDE, command="Place"))
    outcomes = [value(span, names.OUTCOME) for span in it.all(names.EXECUTE)]
    assert ["accepted", "duplicate", "duplicate"] == outcomes


def test_execute_lasts_until_the_answer(it: Stage) -> None:
    """
    What is sent is below it, and it says what became of that.
    """
    outcome = it.client.execute(Place("o-1"))
    it.client.execute(Refuse("o-1"))
    execute = it.one(names.EXECUTE, command="Place")
    eventually(lambda: 2 == len(it.all(names.EXECUTE)) == len(it.all(names.SEND)))

    assert isinstance(outcome, Accepted)
    assert "accepted" == value(execute, names.OUTCOME)
    assert SpanKind.CLIENT is execute.kind
    assert {id_of(one) for one in it.all(names.EXECUTE)} == {
        id_of(it.parent(one)) for one in it.all(names.SEND)
    }
    refused = it.one(names.DECIDE, command="Refuse")
    assert ("rejected", StatusCode.UNSET) == (value(refused, names.OUTCOME), refused.status.status_code)


def test_controls_are_decisions_too(it: Stage) -> None:
    """
    To pause an instance is to execute a command.
    """
    it.client.execute(Place("o-1"))
    it.await_state("o-1", "shipped")
    it.client.pause(shop.Order, "o-1")
    it.client.send(Refuse("o-1"))
    it.client.resume(shop.Order, "o-1")

    resumed = it.one(names.DECIDE, command="holdfast.Resume")
    assert "execute" == it.parent(it.parent(resumed)).name.split(" ")[0]
    # What was kept is decided then, below whoever sent it.
    kept = it.one(names.DECIDE, command="Refuse")
    assert "send" == it.parent(kept).name.split(" ")[0]


def test_users_spans_are_within_the_handlers(it: Stage) -> None:
    """
    In `decide`, in threads, in coroutines and in projections.
    """
    it.client.send(Place("o-1"))
    it.await_state("o-1", "shipped")
    it.await_quiet()

    within = {
        span.name: it.parent(span).name
        for span in it.spans
        if span.name in ("charging", "shipping", "booking")
    }
    assert {"charging": "run Charge", "shipping": "run Ship", "booking": "apply books"} == within
    thinking = [it.parent(span).name for span in it.spans if span.name == "thinking"]
    assert ["decide order"] * 3 == thinking


def test_users_spans_do_not_mix(it: Stage) -> None:
    """
    Of many handlers that run at once, on threads and taking turns on the event loop, each has its own spans below it.
    """
    keys = [f"o-{number}" for number in range(40)]
    it.client.send_many([Place(key) for key in keys])
    for key in keys:
        it.await_state(key, "shipped")
    it.await_quiet()

    for name, above in (("charging", "run Charge"), ("shipping", "run Ship"), ("packing", "shipping")):
        spans = [span for span in it.spans if span.name == name]
        assert sorted(keys) == sorted(str(value(span, "order")) for span in spans)
        for span in spans:
            parent = it.parent(span)
            assert above == parent.name
            assert value(span, "order") == value(parent, names.KEY if above != "shipping" else "order")


def test_users_spans_are_within_the_batch_that_a_coroutine_applies() -> None:
    """
    Within that one, not within the first that this lane has applied; and the walk of a rebuild in between has none.
    """
    with stage(shop.make_app(projections=[shop.Diary()])) as it:
        for key in ("o-1", "o-2"):
            it.client.execute(Refuse(key))
            it.client.execute(Place(key))
            it.await_state(key, "shipped")
            it.await_quiet()
            (before,) = it.client.projections.list()
            it.client.projections.rebuild("diary")
            eventually(partial(_rebuilt, it, before.generation))
        it.await_quiet()

        writing = [span for span in it.spans if span.name == "writing"]
        assert ["o-1"] * 3 + ["o-2"] * 3 == [value(span, "order") for span in writing]
        assert {"apply diary"} == {it.parent(span).name for span in writing}
        told = {id_of(span): value(span, names.KEY) for span in it.all(names.DECIDE)}
        for span in writing:
            assert {value(span, "order")} == {told[one] for one in linked(it.parent(span))}


def test_replay_exports_nothing(it: Stage) -> None:
    """
    Neither reading a log, nor folding it, nor building a read model anew has spans; nor has users' code in it.
    """
    it.client.execute(Place("o-1"))
    it.await_state("o-1", "shipped")
    it.await_quiet()
    (before,) = it.client.projections.list()
    it.exporter.clear()
    shop.booked.clear()

    it.client.projections.rebuild("books")
    assert it.client.state(shop.Order, "o-1", at=2) == shop.State(("placed", "paid"))
    assert 3 == len(it.client.history(shop.Order, "o-1"))
    assert it.client.trace(shop.Order, "o-1") is not None
    eventually(lambda: _rebuilt(it, before.generation))
    it.await_quiet()

    assert ["placed", "paid", "shipped"] == shop.booked
    assert [] == [span.name for span in it.spans]


def _rebuilt(it: Stage, before: int) -> bool:
    return [(one.state, one.percent) for one in it.client.projections.list() if one.generation > before] == [
        ("live", 100.0)
    ]


def test_errors_of_decisions_and_effects_are_recorded(it: Stage) -> None:
    """
    With type and message, on the span of what failed, and once more where it was given up.
    """
    it.client.send(Stumble("o-1"))
    it.client.send(Poison("o-2"))
    stumbled = it.one(names.DECIDE, command="Stumble")
    dead_effect = it.one(names.BURY, dead_letter__kind="effect")
    dead_command = it.one(names.BURY, dead_letter__kind="command")
    parked = it.one(names.BURY, dead_letter__kind="projection")

    assert ("dead", "LookupError") == (value(stumbled, names.OUTCOME), value(stumbled, names.ERROR_TYPE))
    assert StatusCode.ERROR is stumbled.status.status_code
    assert "LookupError: stumbled over 4111" == stumbled.status.description
    assert ["exception"] == [event.name for event in stumbled.events]
    eventually(lambda: len(it.all(names.RUN, effect="Break")) >= 2)
    attempts = it.all(names.RUN, effect="Break")
    assert [1, 2] == [value(span, names.ATTEMPT) for span in attempts]
    assert ["LookupError: broken"] * 2 == [span.status.description for span in attempts]
    decided = it.one(names.DECIDE, command="Poison")
    assert {id_of(decided)} == {id_of(it.parent(span)) for span in attempts}
    assert id_of(decided) == id_of(it.parent(dead_effect)) == id_of(it.parent(parked))
    assert id_of(stumbled) == id_of(it.parent(dead_command))
    (letter,) = it.client.dead_letters.list(kind="command")
    assert (letter.id, "LookupError") == (
        value(dead_command, names.DEAD_LETTER),
        value(dead_command, names.ERROR_TYPE),
    )
    it.await_quiet()
    it.wholesome()


def test_a_timer_is_waited_for_and_fired(it: Stage) -> None:
    """
    The wait is below the decision that set it, and begins with it; what is sent then is below that.
    """
    it.client.send(Place("o-1", remind_ms=100))
    it.await_state("o-1", "remind")
    wait, fire = it.one(names.WAIT), it.one(names.FIRE)
    decided = it.one(names.DECIDE, command="Remind")

    assert [id_of(fire), id_of(wait)] == [id_of(it.parent(decided)), id_of(it.parent(fire))]
    assert id_of(it.one(names.DECIDE, command="Place")) == id_of(it.parent(wait))
    assert wait.start_time is not None
    assert wait.end_time is not None
    assert 0.1 <= (wait.end_time - wait.start_time) / 1e9 < 40
    assert value(fire, names.TIMER_WAITED_MS) >= 100


def test_a_projection_is_linked_to_what_it_applies(it: Stage) -> None:
    """
    In a trace of its own, once for every batch.
    """
    it.client.execute(Place("o-1"))
    it.await_state("o-1", "shipped")
    it.await_quiet()
    applied = it.all(names.APPLY)

    assert 3 == sum(value(span, names.EVENTS) for span in applied)
    assert all(span.parent is None for span in applied)
    decided = {id_of(span) for span in it.all(names.DECIDE)}
    assert decided >= set().union(*(linked(span) for span in applied))


def test_what_is_stored_is_traced_though_the_feed_is_away_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    By the first try: the second finds everything applied.
    """
    acknowledge, away = MemoryFeed.acknowledge, ["once"]

    def failing(feed: MemoryFeed, reader: Reader, steps: Sequence[Step], owner: str) -> list[bool]:
        if any(step.entries for step in steps) and away:
            raise Unavailable(away.pop())
        return acknowledge(feed, reader, steps, owner)

    with stage() as it:
        monkeypatch.setattr(MemoryFeed, "acknowledge", failing)
        it.client.wait_for("books", it.client.execute(Shipped("o-1")))
        applied = it.one(names.APPLY)

    assert [] == away
    assert 1 == value(applied, names.EVENTS)


def test_each_try_of_what_a_projection_parked_is_traced() -> None:
    """
    With what went wrong in it.
    """

    class Stubborn(shop.Books):
        retry = Retry(attempts=2, first=0.01, jitter=0)

    with stage(shop.make_app(projections=[Stubborn()])) as it:
        it.client.send(Poison("o-1"))
        it.one(names.BURY, dead_letter__kind="projection")
        it.await_quiet()

        tries = it.all(names.APPLY)
        assert [(0, 1, "o-1")] * 2 == [
            (value(one, names.EVENTS), value(one, names.PARKED), value(one, names.KEY)) for one in tries
        ]
        assert ["LookupError: cannot swallow it"] * 2 == [one.status.description for one in tries]
        assert {id_of(one) for one in tries} == {
            id_of(it.parent(span)) for span in it.spans if span.name == "booking"
        }


def test_a_tick_is_traced_by_itself() -> None:
    """
    A schedule's timers follow one another for ever, so each is a trace of its own, with a link to the one before.
    """
    with stage(shop.ticking()) as it:
        eventually(lambda: bool(it.all(names.TICK)))
        tick = it.all(names.TICK)[0]
        eventually(lambda: any(id_of(one) == tick.parent.span_id for one in it.spans))  # type: ignore[union-attr]
        fire = it.parent(tick)
        assert ("tick hourly", "fire holdfast.schedule") == (tick.name, fire.name)
        assert fire.parent is None
        assert 1 == len(fire.links)
        assert "hourly" == value(tick, names.SCHEDULE)
        eventually(
            lambda: any(
                one.parent and one.parent.span_id == id_of(tick)
                for one in it.all(names.DECIDE, command="Paid")
            )
        )


class Reluctant(Sampler):
    """
    Does not keep the first tick.
    """

    def __init__(self) -> None:
        self.refused = 0

    def should_sample(self, *args: Any, **options: Any) -> SamplingResult:
        if "fire holdfast.schedule" in args and not self.refused:
            self.refused += 1
            return ALWAYS_OFF.should_sample(*args, **options)
        return DEFAULT_ON.should_sample(*args, **options)

    def get_description(self) -> str:
        return "reluctant"


def test_a_tick_that_is_not_traced_is_the_only_one() -> None:
    """
    The next has nothing to do with it, and no link to what nobody shows.
    """
    reluctant = Reluctant()
    with stage(shop.ticking(), reluctant) as it:
        # More may have come when this is looked at.
        eventually(lambda: bool(it.all(names.TICK)))
        tick = it.all(names.TICK)[0]
        fire = it.parent(tick)

    assert 1 == reluctant.refused
    assert "fire holdfast.schedule" == fire.name
    assert [] == list(fire.links)


def test_the_batches_of_what_is_sampled_are_traced() -> None:
    """
    All of them, though few traces are: whoever follows an order sees where its time went.
    """
    keys = [f"o-{number}" for number in range(120)]
    with stage(sampler=ParentBasedTraceIdRatio(0.2)) as it:
        for key in keys:
            last = it.client.execute(Shipped(key))
        it.client.wait_for("books", last)
        it.await_quiet()

    sent = {id_of(span) for span in it.all(names.SEND)}
    decided = {id_of(span) for span in it.all(names.DECIDE)}
    assert 5 < len(decided) == len(sent) < 60
    for kind, whole in (
        (names.RECEIVE, sent),
        (names.TURN, sent),
        (names.COMMIT, sent),
        (names.APPLY, decided),
    ):
        assert whole == set().union(*(linked(span) for span in it.all(kind))), kind


def test_payloads_are_not_recorded(it: Stage) -> None:
    """
    Unless that is switched on; and never where they are encrypted.
    """
    it.client.execute(Place("o-1", card="secret"))
    it.await_state("o-1", "shipped")
    it.await_quiet()

    assert not any("secret" in span.to_json() for span in it.spans)
    with stage(trace_payloads=True) as told:
        told.client.execute(Place("o-1", card="secret"))
        run = told.one(names.RUN, effect="Charge")
        assert '{"type":"Charge","card":"secret"}' == value(run, names.PAYLOAD)


def test_what_is_not_sampled_costs_no_spans() -> None:
    """
    It is decided where the trace begins, and nowhere again: the flag goes with everything that follows.
    """
    with stage(sampler=ALWAYS_OFF) as off, stage() as on:
        off.client.execute(Place("o-1", remind_ms=10))
        off.await_state("o-1", "shipped", "remind")
        (record, *_) = off.client.history(shop.Order, "o-1")
        assert record.trace is not None
        assert record.trace[-1] in UNSAMPLED_ENDS
        unsampled = trace.NonRecordingSpan(
            trace.SpanContext(int("a" * 32, 16), int("b" * 16, 16), is_remote=True)
        )
        with trace.use_span(unsampled):
            on.client.execute(Place("o-1", remind_ms=10))
        on.await_state("o-1", "shipped", "remind")
        on.await_quiet()

        assert [] == [span.name for span in (*off.spans, *on.spans)]
        (first, *_) = on.client.history(shop.Order, "o-1")
        assert f"00-{'a' * 32}" == (first.trace or "")[:35]


def test_an_async_client_is_in_its_callers_trace(it: Stage) -> None:
    """
    Also where it works on a thread.
    """

    async def run() -> int:
        async with connect_async(shop.app, it.client.settings, tracer_provider=it.provider) as client:
            with shop.tracer().start_as_current_span("outside") as outside:
                await client.execute(Refuse("o-1"))
                await client.send(Refuse("o-1"))
            return outside.get_span_context().trace_id

    own = asyncio.run(run())
    eventually(lambda: 2 == len(it.all(names.DECIDE)))
    it.await_quiet()

    assert {own} == {trace_of(span) for span in it.all(names.SEND)}
    assert 2 == len(it.all(names.SEND))
    assert {own} == {trace_of(span) for span in it.all(names.DECIDE)}
