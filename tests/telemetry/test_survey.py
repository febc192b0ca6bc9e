"""
The survey of the installation: how often there is a look, and for how long what was found is told.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from holdfast.actors.telemetry import survey
from holdfast.actors.telemetry.metrics import KEPT, Metric
from holdfast.actors.telemetry.survey import Findings, Surveyor
from holdfast.runtime.errors import Unavailable
from tests.support.processes import eventually
from tests.telemetry import kiosk

Told = Mapping[tuple[str, ...], float]


class Office:
    """
    A surveyor whose looks take as long, and find, as much as the test says; and what a meter is told.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        #: How many dead letters a look finds, None where the servers are away; and how long it takes.
        self.finds: tuple[int | None, float] = 0, 0.0
        self.looks = 0
        self._reads: dict[Metric, Callable[[], Told]] = {}
        monkeypatch.setattr(survey, "monotonic", lambda: self.now)
        monkeypatch.setattr(survey, "survey", self._survey)
        monkeypatch.setattr(survey, "SURVEY_S", 0.01)
        nobody: Any = self
        self.surveyor = Surveyor(kiosk.app, lambda: nobody, nobody, lambda: True)
        self.surveyor.report_to(nobody)

    def _survey(self, *_: object) -> Findings:
        found, (kept, takes_s) = Findings(self.now), self.finds
        self.now += takes_s
        self.looks += 1
        if kept is None:
            message = "Redis does not answer"
            raise Unavailable(message)
        found.values[KEPT] = {(): kept}
        return found

    def gauge(self, metric: Metric, read: Callable[[], Told]) -> None:
        """
        Take what a meter would.
        """
        self._reads[metric] = read

    def close(self) -> None:
        """
        Close the ports that there are none of.
        """

    def told(self) -> Told:
        return self._reads[KEPT]()

    def await_look(self) -> None:
        """
        Wait until one has begun and ended from now on. One may be under way, and each is counted before it has ended: so
        it is over when the third is counted.
        """
        before = self.looks
        eventually(lambda: self.looks > before + 2)


@pytest.fixture(name="office")
def _office(monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    it = Office(monkeypatch)
    it.surveyor.start()
    try:
        yield it
    finally:
        it.surveyor.stop()
        # Later it would look with what the test had not put in its place any more.
        it.surveyor._thread.join(40)


def test_what_is_found_is_told_at_once(office: Office) -> None:
    """
    And never nothing in between two looks.
    """
    office.finds = 7, 0.0
    office.await_look()
    missing = threading.Event()

    def watch() -> None:
        while not missing.is_set() and office.looks < last:
            if not office.told():
                missing.set()

    last = office.looks + 50
    watcher = threading.Thread(target=watch)
    watcher.start()
    watcher.join(40)

    assert not watcher.is_alive()
    assert not missing.is_set()
    assert {(): 7} == office.told()


def test_a_look_that_fails_keeps_nothing_alive_and_puts_nothing_off(office: Office) -> None:
    """
    However long it has waited for a server: what was found before it is soon too old, and the next look comes as soon as
    ever.
    """
    office.finds = 7, 0.0
    office.await_look()
    office.finds = None, 30.0
    office.await_look()

    assert {} == office.told()

    office.finds = 8, 0.0
    office.await_look()
    assert {(): 8} == office.told()
