"""Restate: a virtual object that counts, a service of three durable steps, an alarm.

It is served as
    python -m hypercorn restate_services:app
"""

from __future__ import annotations

import post
import restate
from restate import Context, ObjectContext, Service, VirtualObject

tally = post.tally()
counter = VirtualObject("Counter")
process = Service("Process")
alarm = VirtualObject("Alarm")


@counter.handler()
async def add(ctx: ObjectContext) -> int:
    """Add one to the object's state; one call at a time for each key."""
    value = (await ctx.get("value", type_hint=int) or 0) + 1
    ctx.set("value", value)
    tally.mark()
    return value


def _step(number: int, at: int) -> None:
    tally.mark(number, at)


@process.handler()
async def run(ctx: Context, number: int) -> None:
    """Do three steps, each recorded when it is done."""
    for at in range(1, post.STEPS + 1):
        await ctx.run_typed("step", _step, number=number, at=at)


@alarm.handler()
async def ring(ctx: ObjectContext, number: int) -> None:
    """Ring: the object's own number becomes one higher."""
    ctx.set("value", (await ctx.get("value", type_hint=int) or 0) + 1)
    tally.mark(number)


app = restate.app([counter, process, alarm])
