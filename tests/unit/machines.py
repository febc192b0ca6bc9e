"""
Workflows to be drawn: one with statuses, one without, and one whose every name is hostile.
"""

from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Annotated, Never

import msgspec

from holdfast.runtime.decision import Decision, accept, reject
from holdfast.runtime.message import Command, Effect, Event
from holdfast.runtime.workflow import Workflow

# -- a loan, whose state has an Enum; its time limit is found by waiting, and its amount by reading the state


class Stage(StrEnum):
    EMPTY = "empty"
    ASKED = "asked for"
    GRANTED = "granted"
    REPAID = "repaid"
    LAPSED = "lapsed"


class AskForLoan(Command, frozen=True):
    loan: str
    amount: Annotated[int, msgspec.Meta(ge=1_000, le=2_000)]


class GrantLoan(Command, frozen=True):
    loan: str
    code: str


class Repay(Command, frozen=True):
    loan: str
    amount: int


class Lapse(Command, frozen=True):
    loan: str


class Sign(Command, frozen=True):
    loan: str
    magic: str


class LoanAsked(Event, frozen=True):
    amount: int
    until: datetime


class LoanGranted(Event, frozen=True):
    pass


class LoanRepaid(Event, frozen=True):
    amount: int


class LoanLapsed(Event, frozen=True):
    pass


class CheckCredit(Effect, frozen=True):
    amount: int
    code: str


class PayOut(Effect, frozen=True):
    amount: int


class LoanState(msgspec.Struct, frozen=True):
    stage: Stage = Stage.EMPTY
    due: int = 0
    until: datetime | None = None


LoanCommand = AskForLoan | GrantLoan | Repay | Lapse | Sign
LoanEvent = LoanAsked | LoanGranted | LoanRepaid | LoanLapsed


class Loan(Workflow[LoanState, LoanCommand, LoanEvent, CheckCredit | PayOut]):
    type = "loan"
    key = "loan"

    def initial(self) -> LoanState:
        return LoanState()

    def evolve(self, state: LoanState, event: LoanEvent) -> LoanState:
        match event:
            case LoanAsked(amount=amount, until=until):
                return LoanState(Stage.ASKED, amount, until)
            case LoanGranted():
                return msgspec.structs.replace(state, stage=Stage.GRANTED)
            case LoanRepaid(amount=amount):
                left = state.due - amount
                return msgspec.structs.replace(state, stage=state.stage if left else Stage.REPAID, due=left)
            case LoanLapsed():
                return msgspec.structs.replace(state, stage=Stage.LAPSED)

    def decide(
        self, now: datetime, state: LoanState, command: LoanCommand
    ) -> Decision[LoanEvent, CheckCredit | PayOut]:
        match command, state.stage:
            case AskForLoan(loan=loan, amount=amount), Stage.EMPTY:
                until = now + timedelta(days=30)
                asked = accept(LoanAsked(amount, until)).effect(CheckCredit(amount, "0b"))
                return asked.timer(Lapse(loan), key="lapse", at=until)
            # The code is nowhere but in the effect that the answer is to.
            case GrantLoan(code="0b"), Stage.ASKED:
                return accept(LoanGranted()).effect(PayOut(state.due)).cancel("lapse")
            case Lapse(), Stage.ASKED if state.until is not None and now >= state.until:
                return accept(LoanLapsed())
            case Repay(amount=amount), Stage.GRANTED if 0 < amount <= state.due:
                return accept(LoanRepaid(amount))
            case Sign(magic="open sesame"), _:
                return accept(LoanGranted())
            case Sign(), Stage.GRANTED:
                raise ValueError("nobody expects this")
            case _:
                return reject("no")

    def is_terminal(self, state: LoanState) -> bool:
        return state.stage in (Stage.REPAID, Stage.LAPSED)


# -- a counter without statuses: what happened last has to do


class Count(Command, frozen=True):
    name: int


class Counted(Event, frozen=True):
    pass


class Full(Event, frozen=True):
    pass


class Counter(Workflow[int, Count, Counted | Full, Never]):
    type = "counter"
    key = "name"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Counted | Full) -> int:
        return state + 1

    def decide(self, now: datetime, state: int, command: Count) -> Decision[Counted | Full, Never]:
        return accept(Full() if state == 2 else Counted())

    def is_terminal(self, state: int) -> bool:
        return state == 3


# -- hostile names


class Trouble(Enum):
    FIRST = 'a "quoted" {state}: \\N --> [*]; %% end note\n<b>&amp;</b> #35;'
    SECOND = "a_quoted"
    THIRD = "a-quoted"


class Go(Command, frozen=True, tag='Go"; } digraph'):
    key: str


class Gone(Event, frozen=True, tag="Gone\nend note\n}}%%{init: {}}%%"):
    pass


class Hostile(Workflow[int, Go, Gone, Never]):
    type = "hostile"
    key = "key"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Gone) -> int:
        return state + 1

    def decide(self, now: datetime, state: int, command: Go) -> Decision[Gone, Never]:
        return accept(Gone()) if state < 2 else reject("enough")

    def status(self, state: int) -> str:
        return str(list(Trouble)[state].value)
