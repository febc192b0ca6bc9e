"""
The app of these tests: boxes that use everything there is, and whose contents nobody else is to see.
"""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Never

import msgspec

from holdfast import (
    App,
    Command,
    Decision,
    Effect,
    EffectContext,
    Event,
    Permanent,
    Projection,
    ProjectionContext,
    RedisStore,
    Retry,
    Schedule,
    Workflow,
    accept,
    on,
    reject,
)

#: Names the file in which the projection notes what it has seen.
ENV_SEEN = "BOXES_SEEN"


class Put(Command, frozen=True):
    box: str
    item: str


class Price(Command, frozen=True):
    box: str
    item: str
    amount: int


class Remind(Command, frozen=True):
    box: str
    item: str


class Refuse(Command, frozen=True):
    box: str
    item: str


class Stumble(Command, frozen=True):
    """
    Makes `decide` raise, with the item in the error.
    """

    box: str
    item: str


class Close(Command, frozen=True):
    box: str


class Stored(Event, frozen=True):
    item: str


class Priced(Event, frozen=True):
    item: str
    amount: int


class Reminded(Event, frozen=True):
    item: str


class Closed(Event, frozen=True):
    pass


class Appraise(Effect, frozen=True):
    box: str
    item: str


class Contents(msgspec.Struct, frozen=True):
    items: tuple[str, ...] = ()
    prices: tuple[int, ...] = ()
    reminders: int = 0
    closed: bool = False


Known = Put | Price | Remind | Refuse | Stumble | Close
Fact = Stored | Priced | Reminded | Closed


class Box(Workflow[Contents, Known, Fact, Appraise]):
    type = "box"
    key = "box"
    observe_inputs = True

    def initial(self) -> Contents:
        return Contents()

    def evolve(self, state: Contents, event: Fact) -> Contents:
        match event:
            case Stored(item=item):
                return msgspec.structs.replace(state, items=(*state.items, item))
            case Priced(amount=amount):
                return msgspec.structs.replace(state, prices=(*state.prices, amount))
            case Reminded():
                return msgspec.structs.replace(state, reminders=state.reminders + 1)
            case Closed():
                return msgspec.structs.replace(state, closed=True)

    def decide(self, now: datetime, state: Contents, command: Known) -> Decision[Fact, Appraise]:
        match command:
            case Put(box=box, item=item):
                remind = Remind(box, item)
                far = timedelta(days=1) if "later" in item else timedelta(milliseconds=50)
                return accept(Stored(item)).effect(Appraise(box, item)).timer(remind, after=far)
            case Price(item=item, amount=amount):
                return accept(Priced(item, amount))
            case Remind(item=item):
                return accept(Reminded(item))
            case Refuse(item=item):
                return reject(f"no {item} here", {"item": item})
            case Stumble(item=item):
                message = f"stumbled over {item}"
                raise LookupError(message)
            case Close():
                return accept(Closed())

    def is_terminal(self, state: Contents) -> bool:
        return state.closed


class Ring(Command, frozen=True):
    bell: str


class Rung(Event, frozen=True):
    pass


class Bell(Workflow[int, Ring, Rung, Never]):
    type = "bell"
    key = "bell"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Rung) -> int:
        return state + 1

    def decide(self, now: datetime, state: int, command: Ring) -> Decision[Rung, Never]:
        return accept(Rung())

    def is_terminal(self, state: int) -> bool:
        return False


class Seen(Projection):
    """
    Counts what was stored, in Redis, and notes the items where the test can see them.
    """

    name = "seen"
    source = (Box,)
    store = RedisStore()
    retry = Retry(attempts=2, first=0.01)

    @on(Stored)
    def stored(self, event: Stored, ctx: ProjectionContext) -> None:
        if "unlucky" in event.item:
            message = f"chokes on {event.item}"
            raise ValueError(message)
        ctx.tx.pipe.hincrby(ctx.tx.key("count"), "items", 1)
        if os.environ.get(ENV_SEEN):
            with Path(os.environ[ENV_SEEN]).open("a") as file:
                file.write(f"{event.item}\n")


app = App(
    workflows=[Box, Bell],
    projections=[Seen()],
    schedules=[Schedule(name="bell", every=timedelta(seconds=1), command=lambda _tick: Ring("b"))],
)


@app.effect(Appraise, retry=Retry(attempts=3, first=0.01))
def appraise(effect: Appraise, ctx: EffectContext) -> Price:
    """
    Fails at first for some items, for good for others.
    """
    if "hopeless" in effect.item:
        message = f"nobody wants {effect.item}"
        raise Permanent(message)
    if "slow" in effect.item and ctx.attempt < 2:
        message = f"not yet: {effect.item}"
        raise ConnectionError(message)
    return Price(effect.box, effect.item, len(effect.item))
