"""
An instance's records, and what still waits, as one tree.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from holdfast.runtime.clock import to_ms
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.effect import result_mark
from holdfast.runtime.effect_queue import Ended, PendingEffect
from holdfast.runtime.instance import RunState
from holdfast.runtime.instance_trace import InstanceTrace
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import Envelope
from holdfast.runtime.record import Asked, AskedTimer, EffectEntry, Moved, Record
from holdfast.runtime.timers import PendingTimer, timer_id
from holdfast.runtime.timetable import SCHEDULE_TYPE
from holdfast.runtime.trace_spans import spans_of
from holdfast.runtime.trace_tree import Life, build
from tests import controls

REF = Ref(0, "order", "o-1")
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW = START + timedelta(hours=1)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def record(seq: int, command_id: str, seconds: float = 0, **more: Any) -> Record[Any]:
    values: dict[str, Any] = {"command": "Do", "events": (), "cause": None, "trace": None} | more
    return Record(seq=seq, command_id=command_id, at=at(seconds), token=1, **values)


def life(*records: Record[Any], **more: Any) -> Life:
    return Life(more.pop("ref", REF), more.pop("seq", len(records)), records=records, **more)


def drawn(trace: InstanceTrace) -> list[str]:
    """
    Return a line for each node: dashes for how deep it is, what it is, and what became of it.
    """
    return [f"{'-' * node.depth}{node.kind} {node.name} {node.status}" for node in trace.nodes]


def waits(trace: InstanceTrace) -> list[tuple[str, str, datetime | None]]:
    return [(wait.kind, wait.what, wait.until) for wait in trace.waits]


def pending(effect_id: str, state: str = "waiting", **more: Any) -> PendingEffect:
    values: dict[str, Any] = {"effect": "Charge", "attempts": 0, "since_ms": 0} | more
    return PendingEffect(0, "order", "o-1", effect_id, state=state, **values)


def test_a_chain_of_effects() -> None:
    """
    Each record stands below the effect that led to it, and that below the record that asked for it.
    """
    trace = build(
        life(
            record(1, "c", command="Place", asked=Asked(("Charge", "Mail"))),
            record(2, "c:0:r0", 2, command="Paid", cause="c:0", asked=Asked(("Pack",))),
            record(3, "c:0:r0:0:f", 3, command="PackFailed", cause="c:0:r0:0"),
            record(4, "d", 200, command="Ask"),
        ),
        NOW,
    )

    assert [
        "record Place decided",
        "-effect Charge done",
        "--record Paid decided",
        "---effect Pack failed",
        "----record PackFailed decided",
        "-effect Mail done",
        "record Ask decided",
    ] == drawn(trace)
    by_name = {node.name: node for node in trace.nodes}
    assert (at(0), at(2)) == (by_name["Charge"].at, by_name["Charge"].ended)
    assert by_name["Mail"].ended is None
    assert [0, 197_000] == [by_name["PackFailed"].gap_ms, by_name["Ask"].gap_ms]
    assert ["client", "effect"] == [by_name["Place"].sender, by_name["Paid"].sender]
    assert [("command", "a command", None)] == waits(trace)
    assert ["Place", "Ask"] == [node.name for node in trace.roots]
    assert ["Charge", "Mail"] == [node.name for node in trace.children(trace.roots[0])]


@pytest.mark.parametrize(
    ("state", "kind", "what"),
    [
        ("waiting", "effect", "effect Charge to be run"),
        ("running", "effect", "effect Charge to end"),
        ("retry", "retry", "the next try of effect Charge"),
        ("limit", "limit", "the turn of effect Charge"),
        ("rate", "limit", "the turn of effect Charge"),
    ],
)
def test_effects_that_are_not_over(state: str, kind: str, what: str) -> None:
    """
    With their attempts, what went wrong, and when they go on.
    """
    due = to_ms(at(7_200))
    trace = build(
        life(
            record(1, "c", asked=Asked(("Charge",))),
            effects=[pending("c:0", state, attempts=2, until_ms=due, error="no line")],
        ),
        NOW,
    )

    assert ["record Do decided", f"-effect Charge {state}"] == drawn(trace)
    assert (2, "no line", at(7_200)) == (
        trace.nodes[1].attempts,
        trace.nodes[1].reason,
        trace.nodes[1].until,
    )
    assert [(kind, what, at(7_200))] == waits(trace)


def test_timers() -> None:
    """
    Pending, replaced, cancelled, fired, and sent without anything being recorded.
    """
    trace = build(
        life(
            record(
                1,
                "c",
                asked=Asked(
                    timers=(
                        AskedTimer("Remind", "remind", delay_ms=HOUR_MS),
                        AskedTimer("Expire", "expire", delay_ms=DAY_MS),
                        AskedTimer("Look", delay_ms=1_000),
                        AskedTimer("Ping", delay_ms=2_000),
                        AskedTimer("Poll", "poll", delay_ms=1_500),
                    )
                ),
            ),
            record(2, "c:t2", 1, command="Look", cause="c"),
            record(
                3,
                "d",
                5,
                asked=Asked(
                    timers=(
                        AskedTimer("Remind", "remind", due_ms=to_ms(at(7_200))),
                        AskedTimer("Poll", "poll", delay_ms=10),
                    ),
                    cancels=("expire", "nothing"),
                ),
            ),
            timers=[PendingTimer("order", "o-1", "remind", at(7_200), "Remind", "d:t0")],
        ),
        NOW,
    )

    assert [
        "record Do decided",
        "-timer Remind replaced",
        "-timer Expire cancelled",
        "-timer Look fired",
        "--record Look decided",
        "-timer Ping sent",
        "-timer Poll sent",
        "record Do decided",
        "-timer Remind pending",
        "-timer Poll sent",
    ] == drawn(trace)
    assert [("timer", "timer remind", at(7_200))] == waits(trace)


def test_a_timer_that_is_due() -> None:
    """
    It is not sent yet, which is what the instance waits for; where that failed it waits for a person.
    """
    timer = PendingTimer("order", "o-1", None, at(60), "Look", "c:t0")
    asked = Asked(timers=(AskedTimer("Look", delay_ms=60_000),))

    trace = build(life(record(1, "c", asked=asked), timers=[timer]), NOW)
    assert ["record Do decided", "-timer Look due"] == drawn(trace)
    assert [("timer", "timer Look", at(60))] == waits(trace)

    letter = controls.dead_letter(command_id="c:t0", message_type="Look", error="ValueError: no")
    trace = build(life(record(1, "c", asked=asked), letters=[letter]), NOW)
    assert ["record Do decided", "-timer Look dead"] == drawn(trace)
    assert [("dead-letter", "somebody to deal with dead letter 0.d-1 (timer Look)", None)] == waits(trace)


def test_long_ids() -> None:
    """
    Ids that are digests lead to what they were made of.
    """
    command_id = "c" * 70
    long_timer = timer_id(REF, command_id, 0)
    long_effect = f"{command_id}:0"
    assert len(long_timer) < len(command_id)

    trace = build(
        life(
            record(1, command_id, asked=Asked(("Charge",), (AskedTimer("Look", delay_ms=1),))),
            record(2, f"{result_mark(REF.scope, long_effect)}:r0", 1, command="Paid", cause=long_effect),
            record(3, long_timer, 2, command="Look", cause=command_id),
        ),
        NOW,
    )

    assert [
        "record Do decided",
        "-effect Charge done",
        "--record Paid decided",
        "-timer Look fired",
        "--record Look decided",
    ] == drawn(trace)
    assert ["client", "effect", "timer"] == [node.sender for node in trace.nodes if node.kind == "record"]


def test_dead_letters() -> None:
    """
    Of an effect, which is still there as a node; of a command, which stands below what sent it.
    """
    body = encode(EffectEntry("c:0", "order", "o-1", 1, b"", 0))
    sent = Envelope("c:1:r0", "order", "o-1", b"", cause="c:1")
    letters = [
        controls.dead_letter("0.d-1", kind="effect", body=body, message_type="Charge", error="no card"),
        controls.dead_letter(
            "0.d-2", body=encode_envelope(sent), command_id="c:1:r0", message_type="Sent", attempts=3
        ),
        controls.dead_letter("0.d-3", kind="effect", body=b"\xc1", message_type="Lost"),
    ]

    trace = build(
        life(
            record(1, "c", asked=Asked(("Charge", "Mail"))),
            record(2, "c:0:f", 1, command="Failed", cause="c:0"),
            letters=letters,
        ),
        NOW,
    )

    assert [
        "record Do decided",
        "-effect Charge dead",
        "--record Failed decided",
        "-effect Mail done",
        "--dead-letter Sent dead",
        "dead-letter Lost dead",
    ] == drawn(trace)
    assert "no card" == trace.nodes[1].reason
    assert 3 == len(trace.waits)


def test_run_states() -> None:
    """
    A pause that ends by itself has a timer; one behind a dead letter stands below that; a cancel withdraws.
    """
    until = to_ms(at(7_200))
    letter = controls.dead_letter(command_id="x", message_type="Break", at_ms=to_ms(at(5)))
    trace = build(
        life(
            record(1, "c", asked=Asked(("Charge",), (AskedTimer("Look", delay_ms=DAY_MS),))),
            record(2, "p", 1, command="holdfast.Pause", control=Moved("pause", "lunch", until)),
            record(3, "r", 2, command="holdfast.Resume", control=Moved("resume")),
            record(4, "x:pause", 3, command="holdfast.Pause", cause="x", control=Moved("pause", "broken")),
            record(5, "e", 4, command="holdfast.Cancel", control=Moved("cancel", "enough")),
            run_state=RunState.CANCELLED,
            letters=[letter],
        ),
        NOW,
    )

    assert [
        "record Do decided",
        "-effect Charge over",
        "-timer Look over",
        "record holdfast.Pause pause",
        "-timer holdfast.Resume cancelled",
        "record holdfast.Resume resume",
        "record holdfast.Cancel cancel",
        "dead-letter Break dead",
        "-record holdfast.Pause pause",
    ] == drawn(trace)
    assert "dead-letter" == trace.nodes[-1].sender


@pytest.mark.parametrize(
    ("parked", "what"), [(0, "holdfast resume (lunch)"), (3, "holdfast resume (lunch), with 3 commands kept")]
)
def test_a_pause_without_an_end_waits_for_a_person(parked: int, what: str) -> None:
    """
    And says what it keeps.
    """
    paused = life(record(1, "c"), run_state=RunState.PAUSED, reason="lunch", parked=parked)

    assert [("resume", what, None)] == waits(build(paused, NOW))


def test_a_page_of_a_long_history() -> None:
    """
    What led to its first record is not in it, nor what became of the last one; what still waits is shown all the same.
    """
    trace = build(
        life(
            record(8, "a:0:r0", 1, command="Paid", cause="a:0", asked=Asked(("Pack",))),
            record(9, "b:t0", 2, command="Look", cause="b"),
            seq=20,
            effects=[pending("z:0", "retry", attempts=1)],
            timers=[PendingTimer("order", "o-1", "remind", at(9_999), "Remind", "z:t0")],
        ),
        NOW,
    )

    assert [
        "record Paid decided",
        "-effect Pack later",
        "record Look decided",
        "effect Charge retry",
        "timer Remind pending",
    ] == drawn(trace)
    assert ["effect", "timer"] == [node.sender for node in trace.nodes if node.kind == "record"]
    assert (8, 9, 20) == (trace.first, trace.last, trace.seq)


def test_records_from_before_requests_were_written_down() -> None:
    """
    Say less, but what they led to is found by its ids.
    """
    trace = build(
        life(
            record(1, "c"),
            record(2, "c:0:r0", 1, command="Paid", cause="c:0"),
            record(3, "c:t0", 2, command="Look", cause="c"),
        ),
        NOW,
    )

    assert [
        "record Do decided",
        "-effect  done",
        "--record Paid decided",
        "-record Look decided",
    ] == drawn(trace)


def test_other_instances() -> None:
    """
    Of them only what followed is shown, with all that came of it.
    """
    parcel = Ref(1, "parcel", "p-1")
    mark = result_mark(REF.scope, "c:0")
    other = life(
        record(1, "x", command="Unrelated"),
        record(2, f"{mark}:r0", 2, command="Post", cause="c:0", asked=Asked(("Carry",))),
        record(3, f"{mark}:r0:0:r0", 3, command="Carried", cause=f"{mark}:r0:0"),
        ref=parcel,
    )

    trace = build(life(record(1, "c", asked=Asked(("Ship",)))), NOW, [other])

    assert [
        "record Do decided",
        "-effect Ship done",
        "--record Post decided",
        "---effect Carry done",
        "----record Carried decided",
    ] == drawn(trace)
    assert ("parcel", "p-1", "elsewhere") == (
        trace.nodes[2].workflow,
        trace.nodes[2].key,
        trace.nodes[2].sender,
    )


def test_what_a_schedule_sent() -> None:
    """
    Stands below its tick.
    """
    schedule = Ref(0, SCHEDULE_TYPE, "nightly")
    ticking = life(
        record(1, "s", asked=Asked(timers=(AskedTimer("SendTick", delay_ms=1_000),))), ref=schedule
    )
    sent = life(record(1, "schedule:nightly:1", 1, command="Clean", cause="s:t0"))

    trace = build(ticking, NOW, [sent])

    assert ["record Do decided", "-timer SendTick sent", "--record Clean decided"] == drawn(trace)
    assert "schedule" == trace.nodes[-1].sender


def test_depth() -> None:
    """
    What is below is counted.
    """
    records: Sequence[Record[Any]] = [
        record(n, "c" + ":0:r0" * (n - 1), n, cause="c" + ":0:r0" * (n - 2) + ":0" if n > 1 else None, asked=Asked(("Go",)))
        for n in range(1, 6)
    ]  # fmt: skip
    trace = build(life(*records), NOW, depth=3)

    assert ["record Do decided", "-effect Go done", "--record Do decided"] == drawn(trace)
    assert [0, 0, 7] == [node.hidden for node in trace.nodes]


def test_made_up_ids_lead_in_no_circle() -> None:
    """
    Every record is shown once, whatever its sender wrote.
    """
    trace = build(
        life(
            record(1, "a", cause="b"),
            record(2, "b", 1, cause="a"),
            record(3, "c:0:r0", 2, cause="c:0"),
            record(4, "c", 3, cause="c", asked=Asked(("Go",), (AskedTimer("Look"),))),
            record(5, "c:t0", 4, cause="c:t0"),
        ),
        NOW,
    )

    assert [1, 2, 3, 4, 5] == sorted(node.seq for node in trace.nodes if node.kind == "record")


def test_a_life_of_thousands() -> None:
    """
    As one chain, which nothing walks by recursion.
    """
    records = [record(n, f"c{n}", n / 10, cause=f"c{n - 1}" if n > 1 else None) for n in range(1, 5_001)]

    trace = build(life(*records), NOW)

    assert 4_999 == trace.nodes[-1].depth
    assert 5_001 == len(spans_of(trace, "ns"))
    assert msgspec.json.encode(trace)


# -- spans


def test_spans() -> None:
    """
    One for each node below that of the instance; what is open goes as far as the life is known.
    """
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    trace = build(
        life(
            record(1, "c", events=(controls.OrderPlaced(5),), trace=parent, asked=Asked(("Charge", "Mail"))),
            record(2, "c:0:r0", 2, command="Paid", cause="c:0"),
            effects=[pending("c:1", "retry", effect="Mail")],
        ),
        NOW,
    )

    spans = spans_of(trace, "ns")
    root, do, charge = spans[:3]

    assert {root.trace_id} == {span.trace_id for span in spans}
    assert [None, root.span_id, do.span_id, charge.span_id, do.span_id] == [span.parent_id for span in spans]
    assert ["instance order", "decide order", "run Charge", "decide order", "run Mail"] == [
        span.name for span in spans
    ]
    start, end = to_ms(at(0)) * 1_000_000, to_ms(at(2)) * 1_000_000
    assert [(start, end), (start, start), (start, end), (end, end), (start, end)] == [
        (span.start_ns, span.end_ns) for span in spans
    ]
    assert {
        "messaging.message.conversation_id": "order/o-1",
        "messaging.message.id": "c",
        "workflow.type": "order",
        "workflow.key": "o-1",
        "workflow.seq": 1,
        "workflow.command.id": "c",
        "workflow.command": "Do",
        "workflow.command.sender": "client",
        "workflow.events": ("OrderPlaced",),
        "workflow.status": "decided",
        "workflow.rebuilt": True,
    } == do.attributes
    assert (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331) == do.link
    assert 5 == len({span.span_id for span in spans})
    assert spans == spans_of(trace, "ns")
    assert root.trace_id != spans_of(trace, "other")[0].trace_id


def test_spans_without_what_errors_say() -> None:
    """
    Their types are left, and what people gave as reasons.
    """
    letter = controls.dead_letter(error="LookupError: card 4111", message_type="Do")
    trace = build(
        life(
            record(1, "c", asked=Asked(("Charge", "Mail"))),
            record(2, "p", 1, command="holdfast.Pause", control=Moved("pause", "lunch: at noon")),
            effects=[
                pending("c:0", "retry", error="OSError: card 4111"),
                pending("c:1", "retry", error="card 4111: is wrong"),
            ],
            letters=(letter,),
        ),
        NOW,
    )

    told = [
        (span.attributes.get("workflow.reason"), span.error) for span in spans_of(trace, "ns", messages=False)
    ]
    assert {("OSError", None), (None, None), ("lunch: at noon", None), ("LookupError", "LookupError")} == set(
        told
    )
    assert "4111" in repr(spans_of(trace, "ns"))


def test_attempts_of_effects_that_are_over() -> None:
    """
    As what they led to says, be it a record, a dead letter or in another instance; 0 where nothing is known.
    """
    body = encode_envelope(Envelope("c:1:r0", "order", "o-1", b"", cause="c:1", attempts=4))
    letter = controls.dead_letter(body=body, command_id="c:1:r0")
    elsewhere = Ref(0, "mail", "7")
    sent = f"{result_mark(REF.scope, 'c:2')}:r0"
    trace = build(
        life(
            record(1, "c", asked=Asked(("Charge", "Break", "Post", "Log", "Old"))),
            record(2, "c:0:r0", 1, cause="c:0", attempts=3),
            record(3, "c:0:r1", 2, cause="c:0", attempts=3),
            record(4, "c:4:r0", 3, cause="c:4"),
            letters=(letter,),
        ),
        NOW,
        (life(record(1, sent, 2, cause="c:2", attempts=2), ref=elsewhere),),
    )

    effects = {node.name: (str(node.status), node.attempts) for node in trace.nodes if node.kind == "effect"}
    assert {
        "Charge": ("done", 3),
        "Break": ("done", 4),
        "Post": ("done", 2),
        "Log": ("done", 0),
        "Old": ("done", 0),
    } == effects
    spans = {span.name: span.attributes.get("workflow.attempt") for span in spans_of(trace, "ns")}
    assert (3, None) == (spans["run Charge"], spans["run Log"])


def test_what_is_remembered_of_effects_that_led_to_nothing() -> None:
    """
    How many attempts they took and when they ended, also where the log goes on behind the page or was cancelled. What
    led to a command, what still waits and what another instance asked for is told as ever.
    """
    ended = {
        result_mark(REF.scope, "c:0"): Ended(3, to_ms(at(7))),
        result_mark(REF.scope, "c:1"): Ended(9, to_ms(at(9))),
        result_mark(REF.scope, "c:3"): Ended(9, to_ms(at(9))),
        result_mark(Ref(0, "mail", "7").scope, "c:2"): Ended(9, to_ms(at(9))),
    }
    records = (
        record(1, "c", asked=Asked(("Log", "Charge", "Post", "Wait"))),
        record(2, "c:1:r0", 1, cause="c:1"),
    )
    cancel = record(3, "d", 8, control=Moved("cancel"))
    for known in (life(*records, seq=2), life(*records, seq=9), life(*records, cancel)):
        life_ = replace(known, effects=[pending("c:3", "retry", attempts=1, effect="Wait")], ended=ended)
        trace = build(life_, NOW)
        nodes = {node.name: node for node in trace.nodes if node.kind == "effect"}

        assert ("done", 3, at(7)) == (nodes["Log"].status, nodes["Log"].attempts, nodes["Log"].ended)
        assert ("done", 0, at(1)) == (nodes["Charge"].status, nodes["Charge"].attempts, nodes["Charge"].ended)
        assert (0, None) == (nodes["Post"].attempts, nodes["Post"].ended)
        assert 1 == next(node.attempts for node in trace.nodes if node.status == "retry")
        logged = next(span for span in spans_of(trace, "ns") if span.name == "run Log")
        assert 7_000_000_000 == logged.end_ns - logged.start_ns


def test_a_broken_trace_context_is_no_link() -> None:
    """
    Whoever sent the command may have written anything.
    """
    trace = build(life(record(1, "c", trace="00-xyz-123-01"), record(2, "d", 1, trace="?")), NOW)

    assert [None, None, None] == [span.link for span in spans_of(trace, "ns")]
