"""
Timetables: cron lines, intervals and time zones as people write them.
"""

import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from holdfast.runtime.errors import WorkflowError
from holdfast.runtime.schedule import Schedule, ticks_after, ticks_before
from tests import controls
from tests.fuzz.draw import Draw

#: What fields of cron lines are made of.
_PIECES = (
    *"0123456789*/,-?#LW@ ",
    "59",
    "23",
    "31",
    "12",
    "2023",
    "MON",
    "FRI#5",
    "feb",
    "*/7",
    "1-5",
    "L",
    "\u00b2",
    "\u0661",
    "@daily",
)
_ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "../etc/passwd", "Europe", "", "\x00")
#: Of work: a machine that stands still meanwhile says nothing about it.
_SECONDS_MAX = 5.0

SEEDS = [
    b"\x00\x00\x00",
    b"\x00\x01" + b"0 2 * * *",
    b"\x00\x02" + b"*/5 * * * * *",
    b"\x01\x03\x00\x01",
    b"\x00\x01\x0030 2 29 2 *",
]


def check(data: bytes) -> None:
    """
    A schedule is refused with a sentence, or its ticks follow one another in both directions; neither takes long.
    """
    draw = Draw(data)
    given: dict[str, Any] = {}
    if draw.below(4) == 1:
        given["every"] = _span(draw)
    else:
        given["cron"] = _line(draw)
    given["tz"] = draw.pick((*_ZONES, draw.text(12)))
    if draw.below(8) == 1:
        given["window"] = _span(draw)
    schedule = Schedule(name="nightly", command=lambda _at: controls.PlaceOrder("o-1"), **given)
    began = time.thread_time()
    try:
        schedule.check()
    except WorkflowError as error:
        assert "'nightly'" in str(error)
        return
    finally:
        assert time.thread_time() - began < _SECONDS_MAX
    now = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    spec = schedule.spec
    after = list(islice(ticks_after(spec, now), 3))
    before = list(islice(ticks_before(spec, now), 3))
    assert after == sorted(set(after))
    assert before == sorted(set(before), reverse=True)
    assert all(tick > now for tick in after)
    assert all(tick <= now for tick in before)
    assert len(spec.fingerprint) == 12
    assert time.thread_time() - began < 3 * _SECONDS_MAX


def _line(draw: Draw) -> str:
    if draw.whether():
        return draw.text(40)
    count = draw.below(7)
    return " ".join("".join(draw.pick(_PIECES) for _ in range(draw.below(4) + 1)) for _ in range(count))


def _span(draw: Draw) -> timedelta:
    spans = (timedelta.max, timedelta.min, timedelta(0), timedelta(seconds=1), timedelta(days=366 * 8_000))
    return draw.pick((*spans, timedelta(microseconds=draw.below(1 << 50))))
