"""Survey: how the whole installation is, looked up from time to time by one worker for all.

It is done by the worker that serves partition 0 in the command pool, on a thread and connections of its own. Whoever
collects metrics is given what was found last and waits for nothing. What is older than three rounds is not told at all:
no number is better than an old one that looks new.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from holdfast.actors.needs import has_work
from holdfast.actors.roster import roster
from holdfast.actors.telemetry.meter import Meter, Values
from holdfast.actors.telemetry.metrics import (
    AGE,
    DEPTH,
    DESERTED,
    INSTANCES,
    KEPT,
    LAG_RECORDS,
    LAG_TIME,
    METRICS,
    PARKED,
    RETRIES,
    SCHEDULED,
    WORKERS,
    Kind,
    Metric,
    Of,
)
from holdfast.actors.wiring import Ports
from holdfast.runtime.app import App
from holdfast.runtime.backlog import RETRY
from holdfast.runtime.clock import monotonic
from holdfast.runtime.errors import HoldfastError
from holdfast.runtime.feed import Generations, Reader
from holdfast.runtime.instance import RunState
from holdfast.runtime.ports import POOLS, Transport

log = logging.getLogger(__name__)

#: How often there is a look around, and the share of the time that looking may take.
SURVEY_S = 5.0
SHARE = 0.05
#: How often it is seen whether this worker is on duty.
DUTY_STEP_S = 0.5
#: Entries of each partition's schedule among which retries are counted.
RETRIES_MAX = 500


@dataclass(slots=True)
class Findings:
    """What was found, and when."""

    at: float
    #: For how long that may be told.
    valid_s: float = 0.0
    values: dict[Metric, dict[Values, float]] = field(default_factory=dict)


class Surveyor:
    """Looks around while this worker is on duty."""

    def __init__(
        self, app: App, open_ports: Callable[[], Ports], transport: Transport, on_duty: Callable[[], bool]
    ) -> None:
        self._app = app
        self._open_ports = open_ports
        self._transport = transport
        self._on_duty = on_duty
        self._found: Findings | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-survey", daemon=True)

    def report_to(self, meter: Meter) -> None:
        """Have a meter say what is found."""
        for metric in METRICS:
            if metric.kind is Kind.GAUGE and metric.of is Of.INSTALLATION:
                meter.gauge(metric, lambda metric=metric: self._told(metric))  # type: ignore[misc]  # mypy cannot type a default in a lambda

    def _told(self, metric: Metric) -> Mapping[Values, float]:
        found = self._found
        if found is None or monotonic() - found.at > found.valid_s or not self._on_duty():
            return {}
        return found.values.get(metric, {})

    def start(self) -> None:
        """Begin to look around."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is asked just now may take its time and holds up nobody."""
        self._stopping.set()

    def _run(self) -> None:
        ports: Ports | None = None
        while not self._stopping.is_set():
            pause_s = DUTY_STEP_S
            if self._on_duty():
                began = monotonic()
                # How long a failure took says nothing of what a look costs.
                pause_s = SURVEY_S
                try:
                    ports = ports or self._open_ports()
                    found = survey(self._app, ports, self._transport)
                except HoldfastError as error:
                    log.warning("survey failed", extra={"error": str(error)})
                except Exception:
                    log.exception("survey failed")
                else:
                    pause_s = max(SURVEY_S, (monotonic() - began) / SHARE)
                    found.valid_s = 3 * pause_s
                    self._found = found
            self._stopping.wait(pause_s)
        if ports is not None:
            ports.close()


def survey(app: App, ports: Ports, transport: Transport) -> Findings:
    """Look at the whole installation. The cost does not depend on how much there is."""
    found = Findings(monotonic())
    _queues(found, app, ports, transport)
    _schedule(found, ports)
    _projections(found, app, ports)
    found.values[KEPT] = {(): ports.dead_letters.count()}
    found.values[WORKERS] = {(): len(ports.membership.living())}
    found.values[INSTANCES] = {
        (definition.type, str(state)): ports.directory.count(definition.type, state)
        for definition in app.definitions
        for state in RunState
    }
    return found


def _queues(found: Findings, app: App, ports: Ports, transport: Transport) -> None:
    pools = [pool for pool in POOLS if has_work(app, pool)]
    depth: Counter[Values] = Counter()
    age: dict[Values, float] = {}
    deserted: Counter[Values] = Counter()
    for post in roster(ports.backlog, ports.membership, transport, pools):
        deserted[post.pool,] += post.member is None
        if post.pool == "projection":
            continue  # its lag says more
        depth[post.pool,] += post.waiting
        if post.pool != "command":
            waited_s = max(0, post.now_ms - post.since_ms) / 1000 if post.since_ms else 0.0
            age[post.pool,] = max(age.get((post.pool,), 0.0), waited_s)
    found.values |= {DEPTH: dict(depth), AGE: age, DESERTED: dict(deserted)}


def _schedule(found: Findings, ports: Ports) -> None:
    loads = ports.backlog.loads()
    filled = [load.partition for load in loads if load.scheduled]
    scheduled = ports.backlog.scheduled(RETRIES_MAX, filled) if filled else []
    retries = sum(one.name.startswith(RETRY) for one in scheduled)
    total = sum(load.scheduled for load in loads)
    found.values |= {RETRIES: {(): retries}, SCHEDULED: {(): total - retries}}


def _projections(found: Findings, app: App, ports: Ports) -> None:
    records: dict[Values, float] = {}
    seconds: dict[Values, float] = {}
    parked: dict[Values, float] = {}
    for definition in app.projections:
        live = (ports.feed.generations(definition.name)[0] or Generations()).live
        behind = ports.feed.behind(Reader(definition.name, live))
        records[definition.name,] = sum(one.records for one in behind)
        seconds[definition.name,] = max((one.seconds for one in behind), default=0.0)
        parked[definition.name,] = sum(one.parked for one in behind)
    found.values |= {LAG_RECORDS: records, LAG_TIME: seconds, PARKED: parked}
