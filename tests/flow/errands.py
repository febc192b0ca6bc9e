"""
The app of the effect tests: an errand asks for effects whose handlers do what the test wants them to do.

Each call of a handler leaves a line in the folder that the environment names, so that a test can see what was run how
often, under which key, when and where.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from holdfast import (
    App,
    Command,
    Decision,
    Effect,
    EffectContext,
    EffectFailed,
    Event,
    Limit,
    Permanent,
    Rate,
    Retry,
    Workflow,
    accept,
)

ENV_FOLDER = "ERRANDS_FOLDER"
#: A file in that folder, which ends the sleep of handlers.
AWAKE = "awake"


class Run(Command, frozen=True):
    """
    Asks for an effect of a kind.
    """

    errand: str
    kind: str
    how: str
    count: int = 1


class Done(Command, frozen=True):
    """
    What a handler returns.
    """

    errand: str
    how: str
    attempt: int


class GivenUp(EffectFailed, frozen=True, kw_only=True):
    """
    What the errand is told of an effect that was given up.
    """

    errand: str


class Noted(Event, frozen=True):
    what: str


class OnThread(Effect, frozen=True):
    how: str


class OnLoop(Effect, frozen=True):
    how: str


class BriefOnThread(Effect, frozen=True):
    """
    Has half a second.
    """

    how: str


class BriefOnLoop(Effect, frozen=True):
    """
    As above.
    """

    how: str


class Later(Effect, frozen=True):
    """
    Waits between its attempts for so long that it does so in the schedule.
    """

    how: str


class Limited(Effect, frozen=True):
    """
    Two at once for each value of `how`.
    """

    how: str


class Rated(Effect, frozen=True):
    """
    Three in any half second.
    """

    how: str


class Orphan(Effect, frozen=True):
    """
    Has no handler.
    """

    how: str


class Log(msgspec.Struct, frozen=True):
    notes: tuple[str, ...] = ()


Asked = OnThread | OnLoop | BriefOnThread | BriefOnLoop | Later | Limited | Rated | Orphan

KINDS: dict[str, type[Asked]] = {
    "thread": OnThread,
    "loop": OnLoop,
    "brief-thread": BriefOnThread,
    "brief-loop": BriefOnLoop,
    "later": Later,
    "limited": Limited,
    "rated": Rated,
    "orphan": Orphan,
}


class Errand(Workflow[Log, Run | Done | GivenUp, Noted, Asked]):
    type = "errand"
    key = "errand"

    def initial(self) -> Log:
        return Log()

    def evolve(self, state: Log, event: Noted) -> Log:
        return Log((*state.notes, event.what))

    def decide(self, now: datetime, state: Log, command: Run | Done | GivenUp) -> Decision[Noted, Asked]:
        match command:
            case Run(kind=kind, how=how, count=count):
                return accept(Noted("asked")).effect(*(KINDS[kind](how) for _ in range(count)))
            case Done(how=how, attempt=attempt):
                return accept(Noted(f"{how} {attempt}"))
            case GivenUp(effect=effect, error=error, attempts=attempts):
                return accept(Noted(f"{effect} gave up after {attempts}: {error}"))


class Outrage(BaseException):
    """What nobody expects a handler to raise."""


# -- what handlers leave behind


class Call(NamedTuple):
    """
    One call of a handler: on the clock that all processes share.
    """

    key: str
    attempt: int
    pid: int
    began: float
    ended: float


@contextlib.contextmanager
def noted(ctx: EffectContext) -> Iterator[None]:
    """
    Leave a line when a handler is called, and another when it ends.
    """
    name = f"{os.getpid()} {ctx.attempt} {ctx.idempotency_key}"
    _append(f"began {time.monotonic()} {name}")
    try:
        yield
    finally:
        _append(f"ended {time.monotonic()} {name}")


def _append(line: str) -> None:
    descriptor = os.open(Path(os.environ[ENV_FOLDER], "calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def awake() -> Path:
    """
    Return the file that ends the sleep of handlers.
    """
    return Path(os.environ[ENV_FOLDER], AWAKE)


def calls(folder: Path, errand: str) -> list[Call]:
    """
    Return the calls for an errand, in order; one that has not ended ends never.
    """
    path = folder / "calls"
    began: dict[tuple[str, str], Call] = {}
    # Behind the last end of a line there may be half of one.
    for line in path.read_text().split("\n")[:-1] if path.exists() else ():
        what, at, pid, attempt, key = line.split(" ", 4)
        if key.split("/")[1] != errand:
            continue
        if what == "began":
            began[attempt, key] = Call(key, int(attempt), int(pid), float(at), float("inf"))
        else:
            began[attempt, key] = began[attempt, key]._replace(ended=float(at))
    return list(began.values())


# -- the handlers

app = App(workflows=[Errand])

_QUICK = Retry(attempts=3, first=0.05)
#: Seconds: no handler takes as long, even while the machine stands still, but those that are to run out of time.
_AMPLE, BRIEF = 60.0, 0.5


def _misbehave(how: str, ctx: EffectContext) -> None:
    """
    Do what handlers should not do.
    """
    match how:
        case "fail-twice" if ctx.attempt < 3:
            message = "not yet"
            raise LookupError(message)
        case "fail":
            message = "never"
            raise LookupError(message)
        case "permanent":
            message = "the card is stolen"
            raise Permanent(message)
        case "exit":
            raise SystemExit(3)
        case "outrage":
            raise Outrage
        case "interrupt":
            raise KeyboardInterrupt
        case "kill":
            os._exit(9)


@app.effect(OnThread, retry=_QUICK, timeout=_AMPLE)
def on_thread(effect: OnThread, ctx: EffectContext) -> Done | list[Done] | None:
    return _on_thread(effect, ctx)


@app.effect(BriefOnThread, retry=_QUICK, timeout=BRIEF)
def brief_on_thread(effect: BriefOnThread, ctx: EffectContext) -> Done | list[Done] | None:
    return _on_thread(effect, ctx)


def _on_thread(effect: OnThread | BriefOnThread, ctx: EffectContext) -> Done | list[Done] | None:
    with noted(ctx):
        _misbehave(effect.how, ctx)
        match effect.how:
            case "hang":
                while True:
                    time.sleep(0.01)
            case "hang-deeply":
                time.sleep(5)
            case "slow":
                for _ in range(8):
                    time.sleep(0.1)
                    ctx.heartbeat()
            case "nap":
                time.sleep(0.3)
            case "sleep":
                while not awake().exists():
                    time.sleep(0.01)
            case "nothing":
                return None
            case "wrong":
                return 5  # type: ignore[return-value]  # what it is about
            case "several":
                return [
                    Done(ctx.key, "one", 1),
                    Done(ctx.key, "two", 1),
                    Done(f"{ctx.key}-other", "three", 1),
                ]
    return Done(ctx.key, effect.how, ctx.attempt)


@app.effect(OnLoop, retry=_QUICK, timeout=_AMPLE)
async def on_loop(effect: OnLoop, ctx: EffectContext) -> Done | list[Done] | None:
    return await _on_loop(effect, ctx)


@app.effect(BriefOnLoop, retry=_QUICK, timeout=BRIEF)
async def brief_on_loop(effect: BriefOnLoop, ctx: EffectContext) -> Done | list[Done] | None:
    return await _on_loop(effect, ctx)


async def _on_loop(effect: OnLoop | BriefOnLoop, ctx: EffectContext) -> Done | list[Done] | None:
    with noted(ctx):
        _misbehave(effect.how, ctx)
        match effect.how:
            case "hang" | "hang-deeply":
                await asyncio.sleep(5)
            case "slow":
                for _ in range(8):
                    await asyncio.sleep(0.1)
                    ctx.heartbeat()
            case "nap":
                await asyncio.sleep(0.3)
            case "nothing":
                return None
            case "wrong":
                return 5  # type: ignore[return-value]  # what it is about
            case "several":
                return [
                    Done(ctx.key, "one", 1),
                    Done(ctx.key, "two", 1),
                    Done(f"{ctx.key}-other", "three", 1),
                ]
    return Done(ctx.key, effect.how, ctx.attempt)


@app.effect(Later, retry=Retry(attempts=3, first=1.0, factor=1.0), timeout=30)
def later(effect: Later, ctx: EffectContext) -> Done:
    with noted(ctx):
        _misbehave(effect.how, ctx)
        if effect.how == "long":
            time.sleep(2)
    return Done(ctx.key, effect.how, ctx.attempt)


@app.effect(Limited, limit=Limit(2, key=lambda effect: effect.how))
async def limited(effect: Limited, ctx: EffectContext) -> Done:
    with noted(ctx):
        await asyncio.sleep(0.05)
    return Done(ctx.key, effect.how, ctx.attempt)


@app.effect(Rated, rate=Rate(3, per=0.5, key=lambda effect: effect.how))
def rated(effect: Rated, ctx: EffectContext) -> Done:
    with noted(ctx):
        return Done(ctx.key, effect.how, ctx.attempt)
