"""
Metrics over OTLP/HTTP, to a receiver of the tests' own.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import Settings
from holdfast.actors.telemetry.metrics import METRICS
from tests.support.processes import eventually
from tests.telemetry.house import PATIENCE_S, Stand, stand
from tests.telemetry.kiosk import ENV_PATIENT, Buy
from tests.tracing.collector import Collector, collector

OWN = {metric.name: metric for metric in METRICS}


@pytest.fixture(name="spot")
def _spot() -> Iterator[Collector]:
    with collector() as it:
        yield it


def counted(spot: Collector, name: str, **attributes: str) -> dict[str, float | tuple[int, float]]:
    """
    Return what each process has said of a metric with these attributes.
    """
    wanted = tuple(sorted(attributes.items()))
    return {
        one.instance: value
        for one, value in list(spot.metrics.items())
        if (one.name, one.attributes) == (name, wanted)
    }


def total(spot: Collector, name: str, **attributes: str) -> float:
    """
    Return that added up; of a histogram how often.
    """
    found = counted(spot, name, **attributes).values()
    return sum(value[0] if isinstance(value, tuple) else value for value in found)


def load(it: Stand) -> None:
    """
    Have ten commands accepted, one of them with an effect that fails once, and one refused.
    """
    for number in range(9):
        it.client.execute(Buy(f"k-{number}", "nothing"), timeout=PATIENCE_S)
    it.client.execute(Buy("k-9", "twice"), timeout=PATIENCE_S)
    it.client.execute(Buy("k-0", "too much"), timeout=PATIENCE_S)


def test_a_known_load_is_exported(spot: Collector, settings: Settings, tmp_path: Path) -> None:
    """
    By two processes, each under an id of its own, which together say what Prometheus is told on their ports; and under no
    attribute that names an instance.
    """
    asked = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": spot.url,
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "kiosks",
    }
    with stand(settings, tmp_path, "--processes", "2", **asked) as it:
        for number in range(2):
            eventually(lambda number=number: it.status("/ready", number) == 200, PATIENCE_S)  # type: ignore[misc]  # mypy cannot type a default in a lambda
        load(it)

        def said(count: float, name: str, **attributes: str) -> None:
            eventually(lambda: total(spot, name, **attributes) == count, PATIENCE_S)

        def decided(command: str, outcome: str, count: int) -> None:
            said(count, "holdfast.commands", workflow="kiosk", command=command, outcome=outcome)

        decided("Buy", "accepted", 10)
        decided("Buy", "rejected", 1)
        decided("Delivered", "accepted", 1)
        said(1, "holdfast.effect.attempt.duration", effect="Deliver", outcome="failed")
        said(1, "holdfast.effect.attempt.duration", effect="Deliver", outcome="done")
        # Of the two only the one that looks at the installation says this.
        eventually(lambda: [2.0] == list(counted(spot, "holdfast.workers").values()), PATIENCE_S)
        said(10, "holdfast.instances", workflow="kiosk", run_state="running")
        accepted = (("command", "Buy"), ("outcome", "accepted"), ("workflow", "kiosk"))
        pages = [it.samples(number) for number in range(2)]

    assert sum(page.get("holdfast_commands_total", {}).get(accepted, 0) for page in pages) == 10
    assert {one.service for one in spot.metrics} == {"kiosks"}
    assert len({one.instance for one in spot.metrics} - {""}) == 2
    ours = {one for one in spot.metrics if one.name.startswith("holdfast.")}
    assert {one.name for one in ours} <= set(OWN)
    for one in ours:
        assert {name for name, _ in one.attributes} == set(OWN[one.name].attributes)
        assert not any("k-" in value for _, value in one.attributes)
        assert spot.units[one.name] == OWN[one.name].unit
    assert spot.spans == []


def test_what_was_counted_last_is_exported_at_the_end(
    spot: Collector, settings: Settings, tmp_path: Path
) -> None:
    """
    Though the next regular export is an hour away.
    """
    asked = {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{spot.url}/v1/metrics",
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
        ENV_PATIENT: "yes",
    }
    with stand(settings, tmp_path, **asked) as it:
        eventually(lambda: it.status("/ready") == 200, PATIENCE_S)
        load(it)
        assert spot.metrics == {}
        it.worker.signal(signal.SIGTERM)
        it.worker.await_end()

    assert total(spot, "holdfast.commands", workflow="kiosk", command="Buy", outcome="accepted") == 10
    assert {one.service for one in spot.metrics} == {"holdfast-worker"}


def test_lines_name_the_traces_that_are_exported(spot: Collector, settings: Settings, tmp_path: Path) -> None:
    """
    What user code logs while it decides and in handlers, on threads and on the event loop, has the ids of the span that
    a collector gets of just that; and those of the instance.
    """
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": spot.url, ENV_PATIENT: "yes"}
    with stand(settings, tmp_path, **asked) as it:
        # What is applied by the walk over the logs is not traced.
        eventually(lambda: [100.0] == [one.percent for one in it.client.projections.list()], PATIENCE_S)
        it.client.execute(Buy("k-1", "well"), timeout=PATIENCE_S)
        it.client.execute(Buy("k-2", "block"), timeout=PATIENCE_S)
        for words in ("kiosk delivers", "kiosk blocks"):
            it.worker.await_words(words)
        it.worker.await_words("kiosk sold", 2)
        it.worker.signal(signal.SIGTERM)
        lines = [json.loads(line) for line in it.worker.await_end().splitlines()]

    # Both signals say who exports in the same words.
    assert {(one.service, one.instance) for one in spot.spans} == {
        (one.service, one.instance) for one in spot.metrics
    }
    spans = {(span.trace_id, span.span_id): span for span in spot.spans}
    names = {
        "kiosk decides": "decide kiosk",
        "kiosk delivers": "run Deliver",
        "kiosk blocks": "run Block",
        "kiosk sold": "apply sales",
    }
    for message, name in names.items():
        said = [line for line in lines if line["message"] == message]
        assert {"kiosk"} == {line["workflow"] for line in said}
        assert {line["key"] for line in said} <= {"k-1", "k-2"}
        for line in said:
            span = spans[line["trace_id"], line["span_id"]]
            assert name == span.name
            # A batch of several instances is none of theirs.
            assert line["key"] == span.attributes.get("workflow.key", line["key"])


def test_a_collector_that_is_not_there_costs_numbers_and_nothing_else(
    settings: Settings, tmp_path: Path
) -> None:
    """
    Commands are decided, the worker is ready and ends in good order.
    """
    asked = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    with stand(settings, tmp_path, OTEL_METRIC_EXPORT_INTERVAL="100", **asked) as it:
        eventually(lambda: it.status("/ready") == 200, PATIENCE_S)
        it.worker.await_words("Connection refused")
        load(it)
        assert it.ask("/health")[0] == 200
        it.worker.signal(signal.SIGTERM)
        it.worker.await_end()
