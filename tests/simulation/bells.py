"""
A schedule to simulate: a bell that is rung every few minutes, and counts for itself.
"""

from datetime import datetime, timedelta
from typing import Never

import msgspec

from holdfast import App, Command, Decision, Event, Schedule, Workflow, accept, reject


class Ring(Command):
    bell: str
    at: datetime


class Rang(Event):
    at: datetime


class Rung(msgspec.Struct, frozen=True):
    times: tuple[datetime, ...] = ()


class Bell(Workflow[Rung, Ring, Rang, Never]):
    type = "bell"
    key = "bell"

    def initial(self) -> Rung:
        return Rung()

    def evolve(self, state: Rung, event: Rang) -> Rung:
        return Rung((*state.times, event.at))

    def decide(self, now: datetime, state: Rung, command: Ring) -> Decision[Rang, Never]:
        if state.times and command.at <= state.times[-1]:
            return reject("that was rung before")
        return accept(Rang(command.at))


def bells() -> App:
    """
    Return an app whose bell is rung every ten minutes.
    """
    tower = Schedule(name="tower", every=timedelta(minutes=10), command=lambda tick: Ring("tower", tick))
    return App(workflows=[Bell], schedules=[tower])
