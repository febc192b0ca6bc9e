"""The workflow of the benchmarks about growth: an account, with a figure and a word in each event, that can be closed."""

from __future__ import annotations

from datetime import datetime
from typing import Never

import msgspec

from holdfast import App, Command, Decision, Event, Workflow, accept, reject


class Deposit(Command, frozen=True):
    """Put money in."""

    account: str
    cents: int
    reference: str


class Close(Command, frozen=True):
    """End it."""

    account: str


class Deposited(Event, frozen=True):
    """Money was put in."""

    cents: int
    reference: str


class Closed(Event, frozen=True):
    """It has ended."""


class Balance(msgspec.Struct, frozen=True):
    """How much there is, and how it came."""

    cents: int = 0
    deposits: int = 0
    last: str = ""
    closed: bool = False


class Account(Workflow[Balance, Deposit | Close, Deposited | Closed, Never]):
    """An account."""

    type = "account"
    key = "account"

    def initial(self) -> Balance:
        """Begin with nothing."""
        return Balance()

    def evolve(self, state: Balance, event: Deposited | Closed) -> Balance:
        """Add up."""
        if isinstance(event, Closed):
            return Balance(state.cents, state.deposits, state.last, closed=True)
        return Balance(state.cents + event.cents, state.deposits + 1, event.reference)

    def decide(
        self,
        now: datetime,  # noqa: ARG002 - at any time
        state: Balance,  # noqa: ARG002 - whatever there is
        command: Deposit | Close,
    ) -> Decision[Deposited | Closed, Never]:
        """Take what comes."""
        if isinstance(command, Close):
            return accept(Closed())
        if command.cents <= 0:
            return reject("nothing to put in")
        return accept(Deposited(command.cents, command.reference))

    def is_terminal(self, state: Balance) -> bool:
        """Say whether it was closed."""
        return state.closed


app = App(workflows=[Account])
