"""Health: what /health and /ready say of a worker. Worked out from what its parts noted; nothing is waited for.

A part is well, or away (a server that does not answer: starting this process again would not help), or dead (it would).
A worker is healthy while no part is dead. It is ready while it serves: not before its first heartbeat was heard, not
while it hands everything over, and not while a server is away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from holdfast.actors.telemetry.probe import Probe
from holdfast.actors.telemetry.vitals import Vitals
from holdfast.runtime.clock import monotonic
from holdfast.runtime.ports import Share

#: A lane that works on one batch for so long hangs, unless a server was away meanwhile: then it waits for that.
HANG_S = 120.0
#: A lane whose threads do nothing for so long has lost them.
SILENT_S = 60.0
#: How much longer than a heartbeat is believed the steward's rounds may take: each waits for servers several times.
ROUND_GRACE_S = 30.0

OK, AWAY, DEAD = "ok", "away", "dead"


class Heart(Protocol):
    """What the steward says of itself."""

    #: On the monotonic clock; None before the first.
    beaten_at: float | None
    round_at: float | None

    #: Whether it runs.
    alive: bool

    @property
    def serving(self) -> frozenset[Share]:
        """What is served."""

    @property
    def leaving(self) -> frozenset[Share]:
        """What is being handed over."""

    @property
    def stopping(self) -> bool:
        """Whether everything is."""


class Health:
    """What a worker says of its health."""

    def __init__(self, ttl_ms: int, clock: Callable[[], float] = monotonic) -> None:
        self._ttl_s = ttl_ms / 1000
        self._clock = clock
        self._heart: Heart | None = None
        self._lanes: Sequence[Vitals] = ()
        self._probes: Sequence[Probe] = ()
        #: Whether everything was let go of.
        self.over = False

    def attach(self, heart: Heart, lanes: Sequence[Vitals], probes: Sequence[Probe]) -> None:
        """Begin to say how these are; until then the worker is starting."""
        self._lanes, self._probes, self._heart = lanes, probes, heart

    def report(self) -> dict[str, Any]:
        """Return what is said, as JSON can hold it."""
        heart, now = self._heart, self._clock()
        if heart is None:
            return {"status": "starting", "healthy": True, "ready": False, "parts": {}}
        servers = {probe.name: probe.report() for probe in self._probes}
        well_s = min((probe.well_s for probe in self._probes), default=now)
        lanes = {one.name: self._lane(one, now, well_s) for one in self._lanes}
        steward = self._steward(heart, now)
        healthy = DEAD not in {one["status"] for one in (steward, *lanes.values())}
        away = AWAY in {one["status"] for one in (steward, *servers.values())}
        status = "serving"
        if heart.stopping or self.over:
            status = "draining"
        elif heart.beaten_at is None:
            status = "starting"
        elif away or not healthy:
            status = "unwell"
        return {
            "status": status,
            "healthy": healthy,
            "ready": status == "serving",
            "parts": {
                **servers,
                "steward": steward,
                "lanes": lanes,
                "partitions": {"serving": _by_pool(heart.serving), "leaving": _by_pool(heart.leaving)},
            },
        }

    def _steward(self, heart: Heart, now: float) -> dict[str, Any]:
        beaten_s = None if heart.beaten_at is None else now - heart.beaten_at
        status = OK
        if not heart.stopping and heart.round_at is not None:
            if not heart.alive or now - heart.round_at > self._ttl_s + ROUND_GRACE_S:
                status = DEAD
            elif beaten_s is None or beaten_s > self._ttl_s:
                status = AWAY
        return {"status": status, "heartbeat_age_s": _rounded(beaten_s)}

    def _lane(self, lane: Vitals, now: float, well_s: float) -> dict[str, Any]:
        doing, since = lane.now
        # What it has done since the servers were back: until then it may have waited for them.
        spent_s = min(now - since, well_s)
        hangs = doing != "starting" and spent_s > (HANG_S if doing == "working" else SILENT_S)
        last_s = None if lane.turned_at is None else now - lane.turned_at
        return {
            "status": DEAD if hangs else OK,
            "doing": doing,
            "for_s": _rounded(now - since),
            "turns": lane.turns,
            "last_turn_age_s": _rounded(last_s),
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _by_pool(shares: frozenset[Share]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for pool, partition in sorted(shares):
        found.setdefault(pool, []).append(partition)
    return found
