"""Meter: records metrics through OpenTelemetry, and lets none of its failures out.

What is counted is kept in tallies, plain dictionaries that one thread each writes; they are added up when somebody asks.
So a count costs a dictionary's entry, whatever the exporter. Only histograms are recorded as things happen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.metrics import Histogram, Observation
from opentelemetry.metrics import Meter as OpenTelemetryMeter

from holdfast.actors.telemetry.metrics import METRICS, Kind, Metric

log = logging.getLogger(__name__)

#: The values of a metric's attributes, in their order.
Values = tuple[str, ...]


class Tally(dict[Values, int]):
    """Counts by the values of attributes. One thread writes it."""

    def count(self, *values: str) -> None:
        """Count one more."""
        self[values] = self.get(values, 0) + 1


class Meter:
    """Every metric's instrument."""

    def __init__(self, meter: OpenTelemetryMeter) -> None:
        self._tallies: dict[Metric, list[Tally]] = {}
        self._gauges: dict[Metric, Callable[[], Mapping[Values, float]]] = {}
        self._histograms: dict[Metric, Histogram] = {}
        self._failed: set[Metric] = set()
        for metric in METRICS:
            self._make(meter, metric)

    def _make(self, meter: OpenTelemetryMeter, metric: Metric) -> None:
        facts: dict[str, Any] = {"unit": metric.unit, "description": metric.description}
        callbacks = [lambda _options: self._read(metric)]
        match metric.kind:
            case Kind.COUNTER:
                self._tallies[metric] = []
                meter.create_observable_counter(metric.name, callbacks, **facts)
            case Kind.GAUGE:
                meter.create_observable_gauge(metric.name, callbacks, **facts)
            case Kind.HISTOGRAM:
                self._histograms[metric] = meter.create_histogram(
                    metric.name, **facts, explicit_bucket_boundaries_advisory=metric.buckets
                )

    def tally(self, metric: Metric, *known: Values) -> Tally:
        """Return a new tally of a counter, in which these values count 0 from the beginning."""
        tally = Tally(dict.fromkeys(known, 0))
        self.add(metric, tally)
        return tally

    def add(self, metric: Metric, tally: Tally) -> None:
        """Have a tally added up with the others of a counter."""
        self._tallies[metric].append(tally)

    def gauge(self, metric: Metric, read: Callable[[], Mapping[Values, float]]) -> None:
        """Have a gauge say what a function returns; it must not wait for anything."""
        self._gauges[metric] = read

    def record(self, metric: Metric, value: float, *values: str) -> None:
        """Record a value of a histogram."""
        try:
            self._histograms[metric].record(value, dict(zip(metric.attributes, values, strict=True)))
        except Exception as error:  # noqa: BLE001 - whatever an exporter does, the work goes on
            self.fail(metric, error)

    def _read(self, metric: Metric) -> Iterable[Observation]:
        """Return what an observable instrument says now; called on the thread that collects."""
        try:
            return [
                Observation(number, dict(zip(metric.attributes, values, strict=True)))
                for values, number in self._now(metric).items()
            ]
        except Exception as error:  # noqa: BLE001 - as above
            self.fail(metric, error)
            return []

    def _now(self, metric: Metric) -> Mapping[Values, float]:
        if metric in self._gauges:
            return self._gauges[metric]()
        total: dict[Values, float] = {}
        for tally in list(self._tallies.get(metric, ())):
            for values, number in tally.copy().items():
                total[values] = total.get(values, 0) + number
        return total

    def fail(self, metric: Metric, error: Exception) -> None:
        """Say once for each metric what is wrong with it."""
        if metric not in self._failed:
            self._failed.add(metric)
            log.warning("metric cannot be recorded", extra={"metric": metric.name, "error": repr(error)})
