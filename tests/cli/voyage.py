"""
An app whose life has everything that a trace shows: retries, timers that are set, replaced and cancelled, dead letters,
and commands to other instances.
"""

from datetime import datetime, timedelta
from typing import Never

from holdfast import (
    App,
    Command,
    Decision,
    Effect,
    EffectContext,
    EffectFailed,
    Event,
    Permanent,
    Retry,
    Workflow,
    accept,
    reject,
)


class Book(Command, frozen=True):
    trip: str


class Confirm(Command, frozen=True):
    trip: str


class Remind(Command, frozen=True):
    trip: str


class Refuse(Command, frozen=True):
    trip: str


class Explode(Command, frozen=True):
    trip: str


class TicketFailed(EffectFailed, frozen=True, kw_only=True):
    trip: str


class Booked(Event, frozen=True):
    pass


class Confirmed(Event, frozen=True):
    pass


class Reminded(Event, frozen=True):
    pass


class Unticketed(Event, frozen=True):
    pass


class Reserve(Effect, frozen=True):
    trip: str


class Print(Effect, frozen=True):
    trip: str


class Post(Effect, frozen=True):
    trip: str


class Fax(Effect, frozen=True):
    trip: str


Commands = Book | Confirm | Remind | Refuse | Explode | TicketFailed
Events = Booked | Confirmed | Reminded | Unticketed
Effects = Reserve | Print | Post | Fax


class Trip(Workflow[int, Commands, Events, Effects]):
    type = "trip"
    key = "trip"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Events) -> int:
        return state + 1

    def decide(self, now: datetime, state: int, command: Commands) -> Decision[Events, Effects]:
        trip = command.trip
        match command:
            case Book():
                return (
                    accept(Booked())
                    .effect(Reserve(trip))
                    .timer(Remind(trip), key="remind", after=timedelta(days=2, hours=3, minutes=30))
                    .timer(Refuse(trip), key="refuse", after=timedelta(days=9))
                )
            case Confirm():
                return (
                    accept(Confirmed())
                    .effect(Print(trip), Post(trip), Fax(trip))
                    .timer(Remind(trip), key="remind", after=timedelta(days=4, hours=3, minutes=30))
                    .timer(Remind(trip), after=timedelta(milliseconds=20))
                    .cancel("refuse")
                )
            case Remind():
                return accept(Reminded())
            case Refuse():
                return reject("never")
            case Explode():
                raise RuntimeError("\x1b[31mexploded [bold]here[/bold]")
            case TicketFailed():
                return accept(Unticketed())

    def is_terminal(self, state: int) -> bool:
        return False


class Deliver(Command, frozen=True):
    letter: int


class Delivered(Event, frozen=True):
    pass


class Mail(Workflow[int, Deliver, Delivered, Never]):
    type = "mail"
    key = "letter"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Delivered) -> int:
        return state + 1

    def decide(self, now: datetime, state: int, command: Deliver) -> Decision[Delivered, Never]:
        return accept(Delivered())

    def is_terminal(self, state: int) -> bool:
        return state > 0


app = App(workflows=[Trip, Mail])


@app.effect(Reserve, retry=Retry(attempts=3, first=0.01))
def reserve(effect: Reserve, ctx: EffectContext) -> Confirm:
    if ctx.attempt < 2:
        raise OSError("the line is busy")
    return Confirm(effect.trip)


@app.effect(Print)
def print_ticket(effect: Print, ctx: EffectContext) -> None:
    raise Permanent("no paper")


@app.effect(Post)
def post(effect: Post, ctx: EffectContext) -> Deliver:
    return Deliver(7)


@app.effect(Fax, retry=Retry(attempts=3, first=7_200, cap=7_200, jitter=0))
def fax(effect: Fax, ctx: EffectContext) -> None:
    raise OSError("engaged")
