"""
The app of the chaos run and of the crash points: mills, whose logs and read model show everything that was done to them.

A mill is asked for every kind of work that there is: plain commands, commands that are refused by what the state is,
effects with results, timers with and without a slot, and the ticks of a schedule. Every piece of work has a mark of its
own, so that the logs, the lines that handlers leave and the read model can be held against one another
(tests/chaos/history.py).

Workers of the last release run it too (tests/flow/test_releases.py): so it uses only what that has.
"""

import asyncio
import os
import random
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Never

import msgspec
import sqlalchemy as sa

import holdfast
from holdfast import (
    App,
    CatchUp,
    Command,
    Decision,
    Effect,
    EffectContext,
    EffectFailed,
    Event,
    Limit,
    Permanent,
    Projection,
    ProjectionContext,
    RedisStore,
    Retry,
    Schedule,
    SqlStore,
    Workflow,
    accept,
    on,
    reject,
)
from holdfast.runtime.projection import Store
from holdfast.runtime.retention import Archived, Retention

#: Names a folder in the environment, where handlers leave their lines and the read model is.
ENV_FOLDER = "MILL_FOLDER"
#: Where the read model is kept: `sqlite` in that folder, or `redis`.
ENV_STORE = "MILL_STORE"
#: Names the worker in the environment, where several versions of Holdfast work together: each signs what it does.
ENV_SIGNED = "MILL_SIGNED"

#: The mill that the schedule's ticks come to.
BELL = "bell"


# -- commands


class Grind(Command, frozen=True):
    """
    Always accepted.
    """

    mill: str
    sender: str
    number: int


class Guard(Command, frozen=True):
    """
    Accepted where the mill has done an even number of things; refused, with that number, where it has not.
    """

    mill: str
    sender: str
    number: int


class Fetch(Command, frozen=True):
    """
    Asks for an effect, which does what `how` says.
    """

    mill: str
    sender: str
    number: int
    how: str


class Wind(Command, frozen=True):
    """
    Sets a timer, which replaces the pending one of its slot; without a slot it replaces none.
    """

    mill: str
    sender: str
    number: int
    after_ms: int
    slot: str | None = None


class Rent(Command, frozen=True):
    """
    Takes the only room of its name; refused while another mill has it. No name gives the room back.
    """

    mill: str
    sender: str
    number: int
    room: str


class Poison(Command, frozen=True):
    """
    Leads to an event that the projection cannot apply, while a file says so.
    """

    mill: str
    sender: str
    number: int


class Choke(Command, frozen=True):
    """
    Makes `decide` raise, while a file says so.
    """

    mill: str
    sender: str
    number: int


class Fetched(Command, frozen=True):
    """
    What the effect's handler returns.
    """

    mill: str
    mark: str


class Failed(EffectFailed, frozen=True, kw_only=True):
    """
    What the mill is told of an effect that was given up.
    """

    mill: str


class Ring(Command, frozen=True):
    """
    What timers send.
    """

    mill: str
    mark: str


class Beat(Command, frozen=True):
    """
    What the schedule sends.
    """

    mill: str
    tick: datetime


# -- events


class Did(Event, frozen=True):
    """
    A sender's command was decided; what it asks for has the mark of sender and number.
    """

    sender: str
    number: int
    what: str
    after_ms: int = 0
    slot: str | None = None
    room: str | None = None


class Brought(Event, frozen=True):
    mark: str


class GaveUp(Event, frozen=True):
    effect_id: str


class Rang(Event, frozen=True):
    mark: str


class Struck(Event, frozen=True):
    tick: datetime


Told = Grind | Guard | Fetch | Wind | Rent | Poison | Choke | Fetched | Failed | Ring | Beat
Fact = Did | Brought | GaveUp | Rang | Struck


# -- effects


class Errand(Effect, frozen=True):
    """
    With a handler on a thread.
    """

    mark: str
    how: str


class AsyncErrand(Effect, frozen=True):
    """
    With a coroutine as its handler.
    """

    mark: str
    how: str


class LateErrand(Effect, frozen=True):
    """
    Waits in the schedule between its attempts; not many run at once.
    """

    mark: str
    how: str


# -- state


class Mill(msgspec.Struct, frozen=True):
    #: How many events there were.
    count: int = 0
    room: str = ""


def mark_of(sender: str, number: int) -> str:
    return f"{sender}.{number}"


class Milling(Workflow[Mill, Told, Fact, Errand | AsyncErrand | LateErrand]):
    type = "mill"
    key = "mill"

    def initial(self) -> Mill:
        return Mill()

    def evolve(self, state: Mill, event: Fact) -> Mill:
        room = event.room if isinstance(event, Did) else None
        return Mill(state.count + 1, state.room if room is None else room)

    def decide(
        self, now: datetime, state: Mill, command: Told
    ) -> Decision[Fact, Errand | AsyncErrand | LateErrand]:
        match command:
            case Fetched(mark=mark):
                sign("brought", mark)
                return accept(Brought(mark))
            case Failed(effect_id=effect_id):
                return accept(GaveUp(effect_id))
            case Ring(mark=mark):
                sign("rang", mark)
                return accept(Rang(mark))
            case Beat(tick=tick):
                return accept(Struck(tick))
            case Choke(number=number) if Path(os.environ.get(ENV_FOLDER, "."), "choke").exists():
                message = f"choked on {number}"
                raise LookupError(message)
            case Guard() if state.count % 2:
                return reject("odd", {"count": state.count})
        did = Did(command.sender, command.number, type(command).__name__)
        mark = mark_of(command.sender, command.number)
        sign("decided", mark)
        match command:
            case Fetch(how=how, number=number):
                kind = LateErrand if how == "later" else AsyncErrand if number % 2 else Errand
                return accept(did).effect(kind(mark, how))
            case Wind(after_ms=after_ms, slot=slot):
                did = msgspec.structs.replace(did, after_ms=after_ms, slot=slot)
                after = timedelta(milliseconds=after_ms)
                return accept(did).timer(Ring(command.mill, mark), after=after, key=slot)
            case Rent(room=room):
                return accept(msgspec.structs.replace(did, room=room))
        return accept(did)

    def is_terminal(self, state: Mill) -> bool:
        return False

    def unique_key(self, state: Mill) -> str | None:
        return state.room or None


# -- what handlers leave behind


def note(ctx: EffectContext, mark: str) -> None:
    """
    Leave a line: the mark, the attempt and the idempotency key.
    """
    sign("ran", mark)
    append("errands", f"{mark} {ctx.attempt} {ctx.idempotency_key}")


def sign(what: str, mark: object) -> None:
    """
    Leave a line that says which worker did something, where that is wanted.
    """
    name = os.environ.get(ENV_SIGNED)
    if name:
        append("signed", f"{what} {mark} {name} {holdfast.__file__}")


def append(name: str, line: str) -> None:
    """
    Put a line at the end of a file that all workers write to.
    """
    path = Path(os.environ[ENV_FOLDER], name)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def misbehave(how: str, ctx: EffectContext) -> None:
    if how == "doomed":
        message = "the road is closed"
        raise Permanent(message)
    if how in ("again", "later") and ctx.attempt < 2:
        message = "not yet"
        raise LookupError(message)


#: Attempts enough for any number of workers that die under an effect.
RETRY = Retry(attempts=50, first=0.05, factor=1.2)
#: Waits in the schedule between its attempts.
RETRY_LATER = Retry(attempts=50, first=1.0, factor=1.0)


metadata = sa.MetaData()
lines = sa.Table(
    "lines",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("mill", sa.Text, index=True),
    sa.Column("event", sa.Text),
    sa.Column("position", sa.Text),
)


def store_url() -> str:
    return f"sqlite:///{os.environ.get(ENV_FOLDER, '.')}/board.db"


def store() -> Store:
    return RedisStore() if os.environ.get(ENV_STORE) == "redis" else SqlStore(store_url(), metadata)


class Board(Projection):
    """
    Every event of every mill, in the order in which they were applied, and where each was in the feed.
    """

    name = "board"
    source = Milling
    retry = Retry(attempts=3, first=0.05)

    def __init__(self) -> None:
        self.store = store()

    @on(Did, Brought, GaveUp, Rang, Struck)
    def line(self, event: Fact, ctx: ProjectionContext) -> None:
        sign("applied", ctx.event_id)
        poisoned = isinstance(event, Did) and event.what == "Poison"
        if poisoned and Path(os.environ.get(ENV_FOLDER, "."), "poison").exists():
            message = "cannot swallow that"
            raise LookupError(message)
        if isinstance(self.store, RedisStore):
            ctx.tx.pipe.rpush(ctx.tx.key(f"lines:{ctx.key}"), f"{ctx.event_id} {ctx.position}")
        else:
            table = ctx.tx.table(lines)
            row = {"mill": ctx.key, "event": ctx.event_id, "position": ctx.position}
            ctx.tx.execute(sa.insert(table), row)


# -- hoppers: logs that are cut off behind their snapshots, and instances that come to an end and are deleted


class Pour(Command, frozen=True):
    hopper: str
    number: int


class Empty(Command, frozen=True):
    """
    Ends the hopper.
    """

    hopper: str


class Poured(Event, frozen=True):
    number: int


class Emptied(Event, frozen=True):
    pass


class Level(msgspec.Struct, frozen=True):
    numbers: tuple[int, ...] = ()
    empty: bool = False


class Later(Command, frozen=True):
    """
    What the timer of an emptied hopper would send.
    """

    hopper: str


def archive(archived: Archived) -> None:
    """
    Leave a line for each instance that is to be deleted.
    """
    append("archive", f"{archived.key} {archived.run_state}")


class Hopper(Workflow[Level, Pour | Empty | Later, Poured | Emptied, Never]):
    type = "hopper"
    key = "hopper"
    keep_records = 3
    retention = Retention(completed=timedelta(seconds=1), cancelled=timedelta(seconds=1), archive=archive)

    def initial(self) -> Level:
        return Level()

    def evolve(self, state: Level, event: Poured | Emptied) -> Level:
        if isinstance(event, Emptied):
            return msgspec.structs.replace(state, empty=True)
        return Level((*state.numbers, event.number))

    def decide(
        self, now: datetime, state: Level, command: Pour | Empty | Later
    ) -> Decision[Poured | Emptied, Never]:
        match command:
            case Pour(number=number):
                # Something to be cleared away by who deletes it.
                return accept(Poured(number)).timer(
                    Later(command.hopper), after=timedelta(days=1), key="later"
                )
            case Empty():
                return accept(Emptied())
            case Later():
                return reject("too late")

    def is_terminal(self, state: Level) -> bool:
        return state.empty


# -- the apps

pulse = Schedule(
    name="pulse",
    every=timedelta(seconds=1),
    command=lambda tick: Beat(BELL, tick),
    catch_up=CatchUp.ALL,
)

app = App(workflows=[Milling, Hopper], projections=[Board()], schedules=[pulse])


@app.effect(Errand, retry=RETRY, timeout=60)
def errand(effect: Errand, ctx: EffectContext) -> Fetched:
    note(ctx, effect.mark)
    time.sleep(random.choice((0, 0, 0.01, 0.05)))
    misbehave(effect.how, ctx)
    return Fetched(ctx.key, effect.mark)


@app.effect(AsyncErrand, retry=RETRY, timeout=60)
async def async_errand(effect: AsyncErrand, ctx: EffectContext) -> Fetched:
    note(ctx, effect.mark)
    await asyncio.sleep(random.choice((0, 0, 0.01, 0.05)))
    misbehave(effect.how, ctx)
    return Fetched(ctx.key, effect.mark)


@app.effect(LateErrand, retry=RETRY_LATER, timeout=60, limit=Limit(20))
def late_errand(effect: LateErrand, ctx: EffectContext) -> Fetched:
    note(ctx, effect.mark)
    misbehave(effect.how, ctx)
    return Fetched(ctx.key, effect.mark)


sign("began", os.getpid())
