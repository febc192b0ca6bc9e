"""
Troublemaker: a workflow that does as its command says, so that a test can have any misbehaviour by name.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from holdfast.runtime.app import App
from holdfast.runtime.decision import Accept, Decision, Timer, accept, reject
from holdfast.runtime.message import Command, Effect, Event
from holdfast.runtime.workflow import Workflow
from tests import controls


class Unspeakable(Exception):
    """
    An error that cannot say what it is.
    """

    def __str__(self) -> str:
        raise LookupError("no words")


class Do(Command, frozen=True):
    """
    Asks for something to happen, and maybe for trouble.
    """

    id: str
    trouble: str = ""
    amount: int = 1


class Arrange(Command, frozen=True):
    """
    Cancels timers by key, and sets some: (key or none, seconds).
    """

    id: str
    cancels: tuple[str, ...] = ()
    timers: tuple[tuple[str | None, float], ...] = ()


class Wake(Command, frozen=True):
    """
    What the timers send.
    """

    id: str
    note: str = ""


class Done(Event, frozen=True):
    """
    Something happened.
    """

    amount: int
    note: str = ""


class Exploded(Event, frozen=True):
    """
    What `evolve` cannot stand.
    """

    how: str = ""


class Ended(Event, frozen=True):
    """
    The end.
    """


class Stranger(Event, frozen=True):
    """
    An event of nobody.
    """


class Shout(Effect, frozen=True):
    """
    Asks for noise.
    """

    text: str


class Whisper(Effect, frozen=True):
    """
    An effect of nobody.
    """


class Mood(msgspec.Struct, frozen=True):
    """
    How much was done, and whether it is over.
    """

    total: int = 0
    ended: bool = False


def _raise() -> Decision[Any, Any]:
    message = "no luck today"
    raise ValueError(message)


def _raised(error: BaseException) -> Decision[Any, Any]:
    raise error


#: What each kind of trouble makes `decide` return.
TROUBLES: dict[str, Callable[[Do], Any]] = {
    "": lambda do: accept(Done(do.amount)),
    "twofold": lambda do: accept(Done(do.amount), Done(do.amount)),
    "refuse": lambda do: reject("no", {"amount": do.amount}),
    "end": lambda do: accept(Done(do.amount), Ended()),
    "shout": lambda do: accept(Done(do.amount)).effect(Shout("a"), Shout("b")),
    "raise": lambda do: _raise(),
    "exit": lambda do: _raised(SystemExit(3)),
    "interrupt": lambda do: _raised(KeyboardInterrupt()),
    "cannot be told": lambda do: _raised(Unspeakable()),
    "return nothing": lambda do: None,
    "no event": lambda do: Accept(()),
    "foreign event": lambda do: accept(Stranger()),
    "foreign effect": lambda do: accept(Done(1)).effect(Whisper()),
    "foreign timer": lambda do: accept(Done(1)).timer(controls.PlaceOrder("o-1"), after=timedelta(0)),
    "timer elsewhere": lambda do: accept(Done(1)).timer(Wake("another"), after=timedelta(0)),
    "no tuple": lambda do: Accept(Done(1)),  # type: ignore[arg-type]  # the trouble
    "no timer": lambda do: Accept((Done(1),), timers=(Wake(do.id),)),  # type: ignore[arg-type]  # the trouble
    "class of an event": lambda do: accept(Done),
    "timer without time": lambda do: Accept((Done(1),), timers=(Timer(Wake(do.id)),)),
    "explode": lambda do: accept(Exploded()),
    "explode and exit": lambda do: accept(Exploded("exit")),
    "explode and cannot be told": lambda do: accept(Exploded("cannot be told")),
    "too large": lambda do: accept(Done(1, "x" * do.amount)),
    "effect too large": lambda do: accept(Done(1)).effect(Shout("x" * do.amount)),
    "timer too large": lambda do: accept(Done(1)).timer(Wake(do.id, "x" * do.amount), after=timedelta(0)),
    "wrong field": lambda do: accept(Done("many")),  # type: ignore[arg-type]  # the trouble
    "cannot be encoded": lambda do: accept(Done(1 << 70)),
    "details cannot be encoded": lambda do: reject("no", object()),
}


class Troublemaker(Workflow[Mood, Do | Arrange | Wake, Done | Exploded | Ended, Shout]):
    """
    Does as it is told.
    """

    type = "trouble"
    key = "id"

    #: How often `decide` was asked, and the moments that it was told.
    asked = 0
    moments: list[datetime] = []  # noqa: RUF012 - a test's eyes; emptied by `app`

    def initial(self) -> Mood:
        return Mood()

    def evolve(self, state: Mood, event: Done | Exploded | Ended) -> Mood:
        match event:
            case Done(amount=amount):
                return Mood(state.total + amount, state.ended)
            case Exploded(how="exit"):
                raise SystemExit(4)
            case Exploded(how="cannot be told"):
                raise Unspeakable
            case Exploded():
                message = "cannot stand this"
                raise RuntimeError(message)
            case Ended():
                return Mood(state.total, ended=True)

    def decide(
        self, now: datetime, state: Mood, command: Do | Arrange | Wake
    ) -> Decision[Done | Exploded | Ended, Shout]:
        type(self).asked += 1
        self.moments.append(now)
        match command:
            case Do(trouble=trouble) if trouble.startswith("fail "):
                # "fail 2": the first two tries raise.
                return _raise() if self.asked <= int(trouble[5:]) else accept(Done(command.amount))
            case Do(trouble="even"):
                return accept(Done(1)) if state.total % 2 == 0 else reject("odd")
            case Do(trouble=trouble):
                decision: Decision[Done | Exploded | Ended, Shout] = TROUBLES[trouble](command)
                return decision
            case Arrange(id=id_, cancels=cancels, timers=timers):
                arranged: Accept[Done | Exploded | Ended, Shout] = accept(Done(1)).cancel(*cancels)
                for number, (key, seconds) in enumerate(timers):
                    arranged = arranged.timer(
                        Wake(id_, str(number)), key=key, after=timedelta(seconds=seconds)
                    )
                return arranged
            case Wake():
                return accept(Done(0))

    def is_terminal(self, state: Mood) -> bool:
        return state.ended


def app() -> App:
    """
    An app of the troublemaker, and of the well-behaved workflows beside it.
    """
    Troublemaker.asked = 0
    Troublemaker.moments.clear()
    return App(workflows=[Troublemaker, controls.Order, controls.Counter])
