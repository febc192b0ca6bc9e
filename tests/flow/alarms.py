"""
The app of the timer tests: alarms, which record when they rang and for what.
"""

from datetime import datetime, timedelta
from typing import Never

import msgspec

from holdfast import App, Command, Decision, Event, Workflow, accept

# -- commands


class Arm(Command, frozen=True):
    """
    Sets a timer, which replaces the pending one of its slot; without a slot it replaces none.
    """

    alarm: str
    mark: str
    after_ms: int = 0
    at: datetime | None = None
    slot: str | None = None


class Disarm(Command, frozen=True):
    """
    Cancels the timer of a slot, and sets it again in the same decision if it is told to.
    """

    alarm: str
    slot: str
    again_ms: int = -1


class Smash(Command, frozen=True):
    """
    Ends the alarm's life.
    """

    alarm: str


class Ring(Command, frozen=True):
    """
    What timers send.
    """

    alarm: str
    mark: str


class Repeat(Command, frozen=True):
    """
    A heartbeat: sets itself again in its own slot, so many times.
    """

    alarm: str
    left: int


# -- events


class Armed(Event, frozen=True):
    mark: str


class Disarmed(Event, frozen=True):
    slot: str


class Smashed(Event, frozen=True):
    pass


class Rang(Event, frozen=True):
    mark: str


# -- state


class Clock(msgspec.Struct, frozen=True):
    rang: tuple[str, ...] = ()
    smashed: bool = False


Told = Arm | Disarm | Smash | Ring | Repeat
Fact = Armed | Disarmed | Smashed | Rang


class Alarm(Workflow[Clock, Told, Fact, Never]):
    type = "alarm"
    key = "alarm"

    def initial(self) -> Clock:
        return Clock()

    def evolve(self, state: Clock, event: Fact) -> Clock:
        match event:
            case Rang(mark=mark):
                return msgspec.structs.replace(state, rang=(*state.rang, mark))
            case Smashed():
                return msgspec.structs.replace(state, smashed=True)
            case _:
                return state

    def decide(self, now: datetime, state: Clock, command: Told) -> Decision[Fact, Never]:
        name = command.alarm
        match command:
            case Arm(mark=mark, after_ms=after_ms, at=at, slot=slot):
                if at is not None:
                    return accept(Armed(mark)).timer(Ring(name, mark), at=at, key=slot)
                return accept(Armed(mark)).timer(Ring(name, mark), after=_ms(after_ms), key=slot)
            case Disarm(slot=slot, again_ms=again_ms):
                decision = accept(Disarmed(slot)).cancel(slot)
                if again_ms >= 0:
                    return decision.timer(Ring(name, f"{slot} again"), after=_ms(again_ms), key=slot)
                return decision
            case Smash():
                return accept(Smashed())
            case Ring(mark=mark):
                return accept(Rang(mark))
            case Repeat(left=0):
                return accept(Rang("0"))
            case Repeat(left=left):
                return accept(Rang(str(left))).timer(Repeat(name, left - 1), after=_ms(1), key="beat")

    def is_terminal(self, state: Clock) -> bool:
        return state.smashed


def _ms(count: int) -> timedelta:
    return timedelta(milliseconds=count)


app = App(workflows=[Alarm])
