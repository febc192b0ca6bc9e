"""
The timeline: all events in time, each case's in the file's order.
"""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.process_log.case import Case
from examples.process_log.timeline import UNKNOWN, seconds, timeline
from tests.examples.logs import event

TIMES = st.none() | st.sampled_from(
    [
        "",
        "never",
        "2020-01-01T00:00:00Z",
        "2020-01-01T01:00:00+02:00",
        "2020-01-01",
        "2019-12-31T23:59:59.999",
    ]
)


def sent(*cases: list[str | None]) -> list[tuple[int, int]]:
    found = timeline(
        [Case(str(number), [event(at=at) for at in times]) for number, times in enumerate(cases)]
    )
    return [(case, position) for _, case, position, _ in found]


def test_events_are_merged_in_time() -> None:
    """
    What happened first is sent first, in whichever case and time zone.
    """
    first = ["2020-01-01T00:00:00Z", "2020-01-03T00:00:00Z"]
    second = ["2020-01-02T00:00:00-02:00", "2020-01-04T01:00:00+02:00"]

    assert [(0, 0), (1, 0), (0, 1), (1, 1)] == sent([*first], [*second])


def test_the_order_of_the_file_is_kept() -> None:
    """
    An event that claims to be earlier than the one before it in its case is sent right behind that.
    """
    assert [(1, 0), (0, 0), (0, 1), (1, 1)] == sent(
        ["2020-01-03", "2020-01-01"], ["2020-01-02", "2020-01-04"]
    )


def test_an_event_without_time_happens_with_the_one_before() -> None:
    """
    Missing and unreadable times are inherited; before the first readable one is before everything.
    """
    assert [(0, 0), (1, 0), (0, 1), (0, 2), (0, 3), (1, 1)] == sent(
        [None, "2020-01-02", "soon", None], ["2020-01-01", "2020-01-03"]
    )


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1),
        ("1970-01-01T00:00:01", 1),
        ("1970-01-01T01:00:01+01:00", 1),
        (" 1970-01-01T00:00:01.5Z\n", 1.5),
        ("1970-01-01T00:00:01.500000000Z", 1.5),
        ("0001-01-01T00:00:00+14:00", -62135647200),
        ("9999-12-31T23:59:59-14:00", 253402351199),
        ("12021-01-01T00:00:00Z", UNKNOWN),
        ("-0044-03-15T12:00:00Z", UNKNOWN),
        ("2020-02-30T00:00:00Z", UNKNOWN),
        ("1582156800", UNKNOWN),
        ("", UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_a_timestamp_is_a_moment(at: str | None, expected: float) -> None:
    """
    Time zones and fractions are understood, and what is no time is unknown, not an error.
    """
    assert expected == seconds(at)


@given(st.lists(st.lists(TIMES, max_size=6), max_size=6))
def test_the_merge_is_a_sort(cases: list[list[str | None]]) -> None:
    """
    Every event comes once, by the latest time so far in its case, then by case, then by place.
    """
    moments = [
        (latest, case, position)
        for case, times in enumerate(cases)
        for position, latest in enumerate(accumulate(map(seconds, times), max))
    ]

    assert [(case, position) for _, case, position in sorted(moments)] == sent(*cases)
