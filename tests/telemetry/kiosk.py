"""
The app of the telemetry tests: a kiosk that does one of everything that is measured.
"""

import logging
import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from holdfast import (
    App,
    CheckpointStore,
    Command,
    Decision,
    Effect,
    EffectContext,
    Event,
    Permanent,
    Projection,
    ProjectionContext,
    Retry,
    Workflow,
    accept,
    on,
    reject,
)
from holdfast.actors.telemetry import exporters
from holdfast.actors.tracing import setup
from tests.support.processes import SECONDS_MAX

log = logging.getLogger("kiosk")

#: Names a file; while it is not there, `Hold` does not end.
ENV_LET_GO = "KIOSK_LET_GO"
#: Set where a test counts on what is exported at the end: a collector that stands still for some seconds is waited for.
ENV_PATIENT = "KIOSK_PATIENT"
if ENV_PATIENT in os.environ:
    exporters.FLUSH_S = setup.FLUSH_S = SECONDS_MAX


class Buy(Command, frozen=True):
    kiosk: str
    how: str = ""


class Delivered(Command, frozen=True):
    kiosk: str


class Closed(Command, frozen=True):
    kiosk: str


class Bought(Event, frozen=True):
    how: str


class Noted(Event, frozen=True):
    what: str


class Deliver(Effect, frozen=True):
    how: str


class Block(Effect, frozen=True):
    seconds: float


class Hold(Effect, frozen=True):
    """
    Lasts until the test lets it go.
    """


class State(msgspec.Struct, frozen=True):
    bought: int = 0


class Kiosk(Workflow[State, Buy | Delivered | Closed, Bought | Noted, Deliver | Block | Hold]):
    type = "kiosk"
    key = "kiosk"

    def initial(self) -> State:
        return State()

    def evolve(self, state: State, event: Bought | Noted) -> State:
        return State(state.bought + isinstance(event, Bought))

    def decide(
        self, now: datetime, state: State, command: Buy | Delivered | Closed
    ) -> Decision[Bought | Noted, Deliver | Block | Hold]:
        log.info("kiosk decides", extra={"bought": state.bought})
        match command:
            case Buy(how="too much"):
                return reject("sold out")
            case Buy(how="wrong"):
                message = "that cannot be bought"
                raise LookupError(message)
            case Buy(how="nothing"):
                return accept(Bought("nothing"))
            case Buy(how="late"):
                return accept(Bought("late")).timer(Closed(command.kiosk), after=timedelta(hours=1))
            case Buy(how="block"):
                return accept(Bought("block")).effect(Block(1.6))
            case Buy(how="hold"):
                return accept(Bought("hold")).effect(Hold())
            case Buy(how=how):
                return (
                    accept(Bought(how))
                    .effect(Deliver(how))
                    .timer(Closed(command.kiosk), after=timedelta(milliseconds=50))
                )
            case _:
                return accept(Noted(type(command).__name__))

    def is_terminal(self, state: State) -> bool:
        return False


class Sales(Projection):
    name = "sales"
    source = Kiosk
    store = CheckpointStore()

    @on(Bought)
    async def bought(self, event: Bought, ctx: ProjectionContext) -> None:
        log.info("kiosk sold", extra={"how": event.how})


app = App(workflows=[Kiosk], projections=[Sales()])


@app.effect(Deliver, retry=Retry(attempts=3, first=0.05))
def deliver(effect: Deliver, ctx: EffectContext) -> Delivered:
    log.warning("kiosk delivers", extra={"how": effect.how})
    if effect.how == "never":
        message = "no such thing"
        raise Permanent(message)
    if effect.how == "twice" and ctx.attempt == 1:
        message = "once more"
        raise LookupError(message)
    return Delivered(ctx.key)


@app.effect(Block, retry=Retry(attempts=2, first=300))
async def block(effect: Block, ctx: EffectContext) -> None:
    log.warning("kiosk blocks")
    time.sleep(effect.seconds)  # noqa: ASYNC251 - that is what is measured
    message = "again in five minutes"
    raise LookupError(message)


@app.effect(Hold)
def hold(effect: Hold, ctx: EffectContext) -> None:
    log.warning("kiosk holds")
    while not Path(os.environ[ENV_LET_GO]).exists():
        time.sleep(0.01)
