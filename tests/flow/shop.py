"""
The app that the flow tests run: a ledger whose log says who sent each command, and which of his it was.

So the log alone shows whether a command was lost, doubled or overtaken (tests/flow/checker.py). `app` is what most
workers run; `next_app` is what is deployed after it, and knows one command more.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Never

import msgspec

from holdfast import App, Command, Decision, Event, Workflow, accept, reject

#: Names a file in the workers' environment; while it is not there, the bugs in `decide` are.
ENV_MENDED = "SHOP_MENDED"

# -- commands


class Post(Command, frozen=True):
    account: str
    sender: str
    number: int


class Overdraw(Command, frozen=True):
    """
    Always refused.
    """

    account: str
    sender: str
    number: int


class Close(Command, frozen=True):
    account: str
    sender: str
    number: int


class Stumble(Command, frozen=True):
    """
    Makes `decide` raise, until that is mended.
    """

    account: str
    sender: str
    number: int


class Kill(Command, frozen=True):
    """
    Makes `decide` end the process, until that is mended.
    """

    account: str
    sender: str
    number: int


class Refund(Command, frozen=True):
    """
    Known to the next version only.
    """

    account: str
    sender: str
    number: int


# -- events


class Posted(Event, frozen=True):
    sender: str
    number: int


class Closed(Event, frozen=True):
    sender: str
    number: int


# -- state


class Balance(msgspec.Struct, frozen=True):
    count: int = 0
    closed: bool = False


Known = Post | Overdraw | Close | Stumble | Kill
Fact = Posted | Closed


def evolved(state: Balance, event: Fact) -> Balance:
    return Balance(state.count + 1, closed=isinstance(event, Closed))


def decided(command: Known | Refund) -> Decision[Fact, Never]:
    if isinstance(command, Overdraw):
        return reject("overdrawn", {"sender": command.sender, "number": command.number})
    if isinstance(command, Kill) and not mended():
        os._exit(9)
    if isinstance(command, Stumble) and not mended():
        message = f"stumbled over {command.number}"
        raise LookupError(message)
    if isinstance(command, Close):
        return accept(Closed(command.sender, command.number))
    return accept(Posted(command.sender, command.number))


def mended() -> bool:
    return Path(os.environ.get(ENV_MENDED, "/nowhere")).exists()


def read_old(values: dict[str, Any]) -> dict[str, Any]:
    """
    Make a Post of what senders used to send; one who left out the amount makes it raise a KeyError.
    """
    return {"type": "Post", "account": values["account"], "sender": "old", "number": values["amount"]}


class Ledger(Workflow[Balance, Known, Fact, Never]):
    type = "ledger"
    key = "account"
    upcasters: ClassVar[Mapping[str, Any]] = {"OldPost": read_old}

    def initial(self) -> Balance:
        return Balance()

    def evolve(self, state: Balance, event: Fact) -> Balance:
        return evolved(state, event)

    def decide(self, now: datetime, state: Balance, command: Known) -> Decision[Fact, Never]:
        return decided(command)

    def is_terminal(self, state: Balance) -> bool:
        return state.closed


class NextLedger(Workflow[Balance, Known | Refund, Fact, Never]):
    type = "ledger"
    key = "account"

    def initial(self) -> Balance:
        return Balance()

    def evolve(self, state: Balance, event: Fact) -> Balance:
        return evolved(state, event)

    def decide(self, now: datetime, state: Balance, command: Known | Refund) -> Decision[Fact, Never]:
        return decided(command)

    def is_terminal(self, state: Balance) -> bool:
        return state.closed


# -- seats


class Sit(Command, frozen=True):
    guest: str
    seat: str


class Sat(Event, frozen=True):
    seat: str


class Guest(Workflow[str, Sit, Sat, Never]):
    """
    No two sit on one seat; an empty name is no seat, and "home" is the end.
    """

    type = "guest"
    key = "guest"

    def initial(self) -> str:
        return ""

    def evolve(self, state: str, event: Sat) -> str:
        return event.seat

    def decide(self, now: datetime, state: str, command: Sit) -> Decision[Sat, Never]:
        return accept(Sat(command.seat))

    def is_terminal(self, state: str) -> bool:
        return state == "home"

    def unique_key(self, state: str) -> str | None:
        return state or None


# -- a book that is kept in order, whatever happens


class Write(Command, frozen=True):
    """
    Line 13 makes `decide` raise, until that is mended.
    """

    book: str
    line: int


class Written(Event, frozen=True):
    line: int


class Book(Workflow[int, Write, Written, Never]):
    type = "book"
    key = "book"
    pause_on_dead_letter = True

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Written) -> int:
        return event.line

    def decide(self, now: datetime, state: int, command: Write) -> Decision[Written, Never]:
        if command.line == 13 and not mended():
            message = "bad luck"
            raise LookupError(message)
        return accept(Written(command.line))


app = App(workflows=[Ledger, Guest, Book])
next_app = App(workflows=[NextLedger, Guest, Book])
