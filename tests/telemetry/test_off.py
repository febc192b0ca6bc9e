"""
Without anybody to tell, nothing is measured: the work goes the same way as if there were no telemetry at all.
"""

import io
import json
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider

import holdfast.actors.telemetry as package
from holdfast import Settings
from holdfast.actors import wiring
from holdfast.actors.pools import worker_broker
from holdfast.actors.telemetry import exporters
from holdfast.actors.telemetry.exporters import Exporting, named, open_exporters, wants_port
from holdfast.actors.telemetry.meter import Meter
from holdfast.actors.telemetry.metrics import COMMITS, PARTITIONS, TURN_DURATION
from holdfast.actors.telemetry.taps import OTHER, CommandTally, DeadLettersTap, LaneTap, Names, TimersTap
from holdfast.actors.telemetry.telemetry import OFF, Telemetry, telemetry_of
from holdfast.actors.telemetry.vitals import Vitals
from holdfast.actors.tracing import setup
from holdfast.runtime.errors import HoldfastError
from tests.cli.desk import working
from tests.telemetry import kiosk


def test_nothing_is_wrapped_when_nobody_asks(redis_url: str, namespace: str) -> None:
    """
    The lanes, ports, caches and holders are those that there would be without telemetry.
    """
    settings = Settings.of(redis_url=redis_url, namespace=namespace)
    assert telemetry_of(kiosk.app, settings, 0, {}) is OFF
    ports = wiring.open_ports(settings)
    pools: dict[str, Any] = {}
    lane: Any = object()

    assert OFF.ports(ports) is ports
    assert OFF.lane(lane, []) is lane
    assert OFF.holders(pools) is pools
    assert (OFF.cache(), OFF.tally("command.0"), OFF.attempts()) == (None, None, None)
    ports.close()


def test_no_line_of_telemetry_runs_for_a_command(settings: Settings) -> None:
    """
    Counted, not timed: a thousand commands, and not one call into the package.
    """
    folder = str(Path(package.__file__).resolve().parent)
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(folder):
            calls[frame.f_code.co_qualname] += 1

    threading.setprofile(count)  # for all threads that are started from here on
    try:
        with working(kiosk.app, settings) as client:
            client.send_many(kiosk.Buy(f"k-{number % 10}", "well") for number in range(1_000))
            client.execute(kiosk.Buy("k-0", "well"), timeout=40)
    finally:
        threading.setprofile(None)

    assert calls == {}


@pytest.mark.parametrize(
    ("environment", "port", "expected"),
    [
        ({}, False, []),
        ({}, True, ["prometheus"]),
        ({"OTEL_METRICS_EXPORTER": "none"}, True, []),
        ({"OTEL_METRICS_EXPORTER": "otlp, console"}, True, ["otlp", "console"]),
        ({"OTEL_METRICS_EXPORTER": "otlp,otlp,none"}, False, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318"}, True, ["otlp", "prometheus"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "True"}, True, []),
    ],
)
def test_exporters_are_named_as_opentelemetry_does(
    environment: dict[str, str], port: bool, expected: list[str]
) -> None:
    """
    By its variables; a port alone means Prometheus.
    """
    assert named(environment, port=port) == expected


def test_prometheus_by_the_variable_has_opentelemetrys_port(caplog: pytest.LogCaptureFixture) -> None:
    """
    Or the one that its variables name; one that is none is said.
    """
    asked = {"OTEL_METRICS_EXPORTER": "prometheus"}
    own = asked | {"OTEL_EXPORTER_PROMETHEUS_PORT": "9500", "OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0"}

    assert wants_port({}) is None
    assert wants_port(asked) == ("127.0.0.1", 9464)
    assert wants_port(own) == ("0.0.0.0", 9500)
    assert [record for record in caplog.records if record.name == exporters.__name__] == []
    for wrong in ("x", "-1", "0", "70000"):
        assert wants_port(asked | {"OTEL_EXPORTER_PROMETHEUS_PORT": wrong}) == ("127.0.0.1", 9464)
        *_, last = [record for record in caplog.records if record.name == exporters.__name__]
        assert last.message == "OTEL_EXPORTER_PROMETHEUS_PORT is no port; another one is used"
        assert vars(last)["said"] == wrong


@pytest.mark.parametrize(
    ("environment", "error", "advice"),
    [
        (
            {"OTEL_METRICS_EXPORTER": "nonsense"},
            "'nonsense' is not installed",
            "or correct OTEL_METRICS_EXPORTER",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "'otlp_proto_grpc' is not installed",
            "pip install opentelemetry-exporter-otlp-proto-grpc",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "carrier"},
            "the OTLP protocol is 'carrier'; it must be http/protobuf or grpc",
            "correct the OTEL_* variables",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT is 'collector:4318', which is no address; write http://localhost:4318",
            "correct the OTEL_* variables",
        ),
    ],
)
def test_an_exporter_that_cannot_be_had_is_a_warning(
    environment: dict[str, str], error: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The worker runs without it; the line says what is wrong and what to do.
    """
    assert open_exporters(environment, port=False) is None
    (line,) = [vars(record) for record in caplog.records if record.message == "metrics cannot be exported"]
    assert error in line["error"]
    assert advice in line["do"]


@pytest.mark.parametrize("name", ["otlp_proto_http", "otlp_proto_grpc"])
def test_what_is_missing_for_otlp_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    That of the protocol that is asked for; without one that over HTTP.
    """
    monkeypatch.setattr(exporters, "entry_points", lambda **_: ())
    protocol = {"otlp_proto_http": "", "otlp_proto_grpc": "grpc"}[name]
    environment = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}

    assert open_exporters(environment, port=False) is None
    (line,) = [vars(record) for record in caplog.records if record.name == exporters.__name__]
    assert line["error"] == f"the exporter {name!r} is not installed"
    assert line["do"] == exporters._INSTALLS[name]


def test_what_opentelemetry_does_not_take_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Whatever it raises when it makes a provider.
    """
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "nonsense")
    monkeypatch.setattr(exporters, "_periodic", lambda *_: InMemoryMetricReader())

    assert open_exporters({"OTEL_METRICS_EXPORTER": "console"}, port=False) is None
    (line,) = [vars(record) for record in caplog.records if record.name == exporters.__name__]
    assert "nonsense" in line["error"]
    assert line["do"] == "correct the OTEL_* variables"


def test_metrics_are_exported_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What was counted since the last time, if that takes no longer than it may.
    """
    out = io.StringIO()
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter(out=out))
    monkeypatch.setattr(exporters, "_periodic", lambda *_: reader)
    monkeypatch.setattr(metrics, "set_meter_provider", lambda _provider: None)
    monkeypatch.setattr(exporters, "FLUSH_S", 40.0)
    telemetry = Telemetry(kiosk.app, None, open_exporters({"OTEL_METRICS_EXPORTER": "console"}, port=False))
    telemetry.stalled()()
    telemetry.close()

    said = json.loads(out.getvalue())["resource_metrics"][0]
    assert said["resource"]["attributes"]["service.name"] == "holdfast-worker"
    assert "holdfast.loop.stalls" in [one["name"] for one in said["scope_metrics"][0]["metrics"]]


def test_a_flush_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A collector that takes nothing does not keep a worker from ending.
    """
    ends = threading.Event()

    class Stuck:
        def shutdown(self, timeout_millis: float) -> None:
            ends.wait(30)

    monkeypatch.setattr(exporters, "FLUSH_S", 0.05)
    Exporting(Stuck(), None).close()
    ends.set()


def test_spans_and_metrics_are_flushed_together(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A collector that is away holds up the end of a worker for one of the two, not for one after the other.
    """
    both = threading.Barrier(2)
    monkeypatch.setattr(exporters, "FLUSH_S", 40.0)
    monkeypatch.setattr(setup, "FLUSH_S", 40.0)

    class Numbers(MeterProvider):
        def shutdown(self, timeout_millis: float = 0) -> None:
            both.wait(20)

    class Spans(TracerProvider):
        def shutdown(self) -> None:
            both.wait(20)

    telemetry = Telemetry(kiosk.app, settings, Exporting(Numbers(shutdown_on_exit=False), None))
    spans = setup.Exporting(Spans(shutdown_on_exit=False))
    worker_broker(kiosk.app, settings, lanes=1, telemetry=telemetry, exporting=spans).close()

    assert not both.broken
    assert [] == caplog.messages


def test_only_names_that_senders_make_up_are_other() -> None:
    """
    Those of the app are told, and those of the workflow that its schedules are.
    """
    names = Names(kiosk.app)

    assert ["kiosk", "holdfast.schedule", OTHER] == [
        names.workflow(name) for name in ("kiosk", "holdfast.schedule", "kiosk2")
    ]
    known = ["Buy", "Bought", "Deliver", "holdfast.Pause", "holdfast.Tick", "holdfast.SendTick"]
    assert [*known, OTHER] == [names.message(name) for name in (*known, "holdfast.Tock")]


def test_a_metric_that_fails_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """
    It is said once.
    """
    reader = InMemoryMetricReader()
    meter = Meter(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
    meter.record(TURN_DURATION, 1.0)  # without its attribute
    meter.record(TURN_DURATION, 1.0)

    def broken() -> dict[tuple[str, ...], float]:
        message = "no"
        raise LookupError(message)

    meter.gauge(PARTITIONS, broken)
    meter.tally(COMMITS, ("committed",)).count("committed")
    found = reader.get_metrics_data()

    assert found is not None
    names = [one.name for one in found.resource_metrics[0].scope_metrics[0].metrics]
    assert names == ["holdfast.commits"]
    assert caplog.text.count("metric cannot be recorded") == 2


def test_a_tap_that_fails_breaks_no_lane() -> None:
    """
    A batch is worked on and letters are written, whatever becomes of their numbers; what the lane itself raises is
    raised.
    """
    meter = Meter(MeterProvider(shutdown_on_exit=False).get_meter("test"))
    broken: Any = None
    done: list[Any] = []

    class Lane:
        name = "command.0"

        def work(self, batch: Any) -> None:
            done.append(batch)

        def add(self, letters: Any) -> None:
            done.append(letters)

        def fire(self, *_: Any) -> None:
            raise HoldfastError("away")

    lane: Any = Lane()
    LaneTap(lane, Vitals("command.0"), meter, broken).work([1])
    DeadLettersTap(lane, meter, broken).add([broken])
    CommandTally(meter, broken, broken)("kiosk", None, "dead")

    assert done == [[1], [None]]
    with pytest.raises(HoldfastError):
        TimersTap(lane, meter, lambda: 0.0).fire([0], "us", 1)


def test_a_worker_takes_the_meter_provider_of_its_app(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    And does not end it.
    """
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    telemetry = telemetry_of(kiosk.app, settings, 0, {})
    assert telemetry is not OFF
    broker = worker_broker(kiosk.app, settings, lanes=1, telemetry=telemetry)
    broker.close()

    assert reader.get_metrics_data() is not None
    provider.shutdown()
