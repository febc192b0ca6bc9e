"""
Tenants to simulate, who move between rooms of which each takes only one of them.
"""

from datetime import datetime
from random import Random
from typing import Never

from holdfast import App, Command, Decision, Event, Workflow, accept, reject

TENANTS, ROOMS = ("ann", "bob", "cid"), ("blue", "green")


class Move(Command):
    """
    Asks for a room; no name gives the present one back, and `out` is for good.
    """

    tenant: str
    room: str


class Moved(Event):
    room: str


class Tenant(Workflow[str, Move, Moved, Never]):
    type = "tenant"
    key = "tenant"

    def initial(self) -> str:
        return ""

    def evolve(self, state: str, event: Moved) -> str:
        return event.room

    def decide(self, now: datetime, state: str, command: Move) -> Decision[Moved, Never]:
        return reject("there already") if command.room == state else accept(Moved(command.room))

    def is_terminal(self, state: str) -> bool:
        return state == "out"

    def unique_key(self, state: str) -> str | None:
        return state or None


def tenants() -> App:
    """
    The app.
    """
    return App(workflows=[Tenant])


def moves(random: Random) -> list[list[Command]]:
    """
    What three senders ask for.
    """
    rooms = (*ROOMS * 4, "", "", "out")
    return [
        [Move(random.choice(TENANTS), random.choice(rooms)) for _ in range(random.randint(1, 8))]
        for _ in range(3)
    ]
