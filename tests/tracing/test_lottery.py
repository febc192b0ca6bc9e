"""
The lottery: what it draws is what the sampler would have said, and a winner's trace has the id that was drawn.
"""

import random

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)

from holdfast.actors.tracing import names
from holdfast.actors.tracing.lottery import Ids, lottery_of
from holdfast.actors.tracing.tracing import Tracing
from tests import controls


@pytest.mark.parametrize("sampler", [ParentBasedTraceIdRatio(0.25), TraceIdRatioBased(0.25)])
def test_only_winners_are_begun_and_all_of_them_are_kept(sampler: Sampler) -> None:
    """
    So that the share of traces is the sampler's, and none of them is drawn for twice.
    """
    provider = TracerProvider(sampler=sampler, id_generator=Ids(), shutdown_on_exit=False)
    tracing = Tracing(controls.settings(), provider)
    random.seed(20_261_121)
    drawn = [tracing.keeps() and tracing.tracer.start_span("one").is_recording() for _ in range(4_000)]

    assert 850 < sum(drawn) < 1_150


def test_a_winner_has_the_id_that_was_drawn_and_the_next_trace_another() -> None:
    """
    Spans within it have its trace's id too.
    """
    ids = Ids()
    provider = TracerProvider(sampler=ALWAYS_ON, id_generator=ids, shutdown_on_exit=False)
    tracer = provider.get_tracer("test")
    ids.keep(0xABC)

    first, second = tracer.start_span("first"), tracer.start_span("second")

    assert 0xABC == first.get_span_context().trace_id
    assert second.get_span_context().trace_id not in (0, 0xABC)


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF, ParentBased(ALWAYS_ON)])
def test_other_samplers_are_asked_themselves(sampler: Sampler) -> None:
    """
    Whoever looks at more than the id is asked with all that there is.
    """
    assert lottery_of(TracerProvider(sampler=sampler, id_generator=Ids(), shutdown_on_exit=False)) is None


def test_ids_of_others_are_left_to_them() -> None:
    """
    A provider of the user's has ids that we cannot choose.
    """
    assert lottery_of(TracerProvider(sampler=TraceIdRatioBased(0.5), shutdown_on_exit=False)) is None


@pytest.mark.parametrize("rate", [1e-19, 0.001, 0.25, 1.0])
def test_a_trace_whose_cause_is_kept_wins(rate: float) -> None:
    """
    Whatever the share is, if only there is one; under ids that differ.
    """
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(rate), id_generator=Ids(), shutdown_on_exit=False
    )
    tracing = Tracing(controls.settings(), provider)
    spans = [tracing.start(names.RECEIVE, "commands", kept=True) for _ in range(200)]

    assert all(span.is_recording() for span in spans)
    assert 200 == len({span.get_span_context().trace_id for span in spans})


def test_nothing_wins_where_nothing_is_kept() -> None:
    """
    At a share of nought.
    """
    provider = TracerProvider(sampler=TraceIdRatioBased(0), id_generator=Ids(), shutdown_on_exit=False)

    assert (
        not Tracing(controls.settings(), provider).start(names.RECEIVE, "commands", kept=True).is_recording()
    )
