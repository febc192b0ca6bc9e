"""Trouble: what goes wrong in a simulation, and how often."""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random

from holdfast.runtime import checks
from holdfast.runtime.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The most that goes wrong in one run of a simulation. Each run has a share of each by chance, and often none.

    Numbers that are whole are how many there are in a run; the others are how likely it is each time.

    Raises:
        UsageError: A number makes no sense.
    """

    #: Worker processes that die between two steps, with everything in their memory; others begin later.
    crashes: int = 4
    #: Processes that stand still for a while, perhaps past their leases, and then go on.
    stalls: int = 2
    #: Processes that are stopped cleanly, and others that join.
    handovers: int = 2
    #: Leases of instances that are taken by somebody who is never heard of again.
    stolen_leases: int = 3
    #: Consumers that lose their connection: what they had not acknowledged is delivered again.
    lost_connections: int = 3
    #: Messages that nobody can read.
    garbage: int = 1
    #: Instances that a person pauses, and resumes a little later.
    pauses: int = 2
    #: How likely a call to a server fails, before or after it took effect.
    unavailable: float = 0.05
    #: How likely others go on between a call to a server and what follows it, for a moment or a while.
    delays: float = 0.3
    #: How likely a message is sent twice, late, or without a confirm.
    lost_confirms: float = 0.15
    #: How likely an acknowledgement does not arrive.
    lost_acks: float = 0.1
    #: How likely an attempt of an effect fails, before or after its handler has run, and how long one takes at most.
    failing_effects: float = 0.15
    slow_effects_s: float = 2.0
    #: By how much the clocks of machines are wrong at most.
    clock_skew_s: float = 5.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in _COUNTED:
                right, wanted = checks.is_whole(value, 0, COUNT_MAX), f"a whole number up to {COUNT_MAX:,}"
            elif one.name in _UNBOUNDED:
                right, wanted = checks.is_number(value, 0, SECONDS_MAX), f"seconds up to {SECONDS_MAX:,}"
            else:
                right, wanted = checks.is_number(value, 0, 1), "how likely it is, from 0 to 1"
            if not right:
                message = f"Faults({one.name}={value!r}) makes no sense: it must be {wanted}"
                raise UsageError(message)

    @classmethod
    def none(cls) -> Faults:
        """Return no faults at all."""
        return cls(**dict.fromkeys((one.name for one in fields(cls)), 0))

    def drawn(self, random: Random) -> Faults:
        """Return the share that one run has: of each kind nothing, or up to all of it."""
        drawn: dict[str, float] = {}
        for one in fields(self):
            most, chance, share = getattr(self, one.name), random.random(), random.random()
            if chance < NONE_OF_IT:
                share = 0.0
            drawn[one.name] = round(most * share) if one.name in _COUNTED else most * share
        return Faults(**drawn)  # type: ignore[arg-type]


#: How likely a run has nothing of a kind of fault: what many of them together would hide is found where few are.
NONE_OF_IT = 0.35

#: The most of anything in one run.
COUNT_MAX = 1_000
SECONDS_MAX = 1_000_000
_UNBOUNDED = ("slow_effects_s", "clock_skew_s")
_COUNTED = ("crashes", "stalls", "handovers", "stolen_leases", "lost_connections", "garbage", "pauses")
