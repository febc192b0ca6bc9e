"""The workflow that benchmarks.process measures: an order of three steps, each an effect whose result is a command."""

from datetime import datetime

import msgspec

from holdfast import App, Command, Decision, Effect, EffectContext, Event, Workflow, accept, reject


class Begin(Command):
    """Begin the process."""

    order: str


class StepDone(Command):
    """One step is done."""

    order: str
    step: int


class Stepped(Event):
    """A step was begun or the process has ended."""

    step: int


class DoStep(Effect):
    """Do a step."""

    step: int


class DoStepAsync(Effect):
    """Do a step on the event loop."""

    step: int


class Progress(msgspec.Struct, frozen=True):
    """How far it is."""

    step: int = 0


#: Steps of one process.
STEPS = 3


class Process(Workflow[Progress, Begin | StepDone, Stepped, DoStep | DoStepAsync]):
    """A process of three steps, on threads or, where its key begins with an a, on the event loop."""

    type = "process"
    key = "order"

    def initial(self) -> Progress:
        """Begin before the first step."""
        return Progress()

    def evolve(self, state: Progress, event: Stepped) -> Progress:  # noqa: ARG002 - the event says all
        """Go on."""
        return Progress(event.step)

    def decide(
        self,
        now: datetime,  # noqa: ARG002 - it takes as long as it takes
        state: Progress,
        command: Begin | StepDone,
    ) -> Decision[Stepped, DoStep | DoStepAsync]:
        """Ask for the next step."""
        done = command.step if isinstance(command, StepDone) else 0
        if state.step != done:
            return reject("out of turn")
        following = done + 1
        if done == STEPS:
            return accept(Stepped(STEPS + 1))
        step = DoStepAsync(following) if command.order.startswith("a") else DoStep(following)
        return accept(Stepped(following)).effect(step)

    def is_terminal(self, state: Progress) -> bool:
        """Say whether all steps are done."""
        return state.step > STEPS


app = App(workflows=[Process])


@app.effect(DoStep)
def do_step(effect: DoStep, ctx: EffectContext) -> StepDone:
    """Do nothing, as quickly as possible."""
    return StepDone(ctx.key, effect.step)


@app.effect(DoStepAsync)
async def do_step_async(effect: DoStepAsync, ctx: EffectContext) -> StepDone:
    """Do nothing, as quickly as possible."""
    return StepDone(ctx.key, effect.step)
