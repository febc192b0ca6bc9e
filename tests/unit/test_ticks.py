"""
Ticks: what the timer pool makes of the timers of schedules, whatever the code of a schedule does.
"""

import msgspec
import pytest

from holdfast import App, Schedule
from holdfast.actors.ticks import Ticks
from holdfast.brokers.memory import MemoryJournal, MemoryServer
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.codec import decode_envelope, encode, encode_envelope
from holdfast.runtime.message import Command
from holdfast.runtime.timers import Due
from holdfast.runtime.timetable import SCHEDULE_TYPE, Cause, SendTick
from tests import controls
from tests.unit.trouble import Unspeakable


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (LookupError("no"), "LookupError: no"),
        (SystemExit(1), "SystemExit: 1"),
        (Unspeakable(), "Unspeakable: its message cannot be told: LookupError"),
    ],
)
def test_whatever_a_schedule_raises_is_told_to_it(error: BaseException, text: str) -> None:
    """
    Its tick has failed, and the timers behind it are sent.
    """

    def command(tick: object) -> Command:
        raise error

    app = App(workflows=[controls.Order], schedules=[Schedule("nightly", command, cron="0 2 * * *")])
    clock = ManualClock(controls.NOW)
    journal = MemoryJournal(MemoryServer(controls.PARTITIONS, clock))
    ticks = Ticks(app, journal, clock, partitions=controls.PARTITIONS, payload_bytes_max=10_000)
    send = SendTick("nightly", "t-1", controls.NOW_MS, Cause.TRIGGER)
    envelope = msgspec.structs.replace(
        controls.envelope(), workflow=SCHEDULE_TYPE, key="nightly", payload=encode(send)
    )

    ((_, body),) = ticks.messages(Due(0, "1-0", encode_envelope(envelope), controls.NOW_MS))

    report = msgspec.msgpack.decode(decode_envelope(body).payload)
    assert ("holdfast.TickFailed", text) == (report["type"], report["error"])
