"""
The apps of the schedule tests: bells that record for which tick they rang, as first deployed and as deployed next.
"""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Never

from holdfast import App, CatchUp, Command, Decision, Event, Overlap, Schedule, Workflow, accept

#: Names a file in the environment; while it is not there, the schedule `faulty` cannot make its command.
ENV_MENDED = "BELLS_MENDED"


class Strike(Command, frozen=True):
    """
    Rings for a tick.
    """

    bell: str
    tick: datetime


class Stop(Command, frozen=True):
    """
    Ends a bell.
    """

    bell: str


class Struck(Event, frozen=True):
    tick: datetime


class Stopped(Event, frozen=True):
    pass


class Bell(Workflow[int, Strike | Stop, Struck | Stopped, Never]):
    type = "bell"
    key = "bell"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Struck | Stopped) -> int:
        return state + 1 if isinstance(event, Struck) else -1

    def decide(self, now: datetime, state: int, command: Strike | Stop) -> Decision[Struck | Stopped, Never]:
        if isinstance(command, Stop):
            return accept(Stopped())
        return accept(Struck(command.tick))

    def is_terminal(self, state: int) -> bool:
        return state < 0


def yearly(name: str, **others: object) -> Schedule:
    """
    A schedule whose ticks no test lives to see; its bells are of one name.
    """
    return Schedule(name=name, cron="@yearly", command=lambda tick: Strike(name, tick), **others)  # type: ignore[arg-type]  # by name


def faulty(tick: datetime) -> Strike:
    if not Path(os.environ.get(ENV_MENDED, "/nowhere")).exists():
        message = "not yet"
        raise LookupError(message)
    return Strike("faulty", tick)


second = Schedule(
    name="second",
    every=timedelta(seconds=1),
    command=lambda tick: Strike(f"second-{tick:%Y%m%d%H%M%S}", tick),
    catch_up=CatchUp.ALL,
)
even = Schedule(
    name="even",
    every=timedelta(seconds=1),
    command=lambda tick: Strike("even", tick),
    filter=lambda tick: tick.second % 2 == 0,
)

app = App(workflows=[Bell], schedules=[second])
small_app = App(
    workflows=[Bell],
    schedules=[
        yearly("plain"),
        yearly("single", overlap=Overlap.SKIP),
        yearly("queued", overlap=Overlap.QUEUE),
        Schedule(
            name="daily", cron="0 2 * * *", tz="Europe/Berlin", command=lambda tick: Strike("daily", tick)
        ),
        Schedule(name="faulty", cron="@yearly", command=faulty),
    ],
)
#: What is deployed after it: `daily` comes at another time, `single` has gone, `even` is new.
next_app = App(
    workflows=[Bell],
    schedules=[
        yearly("plain"),
        Schedule(
            name="daily", cron="0 3 * * *", tz="Europe/Berlin", command=lambda tick: Strike("daily", tick)
        ),
        even,
    ],
)
