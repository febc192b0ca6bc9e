"""The workflow that the timer benchmark measures: an alarm that notes when it went off."""

from __future__ import annotations

from datetime import datetime
from typing import Never

import msgspec

from holdfast import App, Command, Decision, Event, Workflow, accept


class Arm(Command, frozen=True):
    """Set the alarm."""

    alarm: str
    at: datetime


class Ring(Command, frozen=True):
    """Go off; sent by the timer."""

    alarm: str
    due: datetime


class Armed(Event, frozen=True):
    """The alarm was set."""

    at: datetime


class Rang(Event, frozen=True):
    """The alarm went off."""

    due: datetime


class Bell(msgspec.Struct, frozen=True):
    """How often it was set and went off."""

    armed: int = 0
    rang: int = 0


class Alarm(Workflow[Bell, Arm | Ring, Armed | Rang, Never]):
    """An alarm clock."""

    type = "alarm"
    key = "alarm"

    def initial(self) -> Bell:
        """Begin silent."""
        return Bell()

    def evolve(self, state: Bell, event: Armed | Rang) -> Bell:
        """Count."""
        if isinstance(event, Armed):
            return Bell(state.armed + 1, state.rang)
        return Bell(state.armed, state.rang + 1)

    def decide(self, now: datetime, state: Bell, command: Arm | Ring) -> Decision[Armed | Rang, Never]:  # noqa: ARG002 - the contract's arguments
        """Set a timer, or note that it came."""
        if isinstance(command, Arm):
            return accept(Armed(command.at)).timer(Ring(command.alarm, command.at), at=command.at)
        return accept(Rang(command.due))

    def is_terminal(self, state: Bell) -> bool:
        """Go off once."""
        return state.rang > 0


app = App(workflows=[Alarm])
