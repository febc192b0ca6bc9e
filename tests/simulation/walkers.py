"""
Walkers to simulate: every walk is an effect, and there are so many that some of their commits have no answer.
"""

from datetime import datetime
from random import Random

from holdfast import App, Command, Decision, Effect, EffectContext, Event, Retry, Workflow, accept
from holdfast.testing import Faults

WALKERS, SENDERS, WALKS = 20, 4, 10
#: Servers that often do not answer, and partitions that change hands.
ROUGH = Faults(
    crashes=0,
    stalls=0,
    handovers=15,
    stolen_leases=0,
    lost_connections=0,
    garbage=0,
    pauses=0,
    unavailable=0.3,
    lost_confirms=0,
    lost_acks=0,
    failing_effects=0,
    slow_effects_s=0,
    clock_skew_s=0,
)


class Go(Command):
    walker: str


class Arrive(Command):
    walker: str


class Went(Event):
    pass


class Arrived(Event):
    pass


class Walk(Effect):
    pass


class Walker(Workflow[int, Go | Arrive, Went | Arrived, Walk]):
    type = "walker"
    key = "walker"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Went | Arrived) -> int:
        return state + 1

    def decide(self, now: datetime, state: int, command: Go | Arrive) -> Decision[Went | Arrived, Walk]:
        return accept(Went()).effect(Walk()) if isinstance(command, Go) else accept(Arrived())


def walkers() -> App:
    """
    Return the app.
    """
    app = App(workflows=[Walker])

    @app.effect(Walk, retry=Retry(attempts=4, first=0.5), timeout=5)
    def walk(effect: Walk, ctx: EffectContext) -> Arrive:
        return Arrive(ctx.key)

    return app


def walks(random: Random) -> list[list[Go]]:
    """
    Return what each sender sends.
    """
    return [[Go(f"w{random.randrange(WALKERS)}") for _ in range(WALKS)] for _ in range(SENDERS)]
