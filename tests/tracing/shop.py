"""
The app of the tracing tests: an order that is paid and shipped by effects, reminded of by a timer, and counted.

Its handlers and its `decide` start spans of their own, as users' code does.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec
from opentelemetry import trace

from holdfast import (
    App,
    CheckpointStore,
    Command,
    Decision,
    Effect,
    EffectContext,
    Event,
    Projection,
    ProjectionContext,
    Retry,
    Schedule,
    Workflow,
    accept,
    on,
    reject,
)

#: Given by a test that wants the users' spans; the global one otherwise.
provider: trace.TracerProvider | None = None


#: What the projection has seen in this process.
booked: list[str] = []


def tracer() -> trace.Tracer:
    return (provider or trace.get_tracer_provider()).get_tracer("shop")


class Place(Command, frozen=True):
    order: str
    card: str = "4111"
    remind_ms: int = 0


class Paid(Command, frozen=True):
    order: str


class Shipped(Command, frozen=True):
    order: str


class Remind(Command, frozen=True):
    order: str


class Refuse(Command, frozen=True):
    order: str


class Stumble(Command, frozen=True):
    """
    Makes `decide` raise.
    """

    order: str


class Poison(Command, frozen=True):
    """
    Asks for an effect that fails, and for an event that the projection cannot apply.
    """

    order: str


class Happened(Event, frozen=True):
    what: str


class Charge(Effect, frozen=True):
    card: str


class Ship(Effect, frozen=True):
    order: str


class Break(Effect, frozen=True):
    order: str


Known = Place | Paid | Shipped | Remind | Refuse | Stumble | Poison
Wanted = Charge | Ship | Break


class State(msgspec.Struct, frozen=True):
    seen: tuple[str, ...] = ()


class Order(Workflow[State, Known, Happened, Wanted]):
    type = "order"
    key = "order"

    def initial(self) -> State:
        return State()

    def evolve(self, state: State, event: Happened) -> State:
        return State((*state.seen, event.what))

    def decide(self, now: datetime, state: State, command: Known) -> Decision[Happened, Wanted]:
        with tracer().start_as_current_span("thinking"):
            pass
        decision: Decision[Happened, Wanted]
        match command:
            case Place():
                decision = accept(Happened("placed")).effect(Charge(command.card))
                if command.remind_ms:
                    after = timedelta(milliseconds=command.remind_ms)
                    decision = decision.timer(Remind(command.order), after=after)
            case Paid():
                decision = accept(Happened("paid")).effect(Ship(command.order))
            case Refuse():
                return reject("no")
            case Stumble():
                message = "stumbled over 4111"
                raise LookupError(message)
            case Poison():
                decision = accept(Happened("poison")).effect(Break(command.order))
            case _:
                decision = accept(Happened(type(command).__name__.lower()))
        return decision

    def is_terminal(self, state: State) -> bool:
        return False


class Books(Projection):
    name = "books"
    source = Order
    store = CheckpointStore()
    retry = Retry(attempts=1)

    @on(Happened)
    def happened(self, event: Happened, ctx: ProjectionContext) -> None:
        booked.append(event.what)
        with tracer().start_as_current_span("booking"):
            if event.what == "poison":
                message = "cannot swallow it"
                raise LookupError(message)


class Diary(Projection):
    """
    What the books are, by a coroutine.
    """

    name = "diary"
    source = Order
    store = CheckpointStore()

    @on(Happened)
    async def happened(self, event: Happened, ctx: ProjectionContext) -> None:
        with tracer().start_as_current_span("writing", attributes={"order": ctx.key}):
            await asyncio.sleep(0)


def handlers(app: App) -> App:
    @app.effect(Charge)
    def charge(effect: Charge, ctx: EffectContext) -> Paid:
        with tracer().start_as_current_span("charging", attributes={"order": ctx.key}):
            return Paid(ctx.key)

    @app.effect(Ship)
    async def ship(effect: Ship, ctx: EffectContext) -> Shipped:
        with tracer().start_as_current_span("shipping", attributes={"order": ctx.key}):
            await asyncio.sleep(0)  # the others go on here, and have spans of their own
            with tracer().start_as_current_span("packing", attributes={"order": ctx.key}):
                await asyncio.sleep(0)
            return Shipped(ctx.key)

    @app.effect(Break, retry=Retry(attempts=2, first=0.01, jitter=0))
    def break_(effect: Break, ctx: EffectContext) -> None:
        message = "broken"
        raise LookupError(message)

    return app


def make_app(**others: Any) -> App:
    return handlers(App(workflows=[Order], **others))


app = make_app(projections=[Books()])


def ticking() -> App:
    """
    With a schedule that makes a command every second.
    """
    every = Schedule(
        name="hourly",
        every=timedelta(seconds=1),
        command=lambda tick: Paid(f"tick-{tick:%H%M%S}"),
    )
    return make_app(projections=[Books()], schedules=[every])


#: For workers; nothing in it but orders.
plain = make_app()
